package world

import (
	"math"
	"slices"
)

// Result is what one policy reached in one run. Latencies are over answered requests, from arrival to answer, failed
// attempts before the last included.
type Result struct {
	Requests int // measured: answered and failed
	Failed   int // ended in a failure or time-out
	MeanMS   float64
	P50MS    float64
	P90MS    float64
	P99MS    float64
	P999MS   float64
	// ByPeer counts the measured attempts each peer got.
	ByPeer []int
}

// tally collects one episode.
type tally struct {
	latencies []float64 // ms
	failed    int
}

// quantiles sorts in place; the nearest rank, so that every figure is a latency that occurred. NaN without any.
func (t *tally) figures() (f [5]float64) {
	if len(t.latencies) == 0 {
		return [5]float64{math.NaN(), math.NaN(), math.NaN(), math.NaN(), math.NaN()}
	}
	sum := 0.0
	for _, l := range t.latencies {
		sum += l
	}
	slices.Sort(t.latencies)
	f[0] = sum / float64(len(t.latencies))
	for i, q := range [...]float64{0.5, 0.9, 0.99, 0.999} {
		f[i+1] = t.latencies[max(0, int(math.Ceil(q*float64(len(t.latencies))))-1)]
	}
	return f
}

// median of v, which is sorted in place; the mean of the middle two when even. NaN when empty; NaNs are left out.
func median(v []float64) float64 {
	v = slices.DeleteFunc(v, math.IsNaN)
	if len(v) == 0 {
		return math.NaN()
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
