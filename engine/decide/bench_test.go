package decide_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/estimate"
)

// large returns the estimators of a pool with so many peers and classes, all pairs known.
func large(peers, classes int) *estimate.Pool {
	est := estimate.New(estimate.Options{})
	var addrs []string
	for i := range peers {
		addrs = append(addrs, fmt.Sprintf("10.0.%d.%d:80", i/250, i%250))
	}
	est.SetPeers(0, addrs)
	rnd := rand.New(rand.NewPCG(1, 1))
	now := 0.0
	for c := range classes {
		idx := est.Class(now, fmt.Sprintf("GET /%d", c))
		for i := range peers {
			for range 3 {
				now += 0.05
				est.Observe(now, estimate.Outcome{Peer: i, Class: idx, InFlight: rnd.IntN(20), TotalMS: 5 + 10*rnd.ExpFloat64(), ReportedLoad: -1, ReportedInFlight: -1})
			}
		}
		for i := range peers {
			est.InFlight(now, i, rnd.IntN(8))
		}
		est.Refresh(now)
	}
	return est
}

func BenchmarkFill200PeersBy50Classes(b *testing.B) {
	est := large(200, 50)
	var t decide.Table
	var a decide.Analytic
	a.Fill(0, est, decide.Params{}, &t)
	b.ReportAllocs()
	for b.Loop() {
		a.Fill(0, est, decide.Params{}, &t)
	}
	if len(t.Cost) != 200*51*decide.GridPoints {
		b.Fatalf("table has %d costs", len(t.Cost))
	}
}

func BenchmarkRefresh200PeersBy50Classes(b *testing.B) {
	est := large(200, 50)
	now := 1e6
	b.ReportAllocs()
	for b.Loop() {
		now += 100
		est.Refresh(now)
	}
}

func BenchmarkObserve(b *testing.B) {
	est := large(200, 50)
	now, i := 1e6, 0
	b.ReportAllocs()
	for b.Loop() {
		now += 0.02
		i = (i + 7) % 200
		est.Observe(now, estimate.Outcome{Peer: i, Class: 1 + i%50, InFlight: i % 9, TotalMS: 8, ReportedLoad: -1, ReportedInFlight: -1})
	}
}

func BenchmarkPickAmong10(b *testing.B)   { benchmarkPick(b, 10) }
func BenchmarkPickAmong1000(b *testing.B) { benchmarkPick(b, 1000) }

func benchmarkPick(b *testing.B, peers int) {
	est := large(peers, 1)
	var t decide.Table
	new(decide.Analytic).Fill(0, est, decide.Params{}, &t)
	rnd := rand.New(rand.NewPCG(1, 1))
	cand := make([]decide.Candidate, peers)
	for i := range cand {
		cand[i] = decide.Candidate{InFlight: float64(rnd.IntN(30)), Usable: true, Admit: 1}
	}
	b.ReportAllocs()
	for b.Loop() {
		decide.Pick(&t, 1, cand, decide.Rule{Explore: 0.01, Spread: 0.1}, rnd)
	}
}

func TestFillingATableAgainAllocatesNothing(t *testing.T) {
	est := large(20, 5)
	var table decide.Table
	var a decide.Analytic
	a.Fill(0, est, decide.Params{}, &table)
	if n := testing.AllocsPerRun(20, func() { a.Fill(0, est, decide.Params{Objective: decide.P99}, &table) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestEstimatorsOf200PeersBy50ClassesStayFarBelow100MB(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	est := large(200, 50)
	var table decide.Table
	new(decide.Analytic).Fill(0, est, decide.Params{}, &table)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if mb := float64(after.HeapAlloc-before.HeapAlloc) / (1 << 20); mb > 30 {
		t.Errorf("%.1f MB", mb)
	} else {
		t.Logf("%.1f MB", mb)
	}
	runtime.KeepAlive(est)
	runtime.KeepAlive(&table)
}
