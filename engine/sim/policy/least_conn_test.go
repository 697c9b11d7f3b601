package policy

import "testing"

func TestLeastConnTakesTheFewestInFlightAndSpreadsOverEquals(t *testing.T) {
	b := build(peers(t, "[{count: 4}]"), newLeastConn)
	got := shares(b, attempt(0, 3, 1, 1, 2), 20_000)
	if got[0]+got[3] != 0 {
		t.Errorf("shares %v: a fuller peer was picked", got)
	}
	near(t, "share of one of two equals", got[1], 0.5, 0.02)
}

func TestLeastConnIsBlindToSpeed(t *testing.T) {
	// Two single slots, one ten times faster, at a low load: both are idle nearly always, and get the same.
	s := parse(t, `
requests: 20000
arrivals: {load: 0.02}
classes: [{service_ms: {mean: 100}}]
peers: [{speed: 1}, {speed: 0.1}]
`)
	r := run(t, s, 1, newLeastConn)
	near(t, "share of the slow peer", float64(r.ByPeer[1])/20_000, 0.5, 0.06)
}
