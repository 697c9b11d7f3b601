package serve

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/telemetry"
)

func parse(t testing.TB, text string) *config.Config {
	t.Helper()
	c, _, err := config.Parse("weir.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// still makes an engine whose refresh loop and checks do not run: nothing happens but what the test does.
func still(t testing.TB, text string) *Engine {
	t.Helper()
	e := New(parse(t, text), telemetry.NewLog(io.Discard, "error"), telemetry.New())
	t.Cleanup(e.Close)
	return e
}

func live(t testing.TB, text string) *Engine {
	t.Helper()
	e := still(t, text)
	e.Start()
	return e
}

const threePeers = `
refresh_ms: 20
pools:
  - name: api
    peers: ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]
  - name: other
    peers: ["10.0.0.1:80", "10.0.1.2:80"]
`

// outcomes makes a batch of n attempts of one kind on one peer.
func outcomes(t testing.TB, pool, class, peer string, kind observe.Kind, n int, ms float32) *observe.Batch {
	t.Helper()
	b := &observe.Batch{Instance: "web1"}
	for range n {
		add(t, b, pool, class, peer, kind, ms)
	}
	return b
}

func add(t testing.TB, b *observe.Batch, pool, class, peer string, kind observe.Kind, ms float32) {
	t.Helper()
	err := b.Add(pool, class, peer, observe.Record{
		Attempt: 1, Kind: kind, Propensity: 1, HeaderMS: ms, TotalMS: ms, PredictedMS: observe.None, Load: observe.None,
	})
	if err != nil {
		t.Fatal(err)
	}
}

func peerOf(t testing.TB, e *Engine, pool, addr string) *Peer {
	t.Helper()
	s := e.State().Pool(pool)
	for i := range s.Peers {
		if s.Peers[i].Addr == addr {
			return &s.Peers[i]
		}
	}
	t.Fatalf("pool %s has no peer %s: %+v", pool, addr, s.Peers)
	return nil
}

// refresh does a round of the refresh loop, due or not.
func refresh(t testing.TB, e *Engine, pool string) {
	t.Helper()
	p, err := e.pool(pool)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.filledAt = math.Inf(-1)
	p.mu.Unlock()
	p.refresh(e.now())
}

func within(t testing.TB, limit time.Duration, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if done() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

func TestAPeerEjectedByABatchIsPublishedBeforeTheBatchIsAnswered(t *testing.T) {
	e := still(t, threePeers) // no refresh loop: what is published, Observe published
	before := e.State()
	e.Observe(outcomes(t, "api", "*", "10.0.0.2:80", observe.Refused, 10, 1))
	select {
	case <-before.Next():
	default:
		t.Fatal("watchers were not woken")
	}
	if p := peerOf(t, e, "api", "10.0.0.2:80"); p.Usable || p.State != "ejected" {
		t.Errorf("the peer is published as %+v", p)
	}
	if after := e.State(); after.Version <= before.Version || after.Pool("api").Version != after.Version {
		t.Errorf("version %d of the pool in state %d, before %d", after.Pool("api").Version, after.Version, before.Version)
	}
	if e.State().Pool("other").Version != before.Pool("other").Version {
		t.Error("a pool that did not change has a new version")
	}
}

func TestRecordsOfUnknownPoolsAndPeersAreCountedAndTheOthersLearned(t *testing.T) {
	e := still(t, threePeers)
	b := outcomes(t, "api", "*", "10.0.0.1:80", observe.OK, 2, 5)
	add(t, b, "nowhere", "*", "10.0.0.1:80", observe.OK, 5)
	add(t, b, "api", "*", "9.9.9.9:80", observe.OK, 5)
	add(t, b, "other", "*", "10.0.1.2:80", observe.Timeout, 5)
	accepted, unknown := e.Observe(b)
	if accepted != 4 || !slices.Equal(unknown, []string{"nowhere"}) {
		t.Errorf("accepted %d, unknown %q", accepted, unknown)
	}
	f, _ := e.Peer("api", "10.0.0.1:80")
	g, _ := e.Peer("other", "10.0.1.2:80")
	if f.Attempts != 2 || g.Attempts != 1 || g.Failures["timeout"] != 1 {
		t.Errorf("figures %+v, %+v", f, g)
	}
	text := scrape(t, e)
	for _, want := range []string{
		`weir_observe_records_total 4`, `weir_observe_skipped_records_total{reason="unknown_peer"} 1`,
		`weir_observe_skipped_records_total{reason="unknown_pool"} 1`,
		`weir_attempts_total{pool="other",peer="10.0.1.2:80",kind="timeout"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
}

func scrape(t testing.TB, e *Engine) string {
	t.Helper()
	var b bytes.Buffer
	if err := e.Metrics().Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWithoutNewsNothingIsPublishedAndWithTrafficSomethingIsEachSecond(t *testing.T) {
	e := live(t, threePeers)
	time.Sleep(300 * time.Millisecond)
	quiet := e.State()
	time.Sleep(300 * time.Millisecond)
	if now := e.State(); now != quiet {
		t.Errorf("version %d became %d without any traffic", quiet.Version, now.Version)
	}
	// The same answer again and again changes no cost, and yet NGINX hears from the engine.
	stop := time.Now().Add(2500 * time.Millisecond)
	for time.Now().Before(stop) {
		e.Observe(outcomes(t, "api", "*", "10.0.0.1:80", observe.OK, 1, 5))
		time.Sleep(50 * time.Millisecond)
	}
	if n := e.State().Version - quiet.Version; n < 2 {
		t.Errorf("%d versions in 2.5 s of traffic", n)
	}
}

func TestASlowPeerBecomesDearerWithinAFewRefreshes(t *testing.T) {
	e := live(t, threePeers)
	for range 20 {
		b := outcomes(t, "api", "GET /x", "10.0.0.1:80", observe.OK, 10, 5)
		for range 10 {
			add(t, b, "api", "GET /x", "10.0.0.2:80", observe.OK, 50)
			add(t, b, "api", "GET /x", "10.0.0.3:80", observe.OK, 5)
		}
		e.Observe(b)
		time.Sleep(20 * time.Millisecond)
	}
	within(t, 5*time.Second, "the class is listed and the slow peer costs more", func() bool {
		s := e.State().Pool("api")
		c := s.Class([]byte("GET /x"))
		return c > 0 && s.Table.At(c, 1, 0) > 2*s.Table.At(c, 0, 0) && s.Table.At(c, 1, 0) > 2*s.Table.At(c, 2, 0)
	})
}

// watchAnswer is what /watch says.
type watchAnswer struct {
	Protocol int
	Epoch    string
	Version  uint64
	Pools    []struct {
		Name        string
		Version     uint64
		MetaVersion uint64 `json:"meta_version"`
		Peers       []struct {
			Addr, State   string
			Usable        bool
			Admit, Weight float64
		}
		Classes  []string
		Grid     []int
		Cost     string
		Costs    [][][]float64
		Settings map[string]any
	}
	Removed []string
}

func watched(t testing.TB, s *State, epoch string, since uint64, readable bool) watchAnswer {
	t.Helper()
	var a watchAnswer
	text := s.AppendWatch(nil, epoch, since, readable)
	if err := json.Unmarshal(text, &a); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return a
}

func TestAWatchAnswerHasWhatChangedAndBothFormsOfCostsAgree(t *testing.T) {
	e := still(t, threePeers)
	first := e.State()
	e.Observe(outcomes(t, "api", "*", "10.0.0.2:80", observe.Refused, 10, 1))
	s := e.State()
	if a := watched(t, s, s.Epoch, first.Version, false); len(a.Pools) != 1 || a.Pools[0].Name != "api" || a.Version != s.Version {
		t.Errorf("since the first version: %+v", a)
	}
	if a := watched(t, s, "another", s.Version, false); len(a.Pools) != 2 {
		t.Errorf("another epoch gets %d pools, want all", len(a.Pools))
	}
	if s.Newer(s.Epoch, s.Version) || !s.Newer("another", s.Version) || !s.Newer(s.Epoch, s.Version-1) {
		t.Error("Newer is wrong")
	}
	coded, plain := watched(t, s, "", 0, false).Pools[0], watched(t, s, "", 0, true).Pools[0]
	raw, err := base64.StdEncoding.DecodeString(coded.Cost)
	if err != nil || len(raw) != 4*len(coded.Classes)*len(coded.Peers)*len(coded.Grid) {
		t.Fatalf("cost has %d bytes: %v", len(raw), err)
	}
	for c := range plain.Costs {
		for p := range plain.Costs[c] {
			for g, want := range plain.Costs[c][p] {
				at := ((c*len(plain.Peers))+p)*len(plain.Grid) + g
				if got := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*at:])); got != float32(want) {
					t.Fatalf("cost[%d][%d][%d] is %v and %v", c, p, g, got, want)
				}
			}
		}
	}
	for _, key := range []string{"policy", "spread", "explore", "control", "max_stale_ms", "connect_timeout_ms", "tries", "retry_timeout_ms",
		"retry_share", "retry_min_per_s", "eject_consecutive", "eject_base_ms", "eject_max_ms", "eject_max_share"} {
		if coded.Settings[key] == nil {
			t.Errorf("settings lack %s", key)
		}
	}
}

func TestMetaVersionStaysWhenOnlyCostsChange(t *testing.T) {
	e := still(t, threePeers)
	for range 3 {
		refresh(t, e, "api")
	}
	before := e.State().Pool("api")
	for _, ms := range []float32{5, 200} {
		e.Observe(outcomes(t, "api", "*", "10.0.0.1:80", observe.OK, 50, ms))
		refresh(t, e, "api")
	}
	after := e.State().Pool("api")
	if after.Version == before.Version || after.MetaVersion != before.MetaVersion {
		t.Errorf("version %d to %d, meta %d to %d", before.Version, after.Version, before.MetaVersion, after.MetaVersion)
	}
	if _, err := e.Order("api", "10.0.0.1:80", Order{Weight: ptr(2.0)}); err != nil {
		t.Fatal(err)
	}
	if last := e.State().Pool("api"); last.MetaVersion != last.Version {
		t.Errorf("a weight changed: version %d, meta %d", last.Version, last.MetaVersion)
	}
}

func ptr[T any](x T) *T { return &x }

func TestAReloadKeepsWhatIsKnownByAddressAndTellsWhatIsGone(t *testing.T) {
	e := still(t, threePeers)
	e.Observe(outcomes(t, "api", "*", "10.0.0.2:80", observe.Refused, 10, 1))
	e.Observe(outcomes(t, "api", "*", "10.0.0.3:80", observe.OK, 10, 7))
	if _, err := e.Order("api", "10.0.0.1:80", Order{Drain: ptr(true), Weight: ptr(3.0)}); err != nil {
		t.Fatal(err)
	}
	before := e.State()
	changes := e.Apply(parse(t, `
pools:
  - name: api
    peers: ["10.0.0.4:80", "10.0.0.3:80", "10.0.0.2:80", "10.0.0.1:80"]
  - name: fresh
    peers: ["10.9.0.1:80"]
`))
	if !slices.Equal(changes.Added, []string{"fresh"}) || !slices.Equal(changes.Removed, []string{"other"}) || !slices.Equal(changes.Changed, []string{"api"}) {
		t.Errorf("changes %+v", changes)
	}
	a := watched(t, e.State(), before.Epoch, before.Version, false)
	if len(a.Pools) != 2 || !slices.Equal(a.Removed, []string{"other"}) {
		t.Errorf("watchers hear %+v", a)
	}
	for addr, state := range map[string]string{"10.0.0.2:80": "ejected", "10.0.0.1:80": "draining", "10.0.0.3:80": "up", "10.0.0.4:80": "slow_start"} {
		if p := peerOf(t, e, "api", addr); p.State != state {
			t.Errorf("%s is %s, want %s", addr, p.State, state)
		}
	}
	if p := peerOf(t, e, "api", "10.0.0.1:80"); p.Weight != 3 {
		t.Errorf("the operator's weight became %v", p.Weight)
	}
	if f, _ := e.Peer("api", "10.0.0.3:80"); f.Attempts != 10 {
		t.Errorf("the peer's %d attempts are left of 10", f.Attempts)
	}
	text := scrape(t, e)
	if strings.Contains(text, `pool="other"`) || !strings.Contains(text, `pool="fresh",peer="10.9.0.1:80"`) {
		t.Error("series of the removed pool are left, or those of the new one are not there")
	}
	if _, unknown := e.Observe(outcomes(t, "other", "*", "10.0.0.1:80", observe.OK, 1, 1)); len(unknown) != 1 {
		t.Error("the removed pool still takes outcomes")
	}
	// Back again it is a new pool, and no watcher is told any more that it is gone.
	e.Apply(parse(t, threePeers))
	if a := watched(t, e.State(), before.Epoch, before.Version, false); slices.Contains(a.Removed, "other") || !slices.Contains(a.Removed, "fresh") {
		t.Errorf("after it came back: removed %q", a.Removed)
	}
}

func TestAWeightInAChangedFileTakesTheOperatorsPlace(t *testing.T) {
	e := still(t, `pools: [{name: api, peers: ["10.0.0.1:80", {address: "10.0.0.2:80", weight: 5}]}]`)
	for _, addr := range []string{"10.0.0.1:80", "10.0.0.2:80"} {
		if _, err := e.Order("api", addr, Order{Weight: ptr(3.0)}); err != nil {
			t.Fatal(err)
		}
	}
	e.Apply(parse(t, `pools: [{name: api, peers: ["10.0.0.1:80", {address: "10.0.0.2:80", weight: 7}]}]`))
	if a, b := peerOf(t, e, "api", "10.0.0.1:80").Weight, peerOf(t, e, "api", "10.0.0.2:80").Weight; a != 3 || b != 7 {
		t.Errorf("weights %v and %v, want 3 (the operator's) and 7 (the file's)", a, b)
	}
}

func TestTheLastUsablePeerIsDrainedOnlyByForce(t *testing.T) {
	e := still(t, `pools: [{name: api, peers: ["10.0.0.1:80", "10.0.0.2:80"]}]`)
	if _, err := e.Order("api", "10.0.0.1:80", Order{Drain: ptr(true)}); err != nil {
		t.Fatal(err)
	}
	_, err := e.Order("api", "10.0.0.2:80", Order{Drain: ptr(true)})
	if _, conflict := err.(*ConflictError); !conflict {
		t.Fatalf("draining the last one: %v", err)
	}
	if p := peerOf(t, e, "api", "10.0.0.2:80"); p.State != "up" {
		t.Errorf("it is %s after the refusal", p.State)
	}
	f, err := e.Order("api", "10.0.0.2:80", Order{Drain: ptr(true), Force: true})
	if err != nil || f.State != "draining" {
		t.Errorf("forced: %v, %s", err, f.State)
	}
	if f, err = e.Order("api", "10.0.0.1:80", Order{Drain: ptr(false)}); err != nil || f.State == "draining" {
		t.Errorf("undrained: %v, %s", err, f.State)
	}
	for _, w := range []float64{0, -1, 1001, math.NaN(), math.Inf(1)} {
		if _, err := e.Order("api", "10.0.0.1:80", Order{Weight: &w}); err == nil {
			t.Errorf("weight %v was taken", w)
		}
	}
	if _, err := e.Order("api", "1.1.1.1:1", Order{Drain: ptr(true)}); err == nil || !strings.Contains(err.Error(), `no peer "1.1.1.1:1" in pool "api"`) {
		t.Errorf("unknown peer: %v", err)
	}
}

// broken is a policy that fails in a way of its own.
type broken struct {
	decide.Policy
	spoil func(*decide.Table)
}

func (b broken) Fill(now float64, est *estimate.Pool, par decide.Params, t *decide.Table) {
	b.Policy.Fill(now, est, par, t)
	b.spoil(t)
}

func TestABrokenPolicyLeavesTheLastGoodTable(t *testing.T) {
	for name, spoil := range map[string]func(*decide.Table){
		"panic":         func(*decide.Table) { panic("boom") },
		"NaN":           func(t *decide.Table) { t.Cost[3] = float32(math.NaN()) },
		"infinite":      func(t *decide.Table) { t.Cost[0] = float32(math.Inf(1)) },
		"negative":      func(t *decide.Table) { t.Cost[len(t.Cost)-1] = -1 },
		"short":         func(t *decide.Table) { t.Cost = t.Cost[:5] },
		"no class *":    func(t *decide.Table) { t.Classes[0] = "GET /" },
		"missing peers": func(t *decide.Table) { t.Peers = t.Peers[:1] },
	} {
		t.Run(name, func(t *testing.T) {
			e := still(t, threePeers)
			e.Observe(outcomes(t, "api", "*", "10.0.0.1:80", observe.OK, 50, 5))
			refresh(t, e, "api")
			good := slices.Clone(e.State().Pool("api").Table.Cost)
			p, _ := e.pool("api")
			p.policy = broken{p.policy, spoil}
			e.Observe(outcomes(t, "api", "*", "10.0.0.1:80", observe.OK, 50, 500))
			refresh(t, e, "api")
			s := e.State().Pool("api")
			if !slices.Equal(s.Table.Cost, good) || len(s.Table.Peers) != 3 || s.Table.Classes[0] != "*" {
				t.Errorf("the table is now %+v", s.Table)
			}
			if r := e.Report(); r.Status != Degraded || r.Reasons[0].Code != "policy" {
				t.Errorf("health %+v", r)
			}
			// A peer that joins meanwhile still gets a column, flat as it may be.
			e.Apply(parse(t, `pools: [{name: api, peers: ["10.0.0.1:80", "10.0.0.9:80"]}]`))
			if s := e.State().Pool("api"); len(s.Table.Cost) != 2*decide.GridPoints || s.Table.Cost[1] <= s.Table.Cost[0] {
				t.Errorf("after a peer joined the table is %+v", s.Table)
			}
			p.policy = p.policy.(broken).Policy
			refresh(t, e, "api")
			if r := e.Report(); r.Status != OK {
				t.Errorf("mended, health is %+v", r)
			}
		})
	}
}

func TestInflightIsTheSumOverNGINXInstancesAndOldReportsAreForgotten(t *testing.T) {
	e := still(t, threePeers)
	report := func(instance string, entries ...observe.Inflight) {
		e.Observe(&observe.Batch{Instance: instance, Inflight: entries})
	}
	report("web1", observe.Inflight{Pool: "api", Peer: "10.0.0.1:80", Count: 4}, observe.Inflight{Pool: "other", Peer: "10.0.1.2:80", Count: 1},
		observe.Inflight{Pool: "api", Peer: "9.9.9.9:1", Count: 100}, observe.Inflight{Pool: "no", Peer: "x", Count: 100})
	report("web2", observe.Inflight{Pool: "api", Peer: "10.0.0.1:80", Count: 3})
	count := func(pool, addr string, want int) {
		t.Helper()
		if got := peerOf(t, e, pool, addr).Inflight(); got != want {
			t.Errorf("%s has %d in flight, want %d", addr, got, want)
		}
	}
	count("api", "10.0.0.1:80", 7)
	count("other", "10.0.1.2:80", 1)
	report("web1", observe.Inflight{Pool: "api", Peer: "10.0.0.2:80", Count: 2}) // all of web1: what is not named has none
	count("api", "10.0.0.1:80", 3)
	count("api", "10.0.0.2:80", 2)
	count("other", "10.0.1.2:80", 0)
	report("web1") // says nothing
	count("api", "10.0.0.2:80", 2)

	later := e.now() + instanceSilentMS + 1
	gone := e.silent(later)
	slices.Sort(gone)
	if !slices.Equal(gone, []string{"web1", "web2"}) {
		t.Fatalf("silent instances %q", gone)
	}
	p, _ := e.pool("api")
	p.forget(later, gone)
	count("api", "10.0.0.1:80", 0)
	count("api", "10.0.0.2:80", 0)
}

func TestHealthSaysWhatNeedsALook(t *testing.T) {
	codes := func(e *Engine) string {
		var all []string
		for _, r := range e.Report().Reasons {
			all = append(all, r.Code)
		}
		return strings.Join(all, " ")
	}
	e := still(t, threePeers)
	if r := e.Report(); r.Status != OK || len(r.Reasons) != 0 {
		t.Errorf("at the start: %+v", r)
	}
	e.Apply(parse(t, `pools: [{name: api, peers: []}, {name: two, peers: ["10.0.0.1:80"]}]`))
	if got := codes(e); got != "no_peers" {
		t.Errorf("a pool without peers: %q", got)
	}
	e.Apply(parse(t, "{}"))
	if got := codes(e); got != "no_pools" {
		t.Errorf("no pools: %q", got)
	}
	e.Apply(parse(t, threePeers))
	p, _ := e.pool("api")
	for i := range 3 {
		for range 5 {
			p.health.Probe(e.now(), i, false)
		}
	}
	if got := codes(e); got != "panic" {
		t.Errorf("every peer down: %q", got)
	}
	e.Loaded(nil, nil, fmt.Errorf("weir.yaml:3: pools: wrong"))
	if got := codes(e); got != "panic config" {
		t.Errorf("a refused file: %q", got)
	}
	e.Loaded(parse(t, `pools: [{name: api, peers: ["10.0.0.7:80"]}]`), nil, nil)
	if got := codes(e); got != "" {
		t.Errorf("a good file: %q", got)
	}
	if _, err := e.Order("api", "10.0.0.7:80", Order{Drain: ptr(true), Force: true}); err != nil {
		t.Fatal(err)
	}
	if got := codes(e); got != "no_usable_peer" {
		t.Errorf("all draining: %q", got)
	}
	e.Close()
	if r := e.Report(); r.Status != Unavailable {
		t.Errorf("a closed engine is %s", r.Status)
	}
}

func TestOutcomesThatStopWhileNGINXHasTrafficAreTold(t *testing.T) {
	e := still(t, threePeers)
	e.start = e.start.Add(-2 * time.Minute) // the engine is two minutes old
	e.lastTick.Store(int64(e.now()))
	if r := e.Report(); r.Status != OK {
		t.Errorf("a quiet engine: %+v", r)
	}
	e.Decided()
	if r := e.Report(); r.Status != Degraded || r.Reasons[0].Code != "stale_observations" {
		t.Errorf("tables are asked for and nothing comes back: %+v", r)
	}
	e.Observe(outcomes(t, "api", "*", "10.0.0.1:80", observe.OK, 1, 1))
	if r := e.Report(); r.Status != OK {
		t.Errorf("after an outcome: %+v", r)
	}
}

func TestARefreshLoopThatStandsStillMakesTheEngineUnavailable(t *testing.T) {
	e := still(t, threePeers)
	e.start = e.start.Add(-time.Minute)
	if r := e.Report(); r.Status != Unavailable || r.Reasons[0].Code != "stalled" {
		t.Errorf("%+v", r)
	}
}

// follower is what a watcher knows after applying every answer.
type follower struct {
	epoch   string
	version uint64
	pools   map[string]uint64 // version by name
}

func (f *follower) apply(t *testing.T, s *State) {
	a := watched(t, s, f.epoch, f.version, false)
	if a.Epoch != f.epoch {
		f.pools = map[string]uint64{}
	}
	f.epoch, f.version = a.Epoch, a.Version
	for _, p := range a.Pools {
		if p.Version < f.pools[p.Name] {
			t.Errorf("pool %s went back from version %d to %d", p.Name, f.pools[p.Name], p.Version)
		}
		f.pools[p.Name] = p.Version
	}
	for _, name := range a.Removed {
		delete(f.pools, name)
	}
}

func TestAWatcherMissesNothingHoweverManyPublishAtOnce(t *testing.T) {
	e := live(t, threePeers)
	stop := make(chan struct{})
	var all sync.WaitGroup
	loop := func(do func(i int)) {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					do(i)
				}
			}
		})
	}
	loop(func(i int) {
		kind := []observe.Kind{observe.OK, observe.Refused, observe.Status}[i%3]
		e.Observe(outcomes(t, []string{"api", "other"}[i%2], fmt.Sprintf("GET /%d", i%80), "10.0.0.1:80", kind, 7, float32(i%50)))
	})
	loop(func(i int) {
		e.Observe(&observe.Batch{Instance: fmt.Sprint(i % 5), Inflight: []observe.Inflight{{Pool: "api", Peer: "10.0.0.2:80", Count: i % 9}}})
	})
	loop(func(i int) {
		text := threePeers
		if i%2 == 1 {
			text = `pools: [{name: api, peers: ["10.0.0.2:80", "10.0.0.1:80"]}, {name: third, peers: ["10.3.0.1:80"]}]`
		}
		e.Apply(parse(t, text))
		time.Sleep(3 * time.Millisecond)
	})
	loop(func(i int) {
		_, _ = e.Order("api", "10.0.0.2:80", Order{Drain: ptr(i%2 == 0), Weight: ptr(float64(1 + i%3))})
	})
	loop(func(int) { e.Figures(); e.Report(); scrape(t, e) })
	loop(func(i int) {
		if s := e.State().PoolBytes([]byte("api")); s != nil {
			var answer struct{ Version uint64 }
			if err := json.Unmarshal(s.Decide(i%len(s.Table.Classes)), &answer); err != nil || answer.Version != s.Version {
				t.Errorf("table of version %d says %d: %v", s.Version, answer.Version, err)
			}
		}
	})
	f := follower{}
	end := time.After(2 * time.Second)
	for running := true; running; {
		s := e.State()
		if s.Newer(f.epoch, f.version) {
			f.apply(t, s)
			continue
		}
		select {
		case <-s.Next():
		case <-end:
			running = false
		}
	}
	close(stop)
	all.Wait()
	e.Close()
	last := e.State()
	f.apply(t, last)
	if len(f.pools) != len(last.Pools) {
		t.Errorf("the watcher knows %v, the engine has %q", f.pools, last.Names())
	}
	for _, s := range last.Pools {
		if f.pools[s.Name] != s.Version {
			t.Errorf("pool %s: the watcher has version %d, the engine %d", s.Name, f.pools[s.Name], s.Version)
		}
		p := (*e.pools.Load())[s.Name]
		if p.latest.Load() != s {
			t.Errorf("pool %s: its latest snapshot was never published", s.Name)
		}
	}
}

func TestMoreRemovedPoolsThanAreRememberedBeginANewEpoch(t *testing.T) {
	e := still(t, threePeers)
	epoch := e.State().Epoch
	for round := range 3 {
		var text strings.Builder
		text.WriteString("pools:\n")
		for i := range 600 {
			fmt.Fprintf(&text, "  - {name: p%d-%d, peers: []}\n", round, i)
		}
		e.Apply(parse(t, text.String()))
	}
	s := e.State()
	if len(s.Removed) > maxRemoved {
		t.Errorf("%d removed pools are kept", len(s.Removed))
	}
	if s.Epoch == epoch {
		t.Error("some removals were forgotten and the epoch is the same")
	}
}
