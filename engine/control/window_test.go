package control

import (
	"math"
	"math/rand/v2"
	"testing"
)

// fill gives both halves traffic for so many ms, each request at most 1 s from the one before.
func fill(rnd *rand.Rand, a, b *Half, from, ms, meanA, meanB float64) {
	for at := from; at < from+ms; at += 50 {
		busy := 1 + 0.5*math.Sin(at/20_000) // both wait in the same rush hours
		b.Answered(at, meanB*busy*rnd.ExpFloat64())
		if rnd.Float64() < 0.2 {
			a.Answered(at, meanA*busy*rnd.ExpFloat64())
		}
	}
}

func TestTheIntervalOfTheRatioHoldsTheTruthAsOftenAsItSays(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	const runs = 200
	for _, truth := range []float64{1, 1.5} {
		held := 0
		for range runs {
			var a, b Half
			fill(rnd, &a, &b, 0, 120_000, 10*truth, 10)
			if v := Compare(&a, &b, 120_000); v.Low <= truth && truth <= v.High {
				held++
			}
		}
		if share := float64(held) / runs; share < 0.88 {
			t.Errorf("the 95 %% interval of a ratio of %v held it in %.0f %%", truth, 100*share)
		}
	}
}

func TestTheWindowForgetsWhatIsOlder(t *testing.T) {
	var a, b Half
	rnd := rand.New(rand.NewPCG(3, 4))
	fill(rnd, &a, &b, 0, 300_000, 100, 10)
	a.Failed(1000)
	if f := a.Figures(300_000); f.Failures != 1 || !(f.MeanMS > 60) {
		t.Fatalf("%+v", f)
	}
	fill(rnd, &a, &b, 300_000, WindowMS+60_000, 10, 10)
	now := 300_000 + WindowMS + 60_000.0
	if f := a.Figures(now); f.Failures != 0 || f.MeanMS > 14 || f.P99MS > 100 {
		t.Errorf("what is older than the window still counts: %+v", f)
	}
	if v := Compare(&a, &b, now); !(v.Low < 1 && v.High > 1) || v.Blocks > windowBlocks {
		t.Errorf("%+v", v)
	}
	if f := a.Figures(now + 2*WindowMS); f.Requests != 0 || !math.IsNaN(f.MeanMS) || !math.IsNaN(f.P50MS) {
		t.Errorf("a silent side: %+v", f)
	}
	a.Answered(now-2*WindowMS, 1) // told late, whatever the block holds now
	if f := a.Figures(now); f.MeanMS < 5 {
		t.Errorf("%+v", f)
	}
}

func TestFewRequestsSayLittle(t *testing.T) {
	var a, b Half
	if v := Compare(&a, &b, 1000); !math.IsNaN(v.Ratio) || !math.IsNaN(v.Low) || !math.IsNaN(v.MoreLow) {
		t.Errorf("of nothing: %+v", v)
	}
	for i := range 1000 {
		b.Answered(float64(i), 10)
	}
	a.Answered(1000, 10)
	if v := Compare(&a, &b, 1000); !math.IsNaN(v.Low) || v.MoreHigh < 0.5 || v.MoreLow > 0 {
		t.Errorf("one request: %+v", v)
	}
	for i := range 50 {
		a.Failed(1000 + float64(i))
	}
	if v := Compare(&a, &b, 1100); v.MoreLow < 0.8 {
		t.Errorf("50 of 51 failed: %+v", v)
	}
}
