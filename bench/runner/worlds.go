package main

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weirlb/weir/engine/learn/train"
	"github.com/weirlb/weir/engine/sim"
	"github.com/weirlb/weir/engine/sim/policy"
	"github.com/weirlb/weir/engine/sim/scenario"
)

// worldsCmd asks in how many pools Weir is better than least_conn, and in how many worse: random worlds of the kinds that models are trained in, with seeds that no
// training has. The scenarios of bench/scenarios were chosen, and what is wrong in none of them stays unseen.
type worldsCmd struct {
	Model    string `default:"models/default.onnx" help:"Model of the learned policy." placeholder:"FILE"`
	Worlds   int    `default:"300" help:"How many worlds."`
	Requests int    `default:"40000" help:"Requests a world, of which the first three eighths are warm-up."`
	First    uint64 `default:"888000003" help:"Seed of the first world; each has its own, counting up."`
	Jobs     int    `help:"Runs at a time, of the three of a world. Default: one a processor."`
}

func (worldsCmd) name() string         { return "worlds" }
func (worldsCmd) limit() time.Duration { return time.Hour }

// random is one world and what came of it.
type random struct {
	Seed     uint64     `json:"seed"`
	World    string     `json:"world"`
	Analytic [2]float64 `json:"analytic"` // mean and 99th percentile, of least_conn's
	Learned  [2]float64 `json:"learned"`
}

func (c *worldsCmd) measure(b *bench) (*result, error) {
	if c.Worlds < 1 || c.Requests < 1000 {
		return nil, fmt.Errorf("--worlds must be at least 1 and --requests 1000, not %d and %d", c.Worlds, c.Requests)
	}
	net, err := readNet(filepath.Join(b.repo, c.Model))
	if err != nil {
		return nil, err
	}
	all := make([]random, c.Worlds)
	policies, makers := []string{"least_conn", "weir_analytic", "weir"}, map[string]policy.New{"weir": sim.Weir(net, nil)}
	for i := range all {
		if i%10 == 0 {
			b.say("world %d of %d", i+1, c.Worlds)
		}
		seed := c.First + uint64(i)
		s := train.World(rand.New(rand.NewPCG(seed, 0x3017d)), c.Requests)
		s.Warmup = c.Requests * 3 / 8
		s.Requests = c.Requests - s.Warmup
		rows, err := (&sim.Comparison{Scenario: s, Policies: policies, Seed: seed, Seeds: 1, Jobs: jobs(c.Jobs), Makers: makers, Progress: b.goOn}).Run()
		if err != nil {
			return nil, err
		}
		x := random{Seed: seed, World: inWords(s)}
		for j, name := range []string{"mean_ms", "p99_ms"} {
			x.Analytic[j], x.Learned[j] = rows[1].Ratio(&rows[0], figure(name)), rows[2].Ratio(&rows[0], figure(name))
		}
		all[i] = x
	}
	r := &result{
		Seeds: []uint64{c.First},
		Setup: fmt.Sprintf("weir simulate: %d random worlds (engine/learn/train/worlds.go) of %d requests, the first three eighths not counted, seeds counting up. Response times of the formulas alone and with %s, of least_conn's on the same world and seed.", c.Worlds, c.Requests, c.Model),
		Raw:   all,
	}
	r.Tables = append(r.Tables, overWorlds(all), worst(all, "mean", 0), worst(all, "99th percentile", 1))
	return r, nil
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
				v = append(v, x)
				logs += math.Log(x)
				if x > noWorse {
					above++
				}
			}
			slices.Sort(v)
			at := func(f float64) string { return fmt.Sprintf("%.3f", v[int(f*float64(len(v)-1))]) }
			t.Rows = append(t.Rows, []string{p.name, name, fmt.Sprintf("%.4f", math.Exp(logs/float64(len(v)))), at(0.1), at(0.5), at(0.9), at(1), fmt.Sprintf("%d of %d", above, len(v))})
		}
	}
	return t
}

// worst are the worlds in which the learned policy is furthest behind least_conn by figure j.
func worst(all []random, name string, j int) table {
	t := table{Title: "Worst by the " + name, Columns: []string{"seed", "learned", "formulas", "world"}}
	order := slices.Clone(all)
	slices.SortFunc(order, func(a, b random) int { return cmp.Compare(b.Learned[j], a.Learned[j]) })
	for _, x := range order[:min(12, len(order))] {
		t.Rows = append(t.Rows, []string{
			fmt.Sprint(x.Seed), fmt.Sprintf("%.3f %.3f", x.Learned[0], x.Learned[1]), fmt.Sprintf("%.3f %.3f", x.Analytic[0], x.Analytic[1]), x.World,
		})
	}
	return t
}

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
	if len(s.Events) > 0 {
		switch e := s.Events[0]; {
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
	return strings.Join(append(parts, fmt.Sprintf("%.3g s", float64(s.Total())/s.Arrivals[0].RatePerS)), "; ")
}
