package decide

import "slices"

// Work is what a table holds besides costs in a pool whose requests tell their size (weight hints). Without it a request is an average
// one of its class, and so are those that a peer holds.
//
// A request of size s (times the usual of its class) costs
//
//	Cost(m) - Grow(m) + s x Grow(n),  Grow = Share x Cost
//
// where Grow is the part of the cost that is in proportion to the size: its own service and the delay it imposes on those after it. What is
// left of the cost, the wait, is read at m, the in-flight count by work. That is the count n while the peer has free slots, since then
// nobody waits however large the requests are; beyond, the queue counts by its work: m = Knee - 1 + (n + 1 - Knee) x work / (n x Mean),
// where work is the sum of what the held requests are (Load x size each). In mean requests of the pool, that is: the mean request of a peer
// wanders with each large one, by half in the Park world. The imposed delay stays at n: read at m it made the mean of a mixed pool with
// known sizes 161 ms instead of 110 (true speeds known, weight-hints).
//
// lua/resty/weir/sizes.lua is the same.
type Work struct {
	// Share of the cost that grows with the size, [class][peer][grid], in [0, 1]. A share, so that a policy that corrects another's costs need
	// not know of it.
	Share []float32
	Load  []float32 // [class][peer]: a request of the usual size there, in mean requests of the pool
	Mean  []float32 // [peer]: the mean request that the peer gets, in the same
	Knee  []float32 // [peer]: requests the peer works on at a time, less those of other balancers; at least 1
	Hint  []float32 // [class]: the weight hint of a request of the usual size; 0 = none was ever told, all are of that size
}

// shape sets the lengths, reusing memory.
func (w *Work) shape(t *Table) {
	size := func(v []float32, n int) []float32 {
		if cap(v) < n {
			return make([]float32, n)
		}
		return v[:n]
	}
	w.Share = size(w.Share, len(t.Cost))
	w.Load = size(w.Load, len(t.Classes)*len(t.Peers))
	w.Mean = size(w.Mean, len(t.Peers))
	w.Knee = size(w.Knee, len(t.Peers))
	w.Hint = size(w.Hint, len(t.Classes))
}

// clear makes a table one without sizes.
func (w *Work) clear() {
	w.Share, w.Load, w.Mean, w.Knee, w.Hint = w.Share[:0], w.Load[:0], w.Mean[:0], w.Knee[:0], w.Hint[:0]
}

// Parts are the arrays in the order in which they go to NGINX (docs/protocol.md).
func (w *Work) Parts() [5][]float32 { return [5][]float32{w.Share, w.Load, w.Mean, w.Knee, w.Hint} }

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
	return Work{slices.Clone(w.Share), slices.Clone(w.Load), slices.Clone(w.Mean), slices.Clone(w.Knee), slices.Clone(w.Hint)}
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

// Load is what a request of class c and size s adds to the work of peer p, in its mean requests; s itself in a table without sizes.
func (t *Table) Load(c, p int, s float64) float64 {
	if !t.Sized() {
		return s
	}
	return float64(t.Work.Load[c*len(t.Peers)+p]) * s
}

// worst is the largest factor by which held work differs from the count. Counts and works come from different moments.
const worst = 1000

// level is the in-flight count by work.
func (t *Table) level(p int, n, work float64) float64 {
	knee := float64(t.Work.Knee[p])
	if n <= knee-1 || !(work > 0) {
		return n
	}
	return knee - 1 + (n+1-knee)*min(work/(n*float64(t.Work.Mean[p])), worst)
}

// Price is the cost of a request of class c and size s on peer p that holds n requests of a total work (0 = not known).
func (t *Table) Price(c, p int, n, work, s float64) float64 {
	if !t.Sized() {
		return t.At(c, p, n)
	}
	m := t.level(p, n, work)
	return t.At(c, p, m) - t.growAt(c, p, m) + s*t.growAt(c, p, n)
}

// growAt is Grow between grid points, as At is of Cost.
func (t *Table) growAt(c, p int, n float64) float64 {
	j, f := Between(n)
	at := (c*len(t.Peers)+p)*GridPoints + j
	a, b := float64(t.Cost[at]*t.Work.Share[at]), float64(t.Cost[at+1]*t.Work.Share[at+1])
	return a + (b-a)*f
}

// share is the row of Share, nil without sizes.
func (t *Table) share(c, p int) []float32 {
	if !t.Sized() {
		return nil
	}
	first := (c*len(t.Peers) + p) * GridPoints
	return t.Work.Share[first : first+GridPoints]
}
