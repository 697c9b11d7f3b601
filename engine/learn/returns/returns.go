// Package returns computes what a request really cost the pool: its own response time and the delay it imposed on those after it.
//
// The delay imposed is a difference reward (Wolpert and Tumer, "Optimal payoff functions for members of collectives", 2002): the sum of
// all response times as it was, less what it would have been without the request, other decisions being the same. A peer is taken as
// a first-come-first-served queue in front of K slots, so the sum without it is one pass over the requests that came after. A return
// summed over all later response times would have the same mean and a hundred times the variance.
package returns

import "slices"

// DefaultImposed is how much of the delay imposed on others counts. The returns say what others would have been spared had their peers
// been chosen all the same; in truth some would have been sent elsewhere, so the whole of it is too much.
const DefaultImposed = 0.75

// DefaultShrink is what is taken of the correction that decisions call for, as in conservative policy iteration (Kakade and Langford 2002):
// returns were measured under the policy before, and a policy that changed all it found wrong would meet other states. Measured over
// five seeds, a whole correction against half of it: mixed-1slot-50 mean .720 and .689 of least_conn, mixed-1slot-80 .830 and .823,
// mixed-4slot-92 .938 and .949, p99 .810 and .787.
const DefaultShrink = 0.5

// Log is the requests of one peer in the order they came. Times are in ms.
type Log struct {
	Slots   int
	Arrived []float64
	Service []float64 // how long a slot worked on it
}

// horizon bounds how many later requests are looked at. Beyond it, at a load of 0.95, less than 1 % of the delay is left out.
const horizon = 4000

// Imposed returns how long request i made all later requests of its peer wait together, in ms; never negative.
//
// It is exact for one peer of constant speed: both worlds, with the request and without, are followed until their slots agree.
// free is scratch for the slots of both.
func (l *Log) Imposed(i int, before []float64, free *Slots) float64 {
	with, without := free.load(l.Slots, before)
	a := l.Arrived[i]
	seize(with, a, l.Service[i])
	sum := 0.0
	for j := i + 1; j < len(l.Arrived) && j <= i+horizon; j++ {
		a, s := l.Arrived[j], l.Service[j]
		if same(with, without, a) {
			break
		}
		sum += seize(with, a, s) - seize(without, a, s)
	}
	return max(sum, 0)
}

// Slots is the moments at which slots become free, in order, in two worlds. The zero value is ready.
type Slots struct{ a, b []float64 }

func (f *Slots) load(k int, before []float64) (with, without []float64) {
	f.a = append(f.a[:0], before...)
	f.b = append(f.b[:0], before...)
	return f.a[:k], f.b[:k]
}

// seize gives the first free slot to a request and returns when it starts. free stays in order.
func seize(free []float64, arrived, service float64) float64 {
	start := max(arrived, free[0])
	end := start + service
	n := 1
	for n < len(free) && free[n] < end {
		free[n-1] = free[n]
		n++
	}
	free[n-1] = end
	return start
}

// same reports whether the two worlds cannot differ any more for a request that comes at now or later.
func same(a, b []float64, now float64) bool {
	for i := range a {
		if x, y := max(a[i], now), max(b[i], now); x-y > 1e-9 || y-x > 1e-9 {
			return false
		}
	}
	return true
}

// All returns the delay imposed by the requests for which want is true; the others have 0.
func (l *Log) All(want func(i int) bool) []float64 {
	out := make([]float64, len(l.Arrived))
	free := make([]float64, l.Slots)
	var scratch Slots
	for i := range l.Arrived {
		if want(i) {
			out[i] = l.Imposed(i, free, &scratch)
		}
		seize(free, l.Arrived[i], l.Service[i])
	}
	return out
}

// Sort puts the log in the order of arrival and returns, for each position, where it was before.
func (l *Log) Sort() []int {
	order := make([]int, len(l.Arrived))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case l.Arrived[a] < l.Arrived[b]:
			return -1
		case l.Arrived[a] > l.Arrived[b]:
			return 1
		}
		return 0
	})
	arrived, service := make([]float64, len(order)), make([]float64, len(order))
	for to, from := range order {
		arrived[to], service[to] = l.Arrived[from], l.Service[from]
	}
	l.Arrived, l.Service = arrived, service
	return order
}
