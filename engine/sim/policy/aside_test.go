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
		s.ended(m, &world.Outcome{Now: now, Peer: 1, Kind: world.Refused}, false, false)
		if s.free(1, now) || s.free(1, now+want-1) || !s.free(1, now+want) {
			t.Fatalf("at %v it is not set aside for %v", now, want)
		}
		now += want
		s.picked(1, now)
		if s.free(1, now) {
			t.Fatal("a second request follows the one that tries it")
		}
	}
	s.ended(m, &world.Outcome{Now: now, Peer: 1}, false, false)
	if !s.free(1, now) {
		t.Error("not free after an answer")
	}
}

func TestFailureStatusesSetAsideOnlySoManyInARow(t *testing.T) {
	s, m := reflex(4)
	fail := func(peer int32, n int) {
		for range n {
			s.ended(m, &world.Outcome{Now: 1, Peer: peer, Kind: world.Status}, false, false)
		}
	}
	fail(0, 4)
	s.ended(m, &world.Outcome{Now: 1, Peer: 0}, false, false)
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
		s.ended(m, &world.Outcome{Now: 1, Peer: 0, Kind: world.Timeout}, false, false)
		s.ended(m, &world.Outcome{Now: 1, Peer: 1, Kind: world.Status}, true, false)
	}
	s.ended(m, &world.Outcome{Now: 1, Peer: 2, Kind: world.Refused}, true, false)
	if !s.free(0, 2) || !s.free(1, 2) || s.free(2, 2) {
		t.Errorf("free: %v after time-outs, %v after statuses, %v after a refusal", s.free(0, 2), s.free(1, 2), s.free(2, 2))
	}
}

func TestTheLastUsablePeerIsNeverSetAside(t *testing.T) {
	s, m := reflex(2)
	s.ended(m, &world.Outcome{Now: 1, Peer: 0, Kind: world.Refused}, false, false)
	s.ended(m, &world.Outcome{Now: 1, Peer: 1, Kind: world.Refused}, false, false)
	if s.free(0, 2) || !s.free(1, 2) {
		t.Errorf("free: %v and %v", s.free(0, 2), s.free(1, 2))
	}
}

func TestWhatWasSentBeforeTellsNothingOfAPeerSetAside(t *testing.T) {
	s, m := reflex(3)
	s.ended(m, &world.Outcome{Now: 100, Peer: 0, Kind: world.Refused}, false, false)
	s.ended(m, &world.Outcome{Now: 200, Peer: 0, LatencyMS: 150}, false, false)
	if s.free(0, 1099) {
		t.Error("an answer to what was sent before ends the time aside")
	}
	s.ended(m, &world.Outcome{Now: 2050, Peer: 0, Kind: world.Timeout, LatencyMS: 2000}, false, false)
	if !s.free(0, 2050) {
		t.Error("a time-out of what was sent before is taken for a failed trial")
	}
}

func TestTimesAsideStayShortWherePeersAreMissed(t *testing.T) {
	// longest is how long peer 0 is away at last, `others` having been set aside with it each time.
	longest := func(others int32, short bool, kind world.Kind) float64 {
		s, m := reflex(4)
		now := 0.0
		for range 8 {
			for peer := range others {
				if s.free(peer+1, now) {
					s.ended(m, &world.Outcome{Now: now, Peer: peer + 1, Kind: world.Refused}, false, short)
				}
			}
			s.ended(m, &world.Outcome{Now: now, Peer: 0, Kind: kind}, false, short)
			now = s.peers[0].until
		}
		return s.peers[0].backoff
	}
	for _, c := range []struct {
		others int32
		short  bool
		want   float64
	}{{0, false, 10_000}, {1, false, 10_000}, {2, false, 1000}, {0, true, 4000}} {
		if got := longest(c.others, c.short, world.Refused); got != c.want {
			t.Errorf("%d others refuse too, pool short: %v: away for %v ms, want %v", c.others, c.short, got, c.want)
		}
	}
}
