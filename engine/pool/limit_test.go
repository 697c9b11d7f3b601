package pool_test

import (
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/pool"
)

func TestAPeerAtALimitDrainsAndComesBackThroughSlowStart(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, specs("a:1", "b:1", "c:1"))
	h.Limit(1000, 1, 1.02, "memory is 0.92, its limit 0.9")
	if v := h.View(1); v.State != pool.Draining || v.Usable || v.Drained || v.Reason != "memory is 0.92, its limit 0.9" {
		t.Fatalf("at its limit: %+v", v)
	}
	h.Limit(2000, 1, 0, "")
	v := h.View(1)
	if v.State != pool.SlowStart || !v.Usable || !strings.Contains(v.Reason, "below their limits again") {
		t.Fatalf("below it: %+v", v)
	}
	if log := h.Transitions(nil); len(log) != 2 || log[0].To != pool.Draining || log[1].To != pool.SlowStart {
		t.Errorf("%+v", log)
	}
}

func TestOnlyAShareOfAPoolDrainsForItsLimitsTheWorstFirst(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, specs("a:1", "b:1", "c:1", "d:1"))
	for i, over := range []float64{1, 1.01, 1.02, 1.03} {
		h.Limit(1000, i, over, "full")
	}
	states := func() (s string) {
		for i := range h.Len() {
			s += h.View(i).State.String()[:1]
		}
		return s
	}
	// a and b came first and keep their places: c and d are hardly worse.
	if got := states(); got != "dduu" {
		t.Fatalf("%s, want two of four, and no changing of places for little", got)
	}
	h.Limit(2000, 3, 1.2, "full")
	if got := states(); got != "sdud" {
		t.Fatalf("%s, want d in the place of a", got)
	}
}

// A peer that fails now is worse than one that may fail soon.
func TestEjectionTakesThePlaceOfAPeerAtItsLimit(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, specs("a:1", "b:1"))
	h.Limit(1000, 0, 2, "full")
	fail(h, 1001, 1, 5)
	if a, b := h.View(0), h.View(1); !a.Usable || b.State != pool.Ejected {
		t.Fatalf("a %+v, b %+v", a, b)
	}
	if h.Panic() {
		t.Error("panic")
	}
	h.Advance(3000) // b is back
	if a, b := h.View(0), h.View(1); a.State != pool.Draining || !b.Usable {
		t.Fatalf("a %+v, b %+v", a, b)
	}
}

func TestTheLastHealthyPeerNeverDrainsForALimit(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, specs("a:1", "b:1", "c:1"))
	h.Drain(0, 0)
	for range 3 {
		h.Probe(0, 1, false)
	}
	h.Limit(1000, 2, 5, "full")
	if v := h.View(2); !v.Usable || v.State == pool.Draining {
		t.Fatalf("%+v", v)
	}
	single := pool.New(pool.Defaults())
	single.SetPeers(0, specs("a:1"))
	single.Limit(1000, 0, 5, "full")
	if v := single.View(0); !v.Usable || v.State != pool.Up {
		t.Fatalf("a pool of one: %+v", v)
	}
}

func TestALimitIsAHintNotTheOperatorsWord(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, specs("a:1", "b:1"))
	h.Limit(0, 0, 1, "full")
	h.Drain(0, 0)
	if v := h.View(0); !v.Drained || v.State != pool.Draining {
		t.Fatalf("%+v", v)
	}
	h.Undrain(1, 0) // still at its limit
	if v := h.View(0); v.Drained || v.State != pool.Draining {
		t.Fatalf("%+v", v)
	}
	// With the other one down it is used all the same, and nobody panics.
	for range 3 {
		h.Probe(2, 1, false)
	}
	if v := h.View(0); !v.Usable || h.Panic() {
		t.Fatalf("%+v, panic %v", v, h.Panic())
	}
}
