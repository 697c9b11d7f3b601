package policy

import "testing"

func TestSEDOracleWeighsWaitingAgainstSpeed(t *testing.T) {
	// Single slots: (n + 1) / speed. A fast peer is worth waiting for until the slow one would be quicker.
	s := parse(t, `
requests: 1
arrivals: {load: 0.5}
classes: [{service_ms: {mean: 100}}]
peers: [{speed: 1}, {speed: 0.3}]
`)
	for held, want := range []int32{0, 0, 0, 1} { // 100, 200, 300, 400 against 333 ms
		o := build(s, newSEDOracle).(*sedOracle)
		o.truth.Work(0)[0] = int32(held)
		if got := o.Pick(attempt(0, 0, 0)); got != want {
			t.Errorf("behind %d it picked %d, want %d", held, got, want)
		}
	}
}

func TestSEDOracleKnowsSlotsAffinityAndWhatIsAhead(t *testing.T) {
	s := parse(t, `
requests: 1
arrivals: {load: 0.5}
classes:
  - {name: light, share: 0.5, service_ms: {mean: 10}}
  - {name: heavy, share: 0.5, service_ms: {mean: 100}}
peers: [{slots: 2, affinity: {heavy: 0.5}}, {slots: 1}]
`)
	pick := func(class int32, ahead0, ahead1 []int32) int32 {
		o := build(s, newSEDOracle).(*sedOracle)
		copy(o.truth.Work(0), ahead0)
		copy(o.truth.Work(1), ahead1)
		a := attempt(0, 0, 0)
		a.Class = class
		return o.Pick(a)
	}
	none := []int32{0, 0}
	if p := pick(1, []int32{1, 0}, none); p != 0 { // a free slot at 50 ms against 100
		t.Errorf("a heavy request went to %d", p)
	}
	if p := pick(0, []int32{0, 2}, []int32{1, 0}); p != 1 { // 10 + 25 against 10 + 10
		t.Errorf("a light request behind heavy ones went to %d", p)
	}
	if p := pick(0, []int32{2, 0}, []int32{0, 1}); p != 0 { // 10 + 5 against 10 + 100
		t.Errorf("a light request behind light ones went to %d", p)
	}
}

func TestSEDOracleHearsOfASlowDownAtOnce(t *testing.T) {
	s := parse(t, `
requests: 20000
arrivals: {load: 0.3}
classes: [{service_ms: {mean: 100}}]
peers: [{count: 3, slots: 4}]
events: [{peer: 0, from_s: 0.001, speed: 0.15}]
`)
	if r := run(t, s, 1, newSEDOracle); r.ByPeer[0] > 100 {
		t.Errorf("the slow peer got %d of 20000", r.ByPeer[0])
	}
}

func TestGreedyOracleKnowsTheSizesAhead(t *testing.T) {
	// Heavy tails, single slots: who knows the sizes queues behind the small ones.
	s := parse(t, `
requests: 40000
warmup: 10000
arrivals: {load: 0.7}
classes: [{service_ms: {mean: 100, dist: pareto, shape: 2.2}}]
peers: [{count: 5}]
`)
	greedy, sed := run(t, s, 1, newGreedyOracle), run(t, s, 1, newSEDOracle)
	if greedy.MeanMS > 0.95*sed.MeanMS || greedy.P99MS > 0.9*sed.P99MS {
		t.Errorf("mean %v and p99 %v, without the sizes %v and %v", greedy.MeanMS, greedy.P99MS, sed.MeanMS, sed.P99MS)
	}
}
