package estimate_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/weirlb/weir/engine/estimate"
)

// crowd is a peer of k slots and mean service time 100 ms that several balancers send Poisson streams to; the first of them reports what it
// sees to an engine until the given time.
type crowd struct {
	balancers int
	k         int
	rate      float64 // of all, requests a ms
	reports   func(now float64) bool
	weight    float64 // hint of each request, 0 = none
}

func (c crowd) play(end float64, seed uint64) *estimate.Pool {
	rnd := rand.New(rand.NewPCG(seed, 3))
	est := estimate.New(estimate.Options{Reports: estimate.Reports{BlackoutMS: -1}})
	est.SetPeers(0, []string{"a"})
	class := est.Class(0, "GET /")
	type request struct {
		came, ends float64
		own        bool
		found      int // own in flight
	}
	var held []request
	var outcomes []func()
	free := make([]float64, c.k)
	own := func() (n int) {
		for _, r := range held {
			if r.own {
				n++
			}
		}
		return n
	}
	next, flush := rnd.ExpFloat64()/c.rate, 100.0
	for {
		first := -1
		for i := range held {
			if first < 0 || held[i].ends < held[first].ends {
				first = i
			}
		}
		now := min(next, flush)
		if first >= 0 && held[first].ends < now {
			r := held[first]
			now = r.ends
			held = append(held[:first], held[first+1:]...)
			if r.own {
				o := estimate.Outcome{Class: class, InFlight: r.found, TotalMS: now - r.came, HeaderMS: now - r.came, Weight: c.weight, ReportedLoad: -1, ReportedInFlight: -1}
				if c.reports(now) {
					o.ReportedInFlight = float64(len(held))
					o.ReportedLoad = min(o.ReportedInFlight/float64(c.k), 1)
				}
				outcomes = append(outcomes, func() { est.Observe(now, o) })
			}
			continue
		}
		if now > end {
			return est
		}
		if now == flush {
			for _, tell := range outcomes {
				tell()
			}
			outcomes = outcomes[:0]
			est.InFlight(now, 0, own())
			est.Refresh(now)
			flush += 100
			continue
		}
		slot := 0
		for i := range free {
			if free[i] < free[slot] {
				slot = i
			}
		}
		free[slot] = max(now, free[slot]) + 100*rnd.ExpFloat64()
		held = append(held, request{came: now, ends: free[slot], own: rnd.IntN(c.balancers) == 0, found: own()})
		next = now + rnd.ExpFloat64()/c.rate
	}
}

func always(float64) bool { return true }
func never(float64) bool  { return false }

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*math.Abs(want)) {
		t.Errorf("%s is %.4g, want %.4g within %g %%", what, got, want, 100*tolerance)
	}
}

// Ten balancers keep a peer of four slots busy at 80 %. By the formula of Erlang 5.6 requests are there in the mean, of which this
// balancer has a tenth.
func TestWhatAPeerReportsTellsItsSlotsItsSpeedAndTheLoadOfOthers(t *testing.T) {
	est := crowd{balancers: 10, k: 4, rate: 0.032, reports: always}.play(600_000, 1)
	v := est.Peer(0)
	near(t, "K", v.Concurrency, 4, 0.1)
	near(t, "the service time", v.WorkMS, 100, 0.15)
	near(t, "the arrival rate of all", v.TotalRate, 0.032, 0.15)
	near(t, "its own", v.ArrivalRate, 0.0032, 0.4)
	est.Refresh(605_000) // the last report is old: what is usual is left
	v = est.Peer(0)
	near(t, "the usual number of others", v.Others, 5, 0.25)
	if v.OthersVar < 8 || v.OthersVar > 45 {
		t.Errorf("its variance is %.3g", v.OthersVar)
	}
}

func TestAPeerThatDoesNotReportIsTakenToServeNobodyElse(t *testing.T) {
	v := crowd{balancers: 10, k: 4, rate: 0.032, reports: never}.play(100_000, 1).Peer(0)
	if v.Others != 0 || v.OthersVar != 0 || v.TotalRate != v.ArrivalRate {
		t.Errorf("others %v, variance %v, rates %v and %v", v.Others, v.OthersVar, v.TotalRate, v.ArrivalRate)
	}
}

func TestAPeerThatStopsReportingIsSoonTakenToServeNobodyElse(t *testing.T) {
	until := func(now float64) bool { return now < 200_000 }
	v := crowd{balancers: 2, k: 4, rate: 0.032, reports: until}.play(200_000, 1).Peer(0)
	if v.Others < 0.5 {
		t.Fatalf("%.2f others while it reports", v.Others)
	}
	if v := (crowd{balancers: 2, k: 4, rate: 0.032, reports: until}).play(250_000, 1).Peer(0); v.Others != 0 || v.TotalRate != v.ArrivalRate {
		t.Errorf("%.2f others 50 s (some 800 answers) later, rates %v and %v", v.Others, v.TotalRate, v.ArrivalRate)
	}
}

func TestSizesAreHeededOnlyWhereNobodyElseSendsToThePeers(t *testing.T) {
	for name, test := range map[string]struct {
		crowd  crowd
		heeded bool
	}{
		"alone":                            {crowd{balancers: 1, reports: always}, true},
		"alone, and nothing is reported":   {crowd{balancers: 1, reports: never}, true},
		"one of two":                       {crowd{balancers: 2, reports: always}, false},
		"one of ten":                       {crowd{balancers: 10, reports: always}, false},
		"one of two that report no more":   {crowd{balancers: 2, reports: func(now float64) bool { return now < 60_000 }}, true},
		"one of two that report since 1 m": {crowd{balancers: 2, reports: func(now float64) bool { return now > 60_000 }}, false},
	} {
		test.crowd.k, test.crowd.rate, test.crowd.weight = 4, 0.032, 100
		if est := test.crowd.play(200_000, 1); est.Hinted() != test.heeded {
			t.Errorf("%s: sizes are heeded: %v", name, est.Hinted())
		}
	}
	est := crowd{balancers: 4, k: 4, rate: 0.032, reports: never, weight: 100}.play(50_000, 1)
	for told, heeded := range map[int]bool{0: true, 1: true, 4: false} {
		if est.SetBalancers(told); est.Hinted() != heeded {
			t.Errorf("told that %d send to the peers, sizes are heeded: %v", told, est.Hinted())
		}
	}
}

func TestTheLastReportCountsLessTheOlderItIsAndItsUncertaintyGrows(t *testing.T) {
	est := estimate.New(estimate.Options{Reports: estimate.Reports{BlackoutMS: -1}})
	est.SetPeers(0, []string{"a"})
	now := 0.0
	tell := func(held float64) {
		now += 100
		est.Observe(now, estimate.Outcome{TotalMS: 80, HeaderMS: 80, ReportedLoad: -1, ReportedInFlight: held})
		est.InFlight(now+1, 0, 0)
		est.Refresh(now + 1)
	}
	for i := range 200 {
		tell(float64(i % 3))
	}
	tell(12)
	usual := 1.6 // the 12 is in it
	last, variance := 12.0, 0.0
	for age := 1.0; age < 500; age += 20 {
		est.Refresh(now + age)
		v := est.Peer(0)
		if v.Others > last+1e-9 || v.Others < usual-0.2 || v.OthersVar < variance-1e-9 {
			t.Fatalf("%v ms after a report of 12: %.3f +- %.3f, before that %.3f +- %.3f", age, v.Others, v.OthersVar, last, variance)
		}
		last, variance = v.Others, v.OthersVar
	}
	if est.Refresh(now + 1); last > 1.7 || variance < 0.5 {
		t.Errorf("half a second after: %.3f +- %.3f", last, variance)
	}
}

// Nothing is heard of a peer that is avoided for what others held there, and so nothing shows that they are gone.
func TestWhatOthersHeldAtAnAvoidedPeerGivesWayToWhatTheyHoldElsewhere(t *testing.T) {
	est := estimate.New(estimate.Options{Reports: estimate.Reports{BlackoutMS: -1}})
	est.SetPeers(0, []string{"a", "b"})
	now := 0.0
	tell := func(peer int, held float64) {
		now += 50
		est.Observe(now, estimate.Outcome{Peer: peer, TotalMS: 40, HeaderMS: 40, ReportedLoad: -1, ReportedInFlight: held})
		est.InFlight(now, peer, 0)
		est.Refresh(now)
	}
	for range 200 {
		tell(0, 4)
		tell(1, 24)
	}
	last := est.Peer(1).Others
	if last < 20 {
		t.Fatalf("others hold %.1f", last)
	}
	for range 200 {
		tell(0, 4)
		if v := est.Peer(1); v.Others > last+1e-9 || !(v.OthersVar > 0) {
			t.Fatalf("%.1f +- %.1f after %.1f", v.Others, v.OthersVar, last)
		}
		last = est.Peer(1).Others
	}
	if last > 6 {
		t.Errorf("200 requests later others are still taken to hold %.1f", last)
	}
	tell(1, 3)
	now += 500
	tell(0, 4)
	if v := est.Peer(1); v.Others > 8 {
		t.Errorf("after a report of 3 they are taken to hold %.1f as a rule", v.Others)
	}
}

func TestNonsenseReportsDoNoHarm(t *testing.T) {
	est := estimate.New(estimate.Options{Reports: estimate.Reports{BlackoutMS: -1}})
	est.SetPeers(0, []string{"a"})
	for i, held := range []float64{math.NaN(), math.Inf(1), 1e300, -7, 0, 3} {
		for _, load := range []float64{math.NaN(), math.Inf(1), 1e9, 0, -1, 1e-9, 0.5} {
			now := 100 * float64(i+1)
			est.Observe(now, estimate.Outcome{TotalMS: 80, HeaderMS: 80, ReportedLoad: load, ReportedInFlight: held})
			est.InFlight(now, 0, 1)
			est.Refresh(now)
			v := est.Peer(0)
			for _, x := range []float64{v.Others, v.OthersVar, v.TotalRate, v.Concurrency, v.WorkMS} {
				if math.IsNaN(x) || math.IsInf(x, 0) || x < 0 {
					t.Fatalf("held %v, load %v: %+v", held, load, v)
				}
			}
		}
	}
}
