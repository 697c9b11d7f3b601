package policy

import (
	"testing"

	"github.com/weirlb/weir/engine/sim/world"
)

func TestEWMAP2CTakesTheLowerLatencyOfTwoDrawsWhateverTheyHold(t *testing.T) {
	e := build(peers(t, "[{count: 2}]"), newEWMAP2C)
	for i := range 50 {
		e.Done(&world.Outcome{Now: float64(i) * 100, Peer: 0, LatencyMS: 90})
		e.Done(&world.Outcome{Now: float64(i) * 100, Peer: 1, LatencyMS: 100})
	}
	got := shares(e, attempt(5000, 1000, 0), 20_000)
	near(t, "share of the one 10 ms lower", got[0], 0.75, 0.02)
}

func TestEWMAP2CHerdsWhereLeastConnDoesNot(t *testing.T) {
	s := parse(t, `
requests: 40000
warmup: 10000
arrivals: {load: 0.8}
classes: [{service_ms: {mean: 100}}]
peers: [{count: 10, slots: 4}]
`)
	ewma, least := run(t, s, 1, newEWMAP2C), run(t, s, 1, newLeastConn)
	if ewma.MeanMS < 2*least.MeanMS {
		t.Errorf("mean %v, least_conn %v: equal peers at 0.8 should cost it more than twice as much", ewma.MeanMS, least.MeanMS)
	}
}
