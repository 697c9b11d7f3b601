package policy

import "github.com/weirlb/weir/engine/sim/world"

// roundRobin gives each member its turn, as NGINX's default balancer with equal weights does. It starts at a random
// member, so that many balancers do not walk in step.
type roundRobin struct {
	blind
	last int32 // the peer that had the last turn
}

func newRoundRobin(s *world.Setup) world.Balancer {
	return &roundRobin{last: int32(s.Rand.IntN(len(s.Scenario.Peers)))}
}

// Pick takes the next member after the last by number, so that joins and leaves do not disturb the others' turns.
func (r *roundRobin) Pick(a *world.Attempt) int32 {
	next, first := int32(-1), int32(-1)
	for _, p := range a.Present {
		if !a.Untried(p) {
			continue
		}
		if first < 0 {
			first = p
		}
		if p > r.last {
			next = p
			break
		}
	}
	if next < 0 {
		next = first
	}
	r.last = next
	return next
}
