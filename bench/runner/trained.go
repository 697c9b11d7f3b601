package main

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/online"
	"github.com/weirlb/weir/engine/learn/train"
	"github.com/weirlb/weir/engine/sim"
	"github.com/weirlb/weir/engine/sim/policy"
)

// trainedCmd trains for a scenario whose requests tell their size, as weir train --scenario does, and plays what comes of it with seeds that the training has not.
type trainedCmd struct {
	Model string   `default:"models/default.onnx" help:"Model whose network is kept." placeholder:"FILE"`
	Seeds int      `default:"24" help:"Seeds; figures are medians over them."`
	Tries int      `default:"40" help:"Prices tried at most."`
	Only  []string `default:"park" help:"Scenarios, each trained for by itself; requests must tell their size." placeholder:"NAME"`
	Jobs  int      `help:"Runs at a time. Default: one a processor."`
}

// few is the number of seeds that the other scenarios' targets are medians over. The 99th percentile in the Park world deviates by 150 ms from one seed to another, so with these alone
// it is chance whether a price that is right in the mean of many is above a limit.
const few = 5

func (trainedCmd) name() string         { return "trained" }
func (trainedCmd) limit() time.Duration { return time.Hour }

func (c *trainedCmd) measure(b *bench) (*result, error) {
	shipped, files, err := b.shipped(c.Model, c.Only)
	if err != nil {
		return nil, err
	}
	r := &result{
		Seeds: seeds(c.Seeds),
		Setup: fmt.Sprintf("weir train --seed 1 --tries %d --scenario F, then weir simulate. The training has other seeds. trained and default have the network of %s and do not learn online. Medians over the seeds, and what they are with the first five alone.", c.Tries, c.Model),
	}
	t := table{Title: "Response times, ms (mean, 99th percentile)", Columns: []string{"scenario", "seeds", "least_conn", "default", "trained", "greedy_oracle", "deviation of trained", "trained / default", "price"}}
	for i, s := range files {
		tuned, err := train.Tune(b.ctx, train.TuneOptions{Seed: 1, Scenarios: files[i : i+1], Tries: c.Tries, Jobs: jobs(c.Jobs), Progress: func(done float64, line string) {
			b.say("%s: %3.0f %% %s", s.Name, 100*done, line)
		}})
		if err != nil {
			return nil, err
		}
		m := online.Model{ID: "trained", Net: shipped.Net, Price: tuned.Price}
		policies := []string{"least_conn", "default", "trained", "greedy_oracle"}
		rows, err := (&sim.Comparison{
			Scenario: s, Policies: policies, Seed: 1, Seeds: c.Seeds, Jobs: jobs(c.Jobs), Progress: b.goOn,
			Makers: map[string]policy.New{"default": sim.Weir(shipped, nil), "trained": sim.Weir(m, nil)},
		}).Run()
		if err != nil {
			return nil, err
		}
		mean, tail := figure("mean_ms"), figure("p99_ms")
		for _, n := range slices.Compact([]int{c.Seeds, min(few, c.Seeds)}) {
			line := []string{s.Name, strconv.Itoa(n)}
			for i := range rows {
				rows[i].Results = rows[i].Results[:n]
				line = append(line, fmt.Sprintf("%.0f %.0f", rows[i].Median(mean), rows[i].Median(tail)))
			}
			deviations := fmt.Sprintf("%.0f %.0f", rows[2].Spread(mean), rows[2].Spread(tail))
			ratios := fmt.Sprintf("%.3f %.3f", rows[2].Ratio(&rows[1], mean), rows[2].Ratio(&rows[1], tail))
			t.Rows = append(t.Rows, append(line, deviations, ratios, priceText(tuned.Price)))
			if s.Name == "park" {
				what := fmt.Sprintf("park, trained for it, %d seeds: ", n)
				r.Targets = append(r.Targets, atMost(what+"mean_ms", 640, rows[2].Median(mean), "ms"), atMost(what+"p99_ms", 3000, rows[2].Median(tail), "ms"))
			}
		}
	}
	r.Tables = append(r.Tables, t)
	return r, nil
}

func priceText(p decide.Price) (text string) {
	for _, k := range decide.PriceRanges() {
		text += fmt.Sprintf("%s %.3g ", k.Name, *k.Of(&p))
	}
	return text[:len(text)-1]
}
