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
