package gate_test

import (
	"math/rand/v2"
	"testing"

	"github.com/weirlb/weir/engine/learn/blocks"
	"github.com/weirlb/weir/engine/learn/gate"
)

func TestAModelLikeTheControlSliceIsSeldomRolledBack(t *testing.T) {
	// Requests a second, share of the slice, and how much the response times of a while go together.
	for _, c := range []struct{ rate, share, corr float64 }{{20, 0.02, 0}, {100, 0.02, 0.3}, {200, 0.1, 0.5}} {
		alarms := 0
		const runs = 40
		for run := range runs {
			rnd := rand.New(rand.NewPCG(uint64(run), 9))
			g := gate.New(gate.Options{})
			g.Served(0, "m", "", "x")
			var s gate.Slice
			s.Reset(0)
			weather := 0.0
			for now := 0.0; now < 600_000; now += 1000 / c.rate {
				weather = 0.99*weather + 0.1*c.corr*rnd.NormFloat64()
				s.Add(now, rnd.Float64() < c.share, rnd.ExpFloat64()*(1+max(weather, -0.9)))
				if int(now)%5000 < int(1000/c.rate) {
					if g.Due(now, s.Controls()) && g.Watch(now, s.Estimate(0.995), s.Controls()) == gate.RollBack {
						alarms++
						break
					}
				}
			}
		}
		if alarms > runs/10 {
			t.Errorf("%+v: %d of %d were rolled back", c, alarms, runs)
		}
		t.Logf("%+v: %d of %d", c, alarms, runs)
	}
}

func TestAModelOfAnotherEngineIsKeptWhereTrafficIsTooThinToTell(t *testing.T) {
	for _, followed := range []bool{false, true} {
		g := gate.New(gate.Options{})
		serve, want := g.Served, gate.RollBack
		if followed {
			serve, want = g.Followed, gate.None
		}
		serve(0, "m", "old", "x")
		for _, c := range []struct {
			minutes float64
			starved bool
		}{{9, false}, {10, true}, {359, true}} {
			if got := g.Starved(c.minutes * 60_000); got != c.starved {
				t.Errorf("after %v minutes starved is %v", c.minutes, got)
			}
		}
		if a := g.Watch(361*60_000, blocks.Estimate{}, 10); a != want || g.View().Phase != gate.Idle || g.Starved(361*60_000) {
			t.Errorf("followed %v: %v, %+v", followed, a, g.View())
		}
	}
}
