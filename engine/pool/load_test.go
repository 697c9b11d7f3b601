package pool_test

import (
	"math"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/pool"
)

// carries has each of the pool's peers serve one request a ms with four slots, as far as is known with so many at most, and rate come in all.
func carries(h *pool.Health, now, rate, most float64, waiting ...float64) {
	h.Loads(func(i int) pool.Load {
		l := pool.Load{Rate: rate / float64(h.Len()), Serves: 1, Slots: 4, Most: most}
		if i < len(waiting) {
			l.Waiting = waiting[i]
		}
		return l
	})
	h.Advance(now)
}

func TestWhatWarmPeersCannotCarryIsWhatComesAndWhatWaitsOverWhatTheyServe(t *testing.T) {
	type peer struct{ rate, waiting float64 }
	for name, c := range map[string]struct {
		warm []peer
		cold float64 // requests a ms that come to the one that ramps
		want float64
	}{
		"enough":                       {[]peer{{0.7, 0}}, 0, 0.05},
		"twice what it serves":         {[]peer{{2, 0}}, 0, 0.5},
		"as much, half at the new one": {[]peer{{1, 0}}, 1, 0.5},
		"enough, but many wait":        {[]peer{{1, 12}}, 0, 0.5},
	} {
		h := pool.New(pool.Defaults())
		h.SetPeers(0, named(1))
		h.SetPeers(100_000, named(2))
		h.Loads(func(i int) pool.Load {
			l := pool.Load{Rate: c.cold, Serves: 1, Slots: 4, Most: 4}
			if i < len(c.warm) {
				l.Rate, l.Waiting = c.warm[i].rate, c.warm[i].waiting
			}
			return l
		})
		h.Advance(100_000)
		if a := h.View(1).Admit; math.Abs(a-c.want) > 1e-9 {
			t.Errorf("%s: the one that ramps is admitted to %v, want %v", name, a, c.want)
		}
	}
}

func TestAPeerIsNeededWhereTheOthersCouldNotCarryWhatComes(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, named(4))
	needed := func() (n int) {
		for i := range h.Len() {
			if h.View(i).Needed {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		what    string
		rate    float64
		most    float64
		waiting []float64
		want    int
	}{
		{"nothing comes", 0, 4, nil, 0},
		{"the others would be busy to 0.79", 2.37, 4, nil, 0},
		{"the others would be busy to 0.81", 2.43, 4, nil, 4},
		{"a little less again", 2.2, 4, nil, 4},
		{"the others would be busy to 0.69", 2.07, 4, nil, 0},
		{"how many slots they have never showed", 3.9, 64, nil, 0},
		{"many wait at all", 1.5, 4, []float64{9, 9, 9, 9}, 4},
		{"no more", 1.5, 4, nil, 0},
		{"many wait at one, which hangs: that one is not needed", 1.5, 4, []float64{200}, 3},
	} {
		carries(h, 1000, c.rate, c.most, c.waiting...)
		if n := needed(); n != c.want {
			t.Errorf("%s: %d peers are needed, want %d", c.what, n, c.want)
		}
	}
	if h.View(0).Needed {
		t.Error("the one that hangs is needed")
	}
	// One that is out carries nothing: the others are needed then.
	carries(h, 1000, 2, 4)
	fail(h, 1001, 0, 5)
	if v := h.View(0); v.State != pool.Ejected || v.Needed || needed() != 3 {
		t.Errorf("with one ejected %d are needed; it is %+v", needed(), v)
	}
	// A backup that stands by could carry it.
	backups := append(named(4), pool.PeerSpec{Addr: "b:1", Tier: 1}, pool.PeerSpec{Addr: "b:2", Tier: 1})
	h = pool.New(pool.Defaults())
	h.SetPeers(0, backups)
	carries(h, 1000, 3, 4)
	if needed() != 0 {
		t.Errorf("%d peers are needed beside two backups that stand by", needed())
	}
}

func TestTimeOutsOfAPeerThatIsNeededAreHeldAgainstNobody(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, named(3))
	carries(h, 1000, 2.1, 4)
	for now := 1000.0; now < 9000; now += 10 {
		for i := range 3 {
			if !h.Excuses(i, pool.Timeout) || h.Excuses(i, pool.Status) || h.Excuses(i, pool.Refused) {
				t.Fatal("not time-outs are excused, or more than those")
			}
			h.Result(now, i, pool.Timeout)
		}
	}
	if n := usable(h); n != 3 || h.View(0).State != pool.Up {
		t.Errorf("%d of 3 peers are usable, the first is %+v", n, h.View(0))
	}
	carries(h, 9000, 1.9, 4)
	for range 5 {
		h.Result(9001, 0, pool.Timeout)
	}
	if v := h.View(0); v.State != pool.Ejected {
		t.Errorf("the others would be busy but could carry it, and after five time-outs: %+v", v)
	}
	if h.Excuses(-1, pool.Timeout) || h.Excuses(3, pool.Timeout) {
		t.Error("a peer that is not there is excused")
	}
}

func TestAPeerThatIsNeededIsEjectedOnlyWhenItServesNothing(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, named(4))
	carries(h, 0, 3.9, 4)
	now := 0.0
	for range 200 { // nine of ten requests fail
		fail(h, now, 0, 9)
		h.Result(now, 0, pool.OK)
		now += 50
		h.Advance(now)
	}
	if v := h.View(0); v.State == pool.Ejected || v.Ejections > 0 {
		t.Fatalf("one that serves a tenth: %+v", v)
	}
	for _, kind := range []pool.Kind{pool.Refused, pool.ConnectTimeout} {
		h := pool.New(pool.Defaults())
		h.SetPeers(0, named(4))
		carries(h, 0, 3.9, 4)
		for range 5 {
			h.Result(1, 0, kind)
		}
		if v := h.View(0); v.State != pool.Ejected {
			t.Errorf("%v: one that cannot be reached is %+v", kind, v)
		}
	}
	fail(h, now, 0, 50)
	if v := h.View(0); v.State == pool.Ejected {
		t.Fatal("ejected for fifty failures at one moment")
	}
	fail(h, now+1000, 0, 1)
	if v := h.View(0); v.State != pool.Ejected || !strings.Contains(v.Reason, "in a row") {
		t.Fatalf("after a second of failures: %+v", v)
	}
	// It is tried each four seconds, however often it was ejected, with two requests a second at most, and two failures put it out again.
	for range 6 {
		out := h.View(0).SinceMS
		h.Advance(out + 4000)
		if v := h.View(0); v.State != pool.SlowStart || v.Admit > 0.002/3.9+1e-9 {
			t.Fatalf("four seconds after it was ejected: %+v", v)
		}
		fail(h, out+4100, 0, 2)
		if v := h.View(0); v.State != pool.Ejected {
			t.Fatalf("after two more failures: %+v", v)
		}
	}
	out := h.View(0).SinceMS
	h.Advance(out + 4000)
	h.Result(out+4100, 0, pool.OK)
	h.Advance(out + 4100)
	if v := h.View(0); v.Admit < 0.23 {
		t.Errorf("what the others cannot carry is held back from it after an answer: %+v", v)
	}
	// The same failures in a pool that can do without: the back-off goes on.
	carries(h, out+4200, 0.5, 4)
	fail(h, out+4200, 0, 5)
	if v := h.View(0); v.State != pool.Ejected || v.UntilMS-v.SinceMS < 30_000 {
		t.Errorf("in a pool that can do without it: %+v", v)
	}
}

func TestPredictionTakesNoShareFromANeededPeerThatFails(t *testing.T) {
	for _, c := range []struct {
		rate   float64
		failed bool
		admit  float64
	}{{0.5, true, 0.025}, {3.5, true, 1}, {3.5, false, 0.025}} {
		h := pool.New(pool.Defaults())
		h.SetPeers(0, named(4))
		h.Predict(0, 0, 1)
		if c.failed {
			fail(h, 0, 0, 1)
		}
		carries(h, 1, c.rate, 4)
		if a := h.View(0).Admit; math.Abs(a-c.admit) > 1e-9 {
			t.Errorf("at %v requests a ms, failed %v: admitted to %v, want %v", c.rate, c.failed, a, c.admit)
		}
	}
}

func TestAfterAllPeersFailedNobodyIsMissedForMoreThanFourBaseTimesWhileTheOthersAreShort(t *testing.T) {
	opt := pool.Defaults()
	for well := 60_000.0; well < 80_000; well += 500 {
		h, now, usable := pool.New(opt), 0.0, 0
		h.SetPeers(0, named(4))
		for usable < 4 || now < well {
			kind := pool.Status
			if now >= well {
				kind = pool.OK
			}
			now += 10
			for i := range h.Len() {
				if h.View(i).Usable {
					h.Result(now, i, kind)
				}
			}
			carries(h, now, 2.8, 4)
			usable = 0
			for i := range h.Len() {
				if h.View(i).Usable {
					usable++
				}
			}
		}
		if took := now - well; took > 4*opt.BaseMS {
			t.Errorf("all are well from %v s on, two have 1.4 times what they can do, and the last of four is back after %v ms", well/1000, took)
		}
	}
}
