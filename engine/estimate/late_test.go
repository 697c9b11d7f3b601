package estimate_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weirlb/weir/engine/estimate"
)

// told is an outcome and when it is told.
type told struct {
	at, ended, took float64
	held            int
}

// steady plays clients that each send one request after the other to a peer of mean 10 ms, told by workers that ship each 100 ms at
// moments of their own, while the in-flight count comes from the first: before the outcomes of the time before it, or after. It returns the extremes of the estimated recent speed
// relative to the long run after a warm-up.
func steady(clients, workers int, before bool, seed uint64) (low, high float64) {
	const end, mean = 60_000.0, 10.0
	rnd := rand.New(rand.NewPCG(seed, 7))
	est := estimate.New(estimate.Options{})
	est.SetPeers(0, []string{"a"})
	class := est.Class(0, "GET /")
	type span struct{ from, to float64 }
	var spans []span
	var outcomes []told
	for c := range clients {
		for now := rnd.Float64() * mean; now < end; {
			took := mean * (0.9 + 0.2*rnd.Float64())
			spans = append(spans, span{now, now + took})
			w := float64((c + len(spans)) % workers)
			phase := 100 * w / float64(workers)
			ships := (math.Floor((now+took-phase)/100)+1)*100 + phase
			outcomes = append(outcomes, told{at: ships, ended: now + took, took: took, held: clients - 1})
			now += took + mean*rnd.ExpFloat64()/4
		}
	}
	slices.SortFunc(outcomes, func(a, b told) int {
		if a.at != b.at {
			return int(math.Copysign(1, a.at-b.at))
		}
		return int(math.Copysign(1, a.ended-b.ended))
	})
	low, high = math.Inf(1), 0.0
	next := 0
	sample := func(now float64) {
		n := 0
		for _, s := range spans {
			if s.from <= now && s.to > now {
				n++
			}
		}
		est.InFlight(now, 0, n)
	}
	for now := 100.0; now < end; now += 100 {
		// The order of the two changes every ten seconds, as timers' phases do.
		first := before && int(now/10_000)%2 == 0
		if first {
			sample(now)
		}
		for ; next < len(outcomes) && outcomes[next].at <= now; next++ {
			o := outcomes[next]
			est.Observe(o.ended, estimate.Outcome{Class: class, InFlight: o.held, TotalMS: o.took, HeaderMS: o.took, ReportedLoad: -1, ReportedInFlight: -1})
		}
		if !first {
			sample(now)
		}
		est.Refresh(now)
		// At the moment the order turns a hundred milliseconds of outcomes are missing, which is what a stall looks like.
		if now > end/4 && int(now)%10_000 >= 500 {
			speed := 1 / est.Peer(0).Trend
			low, high = min(low, speed), max(high, speed)
		}
	}
	return low, high
}

func TestASteadyPeerKeepsItsSpeedHoweverLateItsOutcomesAreTold(t *testing.T) {
	for _, clients := range []int{1, 4} {
		for _, workers := range []int{1, 2, 4} {
			for _, before := range []bool{false, true} {
				for seed := range uint64(3) {
					low, high := steady(clients, workers, before, seed)
					if low < 0.75 || high > 1.33 {
						t.Errorf("%d clients, %d workers, samples first %t, seed %d: the speed of a steady peer read %.2f to %.2f of its usual",
							clients, workers, before, seed, low, high)
					}
				}
			}
		}
	}
}
