package decide_test

import (
	"math"
	"testing"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/pool"
)

func TestWhatWarmPeersCannotCarryIsWhatComesAndWhatWaitsOverWhatTheyServe(t *testing.T) {
	const up, ramps = pool.Up, pool.SlowStart
	type peer struct {
		state    pool.State
		out      bool
		rate     float64 // requests a ms; each peer serves 0.4
		inFlight int
	}
	for name, c := range map[string]struct {
		peers []peer
		want  float64
	}{
		"enough":                       {[]peer{{state: up, rate: 0.3, inFlight: 4}, {state: ramps}}, 0},
		"twice what it serves":         {[]peer{{state: up, rate: 0.8, inFlight: 4}, {state: ramps}}, 0.5},
		"as much, half at the new one": {[]peer{{state: up, rate: 0.4, inFlight: 4}, {state: ramps, rate: 0.4}}, 0.5},
		"enough, but many wait":        {[]peer{{state: up, rate: 0.4, inFlight: 16}, {state: ramps}}, 0.5},
		"the other is out":             {[]peer{{state: up, rate: 0.8}, {state: up, out: true}, {state: ramps}}, 0.5},
		"nobody is warm":               {[]peer{{state: ramps, rate: 2}}, 0},
		"nobody at all":                {nil, 0},
	} {
		got := decide.Short(len(c.peers), func(i int) (pool.View, estimate.PeerView) {
			p := c.peers[i]
			return pool.View{State: p.state, Usable: !p.out}, estimate.PeerView{Concurrency: 4, WorkMS: 10, TotalRate: p.rate, InFlight: p.inFlight}
		})
		if math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
