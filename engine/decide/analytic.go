package decide

import (
	"math"
	"slices"

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
// delay is what the request costs those that come after it (delays). "Own response time only" overloads the fast peers at high load.
//
// Where a peer reports what it holds for other balancers, all of it counts: n is this engine's own requests, and the cost at n is the
// mean of the cost at n + others over what is believed of the others (estimate, others.go). The rate is that of all balancers then: a
// request delays theirs too.
type Analytic struct {
	// Own leaves the delay out: own response time only.
	Own bool
	// Times has Fill keep what a request is expected to take, beside what it costs: that is what a model is taught by.
	Times bool
	// Price is that of pools whose requests tell their size.
	Price Price
	time  []float32 // [class][peer][grid], ms: (response + f / (1 - f) x (response + penalty)), without weight and Away
	delay delays    // scratch
}

// slope makes a peer with idle slots a little dearer for each busy one. Peers that are equally fast are then used evenly, as by
// least_conn, and it covers what real peers lose before their slots are full.
const slope = 0.3

// sizedSlope is the same where sizes are known. A small request then goes to a peer that holds more when the work there is less; with 0.3 it did
// not, and pools of equal peers had 1.05 of least_conn's mean instead of 1.00. With 0.03 a pool at light load, where nothing tells how many slots
// peers have, had 94 ms instead of 85.
const sizedSlope = 0.1

// Where the 99th percentile is to be kept low, a peer is offered this part of what it can serve (index), and this many standard deviations of a response time
// count as if they were time. Simulated, formulas alone, median of three seeds, mean / p99 of least_conn's: mixed-4slot-92 .962 / .748 -> 1.040 / .735, large-200
// .861 / .709 -> .879 / .692, drift .908 / .867 -> .918 / .857, mixed-1slot-80 .819 / .638 -> .825 / .631. Further on either way costs more of the mean and
// gains nothing: at the whole of what it can serve and 2.33 deviations, the normal quantile, mixed-4slot-92 has 1.149 / .758.
const (
	tailOffered = 0.8
	tailSpread  = 0.25
)

// Name returns "analytic".
func (a *Analytic) Name() string { return "analytic" }

// Fill implements Policy.
func (a *Analytic) Fill(_ float64, est *estimate.Pool, par Params, t *Table) {
	t.shape(est, par.Sizes)
	a.time = a.time[:0]
	if a.Times {
		a.time = slices.Grow(a.time, len(t.Cost))[:len(t.Cost)]
	}
	grid, spreadOut, certain := Grid(), quadrature(), [1]node{{0, 1}}
	penalty, offered := est.SlowMS(), 1.0
	if par.Objective == P99 {
		offered = tailOffered
	}
	slope, waiting, power, others := slope, 1.0, 1.0, !a.Own
	mix, rate, price := 1.0, 0.0, a.Price.Sane()
	if t.Sized() {
		part := 0.0
		if others {
			part = price.Imposed
		}
		mix = t.Work.fillPool(est, part)
		slope, waiting, power, others = sizedSlope, price.Waiting, price.Power, false // the delay imposed is part of the price, not of the row
	}
	served := 0.0 // a ms, through this engine; rate is of all balancers
	for i := range t.Peers {
		v := est.Peer(i)
		served, rate = served+v.ArrivalRate, rate+v.TotalRate
	}
	alike := follow(served, rate, len(t.Peers))
	for i := range t.Peers {
		v := est.Peer(i)
		mean := v.WorkMS
		if t.Sized() {
			mean *= t.Work.waits(i, mix) / v.Mix
		}
		var wait, spread, delay, even [GridPoints]float64
		if others {
			a.delay.of(&v, rate, offered)
		}
		nodes, more := spreadOut[:], 0.0
		if v.OthersVar == 0 {
			nodes = certain[:]
		} else {
			more = alike
		}
		for g, own := range grid {
			for _, o := range nodes {
				n := float64(own) + max(v.Others+more*float64(own-v.InFlight)+o.at*math.Sqrt(v.OthersVar), 0)
				queued := max(n+1-v.Concurrency, 0)
				w := est.Wait(i, n) * mean
				wait[g] += waiting * o.weight * bent(w, mean/v.Concurrency, power)
				even[g] += waiting * o.weight * slope * min(n, v.Concurrency) / v.Concurrency * mean
				// Variance of the wait: queued departures, each an interval of mean S/K.
				spread[g] += o.weight * queued * max(v.CV2, 1) * (mean / v.Concurrency) * (mean / v.Concurrency)
				if others {
					delay[g] += o.weight * a.delay.at(n)
				}
			}
		}
		odds := v.FailureRate / (1 - v.FailureRate)
		weight := par.weight(i)
		factor, away := par.away(i)
		weight /= factor
		if t.Sized() {
			t.Work.fillPeer(est, i, &v, price.Behind*price.Waiting*(1+odds)/weight)
		}
		for c, idx := range est.Listed() {
			service := est.Pair(i, idx).ServiceMS
			size := service / mean
			cv2 := est.ClassAt(idx).CV2
			row := t.Row(c, i)
			var time []float32
			if a.Times {
				time = a.time[(c*len(t.Peers)+i)*GridPoints:][:GridPoints]
			}
			last := 0.0
			for g := range grid {
				own := service + wait[g]
				if par.Objective == P99 && !t.Sized() {
					own += tailSpread * math.Sqrt(cv2*service*service+spread[g])
				}
				if time != nil {
					time[g] = float32(bounded(own + odds*(own+penalty)))
				}
				own += even[g] + size*delay[g]
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

// bent is a wait, ms, to a power, in units of the time from one departure to the next.
func bent(wait, departure, power float64) float64 {
	if power == 1 || !(wait > 0) {
		return wait
	}
	return departure * math.Pow(wait/departure, power)
}

// follow is how many requests other balancers place on a peer, or take off it, for each one that this engine does after the last reports. They read the same
// reports and price by them alike, so where one finds a peer better all do, and go there together until the next reports: the load of all
// over one's own, less one, times 2 over the number of peers, at most all of it. The factor is measured: with two peers who is not sent to one is sent to the
// other, with twenty peers no two balancers agree. Eight balancers, two peers of 5 slots and of one, load .92, mean of least_conn's: 1.19 and 1.23 without,
// 1.02 and 1.05 with it, three peers 1.13 and 1.02; ten balancers and twenty or forty peers as before, 1.04 times that with all of it.
func follow(served, rate float64, peers int) float64 {
	if !(served > 0) {
		return 0
	}
	return max(rate/served-1, 0) * min(2/float64(peers), 1)
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
