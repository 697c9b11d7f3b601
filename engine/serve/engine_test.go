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

func TestFailuresThatAreToldLateEjectNobody(t *testing.T) {
	e := still(t, threePeers)
	b := outcomes(t, "api", "*", "10.0.0.2:80", observe.Status, 50, 1)
	for i := range b.Records {
		b.Records[i].AgeMS = 5000
	}
	e.Observe(b)
	if p := peerOf(t, e, "api", "10.0.0.2:80"); p.State != "up" {
		t.Errorf("after failures of five seconds ago, told now, it is %s, want up", p.State)
	}
	for i := range b.Records {
		b.Records[i].AgeMS = 500
	}
	e.Observe(b)
	if p := peerOf(t, e, "api", "10.0.0.2:80"); p.State != "ejected" {
		t.Errorf("after failures of half a second ago it is %s", p.State)
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
	t.Parallel() // it waits, mostly
	e := live(t, threePeers)
	var quiet *State
	for range 10 { // a busy machine may need a while for the first
		quiet = e.State()
		if time.Sleep(300 * time.Millisecond); e.State() == quiet {
			break
		}
	}
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
	for _, key := range []string{
		"policy", "spread", "explore", "control", "max_stale_ms", "connect_timeout_ms", "tries", "retry_timeout_ms",
		"retry_share", "retry_min_per_s", "eject_consecutive", "eject_base_ms", "eject_max_ms", "eject_max_share",
	} {
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

// Prediction changes a peer's share and not its state, so the reason of the state says nothing of it.
func TestAPeerThatIsLikelyToFailSaysWhyItGetsLess(t *testing.T) {
	e := still(t, threePeers)
	p, err := e.pool("api")
	if err != nil {
		t.Fatal(err)
	}
	why := func(risk float64) string {
		p.mu.Lock()
		defer p.mu.Unlock()
		now := e.now() + 60_000 // slow start is over
		p.health.Advance(now)
		p.health.Predict(now, 1, risk)
		p.health.Advance(now)
		return p.peerFigures(now, 1, traffic{}).Reason
	}
	if got := why(0); strings.Contains(got, "less") {
		t.Errorf("without a risk: %q", got)
	}
	if got := why(0.5); !strings.Contains(got, "gets less, since it is likely to fail soon (risk 0.50)") {
		t.Errorf("at a risk of a half: %q", got)
	}
}
