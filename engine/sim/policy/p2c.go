package policy

import (
	"math/rand/v2"

	"github.com/weirlb/weir/engine/sim/world"
)

// p2c takes the one of two members, drawn independently, that has fewer requests in flight: the power of two choices
// (Mitzenmacher, IEEE TPDS 2001), as Envoy's least request and, but for the drawing, NGINX's `random two least_conn`. Of
// equals the first drawn.
type p2c struct {
	blind
	rnd *rand.Rand
}

func newP2C(s *world.Setup) world.Balancer { return &p2c{rnd: s.Rand} }

// Pick implements world.Balancer.
func (p *p2c) Pick(a *world.Attempt) int32 {
	i, j := two(a, p.rnd)
	if a.InFlight[j] < a.InFlight[i] {
		return j
	}
	return i
}
