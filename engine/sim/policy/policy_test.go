package policy

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/sim/scenario"
	"github.com/weirlb/weir/engine/sim/world"
)

func parse(t testing.TB, text string) *scenario.Scenario {
	t.Helper()
	s, err := scenario.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// peers is a scenario with n equal peers, for tests that feed a policy by hand.
func peers(t testing.TB, list string) *scenario.Scenario {
	return parse(t, "requests: 1\narrivals: {load: 0.5}\nclasses: [{service_ms: {mean: 100}}]\npeers: "+list+"\n")
}

// make a policy for tests by hand. The world's truth is that of the scenario at time 0.
func build(s *scenario.Scenario, make New) world.Balancer {
	var b world.Balancer
	world.New(s, 1, func(set *world.Setup) world.Balancer {
		b = make(set)
		return b
	})
	return b
}

// attempt is one decision by hand over the peers 0 to len(inFlight)-1.
func attempt(now float64, inFlight ...int32) *world.Attempt {
	a := &world.Attempt{Now: now, Number: 1, InFlight: inFlight}
	for i := range inFlight {
		a.Present = append(a.Present, int32(i))
	}
	return a
}

// shares picks n times without sending anything and tells the share of each peer.
func shares(b world.Balancer, a *world.Attempt, n int) []float64 {
	got := make([]float64, len(a.InFlight))
	for range n {
		got[b.Pick(a)] += 1 / float64(n)
	}
	return got
}

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if !(math.Abs(got-want) <= within) {
		t.Errorf("%s is %.4g, want %.4g within %.2g", what, got, want, within)
	}
}

// run simulates a scenario under a policy.
func run(t testing.TB, s *scenario.Scenario, seed uint64, make New) world.Result {
	t.Helper()
	r, err := world.New(s, seed, make).Run(nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPoliciesAreFoundByNameAndTheUnknownNamedWithThose(t *testing.T) {
	for _, name := range strings.Fields("round_robin random least_conn p2c peak_ewma ewma_p2c prequal wrr_capacity c3 weir " +
		"sed_oracle greedy_oracle weir_analytic") {
		if _, err := ByName(name); err != nil {
			t.Error(err)
		}
	}
	_, err := ByName("least_con")
	if err == nil || !strings.Contains(err.Error(), `unknown policy "least_con"`) || !strings.Contains(err.Error(), "least_conn, p2c") {
		t.Errorf("got %v", err)
	}
}

// TestEveryPolicySurvivesEverythingThatHappens runs each through joins, leaves, failures, retries, time-outs and several
// balancers; the world panics on a pick of nobody.
func TestEveryPolicySurvivesEverythingThatHappens(t *testing.T) {
	s := parse(t, `
requests: 6000
balancers: 2
arrivals: {load: 0.7}
classes:
  - {name: a, share: 0.8, service_ms: {mean: 50, dist: exp}}
  - {name: b, share: 0.2, service_ms: {mean: 200, dist: pareto, shape: 2}, weight_hint: true}
peers: [{count: 3, slots: 2, reports: orca}, {slots: 2, speed: 0.5, affinity: {b: 2}}]
events:
  - {peer: 0, from_s: 5, for_s: 10, every_s: 30, leave: true}
  - {peer: 1, from_s: 8, for_s: 10, every_s: 30, leave: true}
  - {peer: 2, from_s: 10, for_s: 9, every_s: 30, leave: true}
  - {peer: 3, from_s: 11, for_s: 3, every_s: 30, leave: true}
  - {peer: 3, from_s: 20, for_s: 5, every_s: 30, fail: {status: 500, after_ms: 1}}
  - {peer: 2, from_s: 22, for_s: 5, every_s: 30, fail: {refuse: true}}
  - {peer: 1, from_s: 20, for_s: 5, every_s: 30, speed: 0.1}
timeout_ms: 2000
retries: 3
`)
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			make, err := ByName(name)
			if err != nil {
				t.Fatal(err)
			}
			r := run(t, s, 1, func(set *world.Setup) world.Balancer { return &strict{t, make(set)} })
			if r.Requests != 6000 || r.Failed == 6000 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// strict holds a policy to the rules of world.Balancer, and passes on what else it implements.
type strict struct {
	t *testing.T
	b world.Balancer
}

func (s *strict) Pick(a *world.Attempt) int32 {
	p := s.b.Pick(a)
	for _, m := range a.Present {
		if m == p && a.Untried(p) {
			return p
		}
	}
	s.t.Fatalf("picked %d of %v with %v tried", p, a.Present, a.Tried)
	return -1
}

func (s *strict) Done(o *world.Outcome) { s.b.Done(o) }

func (s *strict) PeriodMS() float64 {
	if x, ok := s.b.(world.Ticker); ok {
		return x.PeriodMS()
	}
	return 1e9
}

func (s *strict) Tick(now float64) {
	if x, ok := s.b.(world.Ticker); ok {
		x.Tick(now)
	}
}

func (s *strict) Joined(now float64, peer int32) {
	if x, ok := s.b.(world.Member); ok {
		x.Joined(now, peer)
	}
}

func (s *strict) Left(now float64, peer int32) {
	if x, ok := s.b.(world.Member); ok {
		x.Left(now, peer)
	}
}

func (s *strict) Sent(now float64, peer int32) {
	if x, ok := s.b.(world.Prober); ok {
		x.Sent(now, peer)
	}
}

func TestAPolicyDrawsTheSameWithTheSameSeed(t *testing.T) {
	s := parse(t, `
requests: 3000
arrivals: {load: 0.8}
classes: [{service_ms: {mean: 100}}]
peers: [{count: 4, slots: 2}]
`)
	for _, name := range Names() {
		make, err := ByName(name)
		if err != nil {
			t.Fatal(err)
		}
		a, b := run(t, s, 5, make), run(t, s, 5, make)
		if a.MeanMS != b.MeanMS || a.P99MS != b.P99MS {
			t.Errorf("%s: %+v and %+v", name, a, b)
		}
	}
}

func TestEqualsArePickedUniformly(t *testing.T) {
	c := newChoices(rand.New(rand.NewPCG(1, 2)))
	var got [4]float64
	for range 20_000 {
		c.reset()
		for p, cost := range []float64{2, 1, 3, 1} {
			c.offer(int32(p), cost)
		}
		got[c.pick()]++
	}
	near(t, "first of two equals", got[1]/20_000, 0.5, 0.02)
	near(t, "second of two equals", got[3]/20_000, 0.5, 0.02)
}
