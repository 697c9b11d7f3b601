package policy

import "github.com/weirlb/weir/engine/sim/world"

// leastConn picks the member with the fewest requests of this balancer in flight; among equals, uniformly. This is
// join-the-shortest-queue (Weber, J. Appl. Prob. 1978), and NGINX's least_conn with equal weights, which takes turns among
// equals. It knows nothing of speed.
type leastConn struct {
	blind
	choices choices
}

func newLeastConn(s *world.Setup) world.Balancer { return &leastConn{choices: newChoices(s.Rand)} }

// Pick implements world.Balancer. Counts are compared as integers: this loop sets the speed of the simulator.
func (l *leastConn) Pick(a *world.Attempt) int32 {
	ties := l.choices.ties[:0]
	least := int32(1<<31 - 1)
	for _, p := range a.Present {
		n := a.InFlight[p]
		if n > least || (len(a.Tried) > 0 && !a.Untried(p)) {
			continue
		}
		if n < least {
			least, ties = n, ties[:0]
		}
		ties = append(ties, p)
	}
	l.choices.ties = ties
	return l.choices.pick()
}
