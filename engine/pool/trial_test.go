package pool_test

import (
	"testing"

	"github.com/weirlb/weir/engine/pool"
)

func TestAPeerIsOnTrialFromTheEndOfItsEjectionToItsFirstAnswer(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, specs("a:1", "b:1", "c:1"))
	h.Loads(func(int) pool.Load { return pool.Load{Rate: 0.02, Serves: 0.1, Slots: 4, Most: 4} })
	on := func(want bool, when string) {
		t.Helper()
		if v := h.View(0); v.OnTrial != want || want && v.Admit > 0.04 {
			t.Errorf("%s: on trial %v, admit %.3f", when, v.OnTrial, v.Admit)
		}
	}
	on(false, "at first")
	fail(h, 0, 0, 5)
	h.Advance(500)
	on(false, "ejected")
	h.Advance(1001)
	on(true, "back")
	h.Result(1100, 0, pool.OK)
	h.Advance(1101)
	on(false, "after an answer")
	if v := h.View(0); v.State != pool.SlowStart {
		t.Errorf("it is %v", v.State)
	}
}

// One that answers half of its requests is put on trial by no single failure: in a pool that is short without it that left it idle beside full queues.
func TestAPeerThatAnsweredSinceItsEjectionIsOnTrialNoMore(t *testing.T) {
	h := pool.New(pool.Defaults())
	h.SetPeers(0, specs("a:1", "b:1", "c:1"))
	h.Loads(func(int) pool.Load { return pool.Load{Rate: 0.09, Serves: 0.1, Slots: 4, Most: 4} })
	fail(h, 0, 0, 30)
	h.Result(1000, 0, pool.Status) // without it the pool is short, so only now
	h.Advance(2001)
	v := h.View(0)
	if v.Ejections != 1 || !v.OnTrial {
		t.Fatalf("%+v: the test proves nothing", v)
	}
	h.Result(2100, 0, pool.OK)
	h.Result(2101, 0, pool.Status)
	h.Advance(2102)
	if v := h.View(0); v.State != pool.SlowStart || v.OnTrial || v.Admit < 0.25 { // the others serve 0.2 of the 0.27 that come
		t.Errorf("%v, on trial %v, admit %.3f", v.State, v.OnTrial, v.Admit)
	}
	fail(h, 2200, 0, 30)
	h.Result(3200, 0, pool.Status) // it serves nothing
	h.Advance(5201)
	if v := h.View(0); v.Ejections != 2 || !v.OnTrial {
		t.Errorf("after the next ejection: %+v", v)
	}
}

func TestASuspectPeerIsUpWhenAnswersHaveHalvedItsFailuresToLessThanOne(t *testing.T) {
	for failures, answers := range map[int]int{2: 2, 3: 2, 4: 3} {
		h := pool.New(pool.Defaults())
		h.SetPeers(0, specs("a:1", "b:1"))
		fail(h, 1, 0, 1)
		if s := h.View(0).State; s != pool.Up {
			t.Errorf("after one failure it is %v", s)
		}
		fail(h, 1, 0, failures-1)
		for n := range answers {
			if v := h.View(0); v.State != pool.Suspect || !v.Usable || v.Admit < 1 {
				t.Errorf("after %d failures and %d answers it is %+v", failures, n, v)
			}
			h.Result(2, 0, pool.OK)
		}
		if s := h.View(0).State; s != pool.Up {
			t.Errorf("after %d failures and %d answers it is %v", failures, answers, s)
		}
	}
}
