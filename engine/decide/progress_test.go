package decide_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirlb/weir/engine/decide"
)

func of(w decide.Work) *decide.Table {
	return &decide.Table{Classes: []string{"*"}, Peers: []string{"a", "b"}, Cost: make([]float32, 2*decide.GridPoints), Work: w}
}

func TestWhatAPeerThatServesOneAtATimeHasLeftIsExactWhileNoneWaits(t *testing.T) {
	table := of(singles(1)) // 0.1 mean requests a ms
	var g decide.Progress
	left := func(now, n, held, want float64) {
		t.Helper()
		if got := g.Left(table, 0, now, n, held); math.Abs(got-want) > 1e-6 {
			t.Errorf("at %v ms: %v left of %v, want %v", now, got, held, want)
		}
	}
	g.Advance(table, 0, 1000, 0, 0) // a request of 5 comes: 50 ms
	left(1020, 1, 5, 3)
	g.Advance(table, 0, 1020, 1, 5) // one of 1 behind it
	left(1021, 2, 6, 3.9)           // which of the two it works on is not known; it is 2.9
	g.Advance(table, 0, 1050, 2, 6)
	g.End(table, 0, 5, 2)
	left(1050, 1, 1, 1)
	left(1054, 1, 1, 0.6)
	g.Advance(table, 0, 1060, 1, 1)
	g.End(table, 0, 1, 1)
	if g.Done > 1e-6 {
		t.Errorf("%v are done of nothing", g.Done)
	}
}

func TestAPeerThatStallsDoesNotLookIdle(t *testing.T) {
	table := of(singles(1))
	g := decide.Progress{At: 1000}
	least, at := math.Inf(1), 0.0
	for now := 1000.0; now < 1200; now++ { // a request of 4, due at 1040
		if l := g.Left(table, 0, now, 1, 4); l < least {
			least, at = l, now
		}
	}
	if least < 1 || at > 1035 {
		t.Errorf("least was left at %v: %v of 4", at, least)
	}
	if l := g.Left(table, 0, 2000, 1, 4); l < 3 {
		t.Errorf("after a second %v are left of 4", l)
	}
}

func TestWhereSizesTellNothingNothingIsTakenOff(t *testing.T) {
	w := singles(1)
	w.Known[0] = 0
	g := decide.Progress{Done: 3, At: 0}
	if l := g.Left(of(w), 0, 50, 2, 4); l != 4 {
		t.Errorf("%v are left of 4", l)
	}
}

// Whatever comes and goes, and however wrong the speeds are, what is left stays between a millionth and twice what is held.
func TestWhatIsLeftIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := singles(1)
		w.Rate[0] = float32(rapid.Float64Range(0, 10).Draw(t, "rate"))
		w.Knee[0] = float32(rapid.Float64Range(1, 8).Draw(t, "knee"))
		w.Known[0] = float32(rapid.Float64Range(0, 1).Draw(t, "known"))
		table := of(w)
		var g decide.Progress
		var loads []float64
		now, held := 1000.0, 0.0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += rapid.Float64Range(-5, 500).Draw(t, "pause")
			n := float64(len(loads))
			left := g.Left(table, 0, now, n, held)
			if !(left >= 0 && left <= 2*held+1e-3) || left == 0 && n > 0 {
				t.Fatalf("%v left of %v", left, held)
			}
			g.Advance(table, 0, now, n, held)
			if n > 0 && rapid.Bool().Draw(t, "ends") {
				i := rapid.IntRange(0, len(loads)-1).Draw(t, "which")
				g.End(table, 0, loads[i], n)
				held -= loads[i]
				loads = append(loads[:i], loads[i+1:]...)
			} else {
				loads = append(loads, rapid.Float64Range(0.001, 1000).Draw(t, "load"))
				held += loads[len(loads)-1]
			}
			if !(g.Done >= 0) {
				t.Fatalf("%v done", g.Done)
			}
		}
	})
}
