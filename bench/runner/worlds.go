package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/weirlb/weir/engine/learn/train"
	"github.com/weirlb/weir/engine/sim"
	"github.com/weirlb/weir/engine/sim/policy"
)

// worldsCmd asks in how many pools Weir is better than least_conn, and in how many worse: random worlds of the kinds that models are trained in, with seeds that no
// training has. The scenarios of bench/scenarios were chosen, and what is wrong in none of them stays unseen.
type worldsCmd struct {
	Model    string `default:"models/default.onnx" help:"Model of the learned policy." placeholder:"FILE"`
	Worlds   int    `default:"300" help:"How many worlds."`
	Requests int    `default:"40000" help:"Requests a world, of which the first three eighths are warm-up."`
	First    uint64 `default:"888000003" help:"Seed of the first world; each has its own, counting up."`
	Trouble  bool   `help:"Worlds in which peers fail, refuse and leave as well, with time-outs and retries."`
	Jobs     int    `help:"Runs at a time, of the three of a world. Default: one a processor."`
}

func (c worldsCmd) name() string {
	if c.Trouble {
		return "worlds-trouble"
	}
	return "worlds"
}

func (worldsCmd) limit() time.Duration { return time.Hour }

// random is one world and what came of it.
type random struct {
	Seed     uint64     `json:"seed"`
	World    string     `json:"world"`
	Analytic [2]float64 `json:"analytic"` // mean and 99th percentile, of least_conn's; 0 = not compared, or one of the two answered nothing
	Learned  [2]float64 `json:"learned"`
	Failed   [3]float64 `json:"failed"` // requests: of least_conn, analytic, learned
}

func (c *worldsCmd) measure(b *bench) (*result, error) {
	if c.Worlds < 1 || c.Requests < 1000 {
		return nil, fmt.Errorf("--worlds must be at least 1 and --requests 1000, not %d and %d", c.Worlds, c.Requests)
	}
	shipped, err := b.model(c.Model)
	if err != nil {
		return nil, err
	}
	all := make([]random, c.Worlds)
	policies, makers := []string{"least_conn", "weir_analytic", "weir"}, map[string]policy.New{"weir": sim.Weir(shipped, nil)}
	for i := range all {
		if i%10 == 0 {
			b.say("world %d of %d", i+1, c.Worlds)
		}
		seed := c.First + uint64(i)
		rnd := train.Source(seed)
		s := train.World(rnd, c.Requests)
		if c.Trouble {
			train.Trouble(rnd, s, c.Requests)
		}
		s.Warmup = c.Requests * 3 / 8
		s.Requests = c.Requests - s.Warmup
		rows, err := (&sim.Comparison{Scenario: s, Policies: policies, Seed: seed, Seeds: 1, Jobs: jobs(c.Jobs), Makers: makers, Progress: b.goOn}).Run()
		if err != nil {
			return nil, err
		}
		x := random{Seed: seed, World: inWords(s)}
		for j, name := range []string{"mean_ms", "p99_ms"} {
			x.Analytic[j], x.Learned[j] = ratioOrNone(&rows[1], &rows[0], figure(name)), ratioOrNone(&rows[2], &rows[0], figure(name))
		}
		for j := range rows {
			x.Failed[j] = rows[j].Mean(figure("failed"))
		}
		all[i] = x
	}
	r := &result{
		Seeds: []uint64{c.First},
		Setup: fmt.Sprintf("weir simulate: %d random worlds (engine/learn/train/worlds.go) of %d requests, the first three eighths not counted, seeds counting up. Response times of the formulas alone and with %s, of least_conn's on the same world and seed.", c.Worlds, c.Requests, c.Model),
		Raw:   all,
	}
	if c.Trouble {
		r.Setup += fmt.Sprintf(" Peers fail, refuse and leave there, with time-outs and retries (trouble.go); least_conn sets nobody aside. Response times are of what was answered, "+
			"and compared where about as many requests fail: what fails at once makes room for the others. Alike is within %.0f %% of the requests.", 100*alikeFailed)
		r.Tables = append(r.Tables, failedIn(all))
		compared := slices.Clone(all)
		for i := range compared {
			compared[i].alike(float64(c.Requests - c.Requests*3/8))
		}
		all = compared
	}
	r.Tables = append(r.Tables, overWorlds(all))
	r.Tables = append(r.Tables, worst(all, "mean", func(x *random) float64 { return x.Learned[0] }), worst(all, "99th percentile", func(x *random) float64 { return x.Learned[1] }))
	if c.Trouble {
		r.Tables = append(r.Tables, worst(all, "requests that failed", moreFailed))
	}
	return r, nil
}

// ratioOrNone is 0 where one of the two answered nothing.
func ratioOrNone(row, base *sim.Row, f sim.Figure) float64 {
	if x := row.Ratio(base, f); !math.IsNaN(x) {
		return x
	}
	return 0
}

// alikeFailed is by how much of the requests those that fail may differ for response times to be compared.
const alikeFailed = 0.01

// alike leaves the response times out of a policy with which clearly more or fewer of the requests fail than with least_conn.
func (x *random) alike(requests float64) {
	for j, times := range [...]*[2]float64{&x.Analytic, &x.Learned} {
		if math.Abs(x.Failed[1+j]-x.Failed[0]) > alikeFailed*requests {
			*times = [2]float64{}
		}
	}
}

// overWorlds is the table of how the worlds lie.
func overWorlds(all []random) table {
	t := table{Title: "Over the worlds", Columns: []string{"policy", "figure", "geometric mean", "best tenth", "median", "worst tenth", "worst", "above 1.05"}}
	for _, p := range []struct {
		name string
		of   func(*random) [2]float64
	}{
		{"formulas", func(x *random) [2]float64 { return x.Analytic }},
		{"learned", func(x *random) [2]float64 { return x.Learned }},
	} {
		for j, name := range []string{"mean", "99th percentile"} {
			v, logs, above := make([]float64, 0, len(all)), 0.0, 0
			for i := range all {
				x := p.of(&all[i])[j]
				if x == 0 {
					continue
				}
				v = append(v, x)
				logs += math.Log(x)
				if x > noWorse {
					above++
				}
			}
			if len(v) == 0 {
				t.Rows = append(t.Rows, []string{p.name, name, "", "", "", "", "", "0 of 0"})
				continue
			}
			slices.Sort(v)
			at := func(f float64) string { return fmt.Sprintf("%.3f", v[int(f*float64(len(v)-1))]) }
			t.Rows = append(t.Rows, []string{p.name, name, fmt.Sprintf("%.4f", math.Exp(logs/float64(len(v)))), at(0.1), at(0.5), at(0.9), at(1), fmt.Sprintf("%d of %d", above, len(v))})
		}
	}
	return t
}

// failedIn is the table of the requests that failed, over all worlds, and in how many worlds they are clearly more or fewer than least_conn's.
func failedIn(all []random) table {
	t := table{Title: "Requests that failed", Columns: []string{"policy", "failed", "worlds with more by 0.3 and 30", "with as many fewer"}}
	for j, name := range []string{"least_conn", "formulas", "learned"} {
		sum, more, fewer := 0.0, 0, 0
		for i := range all {
			least, x := all[i].Failed[0], all[i].Failed[j]
			sum += x
			if x > 1.3*least+30 {
				more++
			}
			if 1.3*x+30 < least {
				fewer++
			}
		}
		t.Rows = append(t.Rows, []string{name, fmt.Sprintf("%.0f", sum), fmt.Sprint(more), fmt.Sprint(fewer)})
	}
	return t
}

// moreFailed is by how many times more requests fail than with least_conn; so few that they are chance count little.
func moreFailed(x *random) float64 { return (x.Failed[2] + 30) / (x.Failed[0] + 30) }

// worst are the worlds in which the learned policy is furthest behind least_conn by a figure.
func worst(all []random, name string, of func(*random) float64) table {
	t := table{Title: "Worst by the " + name, Columns: []string{"seed", "learned", "formulas", "failed, least_conn's", "world"}}
	order := slices.Clone(all)
	slices.SortFunc(order, func(a, b random) int { return cmp.Compare(of(&b), of(&a)) })
	for _, x := range order[:min(12, len(order))] {
		t.Rows = append(t.Rows, []string{
			fmt.Sprint(x.Seed), fmt.Sprintf("%.3f %.3f", x.Learned[0], x.Learned[1]), fmt.Sprintf("%.3f %.3f", x.Analytic[0], x.Analytic[1]),
			fmt.Sprintf("%.0f %.0f", x.Failed[2], x.Failed[0]), x.World,
		})
	}
	return t
}
