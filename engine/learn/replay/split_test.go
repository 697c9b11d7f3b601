package replay_test

import (
	"testing"

	"github.com/weirlb/weir/engine/learn/replay"
)

// The probability of a pick is that among the peers of its side of a split; compared with all peers it would be too high.
func TestADecisionOfAPoolWithASplitWasMadeAmongThePeersOfItsSide(t *testing.T) {
	for name, c := range map[string]struct {
		group      []bool
		peer       int
		confined   bool
		considered int
		exact      bool
	}{
		"in the rest":                      {[]bool{false, true, false}, 2, true, 2, true},
		"in the group":                     {[]bool{false, true, false}, 1, true, 1, true},
		"not drawn to a side":              {[]bool{false, true, false}, 2, false, 1, false},
		"drawn, and the sides are unknown": {nil, 2, true, 1, false},
		"without a split":                  {nil, 2, false, 3, true},
	} {
		r := newRig(t, 3, replay.Options{})
		r.answers(10)
		r.frame(500, func(s *replay.Shown) { s.Group = c.group })
		a := ok(r.peers[c.peer], 1000, 1012)
		if c.confined {
			a.Flags = replay.Confined
		}
		r.rec.Ended(a)
		r.rec.Settle(5000, r.rnd, r.store, nil)
		if r.store.Len() != 1 {
			t.Fatalf("%s: not replayed: %+v", name, r.rec.Counts())
		}
		d := r.store.All()[0]
		if len(d.Cost) != c.considered || d.Exact != c.exact {
			t.Errorf("%s: %d considered, exact %v; want %d, %v", name, len(d.Cost), d.Exact, c.considered, c.exact)
		}
		if c.exact && c.peer == 2 && d.Chosen != c.considered-1 {
			t.Errorf("%s: chosen is %d", name, d.Chosen)
		}
	}
}
