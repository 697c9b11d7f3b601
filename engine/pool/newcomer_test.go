package pool_test

import (
	"math"
	"testing"

	"github.com/weirlb/weir/engine/pool"
)

func TestACheckedNewcomerWaitsForItsFirstPassedProbe(t *testing.T) {
	h := pool.New(pool.Defaults())
	list := named(3)
	h.SetPeers(0, list)
	h.SetPeers(1, append(list, pool.PeerSpec{Addr: "late:1", Checked: true}))
	if v := h.View(3); v.Usable || v.State != pool.Down {
		t.Fatalf("newcomer is %+v", v)
	}
	h.Probe(2, 3, false)
	h.Probe(10_000, 3, true)
	if v := h.View(3); !v.Usable || v.State != pool.SlowStart {
		t.Fatalf("after its first pass it is %+v", v)
	}
}

func TestTheEndOfChecksBringsUpPeersThatWereDownByThem(t *testing.T) {
	h := pool.New(pool.Defaults())
	list := named(3)
	for i := range list {
		list[i].Checked = true
	}
	h.SetPeers(0, list[:2])
	for range 3 {
		h.Probe(1, 1, false)
	}
	h.SetPeers(2, list) // the third waits for its first pass
	for i := range list {
		list[i].Checked = false
	}
	h.SetPeers(3, list)
	for i := 1; i < 3; i++ {
		if v := h.View(i); !v.Usable || v.State != pool.SlowStart || v.Reason != "is not checked any more" {
			t.Errorf("peer %d without checks is %+v", i, v)
		}
	}
	for i := range list {
		list[i].Checked = true
	}
	h.SetPeers(4, list)
	h.Probe(5, 1, false)
	if v := h.View(1); !v.Usable {
		t.Errorf("one failure after the checks began anew makes it %+v", v)
	}
}

func TestNewcomersSharesRiseSmoothlyAndNeverPassEvenOnes(t *testing.T) {
	h := pool.New(pool.Defaults())
	list := named(3)
	h.SetPeers(0, list)
	h.Advance(100_000)
	list = append(list, pool.PeerSpec{Addr: "new:1"})
	h.SetPeers(100_000, list)
	last, joined := 0.0, 1.0
	for now := 100_000.0; now < 110_000; now += 100 {
		if now == 105_000 { // another joins during the ramp
			list = append(list, pool.PeerSpec{Addr: "newer:1"})
			h.SetPeers(now, list)
			last, joined = 0, 2
		}
		h.Advance(now)
		n := float64(h.Len()) / joined
		if a := h.View(3).Admit; a > 1/n || a < 0.1/n-1e-9 || a < last || (last > 0 && a-last > 0.02/n) {
			t.Fatalf("at %v ms admit is %v after %v, of %v peers", now, a, last, n)
		}
		last = h.View(3).Admit
	}
	h.Advance(110_000)
	if v := h.View(3); v.Admit != 1 || v.State != pool.Up {
		t.Errorf("after the ramp: %+v", v)
	}
}

// Two that join are considered by the same requests: each of them a tenth of the time is a tenth for both together.
func TestWhatOldPeersCannotCarryIsNotHeldBackFromNewcomers(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, named(3))
	h.SetPeers(100_000, append(named(3), pool.PeerSpec{Addr: "new:1"}, pool.PeerSpec{Addr: "new:2"}))
	for _, c := range []struct{ short, want float64 }{{0, 0.04}, {0.3, 0.3}, {0.01, 0.04}, {math.NaN(), 0.04}} {
		h.Loads(func(int) pool.Load { return pool.Load{Rate: 3. / 5 / (1 - c.short), Serves: 1, Slots: 4, Most: 4} })
		h.Advance(100_000)
		for i := 3; i < 5; i++ {
			if a := h.View(i).Admit; math.Abs(a-c.want) > 1e-9 {
				t.Errorf("short of %v: peer %d is admitted to %v, want %v", c.short, i, a, c.want)
			}
		}
		if a := h.View(0).Admit; a != 1 {
			t.Errorf("short of %v: an old peer is admitted to %v", c.short, a)
		}
	}
}

func TestNobodyIsHeldBackWhenAllPeersAreNew(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, named(4))
	for i := range 4 {
		if v := h.View(i); v.Admit != 1 || v.State != pool.Up {
			t.Errorf("first peers: %+v", v)
		}
	}
	h.SetPeers(1, specs("x:1", "y:1"))
	if h.View(0).Admit != 1 || h.View(1).Admit != 1 {
		t.Error("a wholly replaced pool holds its peers back")
	}
}

func TestPredictionShrinksTheRiskyPeerSmoothlyAndFewOfThem(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, named(10))
	last := 1.0
	for r := 0.0; r <= 1; r += 0.05 {
		h.Predict(1, 4, r)
		h.Advance(1)
		a := h.View(4).Admit
		if a > last || a < 0.1*0.1-1e-9 || !h.View(4).Usable {
			t.Fatalf("risk %v: admit %v after %v", r, a, last)
		}
		last = a
	}
	if last > 0.02 {
		t.Errorf("at full risk admit is %v", last)
	}
	for i := range 6 {
		h.Predict(2, i, 0.9)
	}
	h.Advance(2)
	if n := shrunk(h); n != 3 && n != 0 {
		t.Errorf("six of ten risky: %d shrunk, want at most three", n)
	}
	for i := range 10 {
		h.Predict(3, i, 0.9)
	}
	h.Advance(3)
	if n := shrunk(h); n != 0 {
		t.Errorf("all alike risky: %d shrunk", n)
	}
	h.Predict(4, 0, math.NaN())
	h.Advance(4)
	if h.View(0).Risk != 0 {
		t.Error("NaN taken for a risk")
	}
}
