package decide_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/pool"
)

// answered is a pool whose peers answered 300 requests each, one at a time, in the given times (ms).
func answered(times ...float64) *estimate.Pool {
	est := estimate.New(estimate.Options{})
	var addrs []string
	for i := range times {
		addrs = append(addrs, string(rune('a'+i)))
	}
	est.SetPeers(0, addrs)
	now := 0.0
	for range 300 {
		for i, ms := range times {
			now += 50
			est.Observe(now, estimate.Outcome{Peer: i, Class: est.Class(now, "GET /"), TotalMS: ms, HeaderMS: ms, ReportedLoad: -1, ReportedInFlight: -1})
			est.InFlight(now, i, 0)
		}
		est.Refresh(now)
	}
	return est
}

func fill(est *estimate.Pool, par decide.Params) *decide.Table {
	var t decide.Table
	(&decide.Analytic{}).Fill(0, est, par, &t)
	return &t
}

func TestASlowerPeerCostsMoreInProportion(t *testing.T) {
	table := fill(answered(10, 10, 40), decide.Params{})
	c := table.Class("GET /")
	a, b, slow := table.At(c, 0, 0), table.At(c, 1, 0), table.At(c, 2, 0)
	if a < 9 || a > 13 || math.Abs(a-b) > 0.05*a {
		t.Errorf("equal peers of 10 ms cost %.1f and %.1f", a, b)
	}
	if slow < 3*a || slow > 6*a {
		t.Errorf("a peer of 40 ms costs %.1f, one of 10 ms %.1f", slow, a)
	}
}

// A peer of four slots that others keep full is dear before this balancer has sent it anything, and dearer by a turn of its slots (10 ms / 4)
// and the delay that imposes for each of its own requests; one that only this balancer uses has free slots first.
func TestRequestsOfOtherBalancersCountAsOwnOnes(t *testing.T) {
	est := estimate.New(estimate.Options{})
	est.SetPeers(0, []string{"alone", "shared"})
	now := 0.0
	for i := range 4000 {
		now += 25
		others := []float64{0, float64(5 + i%3)}
		for p, n := range others {
			ms, load := 10.0, n/4
			if n >= 4 {
				ms, load = 10*(1+(n+1-4)/4), 1
			} else if i%2 == 0 {
				load = 0.25 // with one request: four slots
			}
			est.Observe(now, estimate.Outcome{Peer: p, TotalMS: ms, HeaderMS: ms, ReportedLoad: load, ReportedInFlight: max(n, float64(1-i%2))})
			est.InFlight(now, p, 0)
		}
		est.Refresh(now)
	}
	table := fill(est, decide.Params{})
	alone, shared := table.At(0, 0, 0), table.At(0, 1, 0)
	if shared < 1.5*alone {
		t.Errorf("to the peer that others fill %.1f ms, to the other %.1f", shared, alone)
	}
	if step := table.At(0, 1, 1) - shared; step < 2.5 || step > 25 {
		t.Errorf("one own request makes it dearer by %.2f ms", step)
	}
	if table.At(0, 0, 2) > 2*alone {
		t.Errorf("with free slots it costs %.1f ms, empty %.1f", table.At(0, 0, 2), alone)
	}
}

func TestWeightDividesTheCost(t *testing.T) {
	est := answered(10, 10)
	one, two := fill(est, decide.Params{}), fill(est, decide.Params{Weights: []float64{1, 2}})
	if ratio := one.At(0, 1, 3) / two.At(0, 1, 3); math.Abs(ratio-2) > 1e-3 {
		t.Errorf("twice the weight divided the cost by %v", ratio)
	}
	if one.At(0, 0, 3) != two.At(0, 0, 3) {
		t.Error("the other peer's cost changed")
	}
}

func TestFailuresRaiseTheCostHoweverFastTheyAre(t *testing.T) {
	est := answered(10, 10)
	before := fill(est, decide.Params{}).At(0, 1, 0)
	for i := range 30 {
		now := 1e6 + float64(i)
		est.Observe(now, estimate.Outcome{Peer: 1, Kind: pool.Status, TotalMS: 0.5, HeaderMS: 0.5, ReportedLoad: -1, ReportedInFlight: -1})
	}
	est.Refresh(1e6 + 100)
	table := fill(est, decide.Params{})
	if after := table.At(0, 1, 0); after < 2*before {
		t.Errorf("30 failures in 0.5 ms each moved the cost from %.1f to %.1f", before, after)
	}
}

func TestTheTailObjectiveAddsTheSpread(t *testing.T) {
	est := answered(10, 10)
	mean, tail := fill(est, decide.Params{}), fill(est, decide.Params{Objective: decide.P99})
	for n := range 20 {
		if tail.At(0, 0, float64(n)) <= mean.At(0, 0, float64(n)) {
			t.Fatalf("with %d in flight the 99th percentile costs %v, the mean %v", n, tail.At(0, 0, float64(n)), mean.At(0, 0, float64(n)))
		}
	}
}

// Whatever came in, a table keeps its promise: NGINX does arithmetic on it without a look.
func TestCostsAreFinitePositiveAndNeverFallWithInFlight(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		est := estimate.New(estimate.Options{})
		peers := rapid.IntRange(1, 4).Draw(r, "peers")
		est.SetPeers(0, []string{"a", "b", "c", "d"}[:peers])
		now := 0.0
		for range rapid.IntRange(0, 200).Draw(r, "outcomes") {
			now += rapid.Float64Range(0, 1000).Draw(r, "gap")
			ms := rapid.SampledFrom([]float64{0, 1e-9, 0.3, 10, 1e4, 1e9, math.NaN(), math.Inf(1), -5}).Draw(r, "ms")
			est.Observe(now, estimate.Outcome{
				Peer: rapid.IntRange(0, peers-1).Draw(r, "peer"), Class: est.Class(now, rapid.SampledFrom([]string{"*", "x", "y"}).Draw(r, "class")),
				InFlight: rapid.IntRange(0, 300).Draw(r, "held"), Kind: pool.Kind(rapid.IntRange(0, 7).Draw(r, "kind")), TotalMS: ms, HeaderMS: ms,
				Weight: rapid.SampledFrom([]float64{0, 1, 1e15, math.NaN()}).Draw(r, "weight"), ReportedLoad: rapid.SampledFrom([]float64{-1, 0.5, 1e9, math.NaN()}).Draw(r, "load"),
			})
			est.InFlight(now, 0, rapid.IntRange(0, 50).Draw(r, "sample"))
			est.Refresh(now)
		}
		table := fill(est, decide.Params{Objective: decide.Objective(rapid.IntRange(0, 1).Draw(r, "objective"))})
		for c := range table.Classes {
			for p := range table.Peers {
				last := 0.0
				for _, x := range table.Row(c, p) {
					v := float64(x)
					if !(v > 0) || math.IsInf(v, 0) || v < last {
						r.Fatalf("class %s on %s: %v", table.Classes[c], table.Peers[p], table.Row(c, p))
					}
					last = v
				}
			}
		}
	})
}

func TestAPeerInAnotherZoneCostsItsShareAndItsMillisecondsMoreAtEveryCount(t *testing.T) {
	est := answered(10, 10)
	near := fill(est, decide.Params{})
	far := fill(est, decide.Params{Away: []decide.Away{{}, {Share: 0.5, MS: 2}}})
	for c := range near.Classes {
		for g, was := range near.Row(c, 1) {
			if got, want := far.Row(c, 1)[g], was*1.5+2; math.Abs(float64(got-want)) > 1e-4*float64(want) {
				t.Errorf("class %d, grid point %d: %v, want %v", c, g, got, want)
			}
			if far.Row(c, 0)[g] != near.Row(c, 0)[g] {
				t.Errorf("the near peer's cost changed")
			}
		}
	}
}

// So many clients, each with one request under way at a time, over two near peers and two far ones. The far ones' part rises with the load,
// without a cliff, to what their price leaves them: 1 / (1 + 1.5).
func TestTrafficSpillsToTheOtherZoneLittleByLittle(t *testing.T) {
	est := answered(10, 10, 10, 10)
	away := decide.Away{Share: 0.5}
	table := fill(est, decide.Params{Away: []decide.Away{{}, {}, away, away}})
	rnd := rand.New(rand.NewPCG(1, 2))
	last := 0.0
	for clients := 1; clients <= 40; clients++ {
		cand := make([]decide.Candidate, 4)
		for i := range cand {
			cand[i].Usable = true
		}
		var held []int
		far, all := 0, 0
		for range 4000 {
			if len(held) == clients {
				k := rnd.IntN(len(held))
				cand[held[k]].InFlight--
				held = append(held[:k], held[k+1:]...)
			}
			at := decide.Pick(table, 0, cand, decide.Rule{Spread: 0.1}, rnd).Peer
			cand[at].InFlight++
			held = append(held, at)
			if all++; at >= 2 {
				far++
			}
		}
		share := float64(far) / float64(all)
		if clients == 1 && share > 0.02 {
			t.Errorf("one client sends %.2f to the other zone", share)
		}
		if share < last-0.06 || share > last+0.15 {
			t.Errorf("from %d clients to %d the part of the other zone goes from %.2f to %.2f", clients-1, clients, last, share)
		}
		last = share
	}
	if last < 0.35 || last > 0.45 {
		t.Errorf("at overload the part of the other zone is %.2f", last)
	}
}
