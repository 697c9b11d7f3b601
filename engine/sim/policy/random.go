package policy

import (
	"math/rand/v2"

	"github.com/weirlb/weir/engine/sim/world"
)

// random picks any member with equal probability.
type random struct {
	blind
	rnd *rand.Rand
}

func newRandom(s *world.Setup) world.Balancer { return &random{rnd: s.Rand} }

// Pick implements world.Balancer.
func (r *random) Pick(a *world.Attempt) int32 {
	return one(a, r.rnd)
}
