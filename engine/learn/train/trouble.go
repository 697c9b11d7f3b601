package train

import (
	"math/rand/v2"

	"github.com/weirlb/weir/engine/sim/scenario"
)

// Trouble adds to a random world of so many requests what goes wrong with peers beside their speed. No model is taught by it: whether to use a peer that
// fails is not a model's to decide. It is for looking whether the rules that do decide make anything worse.
//
// Up to half of the peers fail, for good, once, or again and again: some of their requests at once with 500; all with 503 within a mean service time or 504 after ten
// of them; or they refuse. Up to a third leave, some of which come back cold. Every second world has a time-out of 10 to 100 mean service times; requests are tried one to
// three times, and tell their size in three of ten worlds.
func Trouble(rnd *rand.Rand, s *scenario.Scenario, requests int) {
	lengthS := float64(requests) / s.Arrivals[0].RatePerS
	mean := 0.0
	for _, c := range s.Classes {
		mean += c.Share * c.MeanMS
	}
	if rnd.Float64() < 0.3 {
		for i := range s.Classes {
			s.Classes[i].WeightHint = true
		}
	}
	if rnd.Float64() < 0.6 {
		failures(rnd, s, lengthS, mean)
	}
	if rnd.Float64() < 0.3 && len(s.Peers) > 2 {
		departures(rnd, s, lengthS)
	}
	if rnd.Float64() < 0.5 {
		s.TimeoutMS = mean * logUniform(rnd, 10, 100)
	}
	s.Retries = rnd.IntN(3)
}

func failures(rnd *rand.Rand, s *scenario.Scenario, lengthS, mean float64) {
	kind := rnd.IntN(5)
	for _, p := range rnd.Perm(len(s.Peers))[:1+rnd.IntN(max(1, len(s.Peers)/2))] {
		e := scenario.Event{Peer: p, FromS: lengthS * (0.1 + 0.8*rnd.Float64())}
		if rnd.Float64() < 0.6 {
			e.ForS = max(lengthS*logUniform(rnd, 0.01, 0.2), 0.01)
			if rnd.Float64() < 0.4 {
				e.EveryS = e.ForS * (1.5 + 4*rnd.Float64())
			}
		}
		switch kind {
		case 0:
			e.Fail = &scenario.Fail{Status: 500, AfterMS: 1, Share: 0.1 + 0.9*rnd.Float64()}
		case 1:
			e.Fail = &scenario.Fail{Status: 503, AfterMS: mean * rnd.Float64(), Share: 1}
		case 2:
			e.Fail = &scenario.Fail{Refuse: true, Share: 1}
		case 3:
			e.Fail = &scenario.Fail{Status: 504, AfterMS: mean * 10, Share: 1}
		default:
			e.Fail = &scenario.Fail{Status: 500, AfterMS: 1, Share: 0.02 + 0.05*rnd.Float64()}
		}
		s.Events = append(s.Events, e)
	}
}

func departures(rnd *rand.Rand, s *scenario.Scenario, lengthS float64) {
	joins := map[int]bool{}
	for _, e := range s.Events {
		joins[e.Peer] = joins[e.Peer] || e.Join
	}
	for _, p := range rnd.Perm(len(s.Peers))[:1+rnd.IntN(max(1, len(s.Peers)/3))] {
		from := lengthS * (0.3 + 0.5*rnd.Float64())
		if joins[p] {
			continue
		}
		s.Events = append(s.Events, scenario.Event{Peer: p, FromS: from, Leave: true})
		if rnd.Float64() < 0.5 {
			s.Events = append(s.Events, scenario.Event{
				Peer: p, FromS: from + 0.1*lengthS, Join: true, WarmS: 0.1 * lengthS * rnd.Float64(), ColdFactor: 1 + 4*rnd.Float64(),
			})
		}
	}
}
