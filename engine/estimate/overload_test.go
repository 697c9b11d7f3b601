package estimate_test

import (
	"math"
	"testing"

	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/pool"
)

// It is silent for that time, too.
func TestSilenceIsNoSlownessWhileAPeerWorksOffWhatWasGivenUp(t *testing.T) {
	for _, overload := range []bool{false, true} {
		est := estimate.New(estimate.Options{})
		est.SetPeers(0, []string{"a", "b"})
		c := est.Class(0, "GET /")
		now := 0.0
		for ; now < 32_000; now += 20 {
			for peer := range 2 {
				o := estimate.Outcome{Peer: peer, Class: c, Kind: pool.OK, HeaderMS: 10, TotalMS: 10, ReportedLoad: -1, ReportedInFlight: -1}
				if peer == 0 && now > 30_000 {
					o.InFlight, o.Kind, o.Overload, o.HeaderMS, o.TotalMS = 40, pool.Timeout, overload, -1, 500
				}
				est.Observe(now, o)
			}
			if math.Mod(now, 100) == 0 {
				n := 1
				if now > 30_000 {
					n = 40
				}
				est.InFlight(now, 0, n)
				est.InFlight(now, 1, 1)
				est.Refresh(now)
			}
		}
		if trend := est.Peer(0).Trend; overload != (trend < 1.2) {
			t.Errorf("overload %v: it is taken for %.2f times slower than it was", overload, trend)
		}
	}
}

// What a peer was asked and gave up on nobody counts, and it works that off first. Its answers of that time are slow for that; taken for its speed, they
// have the pool's traffic go to and fro between peers that are all full.
func TestAPeerIsNotTakenForSlowWhileItWorksOffWhatWasGivenUp(t *testing.T) {
	for _, overload := range []bool{false, true} {
		est := estimate.New(estimate.Options{})
		est.SetPeers(0, []string{"a", "b"})
		c := est.Class(0, "GET /")
		serve := func(now float64, peer int, ms float64) {
			est.Observe(now, estimate.Outcome{Peer: peer, Class: c, Kind: pool.OK, HeaderMS: ms, TotalMS: ms, ReportedLoad: -1, ReportedInFlight: -1})
		}
		round := func(now float64, slow float64) {
			serve(now, 0, slow)
			serve(now, 1, 10)
			if math.Mod(now, 100) == 0 {
				est.InFlight(now, 0, 1)
				est.InFlight(now, 1, 1)
				est.Refresh(now)
			}
		}
		now := 0.0
		for ; now < 30_000; now += 20 {
			round(now, 10)
		}
		before := est.Peer(0)
		for end := now + 2000; now < end; now += 20 {
			est.Observe(now, estimate.Outcome{
				Peer: 0, Class: c, InFlight: 40, Kind: pool.Timeout, Overload: overload, HeaderMS: -1, TotalMS: 500, ReportedLoad: -1, ReportedInFlight: -1,
			})
			round(now, 400)
		}
		v := est.Peer(0)
		if slower := v.WorkMS / before.WorkMS; overload != (slower < 1.05) {
			t.Errorf("overload %v: it is taken for %.2f times as slow", overload, slower)
		}
		if overload != (v.FailureRate < 0.05) {
			t.Errorf("overload %v: its failure rate is %.2f", overload, v.FailureRate)
		}
		for end := now + 10_000; now < end; now += 20 {
			round(now, 40)
		}
		if slower := est.Peer(0).WorkMS / before.WorkMS; overload && slower < 2 {
			t.Errorf("ten seconds later it is four times as slow, and taken for %.2f times", slower)
		}
	}
}
