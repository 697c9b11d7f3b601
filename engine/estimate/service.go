package estimate

import "math"

// Service times: what a request of class c takes on peer p without waiting, at the peer's long-run speed.
//
//	service[p][c] = base[c] x slowness[p] x affinity[p][c]
//
// Kept are, per (peer, class) and level of the in-flight count at the pick, decayed sums of response times as they were. At each
// Refresh they are split anew into service and wait (expectation maximisation with the present estimates), so an early error
// does not stay. The factors are a two-way random-effects fit to the resulting means, one step of alternating least squares. A mean
// counts by 1 / (differ + cv2 / n): differ is how much the class's affinities vary between peers, cv2 / n the noise of the mean. So
// where affinities are real each peer counts alike, however many requests it gets, and where they are not each request does: in
// neither case does a policy that sends heavy requests to some peers and light ones to others bend the comparison of the classes.
// differ and the spread of slowness are found from the pool (empirical Bayes), and what is seen is shrunk by them: peers that
// differ no more than chance explains are taken as equal.

const (
	cellTau   = 1000.0 // memory of a (peer, class), in samples
	tauMS     = 25_000 // and in time, whichever is longer: what is meant to last must outlast what drift follows
	poolTau   = 5000.0 // memory of pool-wide means, in samples
	leastSame = 1.0 / 300
	// leastSame x cv2 is the least differ: what affinities and slownesses are assumed to vary even when nothing shows.
	mostDiffer = 4.0  // the largest differ
	outlier    = 12.0 // one answer counts for at most so many times what was expected; where sizes hardly vary, less (class.outlier)
)

// cell is what was measured of a class on a peer. By level of the in-flight count at the pick: requests, their response times (ms, at
// the long-run speed), sizes relative to the class's usual, and the peer's mean request of the time (in mean requests of the
// pool).
type cell struct {
	count, sum, mix [levels]float32
	size            *[levels]float32 // nil = as count: none told a size other than the usual, and 10,000 cells are a megabyte smaller

	seen float64 // samples ever: memory grows with it, so that what was learned while all was new is forgotten soon
	at   float64 // time of the last sample
	gap  float64 // mean time between samples, ms
	lean float64 // peer.lean then
	// Share of the answers that were redirects or client errors, and the answers it is a mean of; see denied.go.
	denied, denials float32
	// As of the last fit:
	mean float64 // measured service time, ms
	n    float64 // how many unwaited answers that mean is worth
	aff  float64 // affinity; 0 = none computed yet, 1 is meant
}

func (c *cell) add(n, ms, size, mix, keep float64) {
	f := float32(keep)
	for l := range c.count {
		if c.count[l] > 0 {
			c.count[l] *= f
			c.sum[l] *= f
			c.mix[l] *= f
		}
	}
	if c.size == nil && size != 1 {
		sizes := c.count
		c.size = &sizes
	} else if c.size != nil {
		for l := range c.size {
			c.size[l] *= f
		}
	}
	l := level(n)
	c.count[l]++
	c.sum[l] += float32(ms)
	c.mix[l] += float32(mix)
	if c.size != nil {
		c.size[l] += float32(size)
	}
}

// learn takes the response time of a success and returns what it is evidence of.
func (p *Pool) learn(now float64, pe *peer, o *Outcome, ms float64) answer {
	k := &p.classes[o.Class]
	if o.Weight > 0 && o.Weight < 1e12 {
		if k.hint == 0 {
			k.hint = o.Weight
		}
		k.hint += (o.Weight - k.hint) / min(k.seen+1, poolTau)
		p.hinted += (1 - p.hinted) / 1000
	} else {
		p.hinted -= p.hinted / 1000
	}
	k.seen++
	size := k.size(o.Weight)
	if p.seen == 0 { // the first answer sets the scale
		p.work = ms
	}
	expect := p.service(pe, o.Class) * size
	held := float64(o.InFlight) + pe.others.around(now-o.TotalMS)
	weighs := pe.mix.request() // a mean request of those held, in mean requests of the pool
	if o.InFlight > 0 {
		p.worked -= p.worked / 1000
	}
	if o.Work > 0 && o.InFlight > 0 {
		p.worked += 1.0 / 1000
		weighs = min(o.Work/float64(o.InFlight), 1e6)
	}
	wait := pe.curve.wait(held) * weighs * p.work * pe.slowness()
	p.surprised(now, o.Peer, ms, (expect+wait)/pe.drift.factor)
	at := ms * pe.drift.factor // the response time, had the peer its long-run speed
	if wait <= 0 {
		const f = 1 - 1/poolTau
		ratio := min(at/expect, outlier)
		k.ratio, k.square, k.ratioN = k.ratio*f+ratio, k.square*f+ratio*ratio, k.ratioN*f+1
	}
	cl := &pe.cells[o.Class]
	cl.seen++
	// While little is known of the pair the cap must not cut what is merely unexpected.
	most := max(k.outlier()*expect+outlier*wait, outlier*p.slow.value()*max(0, 1-cl.seen/50))
	at = min(at, most)
	keep := (1 - 1/cl.memory()) * p.faded(pe, cl)
	if cl.at > 0 {
		cl.gap += (p.now - cl.at - cl.gap) / min(cl.seen, 100)
	}
	cl.add(held, at, size, weighs, keep)
	cl.at, cl.lean = p.now, pe.lean
	pe.curve.count(held, at, min(ms*math.Exp(pe.drift.steady), most))

	p.seen++
	gain := 1 / min(p.seen, 200)
	p.latency += (ms - p.latency) * gain
	p.slow.add(ms)
	pe.latN = min(pe.latN+1, 30)
	pe.latency += (ms - pe.latency) / pe.latN
	base := expect / (pe.slowness() * p.work) // in mean requests of the pool
	pe.mix.add(base, k.cv2())
	return answer{work: base, own: float32(expect / (expect + wait)), ratio: float32(ms / (expect + wait))}
}

// levelSums are a peer's response times by level, over all classes: what its curve is fitted to. own and mix are the requests and the
// peer's mean request, in mean requests of the pool.
type levelSums struct{ count, sum, own, mix [levels]float64 }

// split measures the service time of every class on the peer, and returns the sums for the fit of its curve.
//
// A response time is service and wait; what is measured is their sum. The surprise (measured over expected) is given to both in
// proportion: a measured service is never negative, and at the truth it is right in the mean. Taking the expected wait off instead
// lets an error of the wait push the service the other way, and that the wait again. An answer counts by the part of it that was
// service: those that waited long say little about their own.
func (p *Pool) split(pe *peer) (t levelSums) {
	u := pe.slowness()
	var wait [levels]float64
	for l := range wait {
		wait[l] = pe.curve.wait(pe.curve.heldAt(l)) * u
	}
	for c := range pe.cells {
		cl := &pe.cells[c]
		cl.mean, cl.n = 0, 0
		if cl.seen == 0 {
			continue
		}
		s := p.service(pe, c)
		f := p.faded(pe, cl)
		surprise, weight := 0.0, 0.0
		for l := range levels {
			n := float64(cl.count[l])
			if n < 1e-3 {
				continue
			}
			sum, own, mix := float64(cl.sum[l]), s*n, float64(cl.mix[l])
			if cl.size != nil {
				own = s * float64(cl.size[l])
			}
			m := own + wait[l]*mix*p.work
			w := n * own / m
			surprise += w * sum / m
			weight += w
			t.count[l] += f * n
			t.sum[l] += f * sum
			t.own[l] += f * own / (u * p.work)
			t.mix[l] += f * mix
		}
		if weight > 0 {
			cl.mean, cl.n = s*surprise/weight, weight*f
		}
	}
	return t
}

// service is the expected service time of class c on a peer at its long-run speed, ms.
func (p *Pool) service(pe *peer, c int) float64 {
	return max(p.base(c)*pe.slowness()*p.affinity(pe, c), minMS)
}

// base is the class's service time on a typical peer, ms.
func (p *Pool) base(c int) float64 {
	if b := p.classes[c].base; b > 0 {
		return max(b, minMS)
	}
	return max(p.work, minMS)
}

func (pe *peer) slowness() float64 { return 1 / pe.slow }

// affinity is the peer's factor on the service time of a class, as of the last fit.
func (p *Pool) affinity(pe *peer, c int) float64 {
	if a := pe.cells[c].aff; a > 0 {
		return a
	}
	return 1
}

// faded is the part left of what was learned of a cell, given its age, and what the peer went without meanwhile. Memory is in samples, and so a peer
// that is avoided would keep what made it so for as long as exploration takes to bring as many: one that was slow and is well again was priced 15 % too
// high for minutes, with 0.3 % of the requests to show otherwise.
func (p *Pool) faded(pe *peer, c *cell) float64 {
	if c.seen == 0 || p.now-c.at < 0.001*p.opt.AgeMS {
		return 1
	}
	return math.Exp(-(p.now-c.at)/p.opt.AgeMS - (pe.lean+p.missed(pe)-c.lean)*leanLeak/c.memory())
}

// memory is that of a cell, in samples. A thousand are half a second of a busy peer: when that was all, a drift of a few tables was taken for what
// the peer is, and what it is for the next drift, and peers of 64 slots had twice the response times of least_conn.
func (c *cell) memory() float64 {
	most := cellTau
	if c.gap > 0 {
		most = max(most, tauMS/c.gap)
	}
	return min(max(c.seen/2, 50), most)
}

const (
	leanLeak = 1.0 / 2 // of a sample that an avoided peer forgets for each one that it might have had
	leanFrom = 10.0    // so many requests of a typical peer between two of its own are no avoiding
)

// missed is how many requests a peer has gone without since its last outcome, by the rate of a typical peer, where they are more than chance brings.
func (p *Pool) missed(pe *peer) float64 {
	if math.IsInf(pe.last, -1) {
		return 0
	}
	return max(p.rate*(p.now-pe.last)-leanFrom, 0)
}

// meanWork is the mean service time of the mix the peer gets, at its long-run speed, ms.
func (p *Pool) meanWork(pe *peer) float64 { return max(pe.mix.request()*p.work*pe.slowness(), minMS) }

// cv2 is the squared coefficient of variation of service times within the class, shrunk to 1 (exponential).
func (k *class) cv2() float64 {
	const prior = 30
	r, s := (k.ratio+prior)/(k.ratioN+prior), (k.square+2*prior)/(k.ratioN+prior)
	return min(max(s/(r*r)-1, 0.05), 6)
}

// outlier is how many times what was expected one answer counts for at most. Four standard deviations: of exponential times that cuts
// off 0.7 % of the mean. Where times hardly vary, a few answers of a peer in a bad moment must not set its price for long after.
func (k *class) outlier() float64 { return min(max(1+4*math.Sqrt(k.cv2()), 2), outlier) }

// fit does one step of the fit; in a large pool, of the classes in turn.
func (p *Pool) fit() {
	if len(p.peers) == 0 || p.seen == 0 {
		return
	}
	every := 1 + len(p.peers)*len(p.classes)/2000
	for c := range p.classes {
		if c%every == p.turn%every {
			p.fitClass(c)
		}
	}
	p.fitSlowness()
	sum, all := 0.0, 0.0
	for c := range p.classes {
		sum += p.classes[c].traffic * p.base(c)
		all += p.classes[c].traffic
	}
	if all > 0 {
		p.work = max(sum/all, minMS)
	}
	if p.turn%every == 0 {
		p.mixAffinity()
	}
}

// ratio is the measured service time of a cell over another time, and what it is worth in answers.
func (c *cell) ratio(over float64) (ratio, n float64) {
	if c.n <= 0 {
		return 1, 0
	}
	return max(c.mean/over, 1e-3), c.n
}

// fitClass estimates a class's base, how much its affinities differ, and the affinities.
func (p *Pool) fitClass(c int) {
	k := &p.classes[c]
	cv2 := k.cv2()
	before := p.base(c)
	if c == 0 { // shared by classes that come and go: the pool's mean is the better memory
		before = p.work
	}
	var e bayes
	w := 1 / (mostDiffer + cv2)
	sum, all := w*before, w // what was known before counts as one request on one peer
	for i := range p.peers {
		pe := &p.peers[i]
		r, n := pe.cells[c].ratio(pe.slowness())
		if n > 0 {
			w := 1 / (k.differ + cv2/n)
			sum += w * r
			all += w
		}
		if r, n := pe.cells[c].ratio(pe.slowness() * before); n > 0 {
			e.add(r, n, cv2)
		}
	}
	k.base = max(sum/all, minMS)
	_, k.differ = e.result(cv2, 0.05)
	for i := range p.peers {
		pe := &p.peers[i]
		cl := &pe.cells[c]
		cl.aff = 1
		if r, n := cl.ratio(pe.slowness() * k.base); n > 0 {
			cl.aff = 1 + (r-1)*k.differ/(k.differ+cv2/n)
		}
	}
}

// fitSlowness estimates each peer's slowness over all classes and holds the mean at 1.
func (p *Pool) fitSlowness() {
	var e bayes
	for i := range p.peers {
		pe := &p.peers[i]
		sum, all := 0.0, 0.0
		for c := range pe.cells {
			k := &p.classes[c]
			if r, n := pe.cells[c].ratio(p.base(c)); n > 0 {
				w := 1 / (k.differ + k.cv2()/n)
				sum += w * r
				all += w
			}
		}
		pe.measured, pe.weight = 1, all
		if all > 0 {
			pe.measured = sum / all
			e.add(pe.measured, all, 1)
		}
	}
	centre, differ := e.result(1, 0.1)
	for i := range p.peers {
		pe := &p.peers[i]
		slowness := 1.0
		if pe.weight > 0 {
			slowness += (pe.measured/centre - 1) * differ / (differ + 1/pe.weight)
		}
		pe.slow = 1 / min(max(slowness, 1e-3), 1e3)
	}
}

// mixAffinity sets the affinity of "*" where it has little traffic of its own: to the mean over the classes of the pool, by work.
func (p *Pool) mixAffinity() {
	for i := range p.peers {
		pe := &p.peers[i]
		sum, all := 0.0, 0.0
		for c := 1; c < len(p.classes); c++ {
			w := p.classes[c].traffic * p.base(c)
			sum += w * p.affinity(pe, c)
			all += w
		}
		if all > 0 {
			const prior = 8
			cl := &pe.cells[0]
			n := cl.n
			cl.aff = (cl.aff*n + prior*sum/all) / (n + prior)
		}
	}
}

// bayes is empirical Bayes for ratios with known noise, by the method of moments on logarithms: how much the ratios differ beyond
// their noise.
type bayes struct {
	w, wx, wxx, wv float64
	known          int
}

// add takes a mean ratio, its weight in samples, and the squared coefficient of variation of one sample.
func (e *bayes) add(ratio, n, cv2 float64) {
	if n < 2 {
		return
	}
	x, w := math.Log(ratio), min(n, 100)
	e.w += w
	e.wx += w * x
	e.wxx += w * x * x
	e.wv += w * cv2 / n
	e.known++
}

// result returns the centre of the ratios and the variance of their logarithms that noise does not explain, between a least part of
// cv2 and mostDiffer; with fewer than two ratios it is the given one.
func (e *bayes) result(cv2, unknown float64) (centre, differ float64) {
	if e.w == 0 {
		return 1, unknown
	}
	mean := e.wx / e.w
	if e.known < 2 {
		return math.Exp(mean), unknown
	}
	return math.Exp(mean), min(max(e.wxx/e.w-mean*mean-e.wv/e.w, leastSame*cv2), mostDiffer)
}
