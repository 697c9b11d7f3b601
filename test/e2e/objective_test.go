package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weirlb/weir/test/e2e/rig"
)

// What objective a pool has is seen in its costs: a quarter of the standard deviation counts as time where the 99th percentile is to be kept low. Two pools in front of the same peers
// are compared by the shared class, which no request is in: its times are taken for exponential, so that the deviation is the mean, whatever else the machine does.
func TestThePoolForThe99thPercentilePaysForTheSpreadOfTimes(t *testing.T) {
	t.Parallel()
	const settings = "slow_start_ms: 0\npolicy: analytic\nobjective: "
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "usual", Peers: []string{"a", "b"}, Settings: settings + "mean"}, {Name: "tail", Peers: []string{"a", "b"}, Settings: settings + "p99"}}})
	for _, b := range []string{"a", "b"} {
		r.Backend(b).Set(answersIn(20))
	}
	for _, pool := range []string{"usual", "tail"} {
		r.StartLoad(2, 0, rig.Request{Path: "/" + pool + "/x"})
		r.Engine.WaitAttempts(pool, "a", 100)
		r.Engine.WaitAttempts(pool, "b", 100)
	}
	dearer := func() float64 {
		cost := map[string]float64{}
		for _, pool := range []string{"usual", "tail"} {
			table := r.Engine.Decide(pool, "*")
			for _, b := range []string{"a", "b"} {
				c, ok := table.Cost(r.Addr(b))
				if !ok {
					t.Fatalf("pool %s has no cost of %s: %+v", pool, b, table)
				}
				cost[pool] += c
			}
		}
		return cost["tail"] / cost["usual"]
	}
	r.Eventually("the pool for the 99th percentile is a quarter dearer", func() error {
		if x := dearer(); x < 1.15 || x > 1.4 {
			return fmt.Errorf("its costs are %.2f of the other's", x)
		}
		return nil
	})
	for pool, says := range map[string]string{"usual": "for the mean", "tail": "for the 99th percentile"} {
		if out := r.Weir("explain", pool, "--admin", r.Engine.Admin()); !strings.Contains(out, says) {
			t.Errorf("weir explain of pool %s does not say %q: %s", pool, says, out)
		}
	}
	r.SetSettings("tail", settings+"mean")
	r.Eventually("with the objective of the other it costs what that costs", func() error {
		if x := dearer(); x < 0.9 || x > 1.1 {
			return fmt.Errorf("its costs are %.2f of the other's", x)
		}
		return nil
	})
	r.SetSettings("tail", settings+"p99")
	r.Eventually("and is dearer with its own", func() error {
		if x := dearer(); x < 1.15 || x > 1.4 {
			return fmt.Errorf("its costs are %.2f of the other's", x)
		}
		return nil
	})
}
