package decide

import (
	"math"
	"slices"

	"github.com/weirlb/weir/engine/estimate"
)

// Work is what a table holds besides costs in a pool whose requests tell their size (weight hints). Without it a request is an average
// one of its class, and so are those that a peer holds.
//
// A request of size s (times the usual of its class) costs on a peer that holds n requests, with work left to do,
//
//	wait + s x own + Imposed x y x (wait + y x Follow x Busy^max(Knee - 1 - n, 0))
//
// own is what it is served itself, Own x Cost(0), and wait is Cost(m) - own, read at m, the in-flight count by work. That is the count n while
// the peer has free slots, since then nobody waits however large the requests are; beyond, the queue counts by the work that is left of it:
// m = Knee - 1 + (n + 1 - Knee) x (left / (n x Mean))^(1 / sqrt(Knee)). In mean requests of the pool, that is: the mean request of a peer wanders
// with each large one, by half in the Park world. The root is there because a large request holds one slot up, not all: with one slot the work is
// what counts, with many it is hardly more than the number. Without it pools of even peers of 4 and 16 slots had 1.02 and 1.11 of least_conn's mean,
// two-slot peers of two speeds .82 instead of .75.
//
// The last term is the delay imposed on those that come after it. A request that is y times the mean one there delays them by its length, each one
// that comes before the queue is empty again: in a queue whose arrivals are known by their mean only, rate x (x w + x^2 / 2) / (1 - load) for one of
// length x that finds the work w (first policy iteration; Hyytia, Penttinen and Aalto 2012, "Size- and state-aware dispatching problem with
// queue-specific job sizes"). Follow is the half of a mean request's part of a peer, and while slots are free fewer will meet it, by Busy for each.
//
// lua/resty/weir/sizes.lua is the same.
type Work struct {
	// Own is the part of the cost at 0 in flight that is the request's own service, [class][peer], in [0, 1]. A share, so that what raises a whole
	// row (Table.Trust) need not know of it.
	Own    []float32
	Load   []float32 // [class][peer]: a request of the usual size there, in mean requests of the pool
	Mean   []float32 // [peer]: the mean request that the peer gets, in the same; nearer to that of the pool the more slots it has
	Knee   []float32 // [peer]: requests the peer works on at a time, less those of other balancers; at least 1
	Rate   []float32 // [peer]: work that one slot finishes in one ms, in mean requests of the pool
	Known  []float32 // [peer]: how far sizes tell how long requests take, in [0, 1] (estimate.PeerView.Known)
	Follow []float32 // [peer]: ms
	Hint   []float32 // [class]: the weight hint of a request of the usual size; 0 = none was ever told, all are of that size
	Whole  []float32 // of the pool: Imposed and Busy
}

const (
	imposed = iota // indices of Whole
	busy
	wholes
)

// shape sets the lengths, reusing memory.
func (w *Work) shape(t *Table) {
	size := func(v []float32, n int) []float32 {
		if cap(v) < n {
			return make([]float32, n)
		}
		return v[:n]
	}
	pairs, peers := len(t.Classes)*len(t.Peers), len(t.Peers)
	w.Own, w.Load = size(w.Own, pairs), size(w.Load, pairs)
	w.Mean, w.Knee, w.Rate = size(w.Mean, peers), size(w.Knee, peers), size(w.Rate, peers)
	w.Known, w.Follow = size(w.Known, peers), size(w.Follow, peers)
	w.Hint, w.Whole = size(w.Hint, len(t.Classes)), size(w.Whole, wholes)
}

// fillPool fills what a table with sizes knows of the pool as a whole: the load, which is taken to be spread by the peers' capacity. By what each
// gets, those that get less impose less, so the largest requests go to a peer that turned slow, and all after it is well again. And it fills the
// Knee and Mean of each peer, and returns the mean request that a peer of the pool gets.
//
// Peers of few slots differ in what they get because it suits them: small requests go where small ones are, which keeps large ones from holding them
// up. Over many slots that makes no odds, and the mean of a few hundred requests of very different sizes is off by a tenth, in the price of each.
func (w *Work) fillPool(est *estimate.Pool, part float64) (mix float64) {
	rate, capacity := 0.0, 0.0
	for i := range w.Knee {
		v := est.Peer(i)
		rate += v.TotalRate
		capacity += v.Concurrency / v.WorkMS
		mix += v.Mix / float64(len(w.Knee))
	}
	for i := range w.Knee {
		v := est.Peer(i)
		knee := max(v.Concurrency-v.Others, 1)
		w.Knee[i] = float32(knee)
		w.Mean[i] = float32(mix * math.Pow(v.Mix/mix, min(math.Sqrt(2/knee), 1)))
	}
	load := min(rate/max(capacity, 1e-9), 0.95)
	w.Whole[imposed] = float32(part * load / (1 - part*load))
	w.Whole[busy] = float32(load)
	return mix
}

// waits is the mean request that others wait for on peer i, in mean requests of the pool: of Mean as much as level counts work, of mix the rest.
func (w *Work) waits(i int, mix float64) float64 {
	e := root(float64(w.Knee[i]))
	return math.Pow(float64(w.Mean[i]), e) * math.Pow(mix, 1-e)
}

// fillPeer fills what else a table with sizes knows of peer i, but Own. A ms of waiting there costs factor.
func (w *Work) fillPeer(est *estimate.Pool, i int, v *estimate.PeerView, factor float64) {
	w.Rate[i] = float32(v.Mix / v.WorkMS)
	w.Known[i] = float32(v.Known)
	w.Follow[i] = float32(factor * v.WorkMS / (2 * v.Concurrency))
	for c, idx := range est.Listed() {
		w.Load[c*len(w.Knee)+i] = float32(est.Pair(i, idx).ServiceMS / v.WorkMS * v.Mix)
	}
}

// clear makes a table one without sizes.
func (w *Work) clear() {
	for _, part := range w.fields() {
		*part = (*part)[:0]
	}
}

func (w *Work) fields() [9]*[]float32 {
	return [9]*[]float32{&w.Own, &w.Load, &w.Mean, &w.Knee, &w.Rate, &w.Known, &w.Follow, &w.Hint, &w.Whole}
}

// Parts are the arrays in the order in which they go to NGINX (docs/protocol.md).
func (w *Work) Parts() [9][]float32 {
	var parts [9][]float32
	for i, part := range w.fields() {
		parts[i] = *part
	}
	return parts
}

// Equal reports whether two say the same.
func (w *Work) Equal(o *Work) bool {
	for i, part := range w.Parts() {
		if !slices.Equal(part, o.Parts()[i]) {
			return false
		}
	}
	return true
}

// Clone is a copy with memory of its own.
func (w *Work) Clone() Work {
	c := *w
	for _, part := range c.fields() {
		*part = slices.Clone(*part)
	}
	return c
}

// Size is how many times the usual of its class a request of a weight hint is; 1 without a hint or sizes.
func (t *Table) Size(c int, weight float64) float64 {
	if !t.Sized() || !(weight > 0 && weight < 1e12) || !(t.Work.Hint[c] > 0) {
		return 1
	}
	return min(max(weight/float64(t.Work.Hint[c]), 1e-3), 1e3)
}

// Sized reports whether the table has Work.
func (t *Table) Sized() bool { return len(t.Work.Knee) > 0 }

// Load is what a request of class c and size s adds to the work of peer p, in mean requests of the pool; s itself in a table without sizes.
func (t *Table) Load(c, p int, s float64) float64 {
	if !t.Sized() {
		return s
	}
	return float64(t.Work.Load[c*len(t.Peers)+p]) * s
}

// worst is the largest factor by which work differs from the count. Counts and works come from different moments.
const worst = 1000

// level is the in-flight count by work.
func (t *Table) level(p int, n, left float64) float64 {
	knee := float64(t.Work.Knee[p])
	if n <= knee-1 || !(left > 0) {
		return n
	}
	return knee - 1 + (n+1-knee)*math.Pow(min(left/(n*float64(t.Work.Mean[p])), worst), root(knee))
}

// root is the power of the work that a peer of so many slots counts by.
func root(knee float64) float64 { return 1 / math.Sqrt(knee) }

// Price is the cost of a request of class c and size s on peer p that holds n requests, with so much work left to do (0 = not known).
func (t *Table) Price(c, p int, n, left, s float64) float64 {
	if !t.Sized() {
		return t.At(c, p, n)
	}
	w, at := &t.Work, c*len(t.Peers)+p
	own := float64(w.Own[at]) * float64(t.Cost[at*GridPoints])
	wait := t.At(c, p, t.level(p, n, left)) - own
	y := s * float64(w.Load[at]) / float64(w.Mean[p])
	follow := float64(w.Follow[p])
	if free := float64(w.Knee[p]) - 1 - n; free > 0 {
		follow *= math.Pow(float64(w.Whole[busy]), free)
	}
	return wait + s*own + float64(w.Whole[imposed])*y*(wait+y*follow)
}
