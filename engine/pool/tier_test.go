package pool_test

import (
	"math"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/pool"
	"pgregory.net/rapid"
)

// ranked makes a pool of so many peers a tier; each answers at once and its slow start is off.
func ranked(opt pool.Options, sizes ...int) *pool.Health {
	h := pool.New(opt)
	var s []pool.PeerSpec
	for tier, n := range sizes {
		for i := range n {
			s = append(s, pool.PeerSpec{Addr: string(rune('a'+tier)) + string(rune('0'+i)), Weight: 1, Tier: tier})
		}
	}
	h.SetPeers(0, s)
	return h
}

func probes(h *pool.Health, now float64, i int, pass bool) {
	for range 5 {
		h.Probe(now, i, pass)
	}
}

func abrupt() pool.Options {
	o := pool.Defaults()
	o.SlowStartMS = 0
	return o
}

func TestBackupsStandByWhileThePrimariesSuffice(t *testing.T) {
	h := ranked(abrupt(), 4, 2)
	for i := range 6 {
		v := h.View(i)
		if i < 4 && (v.State != pool.Up || !v.Usable) || i >= 4 && (v.State != pool.Standby || v.Usable || !v.Fit) {
			t.Errorf("peer %d: %+v", i, v)
		}
	}
	if tr := h.Transitions(nil); len(tr) != 0 {
		t.Errorf("joining as a backup is told as a change: %+v", tr)
	}
	if !strings.Contains(h.View(4).Reason, "4 of 4") {
		t.Errorf("the reason is %q", h.View(4).Reason)
	}
}

// The shares of Envoy's documentation for an over-provisioning factor of 1.4, which MinUsable 1/1.4 stands for.
func TestBackupsTakeWhatTooFewPrimariesCannotCarry(t *testing.T) {
	o := abrupt()
	o.MinUsable = 1 / 1.4
	h := ranked(o, 4, 4)
	for dead, want := range []float64{0, 0, 0.3, 0.65, 1} {
		if dead > 0 {
			probes(h, float64(dead), dead-1, false)
		}
		v := h.View(4)
		if want == 0 {
			if v.State != pool.Standby || v.Usable {
				t.Errorf("%d primaries down: %+v", dead, v)
			}
			continue
		}
		if !v.Usable || v.State != pool.Up || math.Abs(v.Admit-want) > 1e-9 || math.Abs(h.Backups()-want) > 1e-9 {
			t.Errorf("%d primaries down: the backups are admitted to %v, want %v: %+v", dead, v.Admit, want, v)
		}
		if dead < 4 && h.View(3).Admit != 1 {
			t.Errorf("a primary is held back: %+v", h.View(3))
		}
	}
	if h.Panic() {
		t.Error("panic, with four healthy backups")
	}
	for i := range 4 {
		probes(h, 10, i, true)
	}
	if v := h.View(4); v.State != pool.Standby || v.Usable {
		t.Errorf("all primaries are back: %+v", v)
	}
}

func TestTrafficGoesBackToReturningPrimariesAsTheyWarmUp(t *testing.T) {
	h := ranked(pool.Defaults(), 2, 2)
	probes(h, 1, 0, false)
	probes(h, 1, 1, false)
	probes(h, 100, 0, true)
	probes(h, 100, 1, true)
	last := 1.0
	for now := 100.0; now < 12_000; now += 100 {
		h.Advance(now)
		v := h.View(2)
		share := v.Admit
		if v.State == pool.Standby {
			share = 0
		}
		if share > last+1e-9 {
			t.Fatalf("at %v ms the backups' part rose from %v to %v", now, last, share)
		}
		if now == 200 && share < 0.7 {
			t.Errorf("after 0.1 s of slow start the backups have %v", share)
		}
		last = share
	}
	if last != 0 {
		t.Errorf("the backups keep %v", last)
	}
}

func TestWeightsCountInHowManyPrimariesAreLeft(t *testing.T) {
	h := pool.New(abrupt())
	h.SetPeers(0, []pool.PeerSpec{{Addr: "big", Weight: 9}, {Addr: "small", Weight: 1}, {Addr: "backup", Weight: 1, Tier: 1}})
	probes(h, 1, 1, false)
	if h.View(2).Usable {
		t.Error("nine tenths are left, and the backup takes part")
	}
	probes(h, 2, 1, true)
	probes(h, 2, 0, false)
	if v := h.View(2); !v.Usable || math.Abs(v.Admit-(1-0.1/0.7)) > 1e-9 {
		t.Errorf("a tenth is left: %+v", v)
	}
}

// Whatever happens to peers of whatever tiers: somebody is usable, a share never passes what the tiers before lack, and nobody is
// kept from traffic by a tier that is empty or down.
func TestTiersNeverLeaveAPoolWithoutAPeer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := pool.Defaults()
		o.MinUsable = rapid.Float64Range(0.01, 1).Draw(t, "min usable")
		o.SlowStartMS = rapid.SampledFrom([]float64{0, 5000}).Draw(t, "slow start")
		h := pool.New(o)
		n := rapid.IntRange(1, 12).Draw(t, "peers")
		specs := make([]pool.PeerSpec, n)
		for i := range specs {
			specs[i] = pool.PeerSpec{
				Addr: string(rune('a' + i)), Tier: rapid.IntRange(0, 3).Draw(t, "tier"),
				Weight: rapid.Float64Range(0.01, 100).Draw(t, "weight"),
			}
		}
		h.SetPeers(0, specs)
		now := 0.0
		for range rapid.IntRange(0, 40).Draw(t, "events") {
			now += rapid.Float64Range(0, 3000).Draw(t, "wait")
			i := rapid.IntRange(0, n-1).Draw(t, "peer")
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				probes(h, now, i, false)
			case 1:
				probes(h, now, i, true)
			case 2:
				h.Drain(now, i)
			case 3:
				h.Undrain(now, i)
			case 4:
				fail(h, now, i, 6)
			}
			usable := 0
			for j := range n {
				v := h.View(j)
				if v.Usable {
					usable++
					if !(v.Admit > 0 && v.Admit <= 1) {
						t.Fatalf("%+v", v)
					}
				}
				if v.State == pool.Standby && (v.Usable || !v.Fit) {
					t.Fatalf("%+v", v)
				}
				if v.State == pool.Standby { // then a tier before has a usable peer
					found := false
					for k := range n {
						found = found || h.View(k).Usable && h.View(k).Tier < v.Tier
					}
					if !found {
						t.Fatalf("peer %d stands by for nobody: %+v", j, v)
					}
				}
			}
			if usable == 0 {
				t.Fatal("no peer is usable")
			}
		}
	})
}

func TestBackupsThatAreMadePrimariesServeWhenNoBackupIsLeft(t *testing.T) {
	h := ranked(abrupt(), 1, 1)
	h.SetPeers(1, []pool.PeerSpec{{Addr: "a0", Weight: 1}, {Addr: "b0", Weight: 1}})
	if v := h.View(1); v.State != pool.Up || !v.Usable {
		t.Errorf("the former backup beside the primary: %+v", v)
	}
	h = ranked(abrupt(), 1, 1)
	h.SetPeers(1, []pool.PeerSpec{{Addr: "b0", Weight: 1}})
	if v := h.View(0); v.State != pool.Up || !v.Usable {
		t.Errorf("the former backup alone: %+v", v)
	}
}
