package estimate

import "math"

// others is the load on a peer that does not come through this engine's balancers, as far as the peer reports what it holds (ORCA).
//
// A report is as old as the answer that brought it. With ten balancers each hears of a peer a tenth as often as the peer answers, which
// is less often than its queue is worked off and filled again: a report tells little of the present, much of what is usual. So what is
// kept is the mean and the variance of the others' requests, and the last reports. Of a report of age a
//
//	usual + (reported - usual) x exp(-a / tau)
//
// is left, with a variance of that of the usual x (1 - exp(-2 a / tau)). Costs are means over that distribution (see decide): were they
// taken at the last report, balancers that read the same report would all go where it was low, and away together.
//
// tau is half the time an answer takes. A queue that is fed at a constant rate forgets its length in the time of an answer (the
// covariance of the M/G/infinity queue), but balancers keep away from a long one. Ten balancers, twenty peers: a mean of 142.8 ms at half,
// 144.8 at once, 149.0 at twice that time, 143.3 when nothing but the usual is used.
type others struct {
	mean, square float64 // of the others' requests by report, decayed
	n            float64 // reports, decayed; 0 = the peer does not report
	lean         float64 // peer.lean at the last one
	busy         float64 // decayed mean of utilisation in reports that have both
	busyN        float64
	last         [othersN]report
	head         int
	k            [kGrid]float64 // log likelihood of K by the reports, decayed
}

type report struct {
	at float64
	n  float64
}

const (
	othersN = 16
	// Reports that usual is a mean of. With a hundred, balancers stayed away from one of two peers for long after an overload of it had ended, since what
	// they had met then was still usual: 1.20 of least_conn's mean instead of 1.05. With fifteen ten balancers in steady traffic lose 1 %.
	othersMemory = 20.0
	busyMemory   = 100.0 // reports that busy is a mean of
	silentFor    = 100.0 // answers without a report after which one in e is left: NGINX reads one report of a peer in 2 ms at most
	// Reports of utilisation below one measure K as in-flight / utilisation. kReports of them are remembered; kSpread is the standard deviation of the logarithm
	// of one: peers do other work too, and measure over a moment.
	kReports = 50.0
	kSpread  = 0.35
	// fullAt is the utilisation above which a peer is full: then K is at most what it holds.
	fullAt = 0.995
)

// measure takes a report of the peer: the requests it held and its utilisation (negative = not told).
func (o *others) measure(held, load float64) {
	if !(load > 0.02 && load < 2) || held < 1 {
		return
	}
	o.busyN = min(o.busyN+1, busyMemory)
	o.busy += (min(load, 1) - o.busy) / o.busyN
	for i := range o.k {
		d := math.Log(kAt(i) / (held / min(load, 1)))
		if load >= fullAt {
			d = max(d, 0)
		}
		o.k[i] = o.k[i]*(1-1/kReports) - d*d/(2*kSpread*kSpread)
	}
}

// add takes how many requests of others the peer held at a time.
func (o *others) add(at, n float64) {
	n = max(n, 0)
	o.n = min(o.n+1, othersMemory)
	o.mean += (n - o.mean) / o.n
	o.square += (n*n - o.square) / o.n
	if l := &o.last[o.head]; o.n > 1 && at < l.at {
		return
	}
	o.head = (o.head + 1) % othersN
	o.last[o.head] = report{at, n}
}

// forget drops what was usual before a time in which the peer was avoided, and so reported nothing; lean is its peer.lean.
func (o *others) forget(lean float64) {
	o.n *= math.Exp(-max(lean-o.lean, 0) / othersLean)
	o.lean = lean
}

// othersLean is how many requests a peer goes without, beyond those that chance explains (Pool.missed), until what was usual there is mostly forgotten.
const othersLean = 20

// elsewhere is what is believed of the requests of other balancers at a peer, mean and variance. An avoided peer does not report: what was usual when it
// was last heard of gives way to what is usual of the pool, by the peers' slots. Before, balancers that had met a crowd at one of two peers stayed away from it
// for half a minute after it had gone.
func (p *Pool) elsewhere(pe *peer) (mean, variance float64) {
	mean, variance = pe.others.at(p.now, pe.latency)
	gone := p.missed(pe)
	if pe.others.n == 0 || gone == 0 || p.crowd == 0 {
		return mean, variance
	}
	f := math.Exp(-gone / othersLean)
	return f*mean + (1-f)*p.crowd*pe.curve.k, f*variance + (1-f)*p.crowdVar*pe.curve.k
}

// crowds takes what is usual of the pool, a slot: the others' requests at the peers that are heard of. dt is the time since it last did, ms.
func (p *Pool) crowds(dt float64) {
	mean, variance, slots, own := 0.0, 0.0, 0.0, 0.0
	for i := range p.peers {
		if pe := &p.peers[i]; pe.others.n > 0 && p.missed(pe) == 0 {
			mean += pe.others.mean
			variance += pe.others.variance()
			slots += pe.curve.k
			own += pe.trace.n
		}
	}
	share := 0.0
	if slots > 0 {
		p.crowd, p.crowdVar = mean/slots, variance/slots
	}
	if mean > 0 {
		share = mean / (mean + own)
	}
	p.share += (share - p.share) * (1 - math.Exp(-max(dt, 0)/shareMS))
	p.shared = p.share > shareMost || p.shared && p.share > shareLeast
}

const (
	shareMS               = 10_000.0   // share is a mean of so long
	shareMost, shareLeast = 0.25, 0.15 // a pool is shared from the first on, until the second
)

// silent notes an answer without a report. A peer that stops reporting is forgotten within some hundred answers.
func (o *others) silent() {
	if o.n > 0 {
		o.n *= 1 - 1/silentFor
		if o.n < 1 {
			*o = others{}
		}
	}
}

// variance of the usual: at least that of a Poisson number, so that a peer seen twice is not taken for constant.
func (o *others) variance() float64 {
	v := max(o.square-o.mean*o.mean, 0)
	const prior = 5
	return (v*o.n + prior*max(o.mean, 0.25)) / (o.n + prior)
}

// at is what is believed of the others' requests at a time. latency is how long the peer's answers take, ms.
func (o *others) at(now, latency float64) (mean, variance float64) {
	if o.n == 0 {
		return 0, 0
	}
	for i := range othersN {
		r := &o.last[(o.head+othersN-i)%othersN]
		if r.at > now || r.at == 0 {
			continue
		}
		f := math.Exp(-2 * (now - r.at) / max(latency, minMS))
		return o.mean + (r.n-o.mean)*f, o.variance() * (1 - f*f)
	}
	return o.mean, o.variance()
}

// around is the report next before a time, or the usual.
func (o *others) around(at float64) float64 {
	if o.n == 0 {
		return 0
	}
	for i := range othersN {
		if r := &o.last[(o.head+othersN-i)%othersN]; r.at > 0 && r.at <= at {
			return r.n
		}
	}
	return o.mean
}
