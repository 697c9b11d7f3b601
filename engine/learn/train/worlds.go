package train

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/weirlb/weir/engine/sim/scenario"
)

// Source is what the world of a seed is drawn with.
func Source(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x3017d)) }

// World draws a random scenario: the kinds of pools the model is to be of use for. Nothing in it is taken from the benchmark's
// scenarios; they share the same kinds of trouble because both mean to cover what operators have.
//
// Ranges: 2 to 30 peers of 1 to 16 slots, equal or up to e^0.8 apart in speed; 1 to 4 classes, alike or 20 times apart in size, with
// or without affinity; service times from 5 to 600 ms, so that the 100 ms between tables are long or short against them; loads from
// 0.3 to 0.95, steady or in steps; peers that slow down for a while, or for good, or join cold; 1 to 8 balancers.
func World(rnd *rand.Rand, requests int) *scenario.Scenario {
	s := &scenario.Scenario{Name: "random", Warmup: requests, Requests: 1, Episodes: 1, Balancers: 1}
	unit := logUniform(rnd, 5, 600)
	classes(rnd, s, unit)
	peers(rnd, s)
	if rnd.Float64() < 0.25 {
		s.Balancers = 2 + rnd.IntN(7)
		orca := rnd.Float64() < 0.6
		for i := range s.Peers {
			s.Peers[i].ORCA = orca
		}
	}
	load := 0.3 + 0.65*math.Sqrt(rnd.Float64()) // more of the high ones, where it matters
	s.Arrivals = []scenario.Step{{RatePerS: load * s.CapacityPerS()}}
	lengthS := float64(requests) / s.Arrivals[0].RatePerS
	if rnd.Float64() < 0.2 { // steps about the load
		n := 2 + rnd.IntN(4)
		s.Arrivals = nil
		for range n {
			f := min(load*(0.6+0.7*rnd.Float64()), 1.05)
			s.Arrivals = append(s.Arrivals, scenario.Step{ForS: max(lengthS/float64(2*n), 0.01), RatePerS: f * s.CapacityPerS()})
		}
	}
	events(rnd, s, lengthS)
	return s
}

func logUniform(rnd *rand.Rand, lo, hi float64) float64 {
	return lo * math.Exp(rnd.Float64()*math.Log(hi/lo))
}

func classes(rnd *rand.Rand, s *scenario.Scenario, unit float64) {
	n := 1
	if rnd.Float64() < 0.4 {
		n = 2 + rnd.IntN(3)
	}
	sum := 0.0
	for i := range n {
		c := scenario.Class{Name: fmt.Sprint("c", i), Share: 0.05 + rnd.Float64(), MeanMS: unit}
		if n > 1 {
			c.MeanMS = logUniform(rnd, unit/4.5, unit*4.5)
			c.Share /= c.MeanMS // heavy requests are rarer
		}
		switch rnd.IntN(5) {
		case 0:
			c.Dist = scenario.Fixed
		case 1, 2:
			c.Dist = scenario.Exp
		case 3:
			c.Dist, c.CV = scenario.Lognormal, 0.3+1.7*rnd.Float64()
		default:
			c.Dist, c.Shape = scenario.Pareto, 1.8+1.5*rnd.Float64()
		}
		sum += c.Share
		s.Classes = append(s.Classes, c)
	}
	for i := range s.Classes {
		s.Classes[i].Share /= sum
	}
}

func peers(rnd *rand.Rand, s *scenario.Scenario) {
	n := int(logUniform(rnd, 2, 31))
	slots := []int{1, 1, 2, 4, 4, 8, 16}[rnd.IntN(7)]
	vary := 0.0
	if rnd.Float64() < 0.7 {
		vary = 0.8 * rnd.Float64()
	}
	affine := 0.0
	if len(s.Classes) > 1 && rnd.Float64() < 0.5 {
		affine = rnd.Float64()
	}
	mixed := rnd.Float64() < 0.2
	for range n {
		p := scenario.Peer{Slots: slots, Speed: math.Exp(vary * rnd.NormFloat64())}
		if mixed {
			p.Slots = 1 + rnd.IntN(2*slots)
		}
		for range s.Classes {
			p.Affinity = append(p.Affinity, math.Exp(affine*rnd.NormFloat64()))
		}
		s.Peers = append(s.Peers, p)
	}
}

func events(rnd *rand.Rand, s *scenario.Scenario, lengthS float64) {
	add := func(e scenario.Event) { s.Events = append(s.Events, e) }
	n := len(s.Peers)
	switch rnd.IntN(6) {
	case 0: // one after the other slows down
		f := 0.1 + 0.5*rnd.Float64()
		forS := max(lengthS*logUniform(rnd, 0.004, 0.1), 0.002)
		for p := range n {
			add(scenario.Event{Peer: p, FromS: forS * float64(p), ForS: forS, EveryS: forS * float64(n), Speed: s.Peers[p].Speed * f})
		}
	case 1: // antagonists come and go
		for p := range n {
			for from := lengthS * 0.1 * rnd.Float64(); from < lengthS; {
				forS := max(lengthS*logUniform(rnd, 0.005, 0.1), 0.002)
				add(scenario.Event{Peer: p, FromS: from, ForS: forS, Speed: s.Peers[p].Speed * logUniform(rnd, 0.35, 1.5)})
				from += forS * (1 + 3*rnd.Float64())
			}
		}
	case 2: // some change for good
		for p := range n {
			if rnd.Float64() < 0.4 {
				add(scenario.Event{Peer: p, FromS: lengthS * rnd.Float64(), Speed: s.Peers[p].Speed * logUniform(rnd, 0.2, 2)})
			}
		}
	case 3: // some come later, cold
		for p := 1; p < n; p++ {
			if rnd.Float64() < 0.3 {
				add(scenario.Event{Peer: p, FromS: lengthS * 0.8 * rnd.Float64(), Join: true, WarmS: lengthS * 0.2 * rnd.Float64(), ColdFactor: 1 + 5*rnd.Float64()})
			}
		}
	}
}
