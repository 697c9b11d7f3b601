package policy

import "github.com/weirlb/weir/engine/sim/world"

// wrrCapacity is NGINX's smooth weighted round robin with weights that someone measured well: each member's capacity
// (slots x speed / mean service time of the class mix) as the scenario's `peers` has it. It is what an operator who knows
// the hardware gets, and it does not hear of events.
type wrrCapacity struct {
	blind
	weight  []float64
	current []float64
}

func newWRRCapacity(s *world.Setup) world.Balancer {
	w := &wrrCapacity{current: make([]float64, len(s.Scenario.Peers))}
	for i, p := range s.Scenario.Peers {
		w.weight = append(w.weight, float64(p.Slots)*p.Speed/s.Scenario.MixMeanMS(i))
	}
	// A random start, so that many balancers do not walk in step.
	for i := range w.current {
		w.current[i] = w.weight[i] * s.Rand.Float64()
	}
	return w
}

// Pick raises every member by its weight, takes the highest and lowers it by the sum (ngx_http_upstream_get_peer).
func (w *wrrCapacity) Pick(a *world.Attempt) int32 {
	best, sum := int32(-1), 0.0
	for _, p := range a.Present {
		if !a.Untried(p) {
			continue
		}
		w.current[p] += w.weight[p]
		sum += w.weight[p]
		if best < 0 || w.current[p] > w.current[best] {
			best = p
		}
	}
	w.current[best] -= sum
	return best
}
