package decide

import (
	"math"

	"github.com/weirlb/weir/engine/estimate"
)

// Analytic is the classical policy: what a request is expected to cost, in ms, from the estimators.
//
//	response(n) = service + wait(n)
//	service     = base[c] x affinity[p][c] / speed[p]
//	wait(n)     = (queue + min(queue, 1) x (cv2 - 1) / 2) / K x mean service time of the mix on p, queue = max(n + 1 - K, 0)
//	cost(n)     = (response + delay + failing) / weight x (1 + Away.Share) + Away.MS
//	failing     = f / (1 - f) x (response + delay + penalty)
//
// delay is what the request costs those that come after it. In a queue with arrival rate a, working at rate min(n, K) / S, the total
// cost of a state differs from that of the state with one request less by d(n) (the relative value of a Markov decision process);
// d(n) less the request's own response time is the delay it imposes. Adding it to the cost is one step of policy improvement over
// routing at the present rates (Krishnan 1990; Sassen, Tijms and Nobel 1997). Since a slow peer that is little used has few that
// come after, it makes the slow peers carry more at high load, where "own response time only" overloads the fast ones.
//
// Where a peer reports what it holds for other balancers, all of it counts: n is this engine's own requests, and the cost at n is the
// mean of the cost at n + others over what is believed of the others (estimate, others.go). The rate is that of all balancers then: a
// request delays theirs too.
//
// The theory takes arrivals to go on at the mean rate whatever the queue. A balancer sends fewer while the queue is long, so only a
// part of the rate is charged.
type Analytic struct {
	// Delay is that part; 0 = DefaultDelay, negative = none: own response time only.
	Delay      float64
	value      []float64 // scratch: d(n)
	rate, g, r float64   // of the queue value is of: arrivals a ms, mean number, ratio of its tail
}

// DefaultDelay was measured with the peers' true parameters, speeds 0.15..1.05 and Pareto 2.2 sizes: mean response times at loads
// 0.5, 0.8 and 0.92 of 1.32, 2.15 and 3.90 without the term, 1.32, 1.95 and 3.32 at 0.7, 1.37, 2.04 and 3.68 at 1.
const DefaultDelay = 0.75

// sizedDelay is the default where sizes are known (Work). More of it is better for the mean and worse for the tail: in 100 episodes of the Park
// world 657 / 2999 ms (mean / p99, medians of five seeds) at 0.2, 645 / 2954 at this, 648 / 3143 at 0.4; greedy_oracle, which knows every size and
// speed, has 702 / 2970 there.
const sizedDelay = 0.2

// sizedWait is what a ms of waiting counts there beside one of the request's own service. A greedy rule sends a large request to the fastest peer that it need
// not wait for long and so keeps that from the many that follow; the further it goes to find a slow one idle, the better for all. Measured, with
// the peers' true parameters: 689 / 3098 ms at 1, 663 / 2948 at 2, 650 / 2960 at 4, 644 / 3058 at 10, without any delay imposed.
const sizedWait = 4

// slope makes a peer with idle slots a little dearer for each busy one. Peers that are equally fast are then used evenly, as by
// least_conn, and it covers what real peers lose before their slots are full.
const slope = 0.3

// sizedSlope is the same where sizes are known. A small request then goes to a peer that holds more when the work there is less; with 0.3 it did
// not, and pools of equal peers had 1.05 of least_conn's mean instead of 1.00. With 0.03 a pool at light load, where nothing tells how many slots
// peers have, had 94 ms instead of 85.
const sizedSlope = 0.1

// tail is the normal quantile of the 99th percentile.
const tail = 2.3263

// Name returns "analytic".
func (a *Analytic) Name() string { return "analytic" }

// Fill implements Policy.
func (a *Analytic) Fill(_ float64, est *estimate.Pool, par Params, t *Table) {
	t.shape(est, par.Sizes)
	grid, spreadOut, certain := Grid(), quadrature(), [1]node{{0, 1}}
	penalty := est.SlowMS()
	part, slope, waiting := a.Delay, slope, 1.0
	if part == 0 {
		part = DefaultDelay
		if t.Sized() {
			part = sizedDelay
		}
	}
	mix := 1.0
	if t.Sized() {
		mix = t.Work.fillPool(est, min(max(part, 0), 1))
		part, slope, waiting = -1, sizedSlope, sizedWait // the delay imposed is part of the price, not of the row
	}
	for i := range t.Peers {
		v := est.Peer(i)
		mean := v.WorkMS
		if t.Sized() {
			mean *= t.Work.waits(i, mix) / v.Mix
		}
		var wait, spread, delay [GridPoints]float64
		if part > 0 {
			a.delays(v, min(part, 1))
		}
		nodes := spreadOut[:]
		if v.OthersVar == 0 {
			nodes = certain[:]
		}
		for g, own := range grid {
			for _, o := range nodes {
				n := float64(own) + max(v.Others+o.at*math.Sqrt(v.OthersVar), 0)
				queued := max(n+1-v.Concurrency, 0)
				w := est.Wait(i, n) * mean
				wait[g] += waiting * o.weight * (w + slope*min(n, v.Concurrency)/v.Concurrency*mean)
				// Variance of the wait: queued departures, each an interval of mean S/K.
				spread[g] += o.weight * queued * max(v.CV2, 1) * (mean / v.Concurrency) * (mean / v.Concurrency)
				if part > 0 {
					delay[g] += o.weight * a.delay(v, n)
				}
			}
		}
		odds := v.FailureRate / (1 - v.FailureRate)
		weight := par.weight(i)
		factor, away := par.away(i)
		weight /= factor
		if t.Sized() {
			t.Work.fillPeer(est, i, &v, (1+odds)/weight)
		}
		for c, idx := range est.Listed() {
			service := est.Pair(i, idx).ServiceMS
			size := service / mean
			cv2 := est.ClassAt(idx).CV2
			row := t.Row(c, i)
			last := 0.0
			for g := range grid {
				own := service + wait[g]
				if par.Objective == P99 {
					own += tail * math.Sqrt(cv2*service*service+spread[g])
				}
				own += size * delay[g]
				own += odds * (own + penalty)
				last = max(bounded(own/weight+away), last)
				row[g] = float32(last)
			}
			if t.Sized() {
				t.Work.Own[c*len(t.Peers)+i] = float32(min((1+odds)*service/weight/float64(row[0]), 1))
			}
		}
	}
}

// bounded keeps a cost finite and positive whatever went in.
func bounded(ms float64) float64 {
	if !(ms > 1e-6) {
		if math.IsNaN(ms) {
			return 1e12
		}
		return 1e-6
	}
	return min(ms, 1e12)
}

// levels is how many in-flight counts the relative values are computed for before the closed form takes over.
const levels = 257

// delays computes the delay a mean request imposes on those that come after it, for whole n up to K.
//
// For a birth-death queue with arrival rate a, g the mean number in it and pi its stationary distribution,
// d(n) = sum over j > n of pi[j] (j - g) / (a pi[n]); past K the tail is geometric with ratio r = a S / K, so
// d(n) = ((n - g) r / (1 - r) + r / (1 - r)^2) / a, and below K the recursion a d(n) = g - n + mu(n) d(n-1) follows from balance.
func (a *Analytic) delays(v estimate.PeerView, part float64) {
	a.value = a.value[:0]
	k, s := v.Concurrency, v.WorkMS
	rate := min(part*v.TotalRate, 0.95*k/s)
	a.rate = rate
	if !(rate*s > 1e-6) {
		return
	}
	r := rate * s / k
	g := meanNumber(rate*s, k)
	a.g, a.r = g, r
	top := min(int(math.Ceil(k)), levels-1)
	for range top + 1 {
		a.value = append(a.value, 0)
	}
	// The recursion multiplies errors by a / mu(n) going down and by mu(n) / a going up, so each is used where that is below 1: where few are there, from
	// d(0) = g / a on. Going down all the way, rounding came out as 10^7 ms at 64 slots, and a K that is not whole, for which top is no exact start, as
	// thousands at 16.
	middle := min(int(rate*s), top)
	a.value[top] = a.beyond(float64(top))
	for n := top; n > middle+1; n-- {
		a.value[n-1] = (rate*a.value[n] - g + float64(n)) * s / min(float64(n), k)
	}
	if middle < top {
		a.value[0] = g / rate
		for n := 1; n <= middle; n++ {
			a.value[n] = (g - float64(n) + min(float64(n), k)/s*a.value[n-1]) / rate
		}
	}
	for n := range a.value {
		a.value[n] = max(a.value[n]-s*max(1, float64(n+1)/k), 0)
	}
	for n := 1; n < len(a.value); n++ {
		a.value[n] = max(a.value[n], a.value[n-1])
	}
}

// beyond is d(n) for n from K on.
func (a *Analytic) beyond(n float64) float64 {
	r := a.r
	return ((n-a.g)*r/(1-r) + r/((1-r)*(1-r))) / a.rate
}

// delay is the delay imposed at n, whole or not, as of the last call of delays.
func (a *Analytic) delay(v estimate.PeerView, n float64) float64 {
	top := len(a.value) - 1
	if top < 0 {
		return 0
	}
	if n >= float64(top) {
		return max(a.beyond(n)-v.WorkMS*max(1, (n+1)/v.Concurrency), a.value[top])
	}
	i := int(n)
	return a.value[i] + (a.value[i+1]-a.value[i])*(n-float64(i))
}

// node is a point of a normal distribution, in standard deviations, and its weight.
type node struct{ at, weight float64 }

// quadrature integrates over a normal distribution (Gauss and Hermite, five points).
func quadrature() [5]node {
	return [5]node{
		{-2.85697001387281, 0.0112574113277207},
		{-1.35562617997427, 0.222075922005613},
		{0, 0.533333333333333},
		{1.35562617997427, 0.222075922005613},
		{2.85697001387281, 0.0112574113277207},
	}
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
