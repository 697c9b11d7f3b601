package world

import (
	"math"
	"testing"

	"github.com/weirlb/weir/engine/sim/scenario"
)

// parse reads a scenario; the lines every one needs and the caller left out are added.
func parse(t testing.TB, text string) *scenario.Scenario {
	t.Helper()
	s, err := scenario.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// chooser is a balancer made of two functions; either may be nil.
type chooser struct {
	pick func(*Attempt) int32
	done func(*Outcome)
}

func (c *chooser) Pick(a *Attempt) int32 {
	if c.pick != nil {
		return c.pick(a)
	}
	return a.Present[0]
}

func (c *chooser) Done(o *Outcome) {
	if c.done != nil {
		c.done(o)
	}
}

// to always picks the first untried member.
func firstUntried(a *Attempt) int32 {
	for _, p := range a.Present {
		if a.Untried(p) {
			return p
		}
	}
	panic("asked to pick with nobody left")
}

func run(t testing.TB, s *scenario.Scenario, c *chooser) Result {
	t.Helper()
	r, err := New(s, 1, func(*Setup) Balancer { return c }).Run(nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func near(t *testing.T, what string, got, want, relative float64) {
	t.Helper()
	if !(math.Abs(got-want) <= relative*want) {
		t.Errorf("%s is %.4g, want %.4g within %.0f %%", what, got, want, 100*relative)
	}
}

func TestOneSlotWithExponentialServiceIsAnMM1Queue(t *testing.T) {
	r := run(t, parse(t, `
requests: 400000
warmup: 20000
arrivals: {load: 0.7}
classes: [{service_ms: {mean: 100, dist: exp}}]
peers: [{slots: 1}]
`), &chooser{})
	near(t, "mean", r.MeanMS, 100/(1-0.7), 0.03)
	near(t, "p99", r.P99MS, 100/(1-0.7)*math.Log(100), 0.05) // the response time is exponential
	if r.Requests != 400000 || r.Failed != 0 || r.ByPeer[0] != 400000 {
		t.Errorf("%+v", r)
	}
}

func TestSeveralSlotsWaitAsErlangsFormulaSays(t *testing.T) {
	r := run(t, parse(t, `
requests: 400000
warmup: 20000
arrivals: {load: 0.8}
classes: [{service_ms: {mean: 100, dist: exp}}]
peers: [{slots: 4, speed: 0.5}]
`), &chooser{})
	// Erlang C for 4 servers at 0.8: 3.2^4/4! / ((1-0.8) * sum + 3.2^4/4!), the sum over the first four terms.
	top := math.Pow(3.2, 4) / 24
	wait := top / ((1-0.8)*(1+3.2+3.2*3.2/2+3.2*3.2*3.2/6) + top)
	near(t, "mean", r.MeanMS, 200+wait*200/(4*(1-0.8)), 0.03)
}

func TestFixedServiceWaitsHalfAsLongAsPollaczekAndKhinchineSay(t *testing.T) {
	r := run(t, parse(t, `
requests: 300000
warmup: 20000
arrivals: {rate_per_s: 8}
classes: [{service_ms: {mean: 100, dist: fixed}}]
peers: [{slots: 1}]
`), &chooser{})
	near(t, "mean", r.MeanMS, 100+0.8*100/(2*(1-0.8)), 0.03)
}

func TestAffinityAndSpeedScaleTheServiceTimeOfAClass(t *testing.T) {
	s := parse(t, `
requests: 2000
arrivals: {rate_per_s: 1}
classes:
  - {name: a, share: 0.5, service_ms: {mean: 100, dist: fixed}}
  - {name: b, share: 0.5, service_ms: {mean: 10, dist: fixed}}
peers: [{slots: 50, speed: 0.5, affinity: {b: 3}}]
`)
	run(t, s, &chooser{done: func(o *Outcome) {
		if want := []float64{200, 60}[o.Class]; math.Abs(o.LatencyMS-want) > 1e-6 {
			t.Fatalf("class %d took %v ms, want %v", o.Class, o.LatencyMS, want)
		}
	}})
}

func TestEveryPolicyMeetsTheSameArrivalsAndSizes(t *testing.T) {
	s := parse(t, `
requests: 5000
balancers: 2
arrivals: {steps: [{for_s: 10, load: 0.3}, {for_s: 10, load: 0.9}]}
classes:
  - {name: a, share: 0.7, service_ms: {mean: 100, dist: exp}, weight_hint: true}
  - {name: b, share: 0.3, service_ms: {mean: 300, dist: lognormal, cv: 2}, weight_hint: true}
peers: [{count: 3, slots: 1}]
events:
  - {peer: 0, from_s: 1, for_s: 2, every_s: 9, fail: {status: 500, share: 0.5}}
`)
	type met struct {
		at, size        float64
		class, balancer int32
	}
	record := func(seed uint64, pick func(*Setup) func(*Attempt) int32) (all []met) {
		w := New(s, seed, func(set *Setup) Balancer {
			choose := pick(set)
			return &chooser{pick: func(a *Attempt) int32 {
				all = append(all, met{a.Now, a.Weight, a.Class, int32(set.Balancer)})
				return choose(a)
			}}
		})
		if _, err := w.Run(nil); err != nil {
			t.Fatal(err)
		}
		return all
	}
	still := func(*Setup) func(*Attempt) int32 { return func(a *Attempt) int32 { return 0 } }
	wild := func(set *Setup) func(*Attempt) int32 {
		return func(a *Attempt) int32 { return int32(set.Rand.IntN(3)) }
	}
	a, b, other := record(7, still), record(7, wild), record(8, still)
	if len(a) != 5000 || len(b) != 5000 {
		t.Fatalf("%d and %d picks", len(a), len(b))
	}
	same := 0
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("request %d differs: %+v and %+v", i, a[i], b[i])
		}
		if a[i] == other[i] {
			same++
		}
	}
	if same > 0 {
		t.Errorf("%d of 5000 requests are the same with another seed", same)
	}
}

func TestARunIsAFunctionOfItsSeed(t *testing.T) {
	s := parse(t, `
requests: 3000
arrivals: {load: 0.9}
classes: [{service_ms: {mean: 100, dist: pareto, shape: 1.5}}]
peers: [{count: 3, slots: 2}]
`)
	one := func(seed uint64) Result {
		r, err := New(s, seed, func(set *Setup) Balancer {
			return &chooser{pick: func(a *Attempt) int32 { return int32(set.Rand.IntN(3)) }}
		}).Run(nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if a, b := one(3), one(3); a.MeanMS != b.MeanMS || a.P999MS != b.P999MS {
		t.Errorf("%+v and %+v with one seed", a, b)
	}
	if a, b := one(3), one(4); a.MeanMS == b.MeanMS {
		t.Error("two seeds give the same mean")
	}
}

func TestDistributionsHaveTheMeanAndSpreadTheyAreGiven(t *testing.T) {
	for name, c := range map[string]struct {
		service string
		cv      float64
		within  float64
	}{
		"fixed":     {"{mean: 100, dist: fixed}", 0, 0},
		"exp":       {"{mean: 100, dist: exp}", 1, 0.02},
		"lognormal": {"{mean: 100, dist: lognormal, cv: 0.5}", 0.5, 0.02},
		"pareto":    {"{mean: 100, dist: pareto, shape: 5}", 1 / math.Sqrt(15), 0.05},
	} {
		t.Run(name, func(t *testing.T) {
			s := parse(t, "requests: 1\narrivals: {load: 1}\npeers: [{}]\nclasses: [{service_ms: "+c.service+"}]\n")
			z := newSizer(s, newStream(1, streamSizes))
			const n = 200_000
			sum, squares := 0.0, 0.0
			for range n {
				_, size, _ := z.draw()
				sum += size
				squares += size * size
			}
			mean := sum / n
			near(t, "mean", mean, 100, 0.01)
			near(t, "coefficient of variation", math.Sqrt(max(0, squares/n/mean/mean-1)), c.cv, c.within)
		})
	}
}

func TestClassesComeByTheirShares(t *testing.T) {
	s := parse(t, `
requests: 1
arrivals: {load: 1}
peers: [{}]
classes:
  - {name: a, share: 0.6, service_ms: {mean: 1}}
  - {name: b, share: 0.3, service_ms: {mean: 1}}
  - {name: c, share: 0.1, service_ms: {mean: 1}}
`)
	z := newSizer(s, newStream(1, streamSizes))
	var n [3]float64
	for range 100_000 {
		class, _, _ := z.draw()
		n[class]++
	}
	near(t, "a", n[0], 60_000, 0.02)
	near(t, "b", n[1], 30_000, 0.03)
	near(t, "c", n[2], 10_000, 0.05)
}

func TestArrivalsFollowTheStepsRoundAndRound(t *testing.T) {
	a := newArrivals([]scenario.Step{{ForS: 10, RatePerS: 100}, {ForS: 5, RatePerS: 0}, {ForS: 5, RatePerS: 400}}, newStream(1, 1))
	var by [20]int
	for range 30_000 {
		at := math.Mod(a.next()/1000, 20)
		by[int(at)]++
	}
	low, none, high := 0, 0, 0
	for s, n := range by {
		switch {
		case s < 10:
			low += n
		case s < 15:
			none += n
		default:
			high += n
		}
	}
	near(t, "share of the high step", float64(high), 20_000, 0.03)
	near(t, "share of the low step", float64(low), 10_000, 0.03)
	if none != 0 {
		t.Errorf("%d arrivals in the step of rate 0", none)
	}
}

func TestAnEpisodeStartsWithEmptyQueuesAndTheMedianEpisodeCounts(t *testing.T) {
	// Twice overloaded: each episode's queue grows from nothing, so an episode's mean does not depend on those before.
	s := parse(t, `
requests: 1000
warmup: 3000
episodes: 5
arrivals: {load: 2}
classes: [{service_ms: {mean: 100, dist: fixed}}]
peers: [{slots: 1}]
`)
	n, held := 0, 0
	r := run(t, s, &chooser{
		pick: func(a *Attempt) int32 {
			if n >= 3000 && (n-3000)%1000 == 0 && held != 0 {
				t.Errorf("an episode starts at request %d with %d in flight", n, held)
			}
			n++
			held++
			return 0
		},
		done: func(*Outcome) { held-- },
	})
	if r.Requests != 5000 || n != 8000 {
		t.Errorf("%d measured, %d sent", r.Requests, n)
	}
	near(t, "mean", r.MeanMS, 500*50, 0.15) // the k-th of 1000 waits for half of those before it
}

func TestEventsAndStepsKeepTheirPlaceWhileQueuesAreEmptied(t *testing.T) {
	// One policy leaves long queues at the end of an episode, the other none. Both must find the peer slow at the same requests.
	s := parse(t, `
requests: 200
episodes: 10
arrivals: {rate_per_s: 20}
classes: [{service_ms: {mean: 100, dist: fixed}}]
peers: [{slots: 1}, {slots: 100}]
events:
  - {peer: 1, from_s: 3, for_s: 5, every_s: 11, speed: 0.5}
`)
	slow := func(long bool) (at []int) {
		n := 0
		w := New(s, 1, func(set *Setup) Balancer {
			return &chooser{pick: func(a *Attempt) int32 {
				if set.Truth.Speed(1) == 0.5 {
					at = append(at, n)
				}
				n++
				if long {
					return 0
				}
				return 1
			}}
		})
		if _, err := w.Run(nil); err != nil {
			t.Fatal(err)
		}
		return at
	}
	a, b := slow(true), slow(false)
	if len(a) == 0 || len(a) != len(b) {
		t.Fatalf("slow at %d and at %d requests", len(a), len(b))
	}
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("slow at request %d and at %d", a[i], b[i])
		}
	}
}

func TestQuantilesAreNearestRanks(t *testing.T) {
	tl := tally{}
	for i := range 1000 {
		tl.latencies = append(tl.latencies, float64(1000-i))
	}
	if f := tl.figures(); f != [5]float64{500.5, 500, 900, 990, 999} {
		t.Errorf("%v", f)
	}
	none := tally{}
	if f := none.figures(); !math.IsNaN(f[0]) || !math.IsNaN(f[4]) {
		t.Errorf("%v without any answer", f)
	}
}

func TestARunStopsWhenItsProgressSaysSo(t *testing.T) {
	s := parse(t, `
requests: 200000
arrivals: {load: 0.5}
classes: [{service_ms: {mean: 100}}]
peers: [{}]
`)
	heard := 0
	_, err := New(s, 1, func(*Setup) Balancer { return &chooser{} }).Run(func(n int) error {
		if heard += n; heard > 50_000 {
			return errStop
		}
		return nil
	})
	if err != errStop || heard > 100_000 {
		t.Errorf("stopped with %v after %d", err, heard)
	}
}

type stop struct{}

func (stop) Error() string { return "stop" }

var errStop = stop{}
