package policy

import (
	"math"
	"testing"

	"github.com/weirlb/weir/engine/sim/world"
)

func TestC3ScoresAsItsPaperSays(t *testing.T) {
	c := build(peers(t, "[{count: 2}]"), newC3).(*c3)
	c.clients = 3
	c.Done(&world.Outcome{Peer: 0, LatencyMS: 120, ServiceMS: 100, Queue: 2})
	// The averages take 0.9 of the sample. R = 108, 1/mu = 90, q = 1.8; q^ = 1 + 2 x 3 + 1.8.
	near(t, "score", c.score(0, 2), 108-90+math.Pow(8.8, 3)*90, 1e-9)
}

func TestC3AvoidsALongQueueEvenOfAMuchFasterServer(t *testing.T) {
	// The cube trades a queue of 5 at 4 ms for an empty one at 20 ms long before the waiting times are equal.
	c := build(peers(t, "[{count: 2}]"), newC3)
	for range 20 {
		c.Done(&world.Outcome{Peer: 0, LatencyMS: 4, ServiceMS: 4})
		c.Done(&world.Outcome{Peer: 1, LatencyMS: 20, ServiceMS: 20})
	}
	if p := c.Pick(attempt(0, 0, 0)); p != 0 {
		t.Errorf("of two idle servers it took the slow one, %d", p)
	}
	if p := c.Pick(attempt(0, 1, 0)); p != 1 { // 8 x 4 = 32 against 20
		t.Errorf("behind one request it took %d", p)
	}
}

func TestC3KnowsOfAServerThatDoesNotReportOnlyItsOwnResponseTimes(t *testing.T) {
	c := build(peers(t, "[{count: 2}]"), newC3).(*c3)
	c.clients = 3
	c.Done(&world.Outcome{Peer: 0, LatencyMS: 120, ServiceMS: 100, Queue: 2, PeerInFlight: -1})
	near(t, "score", c.score(0, 2), math.Pow(7, 3)*108, 1e-9)
}

func TestC3LearnsNoServiceTimeFromAFailure(t *testing.T) {
	c := build(peers(t, "[{count: 2}]"), newC3).(*c3)
	c.Done(&world.Outcome{Peer: 0, LatencyMS: 120, ServiceMS: 100, Queue: 2})
	before := c.peers[0]
	c.Done(&world.Outcome{Peer: 0, LatencyMS: 1, Kind: world.Refused})
	if after := c.peers[0]; after.service != before.service || after.queue != before.queue || after.response >= before.response {
		t.Errorf("%+v became %+v", before, after)
	}
}

func TestC3CanBeToldAnotherNumberOfClientsButNeverLessThanItself(t *testing.T) {
	for part, want := range map[float64]float64{0: 1, 0.5: 2, 1: 4, 2: 8} {
		s := peers(t, "[{count: 2}]")
		s.Balancers = 4
		c := build(s, C3Changed(part, 0.5)).(*c3)
		c.Done(&world.Outcome{Peer: 0, LatencyMS: 100, ServiceMS: 100, PeerInFlight: -1})
		if c.clients != want || c.peers[0].response != 50 {
			t.Errorf("%g of 4: %g clients, %+v", part, c.clients, c.peers[0])
		}
	}
}
