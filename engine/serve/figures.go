package serve

import (
	"fmt"

	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/pool"
)

// Figures are what the engine knows, for people and their tools: the answer of GET /api/metrics. A pointer that is nil is
// null in JSON: not known (yet).
type Figures struct {
	Epoch    string        `json:"epoch"`
	Version  uint64        `json:"version"`
	UptimeMS float64       `json:"uptime_ms"`
	Watchers int           `json:"watch_clients"`
	Pools    []PoolFigures `json:"pools"`
}

// PoolFigures are those of one pool.
type PoolFigures struct {
	Name        string          `json:"name"`
	Version     uint64          `json:"version"` // of the published table; 0 while a pool comes or goes
	Policy      string          `json:"policy"`
	Objective   string          `json:"objective"`
	Panic       bool            `json:"panic"`
	TableAgeMS  float64         `json:"table_age_ms"`
	RefreshMS   float64         `json:"refresh_took_ms"` // the last filling of the table
	TrafficAge  *float64        `json:"last_outcome_age_ms"`
	Attempts10s int             `json:"attempts_10s"`
	Attempts1m  int             `json:"attempts_1m"`
	Limit       *float64        `json:"limit"` // requests in flight, over all NGINX; null = none
	Shed        uint64          `json:"shed"`  // requests refused since the engine started, because the pool could do no more
	RateLimited uint64          `json:"rate_limited"`
	LoadRatio   float64         `json:"load_ratio"` // load of the peers through all balancers, as far as it shows or was told, over that through this engine's
	Sources     []SourceFigures `json:"sources"`    // where the peers come from
	Classes     []ClassFigures  `json:"classes"`
	Peers       []PeerFigures   `json:"peers"`
}

// ClassFigures are those of one listed class.
type ClassFigures struct {
	Name    string   `json:"name"`
	BaseMS  *float64 `json:"base_ms"` // service time at a peer of speed 1, without waiting
	Share   *float64 `json:"share"`   // of the traffic of listed classes, over about five minutes
	Samples *float64 `json:"samples"`
}

// PeerFigures are those of one peer.
type PeerFigures struct {
	Pool       string   `json:"pool"`
	Addr       string   `json:"addr"`
	Sources    []string `json:"sources"` // names of those that have it; "leaving" = none any more
	State      string   `json:"state"`
	Reason     string   `json:"reason"`
	Usable     bool     `json:"usable"`
	Drained    bool     `json:"drained"`
	Admit      float64  `json:"admit"`
	Weight     float64  `json:"weight"`
	Tier       int      `json:"tier"` // 0 = primary, above = backup
	Zone       *string  `json:"zone"` // null = not told
	Group      *string  `json:"group"`
	StateAgeMS float64  `json:"state_age_ms"`
	StateLeft  *float64 `json:"state_left_ms"` // until a timer ends the state
	Ejections  int      `json:"ejections"`
	Risk       *float64 `json:"risk"`
	Needed     bool     `json:"needed"` // the others could not carry the pool's traffic without it

	Inflight int               `json:"inflight"`
	Attempts uint64            `json:"attempts"`
	Failures map[string]uint64 `json:"failures"` // by kind; aborts and idle races are in others
	Others   map[string]uint64 `json:"others"`
	Share10s *float64          `json:"share_10s"` // of the pool's attempts
	Share1m  *float64          `json:"share_1m"`

	Latency      LatencyFigures `json:"latency_ms"` // of answered attempts of about the last minute
	Speed        *float64       `json:"speed"`      // the pool's typical is 1
	Concurrency  *float64       `json:"concurrency"`
	WorkMS       *float64       `json:"work_ms"`
	FailureRate  *float64       `json:"failure_rate"`
	Trend        *float64       `json:"trend"`
	Samples      *float64       `json:"samples"`
	SampleAgeMS  *float64       `json:"sample_age_ms"`
	ReportedLoad *float64       `json:"reported_load"` // what the peer says of itself (ORCA)
	ReportedHeld *float64       `json:"reported_inflight"`
	ReportAgeMS  *float64       `json:"report_age_ms"`
	ReportState  string         `json:"report_state"` // none, blackout or used
	Elsewhere    *float64       `json:"elsewhere"`    // requests of other balancers there, as believed by the reports
	Check        *ProbeView     `json:"check"`        // last active check
	Metrics      []MetricFigure `json:"metrics"`
}

// LatencyFigures are quantiles in ms.
type LatencyFigures struct {
	P50 *float64 `json:"p50"`
	P90 *float64 `json:"p90"`
	P99 *float64 `json:"p99"`
}

// Figures collects the current figures of every pool.
func (e *Engine) Figures() Figures {
	s := e.State()
	f := Figures{
		Epoch: s.Epoch, Version: s.Version, UptimeMS: e.now(), Watchers: e.watching.Count(), Pools: []PoolFigures{},
	}
	for _, p := range e.sorted() {
		f.Pools = append(f.Pools, p.figures(e.now()))
	}
	return f
}

// Peer returns the figures of one peer.
func (e *Engine) Peer(poolName, addr string) (PeerFigures, error) {
	p, err := e.pool(poolName)
	if err != nil {
		return PeerFigures{}, err
	}
	p.mu.Lock()
	defer p.unlock()
	at := p.health.Index(addr)
	if at < 0 {
		return PeerFigures{}, p.unknownPeer(addr)
	}
	now := e.now()
	p.health.Advance(now)
	defer p.changed(now)
	return p.peerFigures(now, at, p.poolAttempts(now)), nil
}

// Pool returns the figures of one pool.
func (e *Engine) Pool(name string) (PoolFigures, error) {
	p, err := e.pool(name)
	if err != nil {
		return PoolFigures{}, err
	}
	return p.figures(e.now()), nil
}

// traffic is the attempts of a whole pool.
type traffic struct{ short, long int }

const (
	shortSlots = 10_000 / slotMS
	longSlots  = 60_000 / slotMS
)

func (p *livePool) poolAttempts(now float64) (t traffic) {
	for _, m := range p.members {
		t.short += m.recent.attempts(now, shortSlots)
		t.long += m.recent.attempts(now, longSlots)
	}
	return t
}

func (p *livePool) figures(now float64) PoolFigures {
	p.mu.Lock()
	defer p.unlock()
	p.health.Advance(now)
	defer p.changed(now)
	all := p.poolAttempts(now)
	f := PoolFigures{
		Name: p.name, Policy: p.serving, Objective: string(p.conf.Objective),
		Panic: p.health.Panic(), TableAgeMS: now - p.filledAt, RefreshMS: p.fillCost, TrafficAge: finite(now - p.trafficAt),
		Attempts10s: all.short, Attempts1m: all.long, Sources: p.sourceFigures(now), Classes: []ClassFigures{}, Peers: []PeerFigures{},
	}
	f.LoadRatio = p.est.LoadRatio()
	f.Shed, f.RateLimited = p.limits.shed, p.limits.rated
	if l := p.limits.limiter; l != nil && l.Limit() > 0 {
		f.Limit = finite(l.Limit())
	}
	sum := 0.0
	for _, c := range p.est.Listed() {
		sum += p.est.ClassAt(c).Traffic
	}
	for _, c := range p.est.Listed() {
		v := p.est.ClassAt(c)
		f.Classes = append(f.Classes, ClassFigures{Name: v.Name, BaseMS: finite(v.BaseMS), Share: finite(v.Traffic / sum), Samples: finite(v.Samples)})
	}
	for i := range p.members {
		f.Peers = append(f.Peers, p.peerFigures(now, i, all))
	}
	// Not of the latest snapshot: that one may be on its way still.
	if s := p.eng.State().Pool(p.name); s != nil {
		f.Version = s.Version
	}
	return f
}

// reported is what a peer says of its load, as people are shown it.
func reported(v *estimate.PeerView) (load, held, age *float64, state string, elsewhere *float64) {
	known := func(x float64) *float64 {
		if x < 0 {
			return nil
		}
		return finite(x)
	}
	if v.ReportState == estimate.ReportsCount && v.ReportedHeld >= 0 {
		elsewhere = finite(v.Others)
	}
	return known(v.ReportedLoad), known(v.ReportedHeld), known(v.ReportAgeMS), string(v.ReportState), elsewhere
}

// stateWhy says why a peer is in its state, and why it has less than its share where prediction holds it back, which is no change of state.
func stateWhy(h *pool.View) string {
	if h.Shrunk && h.Admit < 0.95 {
		return fmt.Sprintf("%s; gets less, since it is likely to fail soon (risk %.2f)", h.Reason, h.Risk)
	}
	return h.Reason
}

func (p *livePool) peerFigures(now float64, i int, all traffic) PeerFigures {
	m, h, v := p.members[i], p.health.View(i), p.est.Peer(i)
	f := PeerFigures{
		Pool: p.name, Addr: m.addr, Sources: p.origin[m.addr], State: h.State.String(), Reason: stateWhy(&h), Usable: h.Usable, Drained: h.Drained,
		Admit: round3(h.Admit), Weight: h.Weight, StateAgeMS: now - h.SinceMS, Ejections: h.Ejections, Risk: finite(h.Risk), Needed: h.Needed,
		Inflight: int(m.inflight.Load()), Attempts: m.attempts, Failures: map[string]uint64{}, Others: map[string]uint64{},
		Speed: finite(v.Speed), Concurrency: finite(v.Concurrency), WorkMS: finite(v.WorkMS), FailureRate: finite(v.FailureRate),
		Trend: finite(v.Trend), Samples: finite(v.Samples), SampleAgeMS: finite(v.AgeMS), Metrics: p.metricFigures(now, m.addr),
	}
	f.Tier = h.Tier
	// Copies: the caller encodes them without the mutex, and a reload writes to the member's own.
	if zone := m.zone; zone != "" {
		f.Zone = &zone
	}
	if group := m.group; group != "" {
		f.Group = &group
	}
	if h.UntilMS > 0 {
		f.StateLeft = finite(max(h.UntilMS-now, 0))
	}
	f.ReportedLoad, f.ReportedHeld, f.ReportAgeMS, f.ReportState, f.Elsewhere = reported(&v)
	for k, n := range m.kinds {
		switch kind := observe.Kind(k); {
		case kind.Failure():
			f.Failures[kind.String()] = n
		case pool.Kind(kind) != pool.OK:
			f.Others[kind.String()] = n
		}
	}
	if all.short > 0 {
		f.Share10s = finite(float64(m.recent.attempts(now, shortSlots)) / float64(all.short))
	}
	if all.long > 0 {
		f.Share1m = finite(float64(m.recent.attempts(now, longSlots)) / float64(all.long))
	}
	q := m.recent.quantiles(now, 0.5, 0.9, 0.99)
	f.Latency = LatencyFigures{finite(q[0]), finite(q[1]), finite(q[2])}
	if m.probe != nil {
		seen := *m.probe
		seen.AgeMS = now - seen.at
		f.Check = &seen
	}
	return f
}
