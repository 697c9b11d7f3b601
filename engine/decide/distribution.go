package decide

// Distribution writes the probability of each considered peer, given their costs: what Pick draws from. p must be as long as costs.
func (r Rule) Distribution(costs, p []float64) {
	if len(costs) == 0 {
		return
	}
	best := costs[0]
	for _, c := range costs[1:] {
		best = min(best, c)
	}
	sum := 0.0
	for i, c := range costs {
		p[i] = r.weight(c, best)
		sum += p[i]
	}
	explore := min(max(r.Explore, 0), 1)
	for i := range costs {
		p[i] = explore/float64(len(costs)) + (1-explore)*p[i]/sum
	}
}
