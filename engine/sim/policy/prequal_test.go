package policy

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weirlb/weir/engine/sim/world"
)

// pooled is a prequal with a given pool, and a window in which RIFs above 4 are hot.
func pooled(probes ...probe) *prequal {
	q := &prequal{rnd: rand.New(rand.NewPCG(1, 2)), reuse: math.Inf(1), pool: probes}
	for i := range int32(100) {
		q.seen.add(i % 6 % 5) // 0 to 4
	}
	return q
}

func cold(peer int32, latency float64) probe {
	return probe{peer: peer, rif: 1, latency: latency, uses: math.Inf(1)}
}

func hot(peer, rif int32) probe { return probe{peer: peer, rif: rif, latency: 1, uses: math.Inf(1)} }

func TestPrequalTakesTheLowestLatencyAmongTheCold(t *testing.T) {
	q := pooled(hot(0, 9), cold(1, 50), cold(2, 20), cold(3, 90))
	if p := q.Pick(attempt(1, 0, 0, 0, 0)); p != 2 {
		t.Errorf("picked %d", p)
	}
}

func TestPrequalTakesTheLowestRIFWhenAllAreHot(t *testing.T) {
	q := pooled(hot(0, 9), hot(1, 7), hot(2, 8))
	if p := q.Pick(attempt(1, 0, 0, 0)); p != 1 {
		t.Errorf("picked %d", p)
	}
}

func TestPrequalCountsItsOwnQueryInTheProbeItUsed(t *testing.T) {
	q := pooled(hot(0, 6), hot(1, 7), hot(2, 9))
	if p := q.Pick(attempt(1, 0, 0, 0)); p != 0 || q.pool[0].peer != 0 || q.pool[0].rif != 7 {
		t.Errorf("picked %d, which leaves %+v", p, q.pool)
	}
}

func TestPrequalForgetsProbesAfterASecond(t *testing.T) {
	q := pooled(cold(1, 1), cold(2, 5), cold(3, 5))
	q.pool[1].at, q.pool[2].at = 500, 500
	if p := q.Pick(attempt(1001, 0, 0, 0, 0)); p == 1 {
		t.Error("a probe older than a second was used")
	}
}

func TestPrequalPicksAtRandomWithFewerThanTwoProbes(t *testing.T) {
	seen := map[int32]bool{}
	q := pooled()
	for range 200 {
		q.pool = append(q.pool[:0], cold(2, 1))
		seen[q.Pick(attempt(1, 0, 0, 0, 0))] = true
	}
	if len(seen) != 4 {
		t.Errorf("with one probe it picked only %v", seen)
	}
}

func TestPrequalRemovesTheWorstAndTheOldestByTurns(t *testing.T) {
	q := pooled(cold(0, 10), cold(1, 99), hot(2, 8), cold(3, 20), hot(4, 9), cold(5, 15))
	a := attempt(1, 0, 0, 0, 0, 0, 0)
	var left [][]int32
	for range 4 {
		q.Pick(a)
		var now []int32
		for _, p := range q.pool {
			now = append(now, p.peer)
		}
		left = append(left, now)
	}
	// The hottest; the oldest, which is 0; the other hot one; then 1 as the oldest.
	want := [][]int32{{0, 1, 2, 3, 5}, {1, 2, 3, 5}, {1, 3, 5}, {3, 5}}
	for i := range want {
		if len(left[i]) != len(want[i]) {
			t.Fatalf("left %v, want %v", left, want)
		}
		for j := range want[i] {
			if left[i][j] != want[i][j] {
				t.Fatalf("left %v, want %v", left, want)
			}
		}
	}
}

func TestPrequalBudgetsTheReuseOfAProbeByTheFormula(t *testing.T) {
	near(t, "b_reuse for 100 servers", reuseBudget(100), 2/((1-0.16)*3-1), 1e-12)
	near(t, "b_reuse for very many", reuseBudget(1_000_000), 1, 1e-4)
	if !math.IsInf(reuseBudget(10), 1) {
		t.Error("b_reuse for 10 servers is bounded")
	}
	q := pooled(cold(0, 1), cold(1, 2), cold(2, 3), cold(3, 4), cold(4, 5))
	q.pool[0].uses = 2
	q.pool[0].rif = -10 // stays cold
	holds := func(peer int32) bool {
		return slices.ContainsFunc(q.pool, func(p probe) bool { return p.peer == peer })
	}
	a := attempt(1, 0, 0, 0, 0, 0)
	if p := q.Pick(a); p != 0 || !holds(0) { // the worst, 4, is removed
		t.Errorf("picked %d, which leaves %+v", p, q.pool)
	}
	q.pool[0], q.pool[1] = q.pool[1], q.pool[0] // so that 0 is not the oldest
	if p := q.Pick(a); p != 0 || holds(0) {
		t.Errorf("picked %d for the last time, which leaves %+v", p, q.pool)
	}
}

func TestPrequalProbesThreePeersBesideEachQueryIntoAPoolOfSixteen(t *testing.T) {
	s := parse(t, `
requests: 3000
arrivals: {load: 0.5}
classes: [{service_ms: {mean: 100}}]
peers: [{count: 30, slots: 4}]
`)
	most := 0
	run(t, s, 1, func(set *world.Setup) world.Balancer {
		q := newPrequal(set).(*prequal)
		return &watcher{q, func(before, after int) {
			most = max(most, after)
			seen := map[int32]bool{}
			for _, p := range q.pool {
				if seen[p.peer] {
					t.Fatalf("two probes of peer %d in %v", p.peer, q.pool)
				}
				seen[p.peer] = true
			}
			if after > before+3 || after < min(3, before) {
				t.Fatalf("the pool went from %d to %d", before, after)
			}
		}}
	})
	if most != 16 {
		t.Errorf("the pool held at most %d", most)
	}
}

type watcher struct {
	*prequal
	sent func(before, after int)
}

func (w *watcher) Sent(now float64, peer int32) {
	before := len(w.pool)
	w.prequal.Sent(now, peer)
	w.sent(before, len(w.pool))
}

func TestPrequalSeesTheLoadAndSlownessThatAreHiddenFromLeastConn(t *testing.T) {
	s := parse(t, `
requests: 40000
warmup: 10000
balancers: 10
arrivals: {load: 0.7}
classes: [{service_ms: {mean: 10}}]
peers: [{count: 20, slots: 4}, {count: 5, slots: 4, speed: 0.4}]
`)
	probing, blind := run(t, s, 1, newPrequal), run(t, s, 1, newLeastConn)
	if probing.P99MS > 0.92*blind.P99MS {
		t.Errorf("p99 %v with probes, %v without", probing.P99MS, blind.P99MS)
	}
}

func TestTheQuantileOfRIFsIsOverTheLastOnes(t *testing.T) {
	var w rifWindow
	if w.quantile(0.84) != math.MaxInt32 {
		t.Error("an empty window makes probes hot")
	}
	for range 1000 {
		w.add(1000)
	}
	for i := range int32(rifSeen) {
		w.add(i % 100)
	}
	// 0 to 99, and 0 to 27 again: of 128 the 108th.
	if got := w.quantile(0.84); got != 79 {
		t.Errorf("the 0.84 quantile is %d", got)
	}
	if got := w.quantile(1); got != 99 {
		t.Errorf("the largest is %d", got)
	}
}
