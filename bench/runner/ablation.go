package main

import (
	"fmt"
	"time"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/online"
	"github.com/weirlb/weir/engine/learn/train"
	"github.com/weirlb/weir/engine/sim"
	"github.com/weirlb/weir/engine/sim/policy"
	"github.com/weirlb/weir/engine/sim/world"
)

// ablationCmd shows what each part of the learned policy buys, scenario by scenario.
type ablationCmd struct {
	Model  string   `default:"models/default.onnx" help:"Model of the learned policy." placeholder:"FILE"`
	Seeds  int      `default:"3" help:"Seeds; figures are medians over them."`
	Only   []string `help:"Only these scenarios." placeholder:"NAME"`
	Jobs   int      `help:"Runs at a time. Default: one a processor."`
	Worlds int      `default:"300" help:"Worlds a round of the model that is taught what requests cost those after them, too."`
}

func (ablationCmd) name() string         { return "ablation" }
func (ablationCmd) limit() time.Duration { return 3 * time.Hour }

// imposedPart is the part of the delay imposed on later requests that the model with it in its target is taught.
const imposedPart = 0.75

// part is one variant.
type part struct {
	name, title string
	make        policy.New
}

func (c *ablationCmd) measure(b *bench) (*result, error) {
	parts, err := c.parts(b)
	if err != nil {
		return nil, err
	}
	files, err := scenarioFiles(b.repo, c.Only)
	if err != nil {
		return nil, err
	}
	r := &result{
		Seeds: seeds(c.Seeds),
		Setup: fmt.Sprintf("weir simulate. Each cell is mean and 99th percentile over those of least_conn on the same seed, median over the seeds. %s is taught how long requests take; what they cost those after them is "+
			"in the price that it corrects. The other is taught that as well: the same recipe but for --imposed %g and %d worlds a round.", c.Model, imposedPart, c.Worlds),
	}
	makers := map[string]policy.New{}
	policies := []string{"least_conn"}
	t := table{Title: "Mean and 99th percentile, of least_conn's", Columns: []string{"scenario"}}
	for _, p := range parts {
		makers[p.name] = p.make
		policies = append(policies, p.name)
		t.Columns = append(t.Columns, p.title)
	}
	sum := make([][2]float64, len(parts))
	for i, s := range files {
		b.say("%s, %d of %d", s.Name, i+1, len(files))
		cmp := sim.Comparison{Scenario: s, Policies: policies, Seed: 1, Seeds: c.Seeds, Jobs: jobs(c.Jobs), Makers: makers, Progress: b.goOn}
		rows, err := cmp.Run()
		if err != nil {
			return nil, err
		}
		line := []string{s.Name}
		for j := range parts {
			mean, p99 := rows[j+1].Ratio(&rows[0], figure("mean_ms")), rows[j+1].Ratio(&rows[0], figure("p99_ms"))
			sum[j][0] += mean / float64(len(files))
			sum[j][1] += p99 / float64(len(files))
			line = append(line, fmt.Sprintf("%.3f %.3f", mean, p99))
		}
		t.Rows = append(t.Rows, line)
	}
	last := []string{"mean over scenarios"}
	for _, s := range sum {
		last = append(last, fmt.Sprintf("%.3f %.3f", s[0], s[1]))
	}
	t.Rows = append(t.Rows, last)
	r.Tables = append(r.Tables, t)
	return r, nil
}

func (c *ablationCmd) parts(b *bench) ([]part, error) {
	shipped, err := b.model(c.Model)
	if err != nil {
		return nil, err
	}
	b.say("training with the delay imposed in the target")
	imposed, err := train.Run(b.ctx, train.Options{Seed: 1, Worlds: c.Worlds, Imposed: imposedPart, Jobs: jobs(c.Jobs), Progress: func(done float64, line string) {
		b.say("%3.0f %% %s", 100*done, line)
	}})
	if err != nil {
		return nil, err
	}
	noDelay := policy.Weir(func(*world.Setup) policy.Variant {
		return policy.Variant{Policy: &decide.Analytic{Own: true}, Explore: -1}
	})
	analytic, err := policy.ByName("weir_analytic")
	if err != nil {
		return nil, err
	}
	noWork := policy.Weir(func(*world.Setup) policy.Variant {
		return policy.Variant{Policy: &decide.Learned{Model: shipped.Net.Predictor()}, Explore: -1, NoSizes: true}
	})
	return []part{
		{"analytic_own", "analytic, own time", noDelay},
		{"analytic", "analytic", analytic},
		{"learned_imposed", "model, delay imposed in its target", sim.Weir(online.Model{ID: "imposed", Net: imposed.Net}, nil)},
		{"learned_nowork", "model, no outstanding work", noWork},
		{"learned", "model", sim.Weir(shipped, nil)},
		{"online", "model, online", sim.Weir(shipped, &sim.Learn{EveryS: 60})},
	}, nil
}
