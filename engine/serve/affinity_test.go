package serve

import (
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/observe"
)

func settingsOf(e *Engine, pool string) string { return string(e.State().Pool(pool).settings) }

func TestAffinityIsToldToNGINXWithoutASecretAndOnlyWhereItIs(t *testing.T) {
	e := still(t, `
pools:
  - {name: plain, peers: ["10.0.0.1:80"]}
  - {name: sticky, peers: ["10.0.0.1:80"], affinity: {by: cookie, break_at: 4, cookie: {ttl_ms: 61000}}}
  - {name: hashed, peers: ["10.0.0.1:80"], affinity: {by: hash, key: "$arg_user"}}
`)
	if s := settingsOf(e, "plain"); strings.Contains(s, "affinity") {
		t.Errorf("a pool without affinity says %s", s)
	}
	if s := settingsOf(e, "sticky"); !strings.HasSuffix(s, `"affinity":{"by":"cookie","break_at":4,"cookie":{"name":"weir_sticky","max_age":61,"path":"/","samesite":"Lax","secure":"auto","httponly":true}}}`) {
		t.Errorf("got %s", s)
	}
	if s := settingsOf(e, "hashed"); !strings.HasSuffix(s, `"affinity":{"by":"hash","break_at":3,"key":"$arg_user","balance_factor":1.25}}`) {
		t.Errorf("got %s", s)
	}
}

func TestADrainedPeerKeepsItsClientsForItsTimeAndWhileItIsHealthy(t *testing.T) {
	e := still(t, `
pools:
  - {name: api, peers: ["10.0.0.1:80", "10.0.0.2:80"], affinity: {by: cookie, drain_ms: 60000}, check: {fall: 1}}
  - {name: plain, peers: ["10.0.0.1:80", "10.0.0.2:80"]}
`)
	yes := true
	for _, pool := range []string{"api", "plain"} {
		if _, err := e.Order(pool, "10.0.0.1:80", Order{Drain: &yes}); err != nil {
			t.Fatal(err)
		}
	}
	if p := peerOf(t, e, "api", "10.0.0.1:80"); !p.Keeps || p.Usable || peerOf(t, e, "api", "10.0.0.2:80").Keeps {
		t.Errorf("just drained: %+v", p)
	}
	if peerOf(t, e, "plain", "10.0.0.1:80").Keeps {
		t.Error("a pool without affinity keeps clients")
	}
	p := (*e.pools.Load())["api"]
	p.mu.Lock()
	p.health.Probe(e.now(), 0, false)
	p.unlock()
	p.refresh(e.now())
	if peerOf(t, e, "api", "10.0.0.1:80").Keeps {
		t.Error("drained and down, and keeps its clients")
	}
	p.mu.Lock()
	p.health.Probe(e.now(), 0, true)
	p.health.Probe(e.now(), 0, true)
	p.unlock()
	p.refresh(e.now())
	if !peerOf(t, e, "api", "10.0.0.1:80").Keeps {
		t.Error("it passes its checks again, and keeps nobody")
	}
	e.start = e.start.Add(-time.Minute)
	p.refresh(e.now())
	if peerOf(t, e, "api", "10.0.0.1:80").Keeps {
		t.Error("its time is over, and it keeps its clients")
	}
}

// What affinity chose was not drawn: it tells how peers are, and nothing of the policy against the control slice.
func TestAChoiceByAffinityIsNoPartOfTheComparison(t *testing.T) {
	e := still(t, threePeers)
	batch := func(flags observe.Flags) *observe.Batch {
		b := &observe.Batch{Instance: "web1"}
		for range 100 {
			if err := b.Add("api", "*", "10.0.0.1:80", observe.Record{Attempt: 1, Flags: flags, Propensity: 1, HeaderMS: 5, TotalMS: 5, PredictedMS: observe.None, Load: observe.None}); err != nil {
				t.Fatal(err)
			}
		}
		return b
	}
	p := (*e.pools.Load())["api"]
	p.versus.since = -1e9
	if n, _ := e.Observe(batch(observe.Bound)); n != 100 {
		t.Fatalf("%d records accepted", n)
	}
	if got := p.versus.Result(); got.Policy.Attempts != 0 {
		t.Errorf("100 bound requests changed the comparison: %+v", got)
	}
	if n, _ := e.Observe(batch(0)); n != 100 {
		t.Fatalf("%d records accepted", n)
	}
	if got := p.versus.Result(); got.Policy.Attempts == 0 {
		t.Errorf("100 drawn requests did not: %+v", got)
	}
}

func TestAPeerThatSlowsDownKeepsItsKeysAndOneThatFailsMoreAndMoreDoesNot(t *testing.T) {
	e := still(t, `
pools:
  - {name: plain, peers: ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]}
  - {name: keys, slow_start_ms: 0, eject: {consecutive: 1000}, peers: ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"], affinity: {by: hash, key: $arg_user}}
`)
	for pool, want := range map[string]float64{"plain": 0.5, "keys": 0.25} {
		p, err := e.pool(pool)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.risk(0, &estimate.PeerView{Risk: 0.5, Failing: 0.25}); got != want {
			t.Errorf("pool %s: a risk of %v, want %v", pool, got, want)
		}
	}
	least := 1.0
	for round := range 30 {
		b := outcomes(t, "keys", "GET /x", "10.0.0.1:80", observe.OK, 10, 5)
		for range 10 {
			add(t, b, "keys", "GET /x", "10.0.0.2:80", observe.OK, 5)
			add(t, b, "keys", "GET /x", "10.0.0.3:80", map[bool]observe.Kind{false: observe.OK, true: observe.Status}[round >= 20], 5)
		}
		e.Observe(b)
		refresh(t, e, "keys")
		least = min(least, peerOf(t, e, "keys", "10.0.0.3:80").Admit)
		if round == 19 && least < 1 {
			t.Fatalf("before it failed it was admitted for %v", least)
		}
	}
	if least > 1.0/3 { // what it takes for a key to move: admit is a part of an even share
		t.Errorf("a peer that fails was admitted for %v at the least", least)
	}
}
