// Package telemetry declares the engine's metrics in one place and writes its log.
package telemetry

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirlb/weir/engine/pool"
)

// Metrics holds every series of one engine. Safe for concurrent use; counting takes no lock and allocates nothing.
type Metrics struct {
	set      *metrics.Set
	declared map[string]family

	// The series of each peer, by pool and address. A set of their own: to take one series out, the library searches all of its set, and with a
	// shared one the leaving of 4000 peers kept the pool's lock for most of a minute.
	peers   map[[2]string]*metrics.Set
	peersMu sync.Mutex // guards peers

	Batches, Records, Lost        *metrics.Counter
	BadHeader, BadRecord, BadSize *metrics.Counter
	BadVersion, BadPool, BadGone  *metrics.Counter
	SkippedPeer, SkippedPool      *metrics.Counter
	WatchClients                  *metrics.Gauge
	Mismatches                    *metrics.Counter
	ReloadsOK, ReloadsFailed      *metrics.Counter
	ConfigLoaded                  *metrics.Gauge // Unix time, s
}

// New registers the series that exist from the start.
func New() *Metrics {
	s := metrics.NewSet()
	m := &Metrics{
		set: s, declared: make(map[string]family), peers: make(map[[2]string]*metrics.Set),
		Batches: s.NewCounter("weir_observe_batches_total"),
		Records: s.NewCounter("weir_observe_records_total"),
		Lost:    s.NewCounter("weir_observe_lost_records_total"),

		BadHeader:  s.NewCounter(name("weir_observe_bad_batches_total", "reason", "header")),
		BadRecord:  s.NewCounter(name("weir_observe_bad_batches_total", "reason", "record")),
		BadSize:    s.NewCounter(name("weir_observe_bad_batches_total", "reason", "size")),
		BadVersion: s.NewCounter(name("weir_observe_bad_batches_total", "reason", "version")),
		BadPool:    s.NewCounter(name("weir_observe_bad_batches_total", "reason", "unknown_pool")),
		BadGone:    s.NewCounter(name("weir_observe_bad_batches_total", "reason", "sender_gone")),

		SkippedPeer: s.NewCounter(name("weir_observe_skipped_records_total", "reason", "unknown_peer")),
		SkippedPool: s.NewCounter(name("weir_observe_skipped_records_total", "reason", "unknown_pool")),

		WatchClients:  s.NewGauge("weir_watch_clients", nil),
		Mismatches:    s.NewCounter("weir_protocol_mismatches_total"),
		ReloadsOK:     s.NewCounter(name("weir_config_reloads_total", "result", "ok")),
		ReloadsFailed: s.NewCounter(name("weir_config_reloads_total", "result", "failed")),
		ConfigLoaded:  s.NewGauge("weir_config_last_reload_success_timestamp_seconds", nil),
	}
	for _, f := range families() {
		m.declared[f.name] = f
	}
	return m
}

// Build tells which engine this is. It is called once, before the first scrape.
func (m *Metrics) Build(version, revision string, protocol int, engine string) {
	m.set.NewGauge(name("weir_build_info", "version", version, "revision", revision, "protocol", strconv.Itoa(protocol), "engine", engine), nil).Set(1)
}

// Write writes everything in the Prometheus text format.
//
// The metrics library can write HELP and TYPE itself, but HELP without a text and only by a switch that is global to the
// process, and some of its process metrics have types that linters refuse. So it is left off and the lines are
// written here from the declarations; a line whose family is not declared is left out.
func (m *Metrics) Write(w io.Writer) error {
	var raw bytes.Buffer
	m.set.WritePrometheus(&raw)
	for _, s := range m.peerSets() {
		s.WritePrometheus(&raw)
	}
	metrics.WriteProcessMetrics(&raw)
	metrics.WriteFDMetrics(&raw)
	lines := map[string][][]byte{} // by family
	for line := range bytes.Lines(raw.Bytes()) {
		if f, ok := m.family(line); ok {
			lines[f.name] = append(lines[f.name], line)
		}
	}
	out := bufio.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		f := m.declared[name]
		_, _ = out.WriteString("# HELP " + f.name + " " + f.help + "\n# TYPE " + f.name + " " + f.kind + "\n")
		for _, line := range lines[name] {
			_, _ = out.Write(line) // Flush tells
		}
	}
	return out.Flush()
}

// peerSets is the sets of all peers, by pool and address.
func (m *Metrics) peerSets() []*metrics.Set {
	m.peersMu.Lock()
	defer m.peersMu.Unlock()
	keys := slices.SortedFunc(maps.Keys(m.peers), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	sets := make([]*metrics.Set, 0, len(keys))
	for _, k := range keys {
		sets = append(sets, m.peers[k])
	}
	return sets
}

func (m *Metrics) family(line []byte) (family, bool) {
	id := string(line[:max(0, bytes.IndexAny(line, "{ "))])
	if f, ok := m.declared[id]; ok {
		return f, true
	}
	for _, suffix := range [...]string{"_bucket", "_sum", "_count"} {
		if base, cut := strings.CutSuffix(id, suffix); cut {
			f, ok := m.declared[base]
			return f, ok && f.kind == "histogram"
		}
	}
	return family{}, false
}

// name builds a series' name. Values are escaped as the text format wants it; bytes that are no UTF-8 are replaced, since a
// scraper refuses the whole page for one of them.
func name(family string, labels ...string) string {
	var b strings.Builder
	b.WriteString(family)
	for i := 0; i+1 < len(labels); i += 2 {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(labels[i] + `="`)
		for _, r := range strings.ToValidUTF8(labels[i+1], "\uFFFD") {
			switch r {
			case '\\':
				b.WriteString(`\\`)
			case '"':
				b.WriteString(`\"`)
			case '\n':
				b.WriteString(`\n`)
			default:
				b.WriteRune(r)
			}
		}
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}

// series registers the series of one owner and removes them all with it.
type series struct {
	set   *metrics.Set
	names []string
}

func (s *series) add(family string, labels ...string) string {
	n := name(family, labels...)
	s.names = append(s.names, n)
	return n
}

func (s *series) counter(family string, labels ...string) *metrics.Counter {
	return s.set.GetOrCreateCounter(s.add(family, labels...))
}

func (s *series) gauge(family string, labels ...string) *metrics.Gauge {
	return s.set.GetOrCreateGauge(s.add(family, labels...), nil)
}

func (s *series) histogram(buckets []float64, family string, labels ...string) *metrics.PrometheusHistogram {
	return s.set.GetOrCreatePrometheusHistogramExt(s.add(family, labels...), buckets)
}

// Remove takes the series out of the exposition. Counting on them afterwards does no harm and shows nowhere.
func (s *series) Remove() {
	for _, n := range s.names {
		s.set.UnregisterMetric(n)
	}
}

// states is the number of health states.
const states = pool.States

// kinds is the number of kinds of outcome.
const kinds = int(pool.IdleRace) + 1

// Peer is the series of one peer of one pool.
type Peer struct {
	series
	Attempts    [kinds]*metrics.Counter // by pool.Kind
	Duration    *metrics.PrometheusHistogram
	Inflight    *metrics.Gauge
	Admit       *metrics.Gauge
	Ejections   *metrics.Counter
	reports     *reported                // nil until the first
	Transitions [states]*metrics.Counter // by the state entered
	state       [states]*metrics.Gauge
	checks      [2]*metrics.Counter // failed, passed; nil until Checked

	pool, addr string
	metrics    *Metrics
}

// Peer registers a peer's series.
func (m *Metrics) Peer(poolName, addr string) *Peer {
	key := [2]string{poolName, addr}
	m.peersMu.Lock()
	set := m.peers[key]
	if set == nil {
		set = metrics.NewSet()
		m.peers[key] = set
	}
	m.peersMu.Unlock()
	p := &Peer{series: series{set: set}, pool: poolName, addr: addr, metrics: m}
	labels := p.labels
	for k := range p.Attempts {
		p.Attempts[k] = p.counter("weir_attempts_total", labels("kind", pool.Kind(k).String())...)
	}
	p.Duration = p.histogram(durationBuckets(), "weir_attempt_duration_seconds", labels()...)
	p.Inflight = p.gauge("weir_peer_inflight", labels()...)
	p.Admit = p.gauge("weir_peer_admit", labels()...)
	p.Ejections = p.counter("weir_peer_ejections_total", labels()...)
	for s := range p.state {
		p.state[s] = p.gauge("weir_peer_state", labels("state", pool.State(s).String())...)
		p.Transitions[s] = p.counter("weir_peer_transitions_total", labels("to", pool.State(s).String())...)
	}
	return p
}

// Remove takes the peer's series out of the exposition, as that of any series.
func (p *Peer) Remove() {
	p.metrics.peersMu.Lock()
	defer p.metrics.peersMu.Unlock()
	delete(p.metrics.peers, [2]string{p.pool, p.addr})
}

func (p *Peer) labels(more ...string) []string {
	return append([]string{"pool", p.pool, "peer", p.addr}, more...)
}

// reported is the series of a peer that reports its load.
type reported struct {
	count          *metrics.Counter
	load, inflight *metrics.Gauge
}

// Reported shows what the peer says of its load; NaN = nothing that is used. Peers that never report have no such series. It is not safe for
// concurrent use with itself and Remove.
func (p *Peer) Reported(count uint64, load, inflight float64) {
	if p.reports == nil {
		if count == 0 {
			return
		}
		p.reports = &reported{
			p.counter("weir_peer_reports_total", p.labels()...), p.gauge("weir_peer_reported_utilization_ratio", p.labels()...),
			p.gauge("weir_peer_reported_inflight", p.labels()...),
		}
	}
	p.reports.count.Set(count)
	p.reports.load.Set(load)
	p.reports.inflight.Set(inflight)
}

// Checked registers the series of active checks. It is not safe for concurrent use with itself, Check and Remove.
func (p *Peer) Checked() {
	if p.checks[0] == nil {
		p.checks[0] = p.counter("weir_checks_total", p.labels("result", "fail")...)
		p.checks[1] = p.counter("weir_checks_total", p.labels("result", "pass")...)
	}
}

// State shows the peer in a state.
func (p *Peer) State(now pool.State) {
	for s := range p.state {
		if s == int(now) {
			p.state[s].Set(1)
		} else {
			p.state[s].Set(0)
		}
	}
}

// Check counts an active check.
func (p *Peer) Check(pass bool) {
	i := 0
	if pass {
		i = 1
	}
	if c := p.checks[i]; c != nil {
		c.Inc()
	}
}

// Pool is the series of one pool.
type Pool struct {
	series
	Peers, Usable, Backups, Panic, Classes *metrics.Gauge
	LoadRatio, Needed                      *metrics.Gauge
	Excused                                *metrics.Counter // time-outs that were the overload's
	Publications                           *metrics.Counter
	Limit                                  *metrics.Gauge
	Shed                                   [5]*metrics.Counter // over the limit with high, normal, low priority; every peer full; above a rate
	Refresh                                *metrics.PrometheusHistogram
	Slices                                 [2]Slice // by SlicePolicy, SliceControl
	ratio                                  [3]*metrics.Gauge
	computed                               atomic.Pointer[time.Time]
	name                                   string
	refused                                map[string]*metrics.Counter // by reason; nil until the first
}

// Slice is the series of the attempts that the policy placed, or of those of the control slice.
type Slice struct {
	Failed   *metrics.Counter
	Duration *metrics.PrometheusHistogram
}

// Indexes of Pool.Slices.
const (
	SlicePolicy = iota
	SliceControl
)

// Ratio shows how the policy compares with the control slice; NaN where that is not known.
func (p *Pool) Ratio(estimate, low, high float64) {
	for i, x := range [...]float64{estimate, low, high} {
		p.ratio[i].Set(x)
	}
}

// Pool registers a pool's series.
func (m *Metrics) Pool(poolName string) *Pool {
	p := &Pool{series: series{set: m.set}, name: poolName}
	p.Peers = p.gauge("weir_pool_peers", "pool", poolName)
	p.Usable = p.gauge("weir_pool_usable_peers", "pool", poolName)
	p.Backups = p.gauge("weir_pool_backups", "pool", poolName)
	p.Panic = p.gauge("weir_pool_panic", "pool", poolName)
	p.Classes = p.gauge("weir_pool_classes", "pool", poolName)
	p.LoadRatio = p.gauge("weir_pool_load_ratio", "pool", poolName)
	p.Needed = p.gauge("weir_pool_needed_peers", "pool", poolName)
	p.Excused = p.counter("weir_pool_overload_timeouts_total", "pool", poolName)
	p.Limit = p.gauge("weir_pool_concurrency_limit", "pool", poolName)
	for i, priority := range [...]string{"high", "normal", "low"} {
		p.Shed[i] = p.counter("weir_shed_requests_total", "pool", poolName, "reason", "limit", "priority", priority)
	}
	for i, reason := range [...]string{"full", "rate"} {
		p.Shed[3+i] = p.counter("weir_shed_requests_total", "pool", poolName, "reason", reason, "priority", "any")
	}
	p.Publications = p.counter("weir_table_publications_total", "pool", poolName)
	p.Refresh = p.histogram(refreshBuckets(), "weir_refresh_duration_seconds", "pool", poolName)
	for i, slice := range [...]string{SlicePolicy: "policy", SliceControl: "control"} {
		p.Slices[i].Failed = p.counter("weir_slice_failures_total", "pool", poolName, "slice", slice)
		p.Slices[i].Duration = p.histogram(durationBuckets(), "weir_slice_duration_seconds", "pool", poolName, "slice", slice)
	}
	for i, bound := range [...]string{"estimate", "low", "high"} {
		p.ratio[i] = p.gauge("weir_control_ratio", "pool", poolName, "bound", bound)
	}
	p.Computed(time.Now())
	p.set.GetOrCreateGauge(p.add("weir_table_age_seconds", "pool", poolName), func() float64 {
		return time.Since(*p.computed.Load()).Seconds()
	})
	return p
}

// Computed tells when the table was computed.
func (p *Pool) Computed(at time.Time) { p.computed.Store(&at) }

// Route counts the answers of one route by status.
type Route struct {
	set             *metrics.Set
	listener, route string
	byCode          [600]atomic.Pointer[metrics.Counter]
}

// Route returns the counters of a route; route is the pattern, never the path that was asked for.
func (m *Metrics) Route(listener, route string) *Route {
	return &Route{set: m.set, listener: listener, route: route}
}

// Count counts an answer.
func (r *Route) Count(code int) {
	if code < 0 || code >= len(r.byCode) {
		code = 0
	}
	c := r.byCode[code].Load()
	if c == nil {
		c = r.set.GetOrCreateCounter(name("weir_http_requests_total",
			"listener", r.listener, "route", r.route, "code", strconv.Itoa(code)))
		r.byCode[code].Store(c)
	}
	c.Inc()
}
