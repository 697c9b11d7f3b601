package control

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// world is requests whose times go up and down together over many seconds, as in a queue.
type world struct {
	rnd  *rand.Rand
	load float64
	now  float64
}

func (w *world) next(share, factor float64) (now float64, s Slice, ms float64) {
	w.now += w.rnd.ExpFloat64() * 10
	w.load += (1-w.load)*10/20_000 + 0.05*w.rnd.NormFloat64()*w.load*0.3
	w.load = min(max(w.load, 0.2), 5)
	ms = 20 * w.load * w.rnd.ExpFloat64()
	if w.rnd.Float64() < share {
		return w.now, Control, ms
	}
	return w.now, Policy, ms * factor
}

func TestTheIntervalHoldsTheTrueRatioAboutAsOftenAsItSays(t *testing.T) {
	for _, factor := range []float64{1, 0.7} {
		held, wide := 0, 0.0
		const runs = 200
		for seed := range uint64(runs) {
			w := world{rnd: rand.New(rand.NewPCG(seed, 1)), load: 1}
			c := New(Options{MemoryMS: -1})
			for range 30_000 { // five minutes, 600 requests of the control slice
				now, s, ms := w.next(0.02, factor)
				c.Add(now, s, ms, false)
			}
			r := c.Result()
			if r.Low <= factor && factor <= r.High {
				held++
			}
			wide += (r.High - r.Low) / factor / runs
		}
		t.Logf("factor %v: %d of %d, width %.2f", factor, held, runs, wide)
		if held < runs*88/100 || held > runs*99/100 {
			t.Errorf("the 95 %% interval holds the ratio %v in %d of %d runs", factor, held, runs)
		}
		if wide > 0.4 {
			t.Errorf("after five minutes the interval is %.2f of the ratio wide", wide)
		}
	}
}

func TestMeansQuantilesAndFailuresAreThoseOfTheSlices(t *testing.T) {
	c := New(Options{})
	now := 0.0
	for i := range 10_000 {
		now += 10
		c.Add(now, Policy, float64(1+i%100), false)
		c.Add(now, Control, float64(2*(1+i%100)), false)
		if i%50 == 0 {
			c.Add(now, Control, 0.01, true) // fails fast, which must not look fast
		}
	}
	r := c.Result()
	near := func(name string, got, want, within float64) {
		if !(math.Abs(got/want-1) <= within) {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	near("mean", r.Policy.MeanMS, 50.5, 0.001)
	near("mean of control", r.Control.MeanMS, 101, 0.001)
	near("p99", r.Policy.P99MS, 99.5, 0.05)
	near("p99 of control", r.Control.P99MS, 199, 0.05)
	near("ratio", r.Ratio, 0.5, 0.001)
	near("p99 ratio", r.P99Ratio, 0.5, 0.06)
	near("failure share", r.Control.FailureShare, 200.0/10_200, 0.03)
	if r.Policy.Attempts != 10_000 || r.Control.Attempts != 10_200 || r.Control.Failures != 200 || r.Policy.Failures != 0 {
		t.Errorf("%+v", r)
	}
	if !(r.Low <= 0.5 && r.High >= 0.5 && r.High-r.Low < 0.01) {
		t.Errorf("without noise the interval is %v to %v", r.Low, r.High)
	}
}

func TestWithoutEnoughEvidenceNoIntervalIsClaimed(t *testing.T) {
	c := New(Options{})
	if r := c.Result(); !math.IsNaN(r.Ratio) || !math.IsNaN(r.Low) || !math.IsNaN(r.Policy.P99MS) || r.Blocks != 0 {
		t.Errorf("%+v", r)
	}
	for i := range 1000 {
		c.Add(float64(i), Policy, 5, false)
		c.Add(float64(i), Control, 5, false)
	}
	if r := c.Result(); r.Ratio != 1 || !math.IsNaN(r.Low) {
		t.Errorf("one second: %+v", r)
	}
	c = New(Options{})
	for i := range 1000 {
		c.Add(float64(i*100), Policy, 5, false)
		if i%100 == 0 {
			c.Add(float64(i*100), Control, 5, false)
		}
	}
	if r := c.Result(); !math.IsNaN(r.Low) {
		t.Errorf("ten answers of the control slice: %+v", r)
	}
}

func TestWhatIsLongAgoFades(t *testing.T) {
	c := New(Options{MemoryMS: 60_000})
	now := 0.0
	run := func(policy float64, seconds int) {
		for range seconds * 20 {
			now += 50
			c.Add(now, Policy, policy, false)
			c.Add(now, Control, 100, false)
		}
	}
	run(50, 600)
	run(200, 300)
	r := c.Result()
	if r.Ratio < 1.9 || r.High < 1.9 || r.Policy.P99MS < 190 {
		t.Errorf("five memories later the old ratio still shows: %+v", r)
	}
	c.Advance(now + 1e12)
	if r := c.Result(); r.Blocks > minBlocks && !math.IsNaN(r.Low) {
		t.Errorf("after ages: %+v", r)
	}
}

func TestNoSequenceOfAttemptsMakesNonsense(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := New(Options{BlockMS: 10, MemoryMS: rapid.SampledFrom([]float64{0, -1, 100}).Draw(t, "memory")})
		now := 0.0
		for range rapid.IntRange(0, 300).Draw(t, "n") {
			now += rapid.Float64Range(-5, 50).Draw(t, "gap")
			ms := rapid.OneOf(rapid.Float64Range(0, 1e7), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), -1, 0})).Draw(t, "ms")
			c.Add(now, Slice(rapid.IntRange(0, 1).Draw(t, "slice")), ms, rapid.Bool().Draw(t, "failed"))
		}
		r := c.Result()
		for _, x := range []float64{r.Ratio, r.Low, r.High, r.P99Ratio, r.Policy.MeanMS, r.Control.P99MS, r.Blocks} {
			if x < 0 {
				t.Fatalf("%+v", r)
			}
		}
		if r.Low > r.High || r.Policy.FailureShare > 1 {
			t.Fatalf("%+v", r)
		}
	})
}

func TestStudentsQuantilesAreThoseOfTheTables(t *testing.T) {
	for f, want := range map[float64]float64{7: 2.365, 10: 2.228, 30: 2.042, 1e6: 1.960} {
		if got := student975(f); math.Abs(got-want) > 0.01 {
			t.Errorf("%v degrees: %v, want %v", f, got, want)
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	c := New(Options{})
	b.ReportAllocs()
	now := 0.0
	for b.Loop() {
		now++
		c.Add(now, Policy, 12.5, false)
	}
}
