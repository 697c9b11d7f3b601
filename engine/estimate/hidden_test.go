package estimate_test

import (
	"math/rand/v2"
	"testing"

	"github.com/weirlb/weir/engine/estimate"
)

// shared is peers of four slots and mean service time 100 ms at a load of 0.8, to which balancers send each request to the peer where they
// have least in flight themselves, or, blind, to any. The first of them tells an engine. extra is by how much longer a service takes that
// begins at now, as a fraction.
type shared struct {
	peers, balancers int
	blind            bool
	extra            func(now float64, peer int) float64
	quick            bool // services take 4 ms within 2 %, at a load of 0.1
}

func (s shared) play(end float64, seed uint64) *estimate.Pool {
	const slots = 4
	mean, load := 100.0, 0.8
	if s.quick {
		mean, load = 4, 0.1
	}
	rnd := rand.New(rand.NewPCG(seed, 5))
	est := estimate.New(estimate.Options{})
	var addrs []string
	for i := range s.peers {
		addrs = append(addrs, string(rune('a'+i)))
	}
	est.SetPeers(0, addrs)
	class := est.Class(0, "GET /")
	type request struct {
		ends float64
		peer int
		tell estimate.Outcome
	}
	free := make([][]float64, s.peers)
	for i := range free {
		free[i] = make([]float64, slots)
	}
	held := make([][]int, s.balancers)
	for b := range held {
		held[b] = make([]int, s.peers)
	}
	open := make([][]request, s.balancers)
	rate := load * float64(s.peers*slots) / mean
	flush := 0.0
	for now := 0.0; now < end; now += rnd.ExpFloat64() / rate {
		for b := range open {
			n := 0
			for _, r := range open[b] {
				if r.ends > now {
					open[b][n] = r
					n++
					continue
				}
				held[b][r.peer]--
				if b == 0 {
					est.Observe(r.ends, r.tell)
				}
			}
			open[b] = open[b][:n]
		}
		for ; flush < now; flush += 100 {
			for i, n := range held[0] {
				est.InFlight(flush, i, n)
			}
			est.Refresh(flush)
		}
		b, to := rnd.IntN(s.balancers), rnd.IntN(s.peers)
		for i := range s.peers {
			if j := (to + i) % s.peers; !s.blind && held[b][j] < held[b][to] {
				to = j
			}
		}
		first := 0
		for i, t := range free[to] {
			if t < free[to][first] {
				first = i
			}
		}
		begins := max(now, free[to][first])
		service := mean
		if s.quick {
			service *= 0.98 + 0.04*rnd.Float64()
		} else {
			service *= rnd.ExpFloat64()
		}
		if s.extra != nil {
			service *= 1 + s.extra(begins, to)
		}
		free[to][first] = begins + service
		took := begins + service - now
		open[b] = append(open[b], request{now + took, to, estimate.Outcome{
			Peer: to, Class: class, InFlight: held[b][to], TotalMS: took, HeaderMS: took, ReportedLoad: -1, ReportedInFlight: -1,
		}})
		held[b][to]++
	}
	return est
}

func TestTheLoadOfOtherBalancersShowsInTheAnswers(t *testing.T) {
	for seed := range uint64(3) {
		if r := (shared{peers: 4, balancers: 4, blind: true}).play(900_000, seed).LoadRatio(); r < 2 || r > 30 {
			t.Errorf("seed %d: with 4 balancers the load is said to be %.1f times the own", seed, r)
		}
	}
}

func TestTheLoadOfOtherBalancersShowsWithinThreeMinutes(t *testing.T) {
	for seed := range uint64(3) { // 8 answers a second and peer, 1,400 pairs in all
		if r := (shared{peers: 4, balancers: 4, blind: true}).play(180_000, seed).LoadRatio(); r < 2 || r > 30 {
			t.Errorf("seed %d: with 4 balancers the load is said to be %.1f times the own after three minutes", seed, r)
		}
	}
}

func TestNoOtherBalancersAreSeenWhereThereAreNone(t *testing.T) {
	worlds := map[string]func(now float64, peer int) float64{
		"steady": nil,
		"one peer at a time is slow for six seconds": func(now float64, peer int) float64 {
			if int(now/6000)%10 == peer {
				return 4
			}
			return 0
		},
		"all peers wait for a database that is slow now and then": func(now float64, _ int) float64 {
			if int(now/300)%7 == 0 {
				return 3
			}
			return 0
		},
		"each peer stands still for 50 ms each second": func(now float64, peer int) float64 {
			if (int(now)+97*peer)%1000 < 50 {
				return 1
			}
			return 0
		},
	}
	for what, extra := range worlds {
		for seed := range uint64(3) {
			if r := (shared{peers: 10, balancers: 1, extra: extra}).play(100_000, seed).LoadRatio(); r > 1.5 {
				t.Errorf("%s, seed %d: the load is said to be %.2f times the own", what, seed, r)
			}
		}
	}
}

// A few pairs hold nearly all of the covariance then.
func TestAQuickPeerThatStoodStillOnceIsNoSignOfOtherBalancers(t *testing.T) {
	for seed := range uint64(10) {
		for _, stall := range []float64{30, 100, 300} {
			extra := func(now float64, peer int) float64 {
				if peer == 1 && now > 9000 && now < 9000+stall {
					return 5
				}
				return 0
			}
			for _, end := range []float64{12_000, 30_000, 60_000} {
				if r := (shared{peers: 2, balancers: 1, quick: true, extra: extra}).play(end, seed).LoadRatio(); r > 1.05 {
					t.Errorf("seed %d: %.0f s after a stall of %.0f ms the load is said to be %.2f times the own", seed, end/1000-9, stall, r)
				}
			}
		}
	}
}

func TestTheNumberOfBalancersThatIsToldIsBelieved(t *testing.T) {
	est := shared{peers: 2, balancers: 1}.play(2000, 1)
	est.SetBalancers(4)
	if r := est.LoadRatio(); r != 4 {
		t.Errorf("the load ratio is %v", r)
	}
	v := est.Peer(0)
	if v.TotalRate != 4*v.ArrivalRate || v.ArrivalRate == 0 {
		t.Errorf("the rate is %v, that of all %v", v.ArrivalRate, v.TotalRate)
	}
	est.SetBalancers(1)
	if r := est.LoadRatio(); r != 1 {
		t.Errorf("alone, the load ratio is %v", r)
	}
}

func TestNoOtherBalancersAreSeenInTheFirstSeconds(t *testing.T) {
	for seed := range uint64(40) {
		for _, end := range []float64{3000, 6000, 12_000, 20_000} {
			if r := (shared{peers: 4, balancers: 1}).play(end, seed).LoadRatio(); r != 1 {
				t.Errorf("seed %d: after %.0f s the load is said to be %.1f times the own", seed, end/1000, r)
			}
		}
	}
}
