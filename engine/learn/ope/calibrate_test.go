package ope

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestACalibrationFindsWhatPricesReturn(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	want := func(price float64) float64 { return 20 + 30*math.Log(price) } // of a price that rises far faster than the return
	list := make([]priced, 20_000)
	for i := range list {
		p := math.Exp(6 * rnd.Float64())
		list[i] = priced{p, want(p) * rnd.ExpFloat64()}
	}
	c := calibrate(list)
	for _, p := range []float64{2, 5, 20, 100, 300} {
		if got := c.at(p); math.Abs(got/want(p)-1) > 0.15 {
			t.Errorf("price %.0f: %.1f, is %.1f", p, got, want(p))
		}
	}
}

func TestACalibrationRisesAndKeepsToWhatIsOnRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.Float64Range(0, 1e6)
		list := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) priced {
			return priced{value.Draw(t, "price"), value.Draw(t, "return")}
		}), 1, 1000).Draw(t, "list")
		least, most, sum := math.Inf(1), 0.0, 0.0
		for _, d := range list {
			least, most, sum = min(least, d.ret), max(most, d.ret), sum+d.ret
		}
		c := calibrate(list)
		at := rapid.SliceOfN(value, 1, 20).Draw(t, "at")
		slices.Sort(at)
		last := 0.0
		for _, p := range at {
			got := c.at(p)
			if !(got >= last-1e-6 && got >= least-1e-6 && got <= most+1e-6) {
				t.Fatalf("price %v: %v, after %v; on record are %v to %v", p, got, last, least, most)
			}
			last = got
		}
		if len(list) < 2*leastBin {
			if mean := sum / float64(len(list)); math.Abs(c.at(at[0])-mean) > 1e-6*(1+mean) {
				t.Fatalf("one bin of %d decisions: %v, their mean is %v", len(list), c.at(at[0]), mean)
			}
		}
	})
}
