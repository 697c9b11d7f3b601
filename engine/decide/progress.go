package decide

// Progress is how much of the work that a peer holds it has done already, as far as its speed tells. The zero value is a peer that holds nothing.
//
// What requests are under way and when each began is not known: NGINX counts, and does not know the order in which a peer serves. So the work done
// goes up by the speed of the slots that are at work, and with each request that ends its work goes off again. That is exact for a peer
// that works on one at a time while none waits, and right in the sum for others; of those that wait, it takes those under way for as large as the others.
//
// lua/resty/weir/progress.lua is the same, in memory that all workers share.
type Progress struct {
	Done float64 // in mean requests of the pool
	At   float64 // ms: when it was so
}

// overdue is the least that is left of work that ought to be done, in parts of what was done: the longer a peer works on it beyond what
// it should have taken, the longer it will still take. Without it a peer that stalls looks idle: in a pool whose sizes are known and whose peers
// brown out the mean was 157 ms, with it 131 (least_conn 136).
const overdue = 0.4

// since is the work done at now, with n requests there that held so much work together.
func (g *Progress) since(t *Table, p int, now, n, held float64) float64 {
	slots := min(n, float64(t.Work.Knee[p]))
	return min(g.Done+max(now-g.At, 0)*float64(t.Work.Rate[p])*slots, 2*held)
}

// Advance brings it to now. n requests were there since the last call, and they held so much work. Call it before a request comes or goes.
func (g *Progress) Advance(t *Table, p int, now, n, held float64) {
	done := 0.0
	if n > 0 {
		done = g.since(t, p, now, n, held)
	}
	*g = Progress{Done: done, At: now}
}

// End takes off the work of a request that ended, after Advance with the same n. It takes at least its share of what was done, so that an error
// of the speed does not add up.
func (g *Progress) End(t *Table, p int, load, n float64) {
	share := g.Done / max(min(n, float64(t.Work.Knee[p])), 1)
	g.Done = max(g.Done-max(load, share), 0)
}

// Left is the work that is left to do at now of what a peer holds; 0 = not known. As far as sizes do not tell how long requests take, what
// was done of them does not shorten what is to come.
func (g *Progress) Left(t *Table, p int, now, n, held float64) float64 {
	if !(n > 0 && held > 0) {
		return 0
	}
	done := g.since(t, p, now, n, held) * float64(t.Work.Known[p])
	under := held * min(n, float64(t.Work.Knee[p])) / n // the work of those that it works on
	return max(held-under+max(under-done, overdue*done), 1e-3)
}
