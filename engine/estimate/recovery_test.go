package estimate

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// slowDowns plays slow-downs of a length (in requests of a typical peer; exponential where steady is false) to .15 of the speed. The peer is tried when it is more
// likely well than not, with three requests.
func slowDowns(c *changes, rnd *rand.Rand, length float64, steady bool, count int) {
	t := newPriors()
	for range count {
		left := length
		if !steady {
			left *= rnd.ExpFloat64()
		}
		var d drift
		d.reset(t)
		d.update(t, c, 3, 20, 0, 0, 1.0/400)
		for d.slow > 0.5 {
			for d.slow > 0.5 {
				d.update(t, c, 0, 0, 3, 3, 1.0/400)
				left -= 3
			}
			factor := 1.0
			if left > 0 {
				factor = 0.15
			}
			for range trialRequests {
				d.update(t, c, 1, rnd.ExpFloat64()/factor, 0, 1, 1.0/400)
				left--
			}
		}
	}
}

func TestTheLengthOfSlowDownsIsLearned(t *testing.T) {
	for _, steady := range []bool{true, false} {
		for _, length := range []float64{30, 100, 400, 1500} {
			c := newChanges(newPriors())
			r := &c.recovery
			rnd := rand.New(rand.NewPCG(1, uint64(length)))
			slowDowns(&c, rnd, length, steady, 60)
			if off := r.chance * length; off < 0.25 || off > 4 {
				t.Errorf("slow-downs of %.0f requests (all alike: %v): said to last %.0f", length, steady, 1/r.chance)
			}
			slowDowns(&c, rnd, length/4, steady, 400)
			if off := r.chance * length / 4; off < 0.25 || off > 4 {
				t.Errorf("of %.0f requests after 60 of %.0f: said to last %.0f", length/4, length, 1/r.chance)
			}
		}
	}
}

// Whether slow-downs are all about as long shows in when they are expected to end: hardly at half of that length, very likely soon behind it.
func TestThatSlowDownsAreAboutAsLongIsLearned(t *testing.T) {
	ends := func(steady bool, at float64) float64 {
		c := newChanges(newPriors())
		slowDowns(&c, rand.New(rand.NewPCG(1, 3)), 200, steady, 60)
		return c.recovery.ends(20, at, 40)
	}
	if early, late := ends(true, 80), ends(true, 220); early > 0.1 || late < 0.4 {
		t.Errorf("alike: over within 40 requests of the 80th with %.2f, of the 220th with %.2f", early, late)
	}
	if early, late := ends(false, 80), ends(false, 220); early < 0.1 || late > 0.25 {
		t.Errorf("memoryless: over within 40 requests of the 80th with %.2f, of the 220th with %.2f", early, late)
	}
}

func TestWhatATrialCannotTellChangesNothing(t *testing.T) {
	r := newRecovery()
	first := r.chance
	for range 1000 {
		r.learn(20, 50, 0.7, 0.7)
	}
	if math.Abs(r.chance/first-1) > 1e-6 {
		t.Errorf("from %g to %g", first, r.chance)
	}
}

func TestTheChanceStaysInItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRecovery()
		for range rapid.IntRange(0, 200).Draw(t, "trials") {
			from := rapid.Float64Range(-1, 1e9).Draw(t, "from")
			r.learn(from, rapid.Float64Range(0, 1e9).Draw(t, "idle"), rapid.Float64Range(0, 1).Draw(t, "slow"), rapid.Float64Range(0, 1).Draw(t, "recovered"))
		}
		if !(r.chance >= 0.999/longestSlow && r.chance <= 1.001/shortestSlow) {
			t.Fatalf("%g", r.chance)
		}
		from := rapid.Float64Range(0, 1e9).Draw(t, "known to be slow for")
		at := from + rapid.Float64Range(0, 1e9).Draw(t, "silent for")
		if p := r.ends(from, at, rapid.Float64Range(0, 1e9).Draw(t, "more")); !(p >= 0 && p <= 1) {
			t.Fatalf("ends with probability %g", p)
		}
	})
}

func TestWhatIsSilentForVeryLongIsWell(t *testing.T) {
	r := newRecovery()
	r.about = [lengths]float64{} // long refuted
	if p := r.ends(0, 1e9, 1); p != 1 {
		t.Errorf("over with probability %g", p)
	}
}

func TestHowSlowSlowDownsAreIsLearned(t *testing.T) {
	c := newChanges(newPriors())
	p := newPriors()
	part := func() (at, sum float64) {
		for i, w := range c.jumps.to {
			sum += w
			if math.Abs(p.log[i]-math.Log(0.15)) < 0.5 {
				at += w
			}
		}
		return at, sum
	}
	before, _ := part()
	slowDowns(&c, rand.New(rand.NewPCG(1, 2)), 200, true, 30)
	if at, sum := part(); at < 2*before || math.Abs(sum-1) > 1e-9 {
		t.Errorf("of the jumps %.2f are expected to go near .15, before there was one %.2f; in all %g", at, before, sum)
	}
}
