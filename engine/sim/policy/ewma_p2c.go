package policy

import (
	"math/rand/v2"

	"github.com/weirlb/weir/engine/sim/world"
)

// ewmaP2C takes the one of two members, drawn independently, whose average latency is lower; in-flight counts are
// ignored. This is what "EWMA" means where a balancer looks at answers only, as ingress-nginx's `ewma`
// (rootfs/etc/nginx/lua/balancer/ewma.lua), of which it has the time-decayed mean. The time constant is 10 mean service
// times. A member without history reads as 0 and is taken.
type ewmaP2C struct {
	rnd   *rand.Rand
	peers []average
}

func newEWMAP2C(s *world.Setup) world.Balancer {
	return &ewmaP2C{rnd: s.Rand, peers: averages(len(s.Scenario.Peers), ewmaTau(s.Scenario))}
}

// Pick implements world.Balancer.
func (e *ewmaP2C) Pick(a *world.Attempt) int32 {
	i, j := two(a, e.rnd)
	if e.peers[j].ms < e.peers[i].ms {
		return j
	}
	return i
}

// Done implements world.Balancer.
func (e *ewmaP2C) Done(o *world.Outcome) { e.peers[o.Peer].observe(o.Now, o.LatencyMS) }
