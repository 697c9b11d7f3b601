package decide_test

import (
	"math/rand/v2"
	"testing"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/pool"
)

// recovery is how long, in ms, a peer that worked at a part of its speed for a minute and is well again goes without a tenth of the requests: one client,
// three peers of 10 ms, the usual exploration.
func recovery(seed uint64, speed, limit float64) float64 {
	const from, to, window = 20_000.0, 80_000.0, 5000.0
	rnd := rand.New(rand.NewPCG(seed, 2))
	est := estimate.New(estimate.Options{})
	est.SetPeers(0, []string{"a", "b", "c"})
	var policy decide.Analytic
	var table decide.Table
	cand := []decide.Candidate{{Usable: true}, {Usable: true}, {Usable: true}}
	next, end, its, all := 0.0, to+window, 0, 0
	for now := 0.0; now < to+limit; {
		if now >= next {
			est.Refresh(now)
			policy.Fill(now, est, decide.Params{}, &table)
			for i := range cand {
				est.InFlight(now, i, 0)
			}
			next = now + 100
		}
		class := est.Class(now, "GET /x")
		peer := decide.Pick(&table, table.Class("GET /x"), cand, decide.Rule{Explore: 0.01, Spread: 0.1}, rnd).Peer
		ms := 10 * (1 + 0.05*rnd.Float64())
		if peer == 1 && now > from && now < to {
			ms /= speed
		}
		now += ms
		est.Observe(now, estimate.Outcome{Peer: peer, Class: class, Kind: pool.OK, HeaderMS: ms, TotalMS: ms, ReportedLoad: -1, ReportedInFlight: -1})
		if now < to {
			continue
		}
		if all++; peer == 1 {
			its++
		}
		if now >= end {
			if its*10 >= all {
				return now - to
			}
			end, its, all = now+window, 0, 0
		}
	}
	return limit
}

// With a memory in samples alone it took minutes, since hardly any came: in seven of eight runs more than three.
func TestAPeerThatIsWellAgainHasItsShareWithinAMinuteOrTwoWithOneClient(t *testing.T) {
	for _, speed := range []float64{0.15, 0.33} {
		for seed := range uint64(4) {
			took := recovery(seed+1, speed, 180_000)
			t.Logf("speed %v, seed %d: %.0f s", speed, seed+1, took/1000)
			if took > 120_000 {
				t.Errorf("after a minute at a speed of %v the peer goes without its share for %.0f s", speed, took/1000)
			}
		}
	}
}
