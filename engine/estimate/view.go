package estimate

import (
	"math"

	"github.com/weirlb/weir/engine/pool"
)

// PeerView is what is known of one peer.
type PeerView struct {
	Addr         string
	Speed        float64 // nominal ms of work a slot does in one ms, now; the pool's mean is 1
	SpeedSlow    float64 // the same over the long run
	Concurrency  float64 // requests worked on at a time before the next one waits (learned)
	MostSlots    float64 // the same, so that a tenth of what is believed lies above: many more where no answer has waited yet
	WorkMS       float64 // mean service time of the mix the peer gets, ms
	Mix          float64 // the mean request it gets, in mean requests of the pool
	CV2          float64 // squared coefficient of variation of that
	Known        float64 // how far class and size tell how long a request takes: 1 = all, 0 = no better than a memoryless service time
	ArrivalRate  float64 // requests a ms, decayed
	TotalRate    float64 // the same of all balancers, as far as the peer reports its load or its answers show it
	Unseen       float64 // part of that which comes through balancers that this engine sees nothing of
	Others       float64 // requests of other balancers there now, by its reports; 0 = none, or it does not report
	OthersVar    float64 // variance of that
	InFlight     int     // last sample
	LatencyMS    float64 // mean of recent answers; 0 = none
	FailureRate  float64 // used in costs
	FailureFast  float64
	FailureSlow  float64
	Trend        float64 // how much slower than in the long run it works now; 1 = steady
	Risk         float64 // 0..1: how likely it is on its way to failing (for pool.Predict), as it fails more than before or has become slow
	Failing      float64 // 0..1: the same, by its failures alone
	Samples      float64 // decayed successes
	AgeMS        float64 // since the last outcome; +Inf = none
	JoinedMS     float64 // time of joining
	ReportedLoad float64 // decayed; negative = none
	ReportedHeld float64 // requests it held by its last report; negative = none
	ReportAgeMS  float64 // since the last report; negative = none
	Reports      uint64  // load reports ever
	ReportState  ReportState
}

// Peer returns what is known of peer i.
func (p *Pool) Peer(i int) PeerView {
	pe := &p.peers[i]
	v := PeerView{
		Addr: pe.addr, Speed: pe.slow * pe.drift.factor, SpeedSlow: pe.slow, Concurrency: pe.curve.k, MostSlots: pe.curve.most(),
		WorkMS: p.meanWork(pe) / pe.drift.factor, Mix: pe.mix.request(), CV2: pe.mix.cv2(), Known: pe.known(), ArrivalRate: pe.rate, InFlight: int(pe.trace.n),
		LatencyMS: pe.latency, FailureRate: pe.fail.rate(), FailureFast: pe.fail.fast, FailureSlow: pe.fail.slow,
		Trend: 1 / pe.drift.factor, Samples: pe.curve.n, AgeMS: p.now - pe.last, JoinedMS: pe.joined, ReportedLoad: pe.load,
		ReportedHeld: pe.reports.held, ReportAgeMS: -1, Reports: pe.reports.count, ReportState: p.reportState(pe),
	}
	v.AgeMS = max(v.AgeMS, 0)
	if pe.reports.at > 0 {
		v.ReportAgeMS = max(p.now-pe.reports.at, 0)
	}
	v.Others, v.OthersVar = p.elsewhere(pe)
	v.TotalRate = v.ArrivalRate * p.loadRatio(pe)
	v.Unseen = 1 - 1/p.loadRatio(pe)
	if pe.others.busyN > 0 {
		v.TotalRate = max(pe.others.busy*v.Concurrency/v.WorkMS, v.ArrivalRate)
	}
	v.Risk, v.Failing = pe.risk()
	return v
}

// Load is the same for a pool's health.
func (v *PeerView) Load() pool.Load {
	held := float64(v.InFlight) + v.Others
	l := pool.Load{
		Rate: v.TotalRate, Serves: v.Concurrency / v.WorkMS, Slots: v.Concurrency, Most: v.MostSlots, Waiting: max(held-v.Concurrency, 0),
	}
	if held >= min(v.MostSlots, 2*v.Concurrency) { // it is full, and then how much it does is known, whatever the number of slots that do it
		l.Most = l.Slots
	}
	return l
}

// Told tells the utilisation of peer i by a source other than its answers, 1 = busy; negative = none, any more. The peer's own reports
// win over it.
func (p *Pool) Told(i int, load float64) {
	if i >= 0 && i < len(p.peers) {
		p.peers[i].told = -1
		if load >= 0 && load < 1000 {
			p.peers[i].told = load
		}
	}
}

func (pe *peer) utilisation() float64 {
	if pe.load >= 0 {
		return pe.load
	}
	return pe.told
}

// risk combines two signs that a peer is about to fail: its fast failure rate is leaving the slow one, or it has lost much of its
// speed. Each counts from a threshold on, so that noise is no risk.
func (pe *peer) risk() (both, failing float64) {
	failing = ramp(pe.fail.fast-pe.fail.slow, 0.1, 0.6)
	slowing := ramp(-math.Log(pe.drift.factor), math.Ln2, 3*math.Ln2) * pe.drift.slow
	return 1 - (1-failing)*(1-slowing), failing
}

// ramp goes smoothly from 0 at lo to 1 at hi.
func ramp(x, lo, hi float64) float64 {
	x = min(max((x-lo)/(hi-lo), 0), 1)
	return x * x * (3 - 2*x)
}

// Wait is how long a request waits on peer i that finds n others there, in mean services of the peer.
func (p *Pool) Wait(i int, n float64) float64 { return p.peers[i].curve.wait(n) }

// ClassView is what is known of one class over the pool.
type ClassView struct {
	Name    string
	BaseMS  float64 // service time at a peer of speed 1, without waiting
	CV2     float64 // squared coefficient of variation within the class
	Traffic float64 // recent outcomes, decayed over five minutes
	Samples float64
}

// Listed returns the indices of the listed classes, 0 ("*") first. Valid until the next Class or Refresh; not to be changed.
func (p *Pool) Listed() []int { return p.listed }

// ClassAt returns what is known of class index c.
func (p *Pool) ClassAt(c int) ClassView {
	k := &p.classes[c]
	return ClassView{Name: k.name, BaseMS: p.base(c), CV2: k.cv2(), Traffic: k.traffic, Samples: k.seen}
}

// PairView is what is known of a class on a peer.
type PairView struct {
	ServiceMS float64 // expected service time without waiting
	Affinity  float64 // factor on the class's base, shrunk towards 1
	Samples   float64
	AgeMS     float64 // since the last sample; +Inf = none
}

// Pair returns what is known of class c on peer i.
func (p *Pool) Pair(i, c int) PairView {
	pe := &p.peers[i]
	pr := &pe.cells[c]
	v := PairView{Affinity: p.affinity(pe, c), Samples: pr.n, AgeMS: math.Inf(1)}
	v.ServiceMS = p.service(pe, c) / pe.drift.factor
	if pr.seen > 0 {
		v.AgeMS = p.now - pr.at
	}
	return v
}

// SlowMS is the pool's typical slow latency (about its 95th percentile): what a failure is charged at least.
func (p *Pool) SlowMS() float64 { return max(p.slow.value(), p.latency, minMS) }

// MeanMS is the mean of recent answers over the pool.
func (p *Pool) MeanMS() float64 { return max(p.latency, minMS) }

// Addr returns the address of peer i.
func (p *Pool) Addr(i int) string { return p.peers[i].addr }

// ClassName returns the name of class index c.
func (p *Pool) ClassName(c int) string { return p.classes[c].name }

// WorkMS is the mean service time of all requests on a typical peer, ms.
func (p *Pool) WorkMS() float64 { return max(p.work, minMS) }

// Hinted reports whether requests of the pool tell their size (Outcome.Weight) often enough to be heeded at the pick, and can be. Where other balancers send to
// the same peers, as the peers report or the engine is told, they cannot: what a peer has left to do is reckoned from one's own requests, as if its slots worked
// on nothing else, and the sizes of the others' are not known. Four balancers, eight peers of 2 slots, three classes, load .8, mean of least_conn's: with sizes 1.16
// where peers report and 1.02 where four are told, without .98 and .97.
func (p *Pool) Hinted() bool { return p.hinted > hintedShare && !p.shared && p.sharers <= 1 }

// weighed reports whether NGINX counts what peers hold by its work: where requests tell their size and the pool heeds it.
func (p *Pool) weighed() bool { return p.worked > hintedShare }

const hintedShare = 0.05

// Hint is the weight hint of a request of a class that is of the usual size; 0 = none was told.
func (p *Pool) Hint(c int) float64 { return p.classes[c].hint }

// Size is how many times the usual of its class a request of a weight hint is; 1 without a hint.
func (p *Pool) Size(c int, weight float64) float64 {
	if c < 0 || c >= len(p.classes) {
		c = 0
	}
	return p.classes[c].size(weight)
}
