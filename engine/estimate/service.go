package estimate

import "math"

// Service times: what a request of class c takes on peer p without waiting, at the peer's long-run speed.
//
//	service[p][c] = base[c] x slowness[p] x affinity[p][c]
//
// slowness comes from the fit of the peer's curve, which separates waiting from working. base and affinity come from decayed sums of
// measured service times per (peer, class), in ms. slowness and affinity are shrunk to 1 with pseudo-counts by empirical Bayes: peers
// that differ no more than chance explains are taken as equal.

const (
	cellTau    = 1000.0 // memory of a (peer, class), in samples
	poolTau    = 5000.0 // memory of pool-wide means, in samples
	shrinkMin  = 3.0    // pseudo-count when peers differ a lot: believe quickly
	shrinkMax  = 1000.0 // when they do not: what is seen is noise
	alphaStart = 8.0    // affinity's pseudo-count before the pool has told
	alphaMax   = 300.0
	outlier    = 12.0 // one answer counts for at most so many times what was expected
)

// cell is what was measured of a class on a peer.
type cell struct {
	sum, n float64 // decayed sum of service times, ms, and weight
	at     float64 // time of the last sample
	aff    float64 // affinity; 0 = none computed yet, 1 is meant
}

// learn takes the response time of a success and returns the service time that was to be expected of it (its work).
//
// A response time is service and wait; what is measured is their sum. The surprise (measured over expected) is given to both in
// proportion, as in expectation maximisation: the result is never negative, and at the truth it is right in the mean. Answers that
// waited long say little about their own service and get little weight.
func (p *Pool) learn(pe *peer, o *Outcome, ms float64) float64 {
	k := &p.classes[o.Class]
	if o.Weight > 0 && o.Weight < 1e12 {
		if k.hint == 0 {
			k.hint = o.Weight
		}
		k.hint += (o.Weight - k.hint) / min(k.seen+1, poolTau)
	}
	k.seen++
	size := k.size(o.Weight)
	if p.seen == 0 {
		p.typical, p.work = ms, ms
		for c := range p.classes {
			p.classes[c].base = ms
		}
	}
	unit := p.service(pe, o.Class) // of a request of usual size
	expect := unit * size
	mean := pe.meanWork(p)
	held := float64(o.InFlight)
	queue := pe.curve.wait(held) // in mean services
	wait := queue * mean
	surprise := min(ms*pe.drift.factor/(expect+wait), outlier)
	w := expect / (expect + wait)

	cl := &pe.cells[o.Class]
	f := (1 - 1/cellTau) * p.faded(cl)
	cl.sum, cl.n, cl.at = cl.sum*f+w*unit*surprise, cl.n*f+w, p.now
	if queue == 0 {
		const f = 1 - 1/poolTau
		k.ratio, k.square, k.ratioN = k.ratio*f+surprise, k.square*f+surprise*surprise, k.ratioN*f+1
	}
	pe.curve.add(held, surprise*(expect+wait), expect/mean, expect/pe.slowness())

	p.seen++
	gain := 1 / min(p.seen, 200)
	p.latency += (ms - p.latency) * gain
	p.slow.add(ms)
	p.typical += w * (expect/pe.slowness() - p.typical) / min(p.seen, poolTau)
	p.work += (expect - p.work) / min(p.seen, 1000)
	pe.latN = min(pe.latN+1, 30)
	pe.latency += (ms - pe.latency) / pe.latN
	pe.workN = min(pe.workN+1, 200)
	pe.work += (expect - pe.work) / pe.workN
	second := expect * expect * (1 + k.cv2())
	pe.square += (second - pe.square) / pe.workN
	return expect
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
	return max(p.typical, minMS)
}

func (pe *peer) slowness() float64 { return 1 / pe.slow }

// affinity is the peer's factor on the service time of a class, as of the last fit.
func (p *Pool) affinity(pe *peer, c int) float64 {
	if a := pe.cells[c].aff; a > 0 {
		return a
	}
	return 1
}

// faded is the part left of what was learned of a cell, given its age.
func (p *Pool) faded(c *cell) float64 {
	if c.n == 0 || p.now-c.at < 0.001*p.opt.AgeMS {
		return 1
	}
	return math.Exp(-(p.now - c.at) / p.opt.AgeMS)
}

// meanWork is the mean service time of the mix the peer gets, shrunk to the pool's.
func (pe *peer) meanWork(p *Pool) float64 {
	const prior = 5
	return max((pe.work*pe.workN+prior*p.work*pe.slowness())/(pe.workN+prior), minMS)
}

// cv2 is the squared coefficient of variation of service times of the mix on this peer.
func (pe *peer) cv2(p *Pool) float64 {
	const prior = 20
	m := pe.meanWork(p)
	return min(max((pe.square/(m*m)*pe.workN+2*prior)/(pe.workN+prior)-1, 0.05), 6)
}

// cv2 is the squared coefficient of variation of service times within the class, shrunk to 1 (exponential).
func (k *class) cv2() float64 {
	const prior = 30
	r, s := (k.ratio+prior)/(k.ratioN+prior), (k.square+2*prior)/(k.ratioN+prior)
	return min(max(s/(r*r)-1, 0.05), 6)
}

// fit does one step of the two-way fit; in a large pool, of the affinities of some classes in turn.
func (p *Pool) fit() {
	if len(p.peers) == 0 || p.seen == 0 {
		return
	}
	p.fitBases()
	p.fitSlowness()
	every := 1 + len(p.peers)*len(p.classes)/2000
	for c := range p.classes {
		if c%every == p.turn%every {
			p.fitAffinity(c)
		}
	}
	if p.turn%every == 0 {
		p.settleAffinity()
	}
}

func (p *Pool) fitBases() {
	const memory = 2 // pseudo-count of what was known before
	for c := range p.classes {
		before := p.base(c)
		if c == 0 { // shared by classes that come and go: the pool's mean is the better memory
			before = p.typical
		}
		sum, n := memory*before, float64(memory)
		for i := range p.peers {
			if cl := &p.peers[i].cells[c]; cl.n > 0 {
				sum += cl.sum
				n += cl.n * p.peers[i].slowness() * p.affinity(&p.peers[i], c)
			}
		}
		p.classes[c].base = max(sum/n, 0.02*before, minMS)
	}
}

// fitSlowness takes each peer's slowness from its curve and holds the mean at 1.
func (p *Pool) fitSlowness() {
	var e bayes
	for i := range p.peers {
		if c := &p.peers[i].curve; c.n > 0 && c.mean > 0 {
			e.add(min(max(c.mean*c.n/c.base, 1e-4), 1e4), c.n, dispersion)
		}
	}
	centre, shrink := e.result(shrinkMax)
	for i := range p.peers {
		pe := &p.peers[i]
		c := &pe.curve
		s := 1.0
		if c.n > 0 && c.mean > 0 {
			s = (c.mean*c.n/c.base*c.n + shrink*centre) / (c.n + shrink) / centre
		}
		pe.slow = min(max(1/s, 1e-4), 1e4)
	}
}

func (p *Pool) fitAffinity(c int) {
	k := &p.classes[c]
	var e bayes
	for i := range p.peers {
		pe := &p.peers[i]
		if cl := &pe.cells[c]; cl.n > 0 {
			f := p.faded(cl)
			e.add(max(cl.sum/(cl.n*p.base(c)*pe.slowness()), 1e-3), f*cl.n, k.cv2())
		}
	}
	centre, alpha := e.result(alphaMax)
	if e.known < 2 {
		alpha = alphaStart
	}
	for i := range p.peers {
		pe := &p.peers[i]
		cl := &pe.cells[c]
		cl.aff = 1
		if cl.n > 0 {
			f := p.faded(cl)
			x := max(cl.sum/(p.base(c)*pe.slowness()), 0)
			cl.aff = min(max((x*f+alpha*centre)/(cl.n*f+alpha)/centre, 1e-3), 1e3)
		}
	}
}

// settleAffinity sets the affinity of "*" where it has no traffic of its own, and keeps the split between slowness and affinity from
// wandering: a peer that is slow for everything is slow, not averse to every class. Service times stay what they are.
func (p *Pool) settleAffinity() {
	const pace = 0.1
	for i := range p.peers {
		pe := &p.peers[i]
		sum, logs, all := 0.0, 0.0, 0.0
		for c := range p.classes {
			w := p.classes[c].traffic * p.base(c)
			a := p.affinity(pe, c)
			logs += w * math.Log(a)
			if c > 0 {
				sum += w * a
			}
			all += w
		}
		if all <= 0 {
			continue
		}
		pe.curve.base *= math.Exp(-pace * logs / all)
		if own := p.classes[0].traffic * p.base(0); all > own {
			cl := &pe.cells[0]
			n := cl.n * p.faded(cl)
			cl.aff = (cl.aff*n + alphaStart*sum/(all-own)) / (n + alphaStart)
		}
	}
}

// bayes is empirical Bayes for ratios with known noise, by the method of moments on logarithms: how much the ratios differ beyond
// their noise tells how strongly to shrink them to their mean.
type bayes struct {
	w, wx, wxx, wv float64
	noise          float64
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
	e.noise += w * cv2
	e.known++
}

// result returns the centre of the ratios and the pseudo-count to shrink them to it with.
func (e *bayes) result(most float64) (centre, count float64) {
	if e.w == 0 {
		return 1, shrinkMin * 3
	}
	mean, noise := e.wx/e.w, e.noise/e.w
	between := e.wxx/e.w - mean*mean - e.wv/e.w
	count = most
	if between > noise/most {
		count = max(noise/between, shrinkMin)
	}
	return math.Exp(mean), count
}
