package decide_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/weirlb/weir/engine/decide"
)

func TestTheDistributionIsWhatPickDrawsFrom(t *testing.T) {
	est := answered(10, 10.4, 10.9, 40)
	tab := fill(est, decide.Params{})
	cand := make([]decide.Candidate, 4)
	costs, p, seen := make([]float64, 4), make([]float64, 4), make([]float64, 4)
	for i := range cand {
		cand[i].Usable = true
		costs[i] = tab.At(0, i, 0)
	}
	rule := decide.Rule{Explore: 0.2, Spread: 0.1}
	rule.Distribution(costs, p)
	rnd := rand.New(rand.NewPCG(1, 2))
	const draws = 40_000
	for range draws {
		c := decide.Pick(tab, 0, cand, rule, rnd)
		seen[c.Peer] += 1.0 / draws
		if math.Abs(c.Propensity-p[c.Peer]) > 1e-12 {
			t.Fatalf("peer %d: propensity %v, by the distribution %v", c.Peer, c.Propensity, p[c.Peer])
		}
	}
	for i := range p {
		if math.Abs(seen[i]-p[i]) > 0.01 {
			t.Errorf("peer %d: probability %.3f, drawn %.3f", i, p[i], seen[i])
		}
	}
}
