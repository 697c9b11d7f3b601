package main

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/weirlb/weir/engine/learn/online"
	"github.com/weirlb/weir/engine/serve"
	"github.com/weirlb/weir/engine/sim"
	"github.com/weirlb/weir/engine/sim/policy"
	"github.com/weirlb/weir/engine/sim/scenario"
)

// scenariosCmd holds the learned policy to its targets in the simulator, scenario by scenario, beside the best classical rule.
type scenariosCmd struct {
	Model string   `default:"models/default.onnx" help:"Model of the learned policy." placeholder:"FILE"`
	Seeds int      `default:"5" help:"Seeds; figures are medians over them."`
	Only  []string `help:"Only these scenarios." placeholder:"NAME"`
	Jobs  int      `help:"Runs at a time. Default: one a processor."`
	Every float64  `default:"60" help:"Simulated seconds from one candidate of online learning to the next."`
}

func (scenariosCmd) name() string         { return "scenarios" }
func (scenariosCmd) limit() time.Duration { return 2 * time.Hour }

// classical are the rules that operators have today; oracles cheat and are no rivals.
func classical() []string {
	return []string{"round_robin", "least_conn", "p2c", "peak_ewma", "prequal", "wrr_capacity", "c3"}
}

// bound is one of the targets: a figure of the learned policy over that of another, at most so much.
type bound struct {
	scenario, figure string
	over             string // "" = an absolute time, ms
	most             float64
}

func bounds() []bound {
	return []bound{
		{"equal", "mean_ms", "least_conn", 1.03},
		{"equal", "p99_ms", "least_conn", 1.03},
		{"mixed-1slot-50", "mean_ms", "least_conn", 0.72},
		{"mixed-1slot-80", "mean_ms", "least_conn", 0.85},
		{"mixed-1slot-92", "mean_ms", "least_conn", 0.88},
		{"mixed-1slot-80", "mean_ms", "greedy_oracle", 1},
		{"mixed-1slot-92", "mean_ms", "greedy_oracle", 1},
		{"mixed-1slot-50", "p99_ms", "least_conn", 0.65},
		{"mixed-1slot-80", "p99_ms", "least_conn", 0.65},
		{"mixed-1slot-92", "p99_ms", "least_conn", 0.65},
		{"mixed-4slot-92", "mean_ms", "least_conn", 1.03},
		{"mixed-4slot-92", "p99_ms", "least_conn", 0.75},
		{"class-affinity", "mean_ms", "least_conn", 0.55},
		{"class-affinity", "p99_ms", "least_conn", 0.40},
		{"brownout-50", "mean_ms", "sed_oracle", 1.04},
		{"brownout-80", "mean_ms", "sed_oracle", 1.08},
		{"brownout-50", "p99_ms", "least_conn", 0.76},
		{"brownout-80", "p99_ms", "least_conn", 0.76},
		{"newcomers", "p99_ms", "sed_oracle", 1.1},
		{"many-balancers-orca", "mean_ms", "prequal", 1},
		{"many-balancers-orca", "p99_ms", "prequal", 1},
		{"prequal-ramp-70", "p99_ms", "prequal", 0.98},
		{"prequal-ramp-90", "p99_ms", "prequal", 0.98},
		{"park", "mean_ms", "", 700},
		{"park", "p99_ms", "", 3000},
	}
}

// noWorse is how much worse than the best classical rule the learned policy may be anywhere.
const noWorse = 1.05

func (c *scenariosCmd) measure(b *bench) (*result, error) {
	shipped, files, err := b.shipped(c.Model, c.Only)
	if err != nil {
		return nil, err
	}
	policies := append(classical(), "sed_oracle", "greedy_oracle", "weir_analytic", "weir")
	r := &result{
		Seeds: seeds(c.Seeds),
		Setup: fmt.Sprintf("weir simulate: every scenario of bench/scenarios; weir is the learned policy with %s, which learns online from nothing but its own outcomes (a candidate each %g simulated seconds), weir_analytic the same without a model. Medians over the seeds; ratios are medians of "+
			"ratios on the same seed. Oracles know what nobody can know.", c.Model, c.Every),
	}
	shown := table{Title: "Response times, ms, and what they are of least_conn's (mean, 99th percentile); best is the best classical rule", Columns: []string{
		"scenario", "least_conn", "best", "analytic", "learned", "sed_oracle", "learned / best", "which",
	}}
	met := map[string]float64{}
	for i, s := range files {
		b.say("%s, %d of %d", s.Name, i+1, len(files))
		cmp := sim.Comparison{Scenario: s, Policies: policies, Seed: 1, Seeds: c.Seeds, Jobs: jobs(c.Jobs), Makers: map[string]policy.New{"weir": sim.Weir(shipped, &sim.Learn{EveryS: c.Every})}, Progress: b.goOn}
		rows, err := cmp.Run()
		if err != nil {
			return nil, err
		}
		row := func(name string) *sim.Row {
			for i := range rows {
				if rows[i].Policy == name {
					return &rows[i]
				}
			}
			return nil
		}
		weir, least := row("weir"), row("least_conn")
		cells := map[string]string{}
		worst := map[string]float64{}
		best := map[string]string{}
		for _, f := range []sim.Figure{figure("mean_ms"), figure("p99_ms")} {
			for _, rival := range classical() {
				if best[f.Name] == "" || row(rival).Median(f) < row(best[f.Name]).Median(f) {
					best[f.Name] = rival
				}
			}
			worst[f.Name] = weir.Ratio(row(best[f.Name]), f)
			r.Targets = append(r.Targets, atMost(fmt.Sprintf("%s %s over the best classical rule's (%s)", s.Name, f.Name, best[f.Name]), noWorse, worst[f.Name], "x"))
			for name, x := range map[string]*sim.Row{"best": row(best[f.Name]), "analytic": row("weir_analytic"), "learned": weir, "sed": row("sed_oracle")} {
				cells[name] += fmt.Sprintf(" %.3f", x.Ratio(least, f))
			}
			cells["least"] += fmt.Sprintf(" %.0f", least.Median(f))
			for _, t := range bounds() {
				if t.scenario != s.Name || t.figure != f.Name {
					continue
				}
				x := weir.Median(f)
				what := fmt.Sprintf("%s %s", t.scenario, t.figure)
				if t.over != "" {
					x = weir.Ratio(row(t.over), f)
					what += " over " + t.over + "'s"
				}
				met[what] = x
				r.Targets = append(r.Targets, atMost(what, t.most, x, map[bool]string{true: "ms", false: "x"}[t.over == ""]))
			}
		}
		if strings.HasPrefix(s.Name, "fast-fail") {
			f := figure("failed")
			share := 100 * weir.Median(f) / weir.Median(figure("requests"))
			limit := 0.5
			if s.Retries > 0 {
				limit = 0
			}
			r.Targets = append(r.Targets, atMost(s.Name+" failed requests", limit, share, "%"))
		}
		shown.Rows = append(shown.Rows, []string{
			s.Name, strings.TrimSpace(cells["least"]), strings.TrimSpace(cells["best"]), strings.TrimSpace(cells["analytic"]), strings.TrimSpace(cells["learned"]),
			strings.TrimSpace(cells["sed"]), fmt.Sprintf("%.3f %.3f", worst["mean_ms"], worst["p99_ms"]), best["mean_ms"] + " " + best["p99_ms"],
		})
	}
	r.Tables = append(r.Tables, shown)
	r.Raw = met
	return r, nil
}

func figure(name string) sim.Figure {
	for _, f := range sim.Figures() {
		if f.Name == name {
			return f
		}
	}
	panic("no figure " + name)
}

func seeds(n int) (s []uint64) {
	for i := range n {
		s = append(s, uint64(i)+1)
	}
	return s
}

func jobs(n int) int {
	if n < 1 {
		return runtime.GOMAXPROCS(0)
	}
	return n
}

// goOn stops a simulation when the measurement is stopped.
func (b *bench) goOn(int) error { return b.ctx.Err() }

// shipped reads what most measurements in the simulator begin with: the model, a path in the repository, and the scenarios.
func (b *bench) shipped(path string, only []string) (online.Model, []*scenario.Scenario, error) {
	m, err := b.model(path)
	if err != nil {
		return m, nil, err
	}
	files, err := scenarioFiles(b.repo, only)
	return m, files, err
}

// model reads a model by its path in the repository.
func (b *bench) model(path string) (online.Model, error) {
	return serve.ReadOnline(filepath.Join(b.repo, path))
}

func scenarioFiles(repo string, only []string) ([]*scenario.Scenario, error) {
	paths, err := filepath.Glob(filepath.Join(repo, "bench/scenarios/*.yaml"))
	if err != nil || len(paths) == 0 {
		return nil, fmt.Errorf("no scenarios in %s/bench/scenarios", repo)
	}
	want := map[string]bool{}
	for _, o := range only {
		want[o] = true
	}
	var all []*scenario.Scenario
	for _, p := range paths {
		if len(want) > 0 && !want[strings.TrimSuffix(filepath.Base(p), ".yaml")] {
			continue
		}
		s, err := scenario.Load(p)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("none of %v is in bench/scenarios", only)
	}
	return all, nil
}
