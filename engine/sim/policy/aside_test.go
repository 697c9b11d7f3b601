package policy

import (
	"testing"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/sim/world"
)

func reflex(peers int) (*aside, []int32) {
	s := newAside(peers, config.DefaultSettings().Eject)
	members := make([]int32, peers)
	for i := range members {
		members[i] = int32(i)
	}
	return &s, members
}

func TestARefusalSetsAsideAtOnceAndLongerEachTime(t *testing.T) {
	s, m := reflex(3)
	now := 0.0
	for _, want := range []float64{1000, 2000, 4000, 8000, 10_000, 10_000} {
		s.ended(m, &world.Outcome{Now: now, Peer: 1, Kind: world.Refused}, false)
		if s.free(1, now) || s.free(1, now+want-1) || !s.free(1, now+want) {
			t.Fatalf("at %v it is not set aside for %v", now, want)
		}
		now += want
		s.picked(1, now)
		if s.free(1, now) {
			t.Fatal("a second request follows the one that tries it")
		}
	}
	s.ended(m, &world.Outcome{Now: now, Peer: 1}, false)
	if !s.free(1, now) {
		t.Error("not free after an answer")
	}
}

func TestFailureStatusesSetAsideOnlySoManyInARow(t *testing.T) {
	s, m := reflex(4)
	fail := func(peer int32, n int) {
		for range n {
			s.ended(m, &world.Outcome{Now: 1, Peer: peer, Kind: world.Status}, false)
		}
	}
	fail(0, 4)
	s.ended(m, &world.Outcome{Now: 1, Peer: 0}, false)
	fail(0, 4)
	if !s.free(0, 2) {
		t.Error("set aside after 4, an answer, and 4")
	}
	fail(0, 1)
	if s.free(0, 2) {
		t.Error("free after 5 in a row")
	}
	fail(1, 5)
	fail(2, 5)
	if s.free(1, 2) || !s.free(2, 2) {
		t.Error("more than half of the pool is set aside for statuses")
	}
}

func TestTimeOutsAndFailuresOfAPeerThatIsNeededAreLeftToTheEngine(t *testing.T) {
	s, m := reflex(4)
	for range 50 {
		s.ended(m, &world.Outcome{Now: 1, Peer: 0, Kind: world.Timeout}, false)
		s.ended(m, &world.Outcome{Now: 1, Peer: 1, Kind: world.Status}, true)
	}
	s.ended(m, &world.Outcome{Now: 1, Peer: 2, Kind: world.Refused}, true)
	if !s.free(0, 2) || !s.free(1, 2) || s.free(2, 2) {
		t.Errorf("free: %v after time-outs, %v after statuses, %v after a refusal", s.free(0, 2), s.free(1, 2), s.free(2, 2))
	}
}

func TestTheLastUsablePeerIsNeverSetAside(t *testing.T) {
	s, m := reflex(2)
	s.ended(m, &world.Outcome{Now: 1, Peer: 0, Kind: world.Refused}, false)
	s.ended(m, &world.Outcome{Now: 1, Peer: 1, Kind: world.Refused}, false)
	if s.free(0, 2) || !s.free(1, 2) {
		t.Errorf("free: %v and %v", s.free(0, 2), s.free(1, 2))
	}
}

func TestWhatWasSentBeforeTellsNothingOfAPeerSetAside(t *testing.T) {
	s, m := reflex(3)
	s.ended(m, &world.Outcome{Now: 100, Peer: 0, Kind: world.Refused}, false)
	s.ended(m, &world.Outcome{Now: 200, Peer: 0, LatencyMS: 150}, false)
	if s.free(0, 1099) {
		t.Error("an answer to what was sent before ends the time aside")
	}
	s.ended(m, &world.Outcome{Now: 2050, Peer: 0, Kind: world.Timeout, LatencyMS: 2000}, false)
	if !s.free(0, 2050) {
		t.Error("a time-out of what was sent before is taken for a failed trial")
	}
}
