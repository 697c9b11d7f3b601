package main

import (
	"fmt"
	"math"
	"time"

	"github.com/weirlb/weir/engine/sim"
	"github.com/weirlb/weir/engine/sim/policy"
)

// convergenceCmd asks how far Weir is from its final mean after so many requests a peer. Worlds that stay as they are only: in others there is no final mean.
type convergenceCmd struct {
	Model string   `default:"models/default.onnx" help:"Model of the learned policy." placeholder:"FILE"`
	Seeds int      `default:"16" help:"Seeds; figures are geometric means over them."`
	After int      `default:"2000" help:"Requests a peer before it is looked at."`
	Only  []string `default:"equal,mixed-1slot-50,mixed-1slot-80,mixed-1slot-92,mixed-4slot-92,class-affinity,uneven-slots" help:"Scenarios." placeholder:"NAME"`
	Jobs  int      `help:"Runs at a time. Default: one a processor."`
	Every float64  `default:"60" help:"Simulated seconds from one candidate of online learning to the next."`
}

func (convergenceCmd) name() string         { return "convergence" }
func (convergenceCmd) limit() time.Duration { return time.Hour }

func (c *convergenceCmd) measure(b *bench) (*result, error) {
	shipped, files, err := b.shipped(c.Model, c.Only)
	if err != nil {
		return nil, err
	}
	r := &result{
		Seeds: seeds(c.Seeds),
		Setup: fmt.Sprintf("weir simulate, with %s, learning online. The mean response time of the requests from %d to %d a peer, and from %d to %d, each over that of least_conn in the same time, which takes off what chance did to both.", c.Model, c.After, 3*c.After, 5*c.After, 10*c.After),
	}
	t := table{Title: "Mean over least_conn's, geometric mean over the seeds ± its standard error", Columns: []string{"scenario", "soon", "in the end", "soon / in the end"}}
	for i, s := range files {
		b.say("%s, %d of %d", s.Name, i+1, len(files))
		// logs are those of Weir's mean over least_conn's, by seed.
		logs := func(from, to int) ([]float64, error) {
			part := *s
			part.Warmup, part.Requests, part.Episodes = from*len(s.Peers), (to-from)*len(s.Peers), 1
			rows, err := (&sim.Comparison{
				Scenario: &part, Policies: []string{"least_conn", "weir"}, Seed: 1, Seeds: c.Seeds, Jobs: jobs(c.Jobs), Progress: b.goOn,
				Makers: map[string]policy.New{"weir": sim.Weir(shipped, &sim.Learn{EveryS: c.Every})},
			}).Run()
			if err != nil {
				return nil, err
			}
			all := make([]float64, c.Seeds)
			for k := range all {
				all[k] = math.Log(rows[1].Results[k].MeanMS / rows[0].Results[k].MeanMS)
			}
			return all, nil
		}
		soon, err := logs(c.After, 3*c.After)
		if err != nil {
			return nil, err
		}
		late, err := logs(5*c.After, 10*c.After)
		if err != nil {
			return nil, err
		}
		apart := make([]float64, c.Seeds)
		for k := range apart {
			apart[k] = soon[k] - late[k]
		}
		ratio, _ := geometric(apart)
		t.Rows = append(t.Rows, []string{s.Name, geometricText(soon), geometricText(late), geometricText(apart)})
		r.Targets = append(r.Targets, atMost(fmt.Sprintf("%s, mean after %d requests a peer over that in the end", s.Name, c.After), 1.03, ratio, "x"))
	}
	r.Tables = append(r.Tables, t)
	return r, nil
}

// geometric is the geometric mean of what these are the logarithms of, and its standard error.
func geometric(logs []float64) (mean, err float64) {
	n, sum, squares := float64(len(logs)), 0.0, 0.0
	for _, x := range logs {
		sum += x
	}
	for _, x := range logs {
		squares += (x - sum/n) * (x - sum/n)
	}
	mean = math.Exp(sum / n)
	return mean, mean * math.Sqrt(squares/max(n-1, 1)/n)
}

func geometricText(logs []float64) string {
	mean, err := geometric(logs)
	return fmt.Sprintf("%.3f ± %.3f", mean, err)
}
