package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/weirlb/weir/engine/sim/scenario"
)

// inWords describes a world in a line.
func inWords(s *scenario.Scenario) string {
	load, slow, fast := 0.0, math.Inf(1), 0.0
	for _, a := range s.Arrivals {
		load = max(load, a.RatePerS/s.CapacityPerS())
	}
	for _, p := range s.Peers {
		slow, fast = min(slow, p.Speed), max(fast, p.Speed)
	}
	parts := []string{fmt.Sprintf("%d peers of %d slots, speeds %.2g to %.2g, load %.2f", len(s.Peers), s.Peers[0].Slots, slow, fast, load)}
	if len(s.Arrivals) > 1 {
		parts[0] += fmt.Sprintf(" at most in %d steps", len(s.Arrivals))
	}
	if s.Balancers > 1 {
		parts = append(parts, fmt.Sprintf("%d balancers%s", s.Balancers, map[bool]string{true: ", reports"}[s.Peers[0].ORCA]))
	}
	for _, c := range s.Classes {
		parts = append(parts, fmt.Sprintf("%.0f %% %s of %.3g ms", 100*c.Share, c.Dist, c.MeanMS))
	}
	parts = append(parts, inTrouble(s)...)
	return strings.Join(append(parts, fmt.Sprintf("%.3g s", float64(s.Total())/s.Arrivals[0].RatePerS)), "; ")
}

// inTrouble says what happens to a world's peers. Of events of one kind the first speaks for all.
func inTrouble(s *scenario.Scenario) (parts []string) {
	failing, leaving, named := map[int]bool{}, 0, false
	var how *scenario.Fail
	for _, e := range s.Events {
		switch {
		case e.Fail != nil:
			failing[e.Peer], how = true, e.Fail
		case e.Leave:
			leaving++
		case named || e.Join && leaving > 0: // the first tells the kind of all of them; who left may come back
		default:
			named = true
			switch {
			case e.Join:
				parts = append(parts, "some join")
			case e.EveryS > 0:
				parts = append(parts, fmt.Sprintf("one at %.2f of its speed for %.3g s, in turn", e.Speed/s.Peers[e.Peer].Speed, e.ForS))
			case e.ForS > 0:
				parts = append(parts, "antagonists")
			default:
				parts = append(parts, "some change for good")
			}
		}
	}
	switch {
	case how == nil:
	case how.Refuse:
		parts = append(parts, fmt.Sprintf("%d refuse at times", len(failing)))
	default:
		parts = append(parts, fmt.Sprintf("%d fail %.2g of theirs at times after %.3g ms", len(failing), how.Share, how.AfterMS))
	}
	if leaving > 0 {
		parts = append(parts, fmt.Sprintf("%d leave", leaving))
	}
	if s.TimeoutMS > 0 {
		parts = append(parts, fmt.Sprintf("time-out %.3g ms", s.TimeoutMS))
	}
	if s.Retries > 0 {
		parts = append(parts, fmt.Sprintf("%d retries", s.Retries))
	}
	return parts
}
