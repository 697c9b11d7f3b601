package serve

import (
	"testing"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/observe"
)

const withBackups = `
model: {file: none}
pools:
  - name: api
    slow_start_ms: 60000
    eject: {consecutive: 0, failure_share: 0}
    peers: ["10.0.0.1:80", "10.0.0.2:80", {address: "10.0.0.3:80", backup: true}, {address: "10.0.0.4:80", backup: true}]
`

// idleCosts are those of the pool's peers when nothing is in flight.
func idleCosts(t *testing.T, e *Engine) map[string]float32 {
	t.Helper()
	refresh(t, e, "api")
	table, m := e.State().Pool("api").Table, map[string]float32{}
	for i, addr := range table.Peers {
		m[addr] = table.Row(0, i)[0]
	}
	return m
}

func TestBackupsThatNothingIsKnownOfCostWhatTheBestPeerDoes(t *testing.T) {
	e := still(t, withBackups)
	e.Observe(outcomes(t, "api", "*", "10.0.0.1:80", observe.OK, 200, 5))
	e.Observe(outcomes(t, "api", "*", "10.0.0.2:80", observe.OK, 200, 20))
	c := idleCosts(t, e)
	if best := c["10.0.0.1:80"]; c["10.0.0.2:80"] < 1.5*best || c["10.0.0.3:80"] > 1.01*best || c["10.0.0.4:80"] > 1.01*best {
		t.Errorf("the costs are %v", c)
	}
	// One that turns out to be slow is dear after some answers, and has its own cost after three hundred.
	e.Observe(outcomes(t, "api", "*", "10.0.0.3:80", observe.OK, 40, 50))
	few := idleCosts(t, e)
	e.Observe(outcomes(t, "api", "*", "10.0.0.3:80", observe.OK, 260, 50))
	many := idleCosts(t, e)
	if best := few["10.0.0.1:80"]; few["10.0.0.3:80"] < 1.2*best || few["10.0.0.4:80"] > 1.01*best {
		t.Errorf("after 40 answers of 50 ms: %v", few)
	}
	if many["10.0.0.3:80"] < 4*many["10.0.0.1:80"] {
		t.Errorf("after 300 answers of 50 ms: %v", many)
	}
}

// Nobody is taken for good on the strength of failures, however fast: that would attract requests.
func TestFailuresNeverMakeAnUnknownPeerCheaper(t *testing.T) {
	e := still(t, withBackups)
	e.Observe(outcomes(t, "api", "*", "10.0.0.1:80", observe.OK, 200, 5))
	e.Observe(outcomes(t, "api", "*", "10.0.0.2:80", observe.OK, 200, 5))
	last := idleCosts(t, e)["10.0.0.3:80"]
	for range 12 {
		e.Observe(outcomes(t, "api", "*", "10.0.0.3:80", observe.Status, 1, 0.1))
		c := idleCosts(t, e)
		if now := c["10.0.0.3:80"]; now < last*0.999 {
			t.Errorf("a failure made it %v ms where it was %v", now, last)
		} else {
			last = now
		}
	}
	if c := idleCosts(t, e); last < 1.5*c["10.0.0.1:80"] {
		t.Errorf("after 12 failures and no answer it costs %v, a good peer %v", last, c["10.0.0.1:80"])
	}
}

func TestTrustIsForThoseWhoseShareIsBounded(t *testing.T) {
	e := still(t, withBackups)
	p, err := e.pool("api")
	if err != nil {
		t.Fatal(err)
	}
	trust := func() []float64 {
		refresh(t, e, "api")
		p.mu.Lock()
		defer p.mu.Unlock()
		return append([]float64(nil), p.trust()...)
	}
	if got := trust(); got[0] != 1 || got[1] != 1 || got[2] != 0 || got[3] != 0 {
		t.Errorf("two primaries and two backups that stand by: %v", got)
	}
	if _, err := e.Order("api", "10.0.0.2:80", Order{Drain: ptr(true)}); err != nil {
		t.Fatal(err)
	}
	if got := trust(); got[1] != decide.Absent {
		t.Errorf("one that is drained: %v", got)
	}
	if _, err := e.Order("api", "10.0.0.2:80", Order{Drain: ptr(false)}); err != nil {
		t.Fatal(err)
	}
	if got := trust(); got[1] != 0 {
		t.Errorf("one in slow start: %v", got)
	}
}
