package decide_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/pool"
)

func evenly(costs ...float64) *decide.Table {
	t := &decide.Table{Classes: []string{"*"}}
	for range costs {
		t.Peers = append(t.Peers, "peer")
	}
	for _, c := range costs {
		for _, n := range decide.Grid() {
			t.Cost = append(t.Cost, float32(c*float64(n+1)))
		}
	}
	return t
}

func TestAPeerThatNothingIsKnownOfCostsWhatTheBestDoes(t *testing.T) {
	for _, c := range []struct {
		name        string
		cost, trust []float64
		par         decide.Params
		want        []float64
	}{
		{"unknown", []float64{10, 12, 40}, []float64{1, 1, 0}, decide.Params{}, []float64{10, 12, 10}},
		{"known", []float64{10, 12, 40}, []float64{1, 1, 1}, decide.Params{}, []float64{10, 12, 40}},
		{"half known: the geometric mean", []float64{10, 12, 40}, []float64{1, 1, 0.5}, decide.Params{}, []float64{10, 12, 20}},
		{"cheaper than all", []float64{10, 12, 4}, []float64{1, 1, 0}, decide.Params{}, []float64{10, 12, 4}},
		{"the best takes no part", []float64{10, 12, 40}, []float64{decide.Absent, 1, 0}, decide.Params{}, []float64{10, 12, 12}},
		{"nobody else takes part", []float64{10, 12, 40}, []float64{decide.Absent, decide.Absent, 0}, decide.Params{}, []float64{10, 12, 40}},
		{"two unknown", []float64{10, 30, 40}, []float64{decide.Absent, 0, 0}, decide.Params{}, []float64{10, 30, 30}},
		{"of half the weight", []float64{10, 12, 80}, []float64{1, 1, 0}, decide.Params{Weights: []float64{1, 1, 0.5}}, []float64{10, 12, 20}},
	} {
		table := evenly(c.cost...)
		table.Trust(c.par, c.trust)
		for i, want := range c.want {
			for g, n := range decide.Grid() {
				if got := float64(table.Row(0, i)[g]); math.Abs(got-want*float64(n+1)) > 1e-4*got {
					t.Errorf("%s: peer %d costs %v at %d, want %v", c.name, i, got, n, want*float64(n+1))
				}
			}
		}
	}
}

func TestAnotherZoneStaysDearerForAPeerThatNothingIsKnownOf(t *testing.T) {
	table := evenly(10, 500)
	table.Trust(decide.Params{Away: []decide.Away{{}, {Share: 0.5, MS: 3}}}, []float64{1, 0})
	if got := table.Row(0, 1)[0]; math.Abs(float64(got)-18) > 1e-4 {
		t.Errorf("it costs %v, want 10 x 1.5 + 3", got)
	}
}

func TestTrustNeverRaisesACostAndKeepsRowsRising(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "peers")
		costs, trust, par := make([]float64, n), make([]float64, n), decide.Params{Weights: make([]float64, n), Away: make([]decide.Away, n)}
		for i := range n {
			trust[i] = rapid.SampledFrom([]float64{decide.Absent, 0, 0.1, 0.7, 1}).Draw(t, "trust")
			par.Weights[i] = rapid.Float64Range(0.01, 1000).Draw(t, "weight")
			par.Away[i] = decide.Away{Share: rapid.Float64Range(0, 3).Draw(t, "away"), MS: rapid.Float64Range(0, 100).Draw(t, "ms")}
			costs[i] = rapid.Float64Range(1e-3, 1e5).Draw(t, "cost") + par.Away[i].MS
		}
		before, after := evenly(costs...), evenly(costs...)
		after.Trust(par, trust)
		for i := range after.Cost {
			if b, a := float64(before.Cost[i]), float64(after.Cost[i]); !(a > 0) || a > b*(1+1e-5)+1e-5 {
				t.Fatalf("%v became %v", b, a)
			}
			if g := i % decide.GridPoints; g > 0 && float64(after.Cost[i]) < float64(after.Cost[i-1])*(1-1e-5) {
				t.Fatalf("a row falls: %v, %v", after.Cost[i-1], after.Cost[i])
			}
		}
	})
}

// After an outage of the whole pool the peer that answered first carried everything, since those on trial were too dear for their failures to be tried.
func TestAPeerOnTrialIsTriedWhateverItDidBefore(t *testing.T) {
	failed := estimate.PeerView{Samples: 1000, FailureRate: 0.95}
	if got := decide.TrustIn(pool.View{State: pool.SlowStart, Usable: true, OnTrial: true}, failed); got != 0 {
		t.Errorf("on trial: %v of its cost is its own", got)
	}
	if got := decide.TrustIn(pool.View{State: pool.SlowStart, Usable: true}, failed); got != 1 {
		t.Errorf("in slow start: %v of its cost is its own, though it failed", got)
	}
}
