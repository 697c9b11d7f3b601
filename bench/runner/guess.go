package main

import (
	"fmt"
	"time"

	"github.com/weirlb/weir/engine/sim"
	"github.com/weirlb/weir/engine/sim/policy"
)

// guessCmd asks what it is worth to C3 to be told how many balancers there are, which nobody tells it in practice: it multiplies what a
// balancer has outstanding by their number, and so knows the whole queue where all hold alike. Weir is told nothing of the kind.
type guessCmd struct {
	Model string   `default:"models/default.onnx" help:"Model of the learned policy." placeholder:"FILE"`
	Seeds int      `default:"5" help:"Seeds; figures are medians over them."`
	Only  []string `default:"many-balancers,many-balancers-orca" help:"Scenarios." placeholder:"NAME"`
	Jobs  int      `help:"Runs at a time. Default: one a processor."`
}

func (guessCmd) name() string         { return "guess" }
func (guessCmd) limit() time.Duration { return time.Hour }

func (c *guessCmd) measure(b *bench) (*result, error) {
	shipped, files, err := b.shipped(c.Model, c.Only)
	if err != nil {
		return nil, err
	}
	r := &result{
		Seeds: seeds(c.Seeds),
		Setup: fmt.Sprintf("weir simulate. Each cell is mean and 99th percentile over those of least_conn on the same seed, median over the seeds. C3 takes 0.9 of each new value in its averages where nothing else is said. weir has %s and is told nothing.", c.Model),
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
	policies, makers := []string{"least_conn", "c3"}, map[string]policy.New{"weir": sim.Weir(shipped, nil)}
	t := table{Title: "C3 that is told another number of balancers than there are, or averages more slowly: mean and 99th percentile, of least_conn's", Columns: []string{"scenario", "C3, told the number"}}
	for _, g := range guesses {
		policies, makers[g.name] = append(policies, g.name), policy.C3Changed(g.part, g.alpha)
		t.Columns = append(t.Columns, g.title)
	}
	policies = append(policies, "weir_analytic", "weir")
	t.Columns = append(t.Columns, "weir, analytic", "weir")
	for i, s := range files {
		b.say("%s, %d of %d", s.Name, i+1, len(files))
		rows, err := (&sim.Comparison{Scenario: s, Policies: policies, Seed: 1, Seeds: c.Seeds, Jobs: jobs(c.Jobs), Makers: makers, Progress: b.goOn}).Run()
		if err != nil {
			return nil, err
		}
		t.Rows = append(t.Rows, cells(fmt.Sprintf("%s (%d balancers)", s.Name, s.Balancers), rows))
	}
	r.Tables = append(r.Tables, t)
	return r, nil
}
