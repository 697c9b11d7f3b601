package main

import (
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/sim"
	"github.com/weirlb/weir/engine/sim/policy"
	"github.com/weirlb/weir/engine/sim/scenario"
	"github.com/weirlb/weir/engine/sim/world"
)

// What limits a balancer where speeds change is measured by an oracle that is told late and by a filter: the first is to be as good as sed_oracle where it is told at
// once, the second to leave a slow peer alone, and both are to be the worse the later, and the less truly, they are told.
func TestWhoKnowsOfSlowDownsLateIsTheWorseForIt(t *testing.T) {
	s, err := scenario.Parse("slow.yaml", []byte(`
requests: 30000
warmup: 5000
arrivals: {load: 0.7}
classes: [{service_ms: {mean: 20}}]
peers: [{count: 4, slots: 2}]
events:
  - {peer: 0, from_s: 0, for_s: 3, every_s: 12, speed: 0.1}
  - {peer: 1, from_s: 6, for_s: 3, every_s: 12, speed: 0.1}
`))
	if err != nil {
		t.Fatal(err)
	}
	lasts, free, err := slowdowns(s)
	if err != nil || lasts != 3000 || free != 21000 {
		t.Fatalf("slow-downs of %v ms, %v ms apart: %v; want 3000 and 21000 (of four peers two have them)", lasts, free, err)
	}
	policies := []string{"least_conn", "sed_oracle", "at once", "late", "filter", "wrong"}
	rows, err := (&sim.Comparison{Scenario: s, Policies: policies, Seed: 1, Seeds: 1, Jobs: 2, Makers: map[string]policy.New{
		"at once": func(set *world.Setup) world.Balancer { return newLateOracle(set, 0) },
		"late":    func(set *world.Setup) world.Balancer { return newLateOracle(set, 2000) },
		"filter":  func(set *world.Setup) world.Balancer { return newFilter(set, free, lasts) },
		"wrong":   func(set *world.Setup) world.Balancer { return newFilter(set, free, 50*lasts) },
	}}).Run()
	if err != nil {
		t.Fatal(err)
	}
	mean := map[string]float64{}
	for i := range rows {
		mean[rows[i].Policy] = rows[i].Ratio(&rows[1], figure("mean_ms"))
	}
	t.Log(mean)
	if x := mean["at once"]; x < 0.98 || x > 1.02 {
		t.Errorf("told at once it has %.3f of sed_oracle's mean", x)
	}
	if mean["late"] < 1.1*mean["at once"] || mean["filter"] > 0.97*mean["least_conn"] || mean["wrong"] < 1.05*mean["filter"] {
		t.Errorf("means over sed_oracle's: %v", mean)
	}
	s.Events[0].Leave = true
	if _, _, err := slowdowns(s); err == nil || !strings.Contains(err.Error(), "speed") {
		t.Errorf("a peer that leaves: %v", err)
	}
}
