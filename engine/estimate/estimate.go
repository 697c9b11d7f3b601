// Package estimate learns, from outcomes and in-flight counts, how each peer of a pool works: its speed now and in the long
// run, how many requests it works on at a time, how long each request class takes there, how often it fails.
//
// It is pure: time is an argument (ms since any fixed origin of a monotonic clock), there is no I/O, no clock and no
// goroutine. The running engine and the simulator drive the same code. docs/estimators.md has the formulas on one page.
//
// The model behind it: a request of class c takes base[c] ms on a typical peer, and base[c] x affinity[p][c] / speed[p] on peer p,
// which works on K[p] requests at a time while the others wait. speed is the product of a long-run speed, relative to the pool, and
// of a drift that follows what happens now.
package estimate

import (
	"math"

	"github.com/weirlb/weir/engine/pool"
)

// Options of a pool's estimators. The zero value of a field means its default.
type Options struct {
	TopClasses int     // listed classes beside "*"; default 50
	Tau        float64 // memory of the slow speed and of the concurrency fit, in completions of the peer; default 3000
	Hazard     float64 // chance per completion that a peer's speed jumps; default 1/400
	AgeMS      float64 // memory of a peer without traffic: its estimates fade to the pool's typical; default 300000
	Reports    Reports // what is made of load reports
}

func (o Options) sane() Options {
	set := func(v *float64, def float64) {
		if !(*v > 0) || math.IsInf(*v, 0) {
			*v = def
		}
	}
	if o.TopClasses <= 0 {
		o.TopClasses = 50
	}
	set(&o.Tau, 3000)
	set(&o.Hazard, 1.0/400)
	set(&o.AgeMS, 300_000)
	o.Reports = o.Reports.sane()
	return o
}

// Outcome is how one attempt ended.
type Outcome struct {
	Peer         int     // index in the last SetPeers
	Class        int     // from Class; 0 = "*"
	InFlight     int     // others there at the pick
	Work         float64 // of those, in mean requests of the pool (decide.Table.Load); 0 = not known
	Kind         pool.Kind
	Status       int     // of HTTP; 0 = none or not known
	Stream       bool    // latency is to the first header byte only
	HeaderMS     float64 // to the first header byte; negative = none
	TotalMS      float64 // to the end of the attempt
	Weight       float64 // hint of the request's size; 0 = none
	Overload     bool    // a time-out that was no fault of the peer (pool.Health.Excuses)
	ReportedLoad float64 // utilisation reported by the peer; negative = none
	// ReportedInFlight is how many requests the peer said it held when it answered, whoever sent them, without this one; negative = none.
	ReportedInFlight float64
}

// latency returns the response time the outcome is evidence of; false when it is none (failed, censored, nonsense).
func (o *Outcome) latency() (float64, bool) {
	if o.Kind != pool.OK {
		return 0, false
	}
	ms := o.TotalMS
	if o.Stream {
		ms = o.HeaderMS
	}
	return ms, ms >= 0 && ms < maxMS
}

// maxMS bounds times that are believed: a day. Longer ones, and NaN, are ignored.
const maxMS = 86_400_000

// minMS is the least service time assumed, so that a ratio of two is always finite.
const minMS = 1e-3

// Pool is the estimators of one pool. Not safe for concurrent use; the pool's goroutine owns it.
type Pool struct {
	opt     Options
	now     float64 // latest time seen
	peers   []peer
	index   map[string]int
	classes []class
	slot    map[string]int // class name -> index in classes
	listed  []int

	work     float64 // mean service time of all requests on a typical peer, ms
	rate     float64 // completions a ms and peer, decayed
	rateMS   float64 // time that is a mean of
	slow     quantile
	latency  float64 // decayed mean of answers, ms
	kprior   [kGrid]float64
	past     [kGrid]float64 // mean of the peers' posteriors over the last while
	pastMS   float64        // which is so long
	seen     float64        // successes ever, for warm-up gains
	hinted   float64        // share of successes with a weight hint, decayed
	worked   float64        // share of successes that found others whose work is known, decayed
	late     float64        // share of outcomes told after a later in-flight sample
	turn     int            // counts Refreshes: large pools are refitted in turns
	refresh  float64        // time of the last Refresh
	selected float64        // time of the last choice of listed classes

	crowd    float64 // usual number of other balancers' requests at a peer, a slot; 0 = no peer reports
	crowdVar float64 // variance of that
	share    float64 // part of what the peers hold that is of other balancers, decayed
	shared   bool    // it is much

	hidden  hidden
	sharers float64 // engines that send to the peers, this one included, as told; 0 = not told
	priors  *priors
	changes changes
	scratch replay
}

type peer struct {
	addr   string
	joined float64
	last   float64 // time of the last outcome; -Inf = none
	lean   float64 // requests it went without between outcomes, ever (missed)
	trace  trace
	// givenUp is until when the peer may be at work on requests that were given up because they waited too long. How many it still holds of them nobody
	// knows: until then neither its answers nor its silence tell how fast it is.
	givenUp float64
	curve   curve
	drift   drift
	fail    failures
	cells   []cell  // by class index
	slow    float64 // long-run speed, 1 = typical; its inverse is the slowness
	// Scratch of fitSlowness: slowness before shrinkage, and its precision.
	measured, weight float64
	mix              mix
	rate             float64 // arrivals (as completions) a ms, decayed
	rateMS           float64 // time that is a mean of
	latency          float64
	latN             float64
	load             float64 // utilisation by its reports; negative = none
	told             float64 // the same by server metrics, used where there are no reports; negative = none
	others           others
	echo             peerEcho
	reports          reports
}

// New returns estimators of a pool without peers.
func New(opt Options) *Pool {
	p := &Pool{opt: opt.sane(), index: map[string]int{}, slot: map[string]int{}, priors: newPriors(), work: 1, pastMS: firstMS}
	p.classes = []class{{name: "*", listed: true, differ: 0.05}}
	p.listed = []int{0}
	p.slow.q = 0.95
	p.changes = newChanges(p.priors)
	for i := range p.kprior {
		p.kprior[i], p.past[i] = kBase(i), kBase(i)
	}
	return p
}

// tick moves the pool's time on and returns it; time never runs backwards.
func (p *Pool) tick(now float64) float64 {
	if now > p.now && !math.IsInf(now, 0) {
		p.now = now
	}
	return p.now
}

// SetPeers makes addrs the peers, in that order. What is known follows the address; a removed peer is forgotten, and a new one
// starts at the pool's typical: neither free nor infinitely dear. Of two equal addresses the first counts.
func (p *Pool) SetPeers(now float64, addrs []string) {
	now = p.tick(now)
	next := make([]peer, 0, len(addrs))
	index := make(map[string]int, len(addrs))
	for _, a := range addrs {
		if _, twice := index[a]; twice {
			continue
		}
		index[a] = len(next)
		if i, ok := p.index[a]; ok {
			next = append(next, p.peers[i])
			continue
		}
		n := peer{addr: a, joined: now, last: math.Inf(-1), load: -1, told: -1, reports: reports{held: -1}, slow: 1, cells: make([]cell, len(p.classes))}
		n.trace.start = now
		n.trace.sampled = now
		n.drift.reset(p.priors)
		n.curve.k = 1
		n.curve.fit(new(levelSums), &p.kprior, &p.past, &n.others.k, 0)
		n.curve.fits = 0
		next = append(next, n)
	}
	p.peers, p.index = next, index
	p.hidden.answers = [poolEchoes]echo{} // they name peers by position
}

// Peers returns the number of peers.
func (p *Pool) Peers() int { return len(p.peers) }

// Index returns the position of addr in the last SetPeers, or -1.
func (p *Pool) Index(addr string) int {
	if i, ok := p.index[addr]; ok {
		return i
	}
	return -1
}

// Observe learns from an attempt that ended at now. A little late or out of order is fine. An outcome of an unknown peer or
// kind is ignored; one of an unknown class counts for "*".
func (p *Pool) Observe(now float64, o Outcome) {
	if o.Peer < 0 || o.Peer >= len(p.peers) || !o.Kind.Known() || math.IsNaN(now) {
		return
	}
	if o.Class < 0 || o.Class >= len(p.classes) {
		o.Class = 0
	}
	if !(o.TotalMS >= 0 && o.TotalMS < maxMS) {
		o.TotalMS = 0
	}
	o.InFlight = max(o.InFlight, 0)
	p.tick(now)
	pe := &p.peers[o.Peer]
	pe.lean += p.missed(pe)
	pe.last = max(pe.last, now)
	told, odd := true, false
	if o.Kind == pool.OK {
		told, odd = p.deny(pe, &o)
	}
	if o.Overload {
		pe.givenUp = max(pe.givenUp, now+o.TotalMS)
	} else if o.Kind.Evidence() {
		pe.fail.add(p.now, o.Kind.Failed() || odd)
		p.classes[o.Class].traffic++
	}
	load, held := p.report(now, pe, &o)
	switch {
	case o.Kind != pool.OK:
		held = -1
	case held >= 0:
		pe.others.measure(held, load)
	default:
		pe.others.silent()
	}
	said := answer{work: -1}
	if ms, ok := o.latency(); ok && told && now >= pe.givenUp {
		said = p.learn(now, pe, &o, max(ms, minMS))
		if o.Stream {
			said.work = -1 // its slot was not busy from pick to end
		}
	}
	t := &pe.trace
	late := 0.0
	if now <= max(t.start, t.held.at) {
		late = 1
	}
	p.late += (late - p.late) / 1000
	if t.add(now, o.TotalMS, said, held) {
		p.release(pe)
		p.close(pe, p.now, -1)
	}
}

// InFlight tells that n requests were in flight on the peer at now, over all balancers known to the engine. Between two such
// samples the outcomes say how the count went.
func (p *Pool) InFlight(now float64, i, n int) {
	if i < 0 || i >= len(p.peers) || n < 0 || math.IsNaN(now) {
		return
	}
	now = p.tick(now)
	pe := &p.peers[i]
	p.sampled(pe, now, n)
}

// Refresh does the slow part of learning: concurrency, shrinkage, normalisation, top classes. Call it before reading, each
// 100 ms or so.
func (p *Pool) Refresh(now float64) {
	now = p.tick(now)
	dt := now - p.refresh
	p.refresh = now
	for i := range p.peers {
		pe := &p.peers[i]
		if now-pe.trace.sampled > 300 && now-pe.trace.start >= 50 {
			p.release(pe)
			p.close(pe, now, -1)
		}
		pe.curve.age(dt / p.opt.AgeMS)
		p.expire(now, pe)
	}
	p.crowds(dt)
	p.fade(dt)
	p.turn++
	p.concurrency(dt)
	p.fit()
	p.list(now, dt)
}
