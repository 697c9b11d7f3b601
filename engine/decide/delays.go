package decide

import (
	"math"

	"github.com/weirlb/weir/engine/estimate"
)

// delays is the delay that a mean request imposes on those that come after it, ms, by how many requests it finds.
//
// Where all requests come through this engine, a request delays those that would have gone to the same peer for as long as that is the best one. That is what
// a Whittle index weighs (index). Those of balancers that see nothing of ours come whatever the peer holds, and that is what queue weighs.
type delays struct {
	slots, service float64
	index          index
	unseen         float64 // weight of queue
	queue          queue
}

// blindDelay is the part of the rate that queue charges. The theory takes arrivals to go on whatever the queue, and even balancers that know of no other send
// less where answers take long. Measured with the peers' true parameters, speeds 0.15..1.05 and Pareto 2.2 sizes: mean response times at loads
// 0.5, 0.8 and 0.92 of 1.32, 2.15 and 3.90 without the term, 1.32, 1.95 and 3.32 at 0.7, 1.37, 2.04 and 3.68 at 1. More is better for the mean and worse for the tail: ten
// balancers have 162 / 673 ms at .5, 156 / 693 here, 155 / 704 at .75, 154 / 724 at 1 (mean / p99, formulas, five seeds; C3, which is told their number, 155 / 669).
const blindDelay = 0.65

// of sets it for a peer of a pool that gets so many requests a ms, of which it might get this part of what it can serve at most.
func (d *delays) of(v *estimate.PeerView, rate, offered float64) {
	d.slots, d.service = v.Concurrency, v.WorkMS
	d.index = newIndex(v.Concurrency, v.WorkMS, min(rate, offered*v.Concurrency/v.WorkMS))
	// Squared, of four balancers a queue is .56, of ten .81. Of many balancers by the index alone the mean was 1.01 of least_conn's instead of .84.
	if d.unseen = v.Unseen * v.Unseen; d.unseen > 0 {
		d.queue.of(v, blindDelay)
	}
}

// at is the delay at n.
func (d *delays) at(n float64) float64 {
	seen := max(d.index.at(n)-d.service*max(1, (n+1)/d.slots), 0)
	if d.unseen == 0 {
		return seen
	}
	return (1-d.unseen)*seen + d.unseen*d.queue.at(n)
}

// index is the Whittle index of a peer of K slots: the price at which it is as good to leave the peer at n requests as to let it have one more, the
// requests it does not get being served elsewhere at that price (Whittle 1988; for queues, Nino-Mora 2002; for routing, Argon, Ding, Glazebrook and Ziya 2009). With
// L(n) requests in the mean and a throughput X(n) where the peer takes requests only while it holds fewer than n,
//
//	W(n) = (L(n+1) - L(n)) / (X(n+1) - X(n))
//
// For exponential service times that is S as long as a slot is free, and behind a queue, q = n + 1 - K, S + (Y(1) + .. + Y(q)) / a with
//
//	Y(1) = 1 / (1/r - 1 + B), Y(j+1) = r (Y(j) + 1), r = a S / K, B = Erlang's loss of K slots offered a S
//
// where a is the rate of the requests that the peer might get. A lone slot that is offered what it can serve has the triangular numbers: S, 3 S, 6 S. The theory has all
// requests of the pool for a. Here it is at most what the peer can serve: with more, waiting at a fast peer is avoided at any price, which is better for the mean
// (mixed-4slot-92 .96 of least_conn's at this, .92 at half as much again) and worse for the tail (p99 .75 and .80).
type index struct {
	slots, service, rate float64
	ratio, first         float64 // r and Y(1)
}

func newIndex(k, s, rate float64) index {
	x := index{slots: k, service: s, rate: min(rate, k/s)}
	if x.rate*s < 1e-6 {
		x.rate = 0
		return x
	}
	x.ratio = min(x.rate*s/k, 1)
	x.first = 1 / (1/x.ratio - 1 + 1/inverseLoss(k, x.rate*s))
	return x
}

// deep is the queue from which on the index goes on straight.
const deep = 4.0

// at is W(n), ms; n and K need not be whole.
//
// From deep on it is straight. The index is of a pool that is not short of peers for long. In one that is, all queues are long, what counts is when
// the last of them is worked off, and an index that goes on with the square of the queue lets slow peers have waits longer by the root of how much slower
// they are. With loads of 1.3 for 10 s each 50 s, three speeds, the p99 was .61 of least_conn's so and is .39 (sed_oracle .39), the mean
// .95 both times; without overload it makes no difference, but for brownout-80 (.968 / .773 -> .960 / .767). From 2 on instead of 4 mixed-4slot-92 has .974 / .736 for .962 / .742.
func (x *index) at(n float64) float64 {
	q := n + 1 - x.slots
	switch {
	case q <= 0:
		return x.service
	case q <= deep:
		return x.behind(q)
	}
	const step = 0.5
	at := x.behind(deep)
	return at + (q-deep)*(at-x.behind(deep-step))/step
}

// behind is W with a queue of q.
func (x *index) behind(q float64) float64 {
	if x.rate == 0 {
		return x.service * (1 + q/x.slots)
	}
	r := x.ratio
	if 1-r < 1e-4 {
		return x.service + (q*x.first+q*(q-1)/2)/x.rate
	}
	rest := r / (1 - r)
	return x.service + ((x.first-rest)*(1-math.Pow(r, q))/(1-r)+rest*q)/x.rate
}

// inverseLoss is 1 / B, B the part of the requests that k slots without a queue lose when a slot-times of them come in each slot-time (Erlang 1917), by the recursion
// that is stable (Jagerman 1974). Between 0 and 1 slots 1 / B is taken for a power.
func inverseLoss(k, a float64) float64 {
	at := k - math.Floor(k)
	x := math.Pow(1+1/a, at)
	for at < k-0.5 {
		at++
		x = 1 + at/a*x
	}
	return x
}
