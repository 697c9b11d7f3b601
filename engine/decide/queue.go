package decide

import (
	"math"

	"github.com/weirlb/weir/engine/estimate"
)

// queue is the delay a request imposes at a peer that gets requests at a rate of their own, whatever it holds. In a queue with arrival rate a, working at
// rate min(n, K) / S, the total cost of a state differs from that of the state with one request less by d(n) (the relative value of a
// Markov decision process); d(n) less the request's own response time is the delay it imposes. Adding it to the cost is one step of
// policy improvement over routing at the present rates (Krishnan 1990; Sassen, Tijms and Nobel 1997).
type queue struct {
	slots, service float64
	value          []float64 // d(n) less the own response time, up to K
	rate, g, r     float64   // arrivals a ms, mean number, ratio of its tail
}

// levels is how many in-flight counts the relative values are computed for before the closed form takes over.
const levels = 257

// of computes the delay a mean request imposes on those that come after it, for whole n up to K.
//
// For a birth-death queue with arrival rate a, g the mean number in it and pi its stationary distribution,
// d(n) = sum over j > n of pi[j] (j - g) / (a pi[n]); past K the tail is geometric with ratio r = a S / K, so
// d(n) = ((n - g) r / (1 - r) + r / (1 - r)^2) / a, and below K the recursion a d(n) = g - n + mu(n) d(n-1) follows from balance.
func (q *queue) of(v *estimate.PeerView, part float64) {
	q.value = q.value[:0]
	k, s := v.Concurrency, v.WorkMS
	rate := min(part*v.TotalRate, 0.95*k/s)
	q.rate, q.slots, q.service = rate, k, s
	if !(rate*s > 1e-6) {
		return
	}
	r := rate * s / k
	g := meanNumber(rate*s, k)
	q.g, q.r = g, r
	top := min(int(math.Ceil(k)), levels-1)
	for range top + 1 {
		q.value = append(q.value, 0)
	}
	// The recursion multiplies errors by a / mu(n) going down and by mu(n) / a going up, so each is used where that is below 1: where few are there, from
	// d(0) = g / a on. Going down all the way, rounding came out as 10^7 ms at 64 slots, and a K that is not whole, for which top is no exact start, as
	// thousands at 16.
	middle := min(int(rate*s), top)
	q.value[top] = q.beyond(float64(top))
	for n := top; n > middle+1; n-- {
		q.value[n-1] = (rate*q.value[n] - g + float64(n)) * s / min(float64(n), k)
	}
	if middle < top {
		q.value[0] = g / rate
		for n := 1; n <= middle; n++ {
			q.value[n] = (g - float64(n) + min(float64(n), k)/s*q.value[n-1]) / rate
		}
	}
	for n := range q.value {
		q.value[n] = max(q.value[n]-s*max(1, float64(n+1)/k), 0)
	}
	for n := 1; n < len(q.value); n++ {
		q.value[n] = max(q.value[n], q.value[n-1])
	}
}

// beyond is d(n) for n from K on.
func (q *queue) beyond(n float64) float64 {
	r := q.r
	return ((n-q.g)*r/(1-r) + r/((1-r)*(1-r))) / q.rate
}

// at is the delay imposed at n, whole or not.
func (q *queue) at(n float64) float64 {
	top := len(q.value) - 1
	if top < 0 {
		return 0
	}
	if n >= float64(top) {
		return max(q.beyond(n)-q.service*max(1, (n+1)/q.slots), q.value[top])
	}
	i := int(n)
	return q.value[i] + (q.value[i+1]-q.value[i])*(n-float64(i))
}

// meanNumber is the mean number in an M/M/K queue with offered load, K not necessarily whole.
func meanNumber(load, k float64) float64 {
	term, sum, mean := 1.0, 1.0, 0.0
	n := 1.0
	for ; n < k && n < levels; n++ {
		term *= load / n
		sum += term
		mean += n * term
	}
	// From here on the rate is k: a geometric tail of ratio r, starting at n.
	r := load / k
	term *= r
	sum += term / (1 - r)
	mean += term * (n/(1-r) + r/((1-r)*(1-r)))
	return mean / sum
}
