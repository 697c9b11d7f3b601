package main

import (
	"fmt"
	"path/filepath"

	"github.com/weirlb/weir/engine/sim"
	"github.com/weirlb/weir/engine/sim/policy"
)

// guess asks what it is worth to C3 to be told how many balancers there are, which none is told in practice: it multiplies what a
// balancer has outstanding by their number, and so knows the whole queue where all hold alike. Weir is told nothing of the kind.
func (c *limitsCmd) guess(b *bench, r *result) error {
	if len(c.Guess) == 0 || c.Guess[0] == "none" {
		return nil
	}
	files, err := scenarioFiles(b.repo, c.Guess)
	if err != nil {
		return err
	}
	net, err := readNet(filepath.Join(b.repo, "models", "default.onnx"))
	if err != nil {
		return err
	}
	guesses := []struct {
		name, title string
		part        float64 // of the number there is
		alpha       float64 // of a new value in its averages
	}{
		{"c3_alone", "it is alone", 0, 0.9},
		{"c3_half", "half", 0.5, 0.9},
		{"c3_double", "twice", 2, 0.9},
		{"c3_slow", "the number, averages of 0.1", 1, 0.1},
		{"c3_slower", "averages of 0.02", 1, 0.02},
		{"c3_alone_slower", "alone, averages of 0.02", 0, 0.02},
	}
	policies, makers := []string{"least_conn", "c3"}, map[string]policy.New{"weir": sim.Weir(net, nil)}
	t := table{Title: "C3 that is told a wrong number of balancers: mean and 99th percentile, of least_conn's. weir: models/default.onnx, told nothing", Columns: []string{"scenario", "C3, told the number"}}
	for _, g := range guesses {
		policies, makers[g.name] = append(policies, g.name), policy.C3Changed(g.part, g.alpha)
		t.Columns = append(t.Columns, g.title)
	}
	policies = append(policies, "weir_analytic", "weir")
	t.Columns = append(t.Columns, "weir, analytic", "weir")
	for i, s := range files {
		b.say("a wrong number of balancers: %s, %d of %d", s.Name, i+1, len(files))
		rows, err := (&sim.Comparison{Scenario: s, Policies: policies, Seed: 1, Seeds: c.Seeds, Jobs: jobs(c.Jobs), Makers: makers, Progress: b.goOn}).Run()
		if err != nil {
			return err
		}
		line := []string{fmt.Sprintf("%s (%d balancers)", s.Name, s.Balancers)}
		for j := range rows[1:] {
			line = append(line, fmt.Sprintf("%.3f %.3f", rows[j+1].Ratio(&rows[0], figure("mean_ms")), rows[j+1].Ratio(&rows[0], figure("p99_ms"))))
		}
		t.Rows = append(t.Rows, line)
	}
	r.Tables = append(r.Tables, t)
	return nil
}
