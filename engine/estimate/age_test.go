package estimate_test

import (
	"math"
	"testing"

	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/pool"
)

// A peer's samples age whether or not others have outcomes; a failure is an outcome too, but tells no service time of the class.
func TestTheAgeOfSamplesGrowsWithoutOutcomesAndGoesBackWithOne(t *testing.T) {
	est := estimate.New(estimate.Options{})
	est.SetPeers(0, []string{"a", "b"})
	class := est.Class(0, "GET /")
	outcome := func(at float64, peer int, kind pool.Kind) {
		est.Observe(at, estimate.Outcome{Peer: peer, Class: class, Kind: kind, TotalMS: 5, HeaderMS: 5, ReportedLoad: -1, ReportedInFlight: -1})
	}
	want := func(what string, peer int, age, pair float64) {
		t.Helper()
		if got := est.Peer(peer).AgeMS; got != age {
			t.Errorf("%s: the peer's samples are %v ms old, want %v", what, got, age)
		}
		if got := est.Pair(peer, class).AgeMS; got != pair {
			t.Errorf("%s: those of the class are %v ms old, want %v", what, got, pair)
		}
	}
	none := math.Inf(1)
	est.Refresh(1000)
	want("no outcome yet", 0, none, none)
	outcome(2000, 0, pool.OK)
	want("one now", 0, 0, 0)
	for now := 2100.0; now <= 60_000; now += 100 {
		est.Refresh(now)
		outcome(now, 1, pool.OK)
		want("none since", 0, now-2000, now-2000)
	}
	want("another peer's", 1, 0, 0)
	outcome(59_000, 0, pool.OK) // told a second late
	outcome(58_000, 0, pool.OK) // and out of order
	if age := est.Peer(0).AgeMS; age != 1000 {
		t.Errorf("after an outcome that was told a second late the samples are %v ms old", age)
	}
	est.Refresh(70_000)
	outcome(70_000, 0, pool.Refused)
	want("a failure", 0, 0, 10_000) // that of a class is from when it was told
}
