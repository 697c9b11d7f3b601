package main

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/weirlb/weir/engine/sim"
	"github.com/weirlb/weir/engine/sim/policy"
	"github.com/weirlb/weir/engine/sim/scenario"
	"github.com/weirlb/weir/engine/sim/world"
)

// Where the speeds of peers change, what limits a balancer is how soon it can know. changing measures two kinds that know more than any real one: an oracle that is told
// each speed, some time after it changed, and a Bayesian filter that sees answers only, but knows the slots of each peer, the distribution of its service times and how
// often its speed changes and for how long. Neither has to learn any of that.

// lateness is how late the oracle hears of a change, ms.
func lateness() []float64 { return []float64{200, 500, 1000, 2000} }

// lasting is what the filter takes a slow-down to last, over what it really lasts in the mean.
func lasting() []float64 { return []float64{1, 1. / 3, 3} }

func changingColumns() []string {
	columns := []string{"scenario", "sed_oracle"}
	for _, ms := range lateness() {
		columns = append(columns, fmt.Sprintf("told %g s late", ms/1000))
	}
	for _, x := range lasting() {
		columns = append(columns, fmt.Sprintf("filter, lasting x %.2g", x))
	}
	return columns
}

// slowdowns returns how long the slow-downs of a scenario last in the mean and how long a peer is free of them, ms.
func slowdowns(s *scenario.Scenario) (lasts, free float64, err error) {
	if len(s.Classes) != 1 || s.Classes[0].Dist != scenario.Exp || len(s.Events) == 0 {
		return 0, 0, fmt.Errorf("%s: only scenarios of one class with exponential service times, with speeds that change", s.Name)
	}
	every := 0.0
	for _, e := range s.Events {
		if !(e.Speed > 0) || !(e.EveryS > 0) || e.Fail != nil || e.Leave || e.Join {
			return 0, 0, fmt.Errorf("%s: only events that change a speed, again and again", s.Name)
		}
		lasts += 1000 * e.ForS / float64(len(s.Events))
		every += 1000 * e.EveryS / float64(len(s.Events))
	}
	return lasts, every*float64(len(s.Peers))/float64(len(s.Events)) - lasts, nil
}

func (c *limitsCmd) changing(b *bench, s *scenario.Scenario) ([]string, error) {
	lasts, free, err := slowdowns(s)
	if err != nil {
		return nil, err
	}
	makers, policies := map[string]policy.New{}, []string{"least_conn", "sed_oracle"}
	add := func(name string, make policy.New) {
		policies = append(policies, name)
		makers[name] = make
	}
	for _, ms := range lateness() {
		add(fmt.Sprint("late_", ms), func(set *world.Setup) world.Balancer { return newLateOracle(set, ms) })
	}
	for _, x := range lasting() {
		add(fmt.Sprint("filter_", x), func(set *world.Setup) world.Balancer { return newFilter(set, free, x*lasts) })
	}
	rows, err := (&sim.Comparison{Scenario: s, Policies: policies, Seed: 1, Seeds: c.Seeds, Jobs: jobs(c.Jobs), Makers: makers, Progress: b.goOn}).Run()
	if err != nil {
		return nil, err
	}
	return cells(s.Name, rows), nil
}

// lateOracle picks the shortest expected completion by speeds as they were: what is told of a peer is true as of some time ago.
type lateOracle struct {
	truth *world.Truth
	rnd   *rand.Rand
	late  float64   // ms
	seen  []float64 // a peer's speed
	since []float64 // when it was first seen, ms
	told  []float64
	mean  []float64 // service time at speed 1, ms
}

func newLateOracle(set *world.Setup, late float64) *lateOracle {
	o := &lateOracle{truth: set.Truth, rnd: set.Rand, late: late}
	for i, p := range set.Scenario.Peers {
		o.seen, o.since, o.told = append(o.seen, p.Speed), append(o.since, 0), append(o.told, p.Speed)
		o.mean = append(o.mean, set.Scenario.MixMeanMS(i))
	}
	return o
}

// Pick implements world.Balancer.
func (o *lateOracle) Pick(a *world.Attempt) int32 {
	return lowest(o.rnd, a.Present, func(p int32) float64 {
		if v := o.truth.Speed(p); v != o.seen[p] {
			o.seen[p], o.since[p] = v, a.Now
		}
		if a.Now >= o.since[p]+o.late {
			o.told[p] = o.seen[p]
		}
		slots := float64(o.truth.Slots(p))
		return o.mean[p] * (1 + math.Max(0, float64(a.InFlight[p])+1-slots)/slots) / o.told[p]
	})
}

// Done implements world.Balancer.
func (*lateOracle) Done(*world.Outcome) {}

// lowest is the peer of the lowest cost, among equals one by chance.
func lowest(rnd *rand.Rand, present []int32, cost func(int32) float64) int32 {
	best, to, equals := math.Inf(1), present[0], 0
	for _, p := range present {
		switch c := cost(p); {
		case c < best-1e-9:
			best, to, equals = c, p, 1
		case c < best+1e-9:
			equals++
			if rnd.IntN(equals) == 0 {
				to = p
			}
		}
	}
	return to
}
