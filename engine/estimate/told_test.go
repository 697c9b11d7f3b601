package estimate_test

import (
	"math"
	"testing"

	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/pool"
)

func TestAToldUtilisationIsUsedWhereThePeerReportsNone(t *testing.T) {
	est := estimate.New(estimate.Options{Reports: estimate.Reports{BlackoutMS: -1}})
	est.SetPeers(0, []string{"a", "b"})
	load := func(i int) float64 {
		var x [estimate.Features]float32
		est.Feature(1, i, 0, &x)
		return float64(x[estimate.Features-1])
	}
	want := func(what string, i int, x float64) {
		t.Helper()
		if got := load(i); math.Abs(got-min(x, 2)) > 1e-6 {
			t.Errorf("%s: the feature is %v, want %v", what, got, x)
		}
	}
	want("nothing told", 0, -1)
	est.Told(0, 0.6)
	want("told", 0, 0.6)
	want("told of another", 1, -1)
	est.Told(0, math.NaN())
	want("no number", 0, -1)
	est.Told(0, 7)
	want("high", 0, 7)
	est.Told(7, 1) // no such peer
	est.Observe(1, estimate.Outcome{Peer: 0, Kind: pool.OK, TotalMS: 5, ReportedLoad: 0.25, ReportedInFlight: -1})
	want("reported too", 0, 0.25)
	est.Observe(1, estimate.Outcome{Peer: 1, Kind: pool.OK, TotalMS: 5, ReportedLoad: -1, ReportedInFlight: -1})
	est.Told(1, 0.3)
	est.Told(1, -1)
	want("no more", 1, -1)
}
