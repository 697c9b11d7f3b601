package pool_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/pool"
	"pgregory.net/rapid"
)

func specs(addrs ...string) []pool.PeerSpec {
	var out []pool.PeerSpec
	for _, a := range addrs {
		out = append(out, pool.PeerSpec{Addr: a, Weight: 1})
	}
	return out
}

func named(n int) []pool.PeerSpec {
	var out []pool.PeerSpec
	for i := range n {
		out = append(out, pool.PeerSpec{Addr: fmt.Sprintf("[::1]:%d", 9000+i)})
	}
	return out
}

func fail(h *pool.Health, now float64, i, times int) {
	for range times {
		h.Result(now, i, pool.Status)
	}
}

func ejected(h *pool.Health) (n int) {
	for i := range h.Len() {
		if h.View(i).State == pool.Ejected {
			n++
		}
	}
	return n
}

func usable(h *pool.Health) (n int) {
	for i := range h.Len() {
		if h.View(i).Usable {
			n++
		}
	}
	return n
}

func TestFiveFailuresInARowEjectAPeer(t *testing.T) {
	for _, kind := range []pool.Kind{pool.Refused, pool.ConnectTimeout, pool.Timeout, pool.Reset, pool.Status} {
		h := pool.New(pool.Defaults())
		h.SetPeers(0, specs("a:1", "b:1"))
		for n := range 5 {
			if v := h.View(1); !v.Usable {
				t.Fatalf("%v: ejected after %d failures already", kind, n)
			}
			h.Result(10, 1, kind)
		}
		if v := h.View(1); v.State != pool.Ejected || v.Usable || v.UntilMS != 1010 {
			t.Errorf("%v: after five failures the peer is %+v", kind, v)
		}
	}
}

func TestAPeerThatFailsThreeTimesInFourIsOutWithinTenFailures(t *testing.T) {
	for every := 4; every <= 10; every++ { // one success in so many results
		for offset := range every {
			h := pool.New(pool.Defaults())
			h.SetPeers(0, specs("a:1", "b:1"))
			failures := 0
			for i := offset; h.View(0).Usable; i++ {
				if i%every == 0 {
					h.Result(float64(i), 0, pool.OK)
					continue
				}
				h.Result(float64(i), 0, pool.Reset)
				failures++
			}
			if failures > 10 {
				t.Errorf("one success in %d (offset %d): ejected only after %d failures", every, offset, failures)
			}
		}
	}
}

func TestAnswersFromBeforeTheFailuresForgiveNoneOfThemHoweverLateTheyAreHeardOf(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, specs("a:1", "b:1"))
	fail(h, 1000, 0, 3) // one worker's batch
	for range 10 {
		h.Result(900, 0, pool.OK) // another's: it ended before
	}
	fail(h, 1010, 0, 2)
	if v := h.View(0); v.State != pool.Ejected {
		t.Errorf("after five failures since its last answer the peer is %+v", v)
	}

	fail(h, 1000, 1, 3)
	h.Result(1005, 1, pool.OK)
	h.Result(900, 1, pool.OK) // forgives none of those
	h.Result(1020, 1, pool.OK)
	h.Result(1021, 1, pool.OK)
	if v := h.View(1); v.State != pool.Up {
		t.Errorf("after three answers since its failures the peer is %+v", v)
	}
}

func TestAbortsIdleRacesAndNotFoundAnswersAreNoEvidence(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, specs("a:1", "b:1"))
	for range 200 {
		h.Result(1, 0, pool.Abort)
		h.Result(1, 0, pool.IdleRace)
		h.Result(1, 0, pool.OK) // a 404 is an OK on the wire
		h.Result(1, 0, pool.Kind(77))
	}
	if v := h.View(0); v.State != pool.Up || v.Admit != 1 {
		t.Errorf("peer is %+v", v)
	}
	// Nor do they forgive: four failures, fifty aborts and a fifth failure are five in a row.
	fail(h, 2, 1, 4)
	for range 50 {
		h.Result(2, 1, pool.Abort)
	}
	fail(h, 2, 1, 1)
	if v := h.View(1); v.State != pool.Ejected {
		t.Errorf("aborts wiped failures: %+v", v)
	}
}

func TestTheFailureShareEjectsOnlyThePeerThatStandsOut(t *testing.T) {
	opt := pool.Defaults()
	opt.Consecutive = 0
	run := func(rates ...float64) *pool.Health {
		h := pool.New(opt)
		h.SetPeers(0, named(len(rates)))
		rnd := rand.New(rand.NewPCG(1, 2))
		for k := range 400 {
			for i, rate := range rates {
				kind := pool.OK
				if rnd.Float64() < rate {
					kind = pool.Status
				}
				h.Result(float64(k), i, kind)
			}
		}
		return h
	}
	if h := run(0.7, 0.02, 0.02, 0.02); h.View(0).State != pool.Ejected || ejected(h) != 1 {
		t.Errorf("the peer that fails 70 %% is %v, %d are ejected", h.View(0).State, ejected(h))
	}
	if h := run(1, 1, 1, 1); ejected(h) != 0 {
		t.Errorf("all fail alike, yet %d are ejected", ejected(h))
	}
	if h := run(0.6, 0.55, 0.6, 0.6); ejected(h) != 0 {
		t.Errorf("all fail about alike, yet %d are ejected", ejected(h))
	}
}

func TestTheCapHoldsWhenEveryPeerAnswers500(t *testing.T) {
	for _, c := range []struct {
		peers int
		share float64
		out   int
	}{{1, 0.5, 0}, {2, 0.5, 1}, {3, 0.5, 1}, {4, 0.5, 2}, {10, 0.5, 5}, {10, 0.01, 1}, {3, 1, 2}, {1, 1, 0}, {5, 0, 0}} {
		opt := pool.Defaults()
		opt.MaxShare = c.share
		h := pool.New(opt)
		h.SetPeers(0, named(c.peers))
		for k := range 50 {
			for i := range c.peers {
				h.Result(float64(k), i, pool.Status)
			}
		}
		if got := ejected(h); got != c.out || usable(h) != c.peers-c.out || h.Panic() {
			t.Errorf("%d peers, cap %g: %d ejected, %d usable, panic %v; want %d ejected", c.peers, c.share, got, usable(h), h.Panic(), c.out)
		}
	}
}

func TestTheCapHoldsWhenThePoolShrinks(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, specs("a:1", "b:1", "c:1", "d:1"))
	fail(h, 0, 0, 5)
	fail(h, 1, 1, 5)
	h.SetPeers(2, specs("a:1", "b:1"))
	if ejected(h) != 1 || h.View(h.Index("b:1")).State != pool.Ejected {
		t.Errorf("a is %v, b is %v: a, whose time ends first, should be back", h.View(0).State, h.View(1).State)
	}
}

func TestEjectionEndsGrowsHappensAgainAndIsForgiven(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, specs("a:1", "b:1"))
	now, lengths := 0.0, []float64{}
	eject := func() {
		for h.View(0).State != pool.Ejected {
			h.Result(now, 0, pool.Refused)
		}
		until := h.View(0).UntilMS
		lengths = append(lengths, until-now)
		h.Advance(until - 1)
		if h.View(0).Usable {
			t.Fatal("back before its time")
		}
		now = until
		h.Advance(now)
		if v := h.View(0); !v.Usable || v.State != pool.SlowStart {
			t.Fatalf("not back at its time: %+v", v)
		}
	}
	for range 9 {
		eject()
	}
	want := []float64{1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000}
	if fmt.Sprint(lengths) != fmt.Sprint(want) {
		t.Errorf("lengths %v, want %v", lengths, want)
	}
	for end := now + 3_600_000; now < end; now += 1000 {
		h.Result(now, 0, pool.OK)
		h.Advance(now)
	}
	lengths = nil
	eject()
	if lengths[0] != 1000 {
		t.Errorf("after a quiet hour the ejection lasts %v ms, want the first length again", lengths[0])
	}
	if n := h.View(0).Ejections; n != 10 {
		t.Errorf("%d ejections counted, want 10", n)
	}
}

func TestAReadmittedPeerIsOnProbationUntilItAnswers(t *testing.T) {
	back := func() *pool.Health {
		h := pool.New(pool.Defaults())
		h.SetPeers(0, specs("a:1", "b:1"))
		fail(h, 0, 0, 5)
		h.Advance(1000)
		return h
	}
	h := back()
	fail(h, 1001, 0, 2)
	if h.View(0).State != pool.Ejected {
		t.Errorf("two failures after the return leave it %v", h.View(0).State)
	}
	h = back()
	h.Result(1001, 0, pool.OK)
	fail(h, 1002, 0, 2)
	if h.View(0).State == pool.Ejected {
		t.Error("a success did not end the probation")
	}
}

func TestProbesTakeAPeerDownAtOnceAndBringItBackThroughSlowStart(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, named(4))
	h.Probe(1, 2, false)
	h.Probe(2, 2, false)
	h.Probe(3, 2, true) // breaks the row
	h.Probe(4, 2, false)
	h.Probe(5, 2, false)
	if !h.View(2).Usable {
		t.Fatal("down before three failures in a row")
	}
	h.Probe(6, 2, false)
	if v := h.View(2); v.State != pool.Down || v.Usable {
		t.Fatalf("after three failed probes: %+v", v)
	}
	h.Probe(7, 2, true)
	h.Probe(8, 2, true)
	if v := h.View(2); v.State != pool.SlowStart || !v.Usable || v.Admit > 0.25 {
		t.Fatalf("after two passed probes: %+v", v)
	}
}

func TestTheLastUsablePeerIsUsedWhateverHealthSays(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, named(3))
	for i := range 3 {
		for range 3 {
			h.Probe(1, i, false)
		}
	}
	if !h.Panic() || usable(h) != 3 {
		t.Errorf("all down: panic %v, %d usable", h.Panic(), usable(h))
	}
	h.Drain(2, 0)
	if !h.Panic() || usable(h) != 2 || h.View(0).Usable {
		t.Errorf("all down, one drained: panic %v, %d usable", h.Panic(), usable(h))
	}
	h.Drain(3, 1)
	h.Drain(3, 2)
	if h.Panic() || usable(h) != 3 {
		t.Errorf("only draining peers: panic %v, %d usable", h.Panic(), usable(h))
	}
}

func TestStateFollowsTheAddressAndARemovedPeerIsForgotten(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, specs("a:1", "b:1", "c:1"))
	fail(h, 1, 1, 5)
	h.Drain(1, 2)
	h.SetPeers(2, specs("c:1", "x:1", "b:1", "a:1", "a:1"))
	if h.Len() != 4 || h.View(0).State != pool.Draining || h.View(2).State != pool.Ejected || h.View(3).State != pool.Up {
		t.Errorf("after reordering: %v %v %v %v", h.View(0), h.View(1), h.View(2), h.View(3))
	}
	h.SetPeers(3, specs("c:1", "a:1"))
	h.SetPeers(4, specs("c:1", "a:1", "b:1"))
	if v := h.View(2); v.State != pool.SlowStart || v.Ejections != 0 {
		t.Errorf("a removed and re-added peer is %+v, want a new one", v)
	}
	if h.Index("x:1") != -1 || h.Index("b:1") != 2 {
		t.Error("index does not follow")
	}
}

func shrunk(h *pool.Health) (n int) {
	for i := range h.Len() {
		if h.View(i).Admit < 1 {
			n++
		}
	}
	return n
}

func TestTransitionsSayWhatHappenedAndWhy(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, specs("a:1", "b:1"))
	fail(h, 5, 0, 5)
	h.Advance(1005)
	h.Advance(11_005)
	got := ""
	for _, tr := range h.Transitions(nil) {
		got += fmt.Sprintf("%v %s %v->%v %s\n", tr.AtMS, tr.Addr, tr.From, tr.To, tr.Reason)
	}
	want := `5 a:1 up->suspect failures in a row, the last one "status"
5 a:1 suspect->ejected ejected: failures in a row reached 5, the last one "status"
1005 a:1 ejected->slow_start ejection ended
11005 a:1 slow_start->up slow start ended
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if len(h.Transitions(nil)) != 0 {
		t.Error("transitions are told twice")
	}
}

// The laws that must hold after any history.
func TestLawsOfHealth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		opt := pool.Defaults()
		opt.MaxShare = rapid.SampledFrom([]float64{0, 0.1, 0.3, 0.5, 1}).Draw(t, "cap")
		opt.SlowStartMS = rapid.SampledFrom([]float64{0, 5000}).Draw(t, "slow start")
		h := pool.New(opt)
		now := 0.0
		for range rapid.IntRange(1, 150).Draw(t, "events") {
			now += rapid.Float64Range(0, 2000).Draw(t, "dt")
			i := rapid.IntRange(-1, 8).Draw(t, "peer")
			switch rapid.IntRange(0, 9).Draw(t, "event") {
			case 0:
				h.SetPeers(now, named(rapid.IntRange(0, 8).Draw(t, "n")))
			case 1:
				h.Probe(now, i, rapid.Bool().Draw(t, "pass"))
			case 2:
				h.Drain(now, i)
			case 3:
				h.Undrain(now, i)
			case 4:
				h.Predict(now, i, rapid.Float64Range(-1, 2).Draw(t, "risk"))
			case 5:
				h.Limit(now, i, rapid.SampledFrom([]float64{0, 0.97, 1, 1.01, 2}).Draw(t, "over"), "memory is full")
			default:
				kind := pool.Kind(rapid.IntRange(0, 8).Draw(t, "kind"))
				for range rapid.IntRange(1, 6).Draw(t, "times") {
					h.Result(now, i, kind)
				}
			}
			h.Advance(now)
			n := h.Len()
			limit := 0
			if n >= 2 && opt.MaxShare > 0 {
				limit = min(max(1, int(opt.MaxShare*float64(n))), n-1)
			}
			if n > 0 && usable(h) == 0 {
				t.Fatalf("nobody is usable")
			}
			out, whole := 0, false
			for i := range n {
				v := h.View(i)
				if v.State == pool.Ejected || v.State == pool.Draining && !v.Drained {
					out++
				}
				if !(v.Admit > 0 && v.Admit <= 1) {
					t.Fatalf("admit %v", v.Admit)
				}
				if v.Usable && v.Admit == 1 {
					whole = true
				}
				if !h.Panic() && v.Usable && (v.State == pool.Down || v.State == pool.Ejected) {
					t.Fatalf("%v is usable without panic", v.State)
				}
				if strings.TrimSpace(v.Reason) == "" {
					t.Fatalf("state %v without a reason", v.State)
				}
			}
			if out > limit {
				t.Fatalf("%d of %d ejected or at a limit, cap %d", out, n, limit)
			}
			if n > 0 && !whole {
				t.Fatalf("nobody carries the rest: every usable peer is held back")
			}
		}
	})
}

func TestAnEjectionEndsSoonerWhenTheLongestIsMadeShorter(t *testing.T) {
	o := pool.Defaults()
	o.BaseMS = 60_000
	h := pool.New(o)
	h.SetPeers(0, named(4))
	for range 5 {
		h.Result(1, 0, pool.Status)
	}
	o.BaseMS, o.MaxMS = 1000, 2000
	h.SetOptions(10, o)
	h.Advance(2009)
	if v := h.View(0); v.State != pool.Ejected {
		t.Fatalf("before its time it is %+v", v)
	}
	h.Advance(2010)
	if v := h.View(0); !v.Usable {
		t.Errorf("ejected for longer than the longest: %+v", v)
	}
}

func TestTheFirstProbeOfAPeerThatIsTakenForWellDecides(t *testing.T) {
	peers := func(checked bool) (specs []pool.PeerSpec) {
		for _, s := range named(3) {
			s.Checked = checked
			specs = append(specs, s)
		}
		return specs
	}
	h := pool.New(pool.Defaults())
	h.SetPeers(0, peers(true))
	h.Probe(1, 0, true)
	h.Probe(2, 0, false) // one that passed has its failures counted
	h.Probe(1, 1, false)
	if a, b, c := h.View(0), h.View(1), h.View(2); !a.Usable || b.State != pool.Down || b.Reason != "first probe failed" || !c.Usable {
		t.Fatalf("%+v\n%+v\n%+v", a, b, c)
	}
	h.Probe(3, 1, true)
	if v := h.View(1); v.State != pool.SlowStart {
		t.Errorf("after its first pass: %+v", v)
	}
	h.SetPeers(4, peers(false)) // checks end, and begin again: nobody is new
	h.SetPeers(5, peers(true))
	h.Probe(6, 2, false)
	if !h.View(2).Usable {
		t.Error("a peer that serves is down for one failed probe")
	}
}
