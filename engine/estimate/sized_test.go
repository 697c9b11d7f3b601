package estimate_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/weirlb/weir/engine/estimate"
)

// lumpy is two peers that serve one request at a time, whose sizes are known and differ much (Pareto 1.5, as in the Park world), fed until a time each.
type lumpy struct {
	rnd   *rand.Rand
	est   *estimate.Pool
	class int
	now   float64
	free  [2]float64 // when a peer has done all it was given
	ended [2][]ending
}

type ending struct{ at, took, size, work float64 }

func newLumpy(seed uint64) *lumpy {
	l := &lumpy{rnd: rand.New(rand.NewPCG(seed, 3)), est: estimate.New(estimate.Options{})}
	l.est.SetPeers(0, []string{"a", "b"})
	l.class = l.est.Class(0, "GET /")
	return l
}

// run feeds both peers for a time, with the first one at a speed, and shows its Trend each 100 ms. A mean request takes 30 ms; load 0.7.
func (l *lumpy) run(ms, speed float64, see func(now, trend float64)) {
	end := l.now + ms
	tick := math.Floor(l.now/100)*100 + 100
	for l.now < end {
		l.now += l.rnd.ExpFloat64() * 30 / 0.7 / 2
		for ; tick <= l.now; tick += 100 {
			for p := range l.ended {
				kept := l.ended[p][:0]
				for _, e := range l.ended[p] {
					if e.at > tick {
						kept = append(kept, e)
						continue
					}
					l.est.Observe(e.at, estimate.Outcome{
						Peer: p, Class: l.class, InFlight: int(math.Ceil(e.work)), Work: e.work, TotalMS: e.took, HeaderMS: e.took, Weight: e.size,
						ReportedLoad: -1, ReportedInFlight: -1,
					})
				}
				l.ended[p] = kept
				l.est.InFlight(tick, p, len(kept))
			}
			l.est.Refresh(tick)
			if see != nil {
				see(tick, l.est.Peer(0).Trend)
			}
		}
		p := l.rnd.IntN(2)
		size, each := math.Pow(1-l.rnd.Float64(), -1/1.5)/3, 30.0
		if p == 0 {
			each /= speed
		}
		wait := max(l.free[p]-l.now, 0)
		l.free[p] = l.now + wait + size*each
		l.ended[p] = append(l.ended[p], ending{at: l.free[p], took: wait + size*each, size: size, work: wait / each})
	}
}

func TestLargeRequestsAreNotTakenForAStallNorTheirEndForSpeed(t *testing.T) {
	for seed := range uint64(5) {
		l := newLumpy(seed)
		l.run(60_000, 1, nil)
		off, n := 0.0, 0.0
		l.run(120_000, 1, func(_, trend float64) {
			off += math.Abs(math.Log(trend))
			n++
		})
		if off/n > 0.03 {
			t.Errorf("seed %d: a steady peer's speed is off by a factor of %.2f in the mean", seed, math.Exp(off/n))
		}
	}
}

func TestAPeerOfKnownSizesThatSlowsDownAndRecoversIsNoticed(t *testing.T) {
	for seed := range uint64(5) {
		l := newLumpy(seed)
		l.run(60_000, 1, nil)
		slow, well := math.Inf(1), math.Inf(1)
		from := l.now
		l.run(10_000, 0.2, func(now, trend float64) {
			if trend > 2.5 {
				slow = min(slow, now-from)
			}
		})
		l.free[0] = min(l.free[0], l.now+200) // what queued up is dealt with elsewhere
		from = l.now
		l.run(20_000, 1, func(now, trend float64) {
			if trend < 1.5 && now > from {
				well = min(well, now-from)
			}
		})
		if slow > 9000 || well > 15_000 {
			t.Errorf("seed %d: slow after %.0f ms, well again after %.0f", seed, slow, well)
		}
	}
}
