package serve

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/pool"
	"github.com/weirlb/weir/engine/telemetry"
)

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

// stuck is a log that nobody reads.
type stuck struct{ free chan struct{} }

func (s stuck) Write(p []byte) (int, error) {
	<-s.free
	return len(p), nil
}

func TestALogThatNobodyReadsDoesNotHoldUpAPool(t *testing.T) {
	free := make(chan struct{})
	e := New(parse(t, threePeers), telemetry.NewLog(stuck{free}, "info"), telemetry.New())
	defer e.Close()
	told := make(chan struct{})
	go func() {
		defer close(told)
		e.Observe(outcomes(t, "api", "*", "10.0.0.2:80", observe.Refused, 10, 1)) // logs an ejection
	}()
	within(t, 5*time.Second, "the ejection is published", func() bool { return !peerOf(t, e, "api", "10.0.0.2:80").Usable })
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.Observe(outcomes(t, "api", "*", "10.0.0.1:80", observe.OK, 10, 1))
		e.Figures()
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("the pool waits for the log")
	}
	close(free)
	<-told
	<-done
}

func TestAPeerThatFailsNowAndThenFloodsNeitherTheLogNorNGINX(t *testing.T) {
	var log bytes.Buffer
	e := New(parse(t, `pools: [{name: api, peers: ["10.0.0.1:80"], eject: {max_share: 0}}]`), telemetry.NewLog(&log, "info"), telemetry.New())
	defer e.Close()
	version := e.State().Version
	for range 100 {
		b := outcomes(t, "api", "*", "10.0.0.1:80", observe.Status, 2, 1)
		add(t, b, "api", "*", "10.0.0.1:80", observe.OK, 1)
		add(t, b, "api", "*", "10.0.0.1:80", observe.OK, 1)
		e.Observe(b)
	}
	if n := strings.Count(log.String(), "peer changed state"); n != 2 {
		t.Errorf("%d changes are told in %v, want one to suspect and one back:\n%.500s", n, e.now(), log.String())
	}
	if now := e.State().Version; now != version {
		t.Errorf("NGINX is sent %d tables for it before the next refresh", now-version)
	}
	if text := scrape(t, e); !strings.Contains(text, `weir_peer_transitions_total{pool="api",peer="10.0.0.1:80",to="suspect"} 100`) {
		t.Error("not all changes are counted")
	}
}

func TestChangesToSuspectAreToldOncePerMinuteAndAllOthersAlways(t *testing.T) {
	var d doubt
	for i, c := range []struct {
		atMS     float64
		from, to pool.State
		tell     bool
		leftOut  int
	}{
		{10, pool.Up, pool.Suspect, true, 0},
		{20, pool.Suspect, pool.Up, true, 0},
		{30, pool.Up, pool.Suspect, false, 0},
		{40, pool.Suspect, pool.Up, false, 0},
		{50, pool.SlowStart, pool.Suspect, false, 0},
		{60, pool.Suspect, pool.Ejected, true, 0}, // that it is out is told, whatever was before
		{70, pool.Ejected, pool.SlowStart, true, 0},
		{80, pool.SlowStart, pool.Up, true, 0},
		{9 + doubtEvery, pool.Up, pool.Suspect, false, 0},
		{10 + doubtEvery, pool.Suspect, pool.SlowStart, false, 0},
		{11 + doubtEvery, pool.SlowStart, pool.Suspect, true, 3},
		{12 + doubtEvery, pool.Suspect, pool.Up, true, 0},
	} {
		if tell, leftOut := d.tells(pool.Transition{AtMS: c.atMS, From: c.from, To: c.to}); tell != c.tell || leftOut != c.leftOut {
			t.Errorf("change %d, %v to %v: told %v, %d left out before; want %v, %d", i, c.from, c.to, tell, leftOut, c.tell, c.leftOut)
		}
	}
}
