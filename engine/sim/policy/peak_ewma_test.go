package policy

import (
	"math"
	"testing"

	"github.com/weirlb/weir/engine/sim/world"
)

func TestPeakEWMARisesAtOnceAndFallsSlowly(t *testing.T) {
	e := build(peers(t, "[{count: 2}]"), newPeakEWMA).(*peakEWMA)
	tau := 1000.0 // 10 services of 100 ms
	e.Done(&world.Outcome{Now: 0, Peer: 0, LatencyMS: 50})
	e.Done(&world.Outcome{Now: 100, Peer: 0, LatencyMS: 400})
	near(t, "after a peak", e.peers[0].ms, 400, 0)
	e.Done(&world.Outcome{Now: 200, Peer: 0, LatencyMS: 100})
	w := math.Exp(-100 / tau)
	near(t, "after a lower sample", e.peers[0].ms, 400*w+100*(1-w), 1e-9)
}

func TestPeakEWMAWeighsLatencyByWhatWouldBeInFlight(t *testing.T) {
	e := build(peers(t, "[{count: 2}]"), newPeakEWMA)
	e.Done(&world.Outcome{Now: 0, Peer: 0, LatencyMS: 100})
	e.Done(&world.Outcome{Now: 0, Peer: 1, LatencyMS: 350})
	// 100 x (n + 1) against 350 x (0 + 1)
	if p := e.Pick(attempt(1, 2, 0)); p != 0 {
		t.Errorf("300 against 350 went to %d", p)
	}
	if p := e.Pick(attempt(1, 3, 0)); p != 1 {
		t.Errorf("400 against 350 went to %d", p)
	}
}

func TestPeakEWMATriesAnUnknownPeerOnceAtATime(t *testing.T) {
	e := build(peers(t, "[{count: 2}]"), newPeakEWMA)
	e.Done(&world.Outcome{Now: 0, Peer: 0, LatencyMS: 100})
	if p := e.Pick(attempt(1, 5, 0)); p != 1 {
		t.Errorf("the unknown peer was not tried but %d", p)
	}
	if p := e.Pick(attempt(1, 5, 1)); p != 0 {
		t.Errorf("the unknown peer got a second request before its first answer")
	}
}

func TestPeakEWMAIsDrawnToFastFailures(t *testing.T) {
	e := build(peers(t, "[{count: 2}]"), newPeakEWMA)
	e.Done(&world.Outcome{Now: 0, Peer: 0, LatencyMS: 100})
	e.Done(&world.Outcome{Now: 0, Peer: 1, LatencyMS: 1, Kind: world.Status})
	if p := e.Pick(attempt(1, 0, 20)); p != 1 {
		t.Errorf("picked %d: Finagle's rule charges nothing for a failure", p)
	}
}

func TestFinaglesReadingForgetsWhileTheOtherWaitsForASample(t *testing.T) {
	for name, c := range map[string]struct {
		make New
		want int32
	}{"peak_ewma": {newPeakEWMA, 0}, "peak_ewma_finagle": {newPeakEWMAFinagle, 1}} {
		e := build(peers(t, "[{count: 2}]"), c.make)
		e.Done(&world.Outcome{Now: 0, Peer: 1, LatencyMS: 1000}) // then nothing for 40 s
		e.Done(&world.Outcome{Now: 40_000, Peer: 0, LatencyMS: 100})
		if p := e.Pick(attempt(40_000, 0, 0)); p != c.want {
			t.Errorf("%s picked %d, want %d", name, p, c.want)
		}
	}
}
