// Package policy holds the balancing policies the simulator compares, one a file, each as it was published.
//
// A published policy is kept as published, faults included: what makes it worse than Weir here must be its own. None of
// them has health checks, unless its source has: a policy that is fooled by fast failures is fooled here too.
package policy

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/weirlb/weir/engine/sim/world"
)

// New makes one instance of a policy.
type New func(*world.Setup) world.Balancer

// entry is one policy by name.
type entry struct {
	name string
	new  New
}

// all lists the policies in the order tables show them.
func all() []entry {
	return []entry{
		{"round_robin", newRoundRobin},
		{"random", newRandom},
		{"least_conn", newLeastConn},
		{"p2c", newP2C},
		{"peak_ewma", newPeakEWMA},
		{"ewma_p2c", newEWMAP2C},
		{"prequal", newPrequal},
		{"wrr_capacity", newWRRCapacity},
		{"c3", newC3},
		{"weir", newWeir},
		{"sed_oracle", newSEDOracle},
		{"greedy_oracle", newGreedyOracle},
		{"peak_ewma_finagle", newPeakEWMAFinagle},
	}
}

// Names lists the policies.
func Names() []string {
	var names []string
	for _, e := range all() {
		names = append(names, e.name)
	}
	return names
}

// ByName finds a policy. `weir_analytic` is Weir with the analytic policy, whatever `weir` itself goes by.
func ByName(name string) (New, error) {
	if name == "weir_analytic" {
		return newWeir, nil
	}
	for _, e := range all() {
		if e.name == name {
			return e.new, nil
		}
	}
	return nil, fmt.Errorf("unknown policy %q; known policies are %s", name, strings.Join(Names(), ", "))
}

// choices keeps the peers that are equally good so far, and picks one of them uniformly. Without it, policies that take
// the first of equals send everything to the lowest number while the pool is idle.
type choices struct {
	rnd  *rand.Rand
	best float64
	ties []int32
}

func newChoices(rnd *rand.Rand) choices { return choices{rnd: rnd} }

func (c *choices) reset() { c.ties = c.ties[:0] }

func (c *choices) offer(peer int32, cost float64) {
	switch {
	case len(c.ties) == 0 || cost < c.best:
		c.best = cost
		c.ties = append(c.ties[:0], peer)
	case cost == c.best:
		c.ties = append(c.ties, peer)
	}
}

func (c *choices) pick() int32 {
	if len(c.ties) == 1 {
		return c.ties[0]
	}
	return c.ties[c.rnd.IntN(len(c.ties))]
}

// two draws two untried members, independently and uniformly: the same one twice now and then. That is the model of the
// power of two choices, and what Envoy does; NGINX draws two different ones.
func two(a *world.Attempt, rnd *rand.Rand) (int32, int32) {
	from := a.Present
	if len(a.Tried) > 0 {
		from = untried(a)
	}
	return from[rnd.IntN(len(from))], from[rnd.IntN(len(from))]
}

// one draws an untried member uniformly.
func one(a *world.Attempt, rnd *rand.Rand) int32 {
	if len(a.Tried) > 0 {
		left := untried(a)
		return left[rnd.IntN(len(left))]
	}
	return a.Present[rnd.IntN(len(a.Present))]
}

// untried lists the members that may be picked. Only for retries, which are rare: it allocates.
func untried(a *world.Attempt) []int32 {
	var left []int32
	for _, p := range a.Present {
		if a.Untried(p) {
			left = append(left, p)
		}
	}
	return left
}

// blind is for policies that learn nothing from outcomes.
type blind struct{}

// Done does nothing.
func (blind) Done(*world.Outcome) {}
