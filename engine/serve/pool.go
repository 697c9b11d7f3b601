package serve

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/control"
	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/history/record"
	"github.com/weirlb/weir/engine/pool"
	"github.com/weirlb/weir/engine/servermetrics"
	"github.com/weirlb/weir/engine/telemetry"
)

// livePool is one pool at work.
type livePool struct {
	name string
	eng  *Engine
	tel  *telemetry.Pool

	// mu guards everything below. It is held for one batch of outcomes, one refresh, one probe's result or one change by the
	// operator; nothing under it waits for the network.
	mu       sync.Mutex
	conf     config.Pool
	est      *estimate.Pool
	health   *pool.Health
	policy   decide.Policy
	learned  *decide.Learned     // the policy, when it is the learned one; else nil
	eval     *evaluator          // whose predictor learned.Model is; not a use of it
	serving  string              // the policy that the table was made by
	table    decide.Table        // as last filled
	members  []*member           // in the order of health, est and table
	sources  []*source           // of members, in the order of the configuration, the static peers left out
	roster   []config.Peer       // who is in the pool by all sources
	origin   map[string][]string // names of the sources by address
	leaving  []config.Peer       // members that stay until new sources have answered
	over     int                 // peers that the sources name above the most that a pool may have
	limits   limits
	checks   map[string]*check
	meters   *meters // nil = no metrics are configured
	started  bool    // checks may run
	sourcing bool    // sources may run
	pending  bool    // NGINX has not heard of the pool, and is not to yet; see waits
	bornAt   float64 // ms
	probedAt float64 // ms of the start of the first checks; 0 = they were not started
	retired  bool    // removed from the configuration; nothing may be published any more

	ramped    float64           // share of the split by the operator's word at run time; negative = as in the file
	shadow    *control.Half     // of what is mirrored to the pool; nil = it is no shadow
	shadowTel *telemetry.Shadow // nil with that
	mirrored  *control.Half     // of its own GETs; nil = no pool is a shadow of it
	split     *splitting        // nil = the pool has no split
	versus    *compared         // nil = no table was made yet

	inflight map[sender]map[string]int // in-flight counts by NGINX and peer address

	dirty       bool    // something was learned since the table was filled
	filledAt    float64 // ms; -Inf = never
	fillCost    float64 // ms the last filling took
	trafficAt   float64 // ms of the last record; -Inf = never
	publishedAt float64
	latest      atomic.Pointer[Snapshot] // published, or about to be; written under the mutex
	changes     []pool.Transition        // scratch
	weights     []float64                // scratch
	aways       []decide.Away            // scratch
	trusts      []float64                // scratch
	fault       string                   // why the table could not be filled last time, "" = it could
	modelFault  string                   // why the model could not be used for it, "" = it could, or there was none
	tooLarge    bool                     // for a model
	shown       bool                     // the last table was made through learned, which kept what the learner is to be shown
	feed        *feed                    // for the learner; nil = there is none
	observed    []record.Observed        // for the history, until the run of records is learned
	said        []func()                 // log lines to be written when the mutex is free
}

// later keeps a log line until the mutex is free: a log that is read slowly must not hold up a pool.
func (p *livePool) later(line func()) { p.said = append(p.said, line) }

// unlock frees the mutex and writes what was to be said. Every method that took the mutex ends with it.
func (p *livePool) unlock() {
	said := p.said
	p.said = nil
	p.mu.Unlock()
	for _, line := range said {
		line()
	}
}

// member is a peer of a live pool. The pool's mutex guards it, but for inflight.
type member struct {
	addr string
	tel  *telemetry.Peer

	confWeight float64 // as in the file
	weight     float64 // by the operator's word at run time; 0 = as in the file
	zone       string
	group      string
	away       decide.Away // what its zone adds to its costs

	inflight atomic.Int64 // over all NGINX; written under the mutex, read without it
	recent   recent
	attempts uint64
	kinds    [observedKinds]uint64 // attempts by kind
	probe    *ProbeView            // last active check; nil = none yet
	cap      int                   // most requests in flight from one NGINX; 0 = no bound
	metered  servermetrics.Verdict // what its server metrics say, as health and estimators know it
	doubt    doubt
}

const observedKinds = int(pool.IdleRace) + 1

func newPool(e *Engine, name string) *livePool {
	p := &livePool{
		name: name, eng: e, tel: e.tel.Pool(name), policy: &decide.Analytic{}, serving: analytic,
		checks: map[string]*check{}, inflight: map[sender]map[string]int{},
		filledAt: math.Inf(-1), trafficAt: math.Inf(-1), ramped: -1, pending: true, bornAt: e.now(),
	}
	if e.learner != nil {
		p.feed = newFeed()
	}
	return p
}

// healthOptions are a pool's health rules in the terms of the health core. Probes without active checks never happen, so
// their numbers do not matter then.
func healthOptions(s *config.Settings) pool.Options {
	o := pool.Defaults()
	o.Consecutive, o.FailureShare, o.MinRequests = s.Eject.Consecutive, s.Eject.FailureShare, s.Eject.MinRequests
	o.WindowMS, o.BaseMS, o.MaxMS = float64(s.Eject.IntervalMS), float64(s.Eject.BaseMS), float64(s.Eject.MaxMS)
	o.MaxShare, o.SlowStartMS, o.MinUsable = s.Eject.MaxShare, float64(s.SlowStartMS), s.Tiers.MinUsable
	if s.Check.Enabled {
		o.Rise, o.Fall = s.Check.Rise, s.Check.Fall
	}
	return o
}

func reportRules(s *config.Settings) estimate.Reports {
	r := estimate.Reports{ExpireMS: float64(s.LoadReport.ExpireMS), BlackoutMS: float64(s.LoadReport.BlackoutMS)}
	if r.BlackoutMS == 0 {
		r.BlackoutMS = -1 // none; 0 would be the default
	}
	return r
}

// configure makes c the pool's configuration, keeps what is known by address and fills the table; the caller publishes the
// latest snapshot then. It returns what was told to end, to be waited for without holding the mutex. Only Apply calls it, so that the
// sources do not change while those of c are made ready.
func (p *livePool) configure(now float64, c *config.Pool) []ending {
	wanted := p.wanted(c, p.sources)
	p.mu.Lock()
	defer p.unlock()
	opt := healthOptions(&c.Settings)
	if p.health == nil {
		p.health = pool.New(opt)
	} else {
		p.health.SetOptions(now, opt)
	}
	if p.est == nil || p.conf.Classes.Top != c.Classes.Top {
		p.est = estimate.New(estimate.Options{TopClasses: c.Classes.Top})
	}
	p.est.SetReports(reportRules(&c.Settings))
	p.est.SetBalancers(c.Balancers)
	if p.conf.Policy != c.Policy {
		p.setPolicy(c.Policy)
	}
	checkChanged := p.conf.Check != c.Check
	metrics := p.conf.Metrics
	resplit, reshadow := p.conf.Split != c.Split, p.conf.ShadowOf != c.ShadowOf
	p.conf = *c
	if resplit {
		p.ramped = -1 // the file was changed after the operator's word
		p.splitAnew(now)
	}
	p.setLimit()
	if reshadow {
		p.shadowAnew()
	}
	var stopped []ending
	for _, s := range p.setSources(now, wanted) {
		stopped = append(stopped, s)
	}
	p.enroll()
	p.setMembers(now)
	stopped = append(stopped, p.setMetrics(now, metrics)...)
	for _, k := range p.stopChecks(func(k *check) bool { return checkChanged || p.health.Index(k.addr) < 0 }) {
		stopped = append(stopped, k)
	}
	if p.started {
		p.startChecksLocked()
		p.startCollectors()
	}
	p.startSourcesLocked()
	p.note()
	p.fill(now)
	p.pending = p.waits(now)
	p.remember(p.snapshot(), now)
	return stopped
}

// ending is a goroutine of the pool that was told to end.
type ending interface{ wait() }

// setMembers brings members, health and estimators in line with the roster.
func (p *livePool) setMembers(now float64) {
	known := make(map[string]*member, len(p.members))
	for _, m := range p.members {
		known[m.addr] = m
	}
	specs := make([]pool.PeerSpec, 0, len(p.roster))
	addrs := make([]string, 0, len(p.roster))
	members := make([]*member, 0, len(p.roster))
	for _, peer := range p.roster {
		m := known[peer.Address]
		delete(known, peer.Address)
		if m == nil {
			m = &member{addr: peer.Address, tel: p.eng.tel.Peer(p.name, peer.Address)}
		} else if m.confWeight != peer.Weight {
			m.weight = 0 // the file was changed after the operator's word
		}
		if p.conf.Check.Enabled {
			m.tel.Checked()
		} else {
			m.probe = nil
		}
		m.confWeight = peer.Weight
		m.zone, m.group, m.away = peer.Zone, peer.Group, p.away(peer.Zone)
		m.cap = p.conf.Cap(&peer)
		specs = append(specs, pool.PeerSpec{Addr: peer.Address, Weight: m.effectiveWeight(), Tier: peer.Tier, Checked: p.conf.Check.Enabled})
		addrs = append(addrs, peer.Address)
		members = append(members, m)
	}
	p.health.SetPeers(now, specs)
	p.est.SetPeers(now, addrs)
	p.members = members
	for _, gone := range known {
		gone.tel.Remove()
	}
	p.sumInflight(now)
	p.keepMetered(now)
}

func (m *member) effectiveWeight() float64 {
	if m.weight > 0 {
		return m.weight
	}
	return m.confWeight
}

// retire ends the pool and returns its checks and sources to be waited for.
func (p *livePool) retire() []ending {
	p.mu.Lock()
	defer p.unlock()
	p.retired = true
	p.modelFailed(nil, "")
	var stopped []ending
	for _, k := range p.stopChecks(func(*check) bool { return true }) {
		stopped = append(stopped, k)
	}
	for _, s := range p.sources {
		s.tel.Remove()
		if s.stop != nil {
			s.stop()
			stopped = append(stopped, s)
		}
	}
	stopped = append(stopped, p.dropMetrics()...)
	for _, m := range p.members {
		m.tel.Remove()
	}
	if p.split != nil {
		p.split.tel.Remove()
	}
	if p.shadowTel != nil {
		p.shadowTel.Remove()
	}
	p.tel.Remove()
	return stopped
}

// note logs and counts the changes of state since the last call, and reports whether there were any that matter to NGINX. That a peer is suspect
// does not: NGINX may know it with the next refresh.
func (p *livePool) note() (matter bool) {
	p.changes = p.health.Transitions(p.changes[:0])
	for _, t := range p.changes {
		matter = matter || !(t.From == pool.Up && t.To == pool.Suspect || t.From == pool.Suspect && t.To == pool.Up)
		at := p.health.Index(t.Addr)
		tell, leftOut := true, 0
		if at >= 0 {
			tell, leftOut = p.members[at].doubt.tells(t)
		}
		if tell {
			p.later(func() {
				p.eng.keepTransition(p.name, t)
				e := p.eng.log.Info()
				if t.To == pool.Ejected || t.To == pool.Down {
					e = p.eng.log.Warn()
				}
				if leftOut > 0 {
					e = e.Int("suppressed", leftOut)
				}
				e.Str("pool", p.name).Str("peer", t.Addr).Str("from", t.From.String()).Str("to", t.To.String()).
					Str("reason", t.Reason).Msg("peer changed state")
			})
		}
		if at >= 0 {
			m := p.members[at]
			m.tel.Transitions[t.To].Inc()
			if t.To == pool.Ejected {
				m.tel.Ejections.Inc()
			}
			if t.From == pool.Ejected || t.From == pool.Down {
				p.est.Returned(at)
			}
		}
	}
	return matter
}

// changed publishes at once when a peer changed its state in a way that matters: traffic to a dead peer does not wait for the next refresh.
// The costs stay those of the last filling.
func (p *livePool) changed(now float64) {
	if p.note() && !p.retired {
		p.publish(p.snapshot(), now)
	}
}

func (p *livePool) publish(s *Snapshot, now float64) {
	p.remember(s, now)
	p.eng.publish(s)
}

func (p *livePool) remember(s *Snapshot, now float64) {
	p.latest.Store(s)
	p.publishedAt = now
	p.tel.Publications.Inc()
	usable, needed := 0, 0
	for i := range s.Peers {
		peer := &s.Peers[i]
		v := p.health.View(i)
		p.members[i].tel.State(v.State)
		if peer.Needed {
			needed++
		}
		if peer.Usable {
			usable++
			p.members[i].tel.Admit.Set(peer.Admit)
		} else {
			p.members[i].tel.Admit.Set(0)
		}
	}
	p.tel.Peers.Set(float64(len(s.Peers)))
	p.tel.Usable.Set(float64(usable))
	p.tel.Needed.Set(float64(needed))
	p.tel.Backups.Set(p.health.Backups())
	p.tel.Classes.Set(float64(len(s.Table.Classes)))
	p.tel.LoadRatio.Set(p.est.LoadRatio())
	p.tel.Panic.Set(map[bool]float64{true: 1}[s.Panic])
}

// snapshot makes the immutable copy of the pool as it is now. What did not change is shared with the published one.
func (p *livePool) snapshot() *Snapshot {
	before := p.latest.Load()
	s := &Snapshot{Name: p.name, Settings: p.conf.Settings, Policy: p.serving, Panic: p.health.Panic(), Pending: p.pending}
	if before != nil && slices.Equal(before.shape.classes, p.table.Classes) && slices.Equal(before.shape.peers, p.table.Peers) {
		s.shape = before.shape
	} else {
		s.shape = newShape(p.table.Peers, p.table.Classes)
	}
	if before != nil && s.shape == before.shape && slices.Equal(before.Table.Cost, p.table.Cost) && before.Table.Work.Equal(&p.table.Work) {
		s.Table = before.Table
	} else {
		s.Table = &decide.Table{Classes: s.shape.classes, Peers: s.shape.peers, Cost: slices.Clone(p.table.Cost), Work: p.table.Work.Clone()}
	}
	s.Peers = make([]Peer, len(p.members))
	for i, m := range p.members {
		var last *Peer
		if before != nil && s.shape == before.shape {
			last = &before.Peers[i]
		}
		s.Peers[i] = p.peerNow(i, m, last)
	}
	s.rows = make([]atomic.Pointer[[]byte], len(s.shape.classes))
	s.Limit = p.limitNow(before)
	s.settings = appendSettings(nil, s.Policy, &p.conf, p.splitNow(), s.Limit)
	s.meta = append(s.appendPeers(nil), s.settings...)
	return s
}

// peerNow is peer i as NGINX is to be told; last is how it was told before, or nil.
func (p *livePool) peerNow(i int, m *member, last *Peer) Peer {
	v := p.health.View(i)
	now := Peer{
		Addr: m.addr, State: v.State.String(), Usable: v.Usable, Drained: v.Drained, Admit: round3(v.Admit), Weight: v.Weight,
		Tier: v.Tier, Away: m.away.Share, Group: m.group, Cap: m.cap, Needed: v.Needed, inflight: &m.inflight,
	}
	if a := &p.conf.Affinity; a.By == config.AffinityCookie {
		now.Keeps = v.Fit && !v.Usable && p.eng.now()-v.SinceMS < float64(a.DrainMS)
	}
	if last != nil {
		now.Admit = steady(last.Admit, now.Admit)
	}
	return now
}

// metaMoved reports whether NGINX knows less than health says. It allocates nothing: most rounds of the refresh loop end here.
func (p *livePool) metaMoved(before *Snapshot) bool {
	for i, m := range p.members {
		if p.peerNow(i, m, &before.Peers[i]) != before.Peers[i] {
			return true
		}
	}
	return p.health.Panic() != before.Panic || p.limitNow(before) != before.Limit || p.serving != before.Policy
}

// round3 keeps three digits, so that a version does not change for less.
func round3(x float64) float64 {
	if !(x > 0) {
		return 1
	}
	scale := math.Pow(10, 2-math.Floor(math.Log10(x)))
	return min(math.Round(x*scale)/scale, 1)
}

// steady keeps an admit that moved by less than 2 %, unless it arrived at 1.
func steady(before, now float64) float64 {
	if now < 1 && math.Abs(now-before) < 0.02*before {
		return before
	}
	return now
}

func (s *Snapshot) sameMeta(t *Snapshot) bool {
	return s.shape == t.shape && string(s.meta) == string(t.meta)
}
