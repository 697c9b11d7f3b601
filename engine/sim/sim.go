// Package sim compares balancing policies in scenarios: it runs each policy on the same seeds and reports what each
// reached, for people and for programs.
package sim

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/gate"
	"github.com/weirlb/weir/engine/learn/online"
	"github.com/weirlb/weir/engine/sim/policy"
	"github.com/weirlb/weir/engine/sim/scenario"
	"github.com/weirlb/weir/engine/sim/world"
)

// Comparison says what to run: every policy on every seed of one scenario.
type Comparison struct {
	Scenario *scenario.Scenario
	Policies []string
	Seed     uint64 // the first
	Seeds    int    // how many, counting up
	Jobs     int    // runs at a time; at least 1
	// Progress hears how many requests have arrived since its last call. It is called from several goroutines. nil = nobody
	// wants to know. Its error stops all runs.
	Progress func(arrived int) error
	// Makers are policies under names of the caller's; they come before those of package policy.
	Makers map[string]policy.New
	// Model is what the policy `weir` decides by; the zero value = analytic.
	Model online.Model
	// Objective is what `weir` keeps low. With P99 neither the model nor learning has a say, as in the engine.
	Objective decide.Objective
	// Learn lets the policy `weir` go on learning from its own outcomes: nil = it does not.
	Learn *Learn
}

// Learn says how `weir` learns online.
type Learn struct {
	EveryS  float64          // simulated seconds from one candidate to the next
	Control float64          // share of the requests of the control slice; 0 = none, and no roll-backs
	Events  func(gate.Event) // hears of every step, from several goroutines; nil = nobody
}

// Weir makes Weir with a model (the zero value: none), which goes on learning unless learn is nil.
func Weir(m online.Model, learn *Learn) policy.New {
	return policy.Weir(func(*world.Setup) policy.Variant {
		switch {
		case learn != nil:
			return policy.Variant{Explore: -1, Learn: &policy.Learn{
				Model: m, Control: learn.Control, Events: learn.Events,
				Options: online.Options{EveryMS: 1000 * learn.EveryS},
			}}
		case m.Net != nil:
			return policy.Variant{Policy: &decide.Learned{Model: m.Net.Predictor(), Analytic: decide.Analytic{Price: m.Price}}, Explore: -1}
		}
		return policy.Variant{Explore: -1}
	})
}

// maker returns what makes instances of a policy.
func (c *Comparison) maker(name string) (policy.New, error) {
	if m := c.Makers[name]; m != nil {
		return m, nil
	}
	switch {
	case name == "weir" && c.Objective == decide.P99:
		return policy.Weir(func(*world.Setup) policy.Variant { return policy.Variant{Explore: -1, Objective: c.Objective} }), nil
	case name == "weir" && (c.Learn != nil || c.Model.Net != nil):
		return Weir(c.Model, c.Learn), nil
	}
	return policy.ByName(name)
}

// Row is what one policy reached.
type Row struct {
	Policy  string
	Results []world.Result // by seed
}

// Run makes all runs and gives a row a policy, in their order. A result depends only on scenario, policy and seed, not on
// what else runs.
func (c *Comparison) Run() ([]Row, error) {
	makers := make([]policy.New, len(c.Policies))
	rows := make([]Row, len(c.Policies))
	for i, name := range c.Policies {
		var err error
		if makers[i], err = c.maker(name); err != nil {
			return nil, err
		}
		rows[i] = Row{Policy: name, Results: make([]world.Result, c.Seeds)}
	}
	type job struct{ policy, seed int }
	jobs := make(chan job)
	errs := make([]error, max(1, c.Jobs))
	var workers sync.WaitGroup
	for i := range errs {
		workers.Go(func() {
			for j := range jobs {
				if errs[i] != nil {
					continue // drain, so that the sender never waits
				}
				w := world.New(c.Scenario, c.Seed+uint64(j.seed), makers[j.policy])
				r, err := w.Run(c.Progress)
				if err != nil {
					errs[i] = fmt.Errorf("simulating %s under %s: %w", c.Scenario.Name, c.Policies[j.policy], err)
				}
				rows[j.policy].Results[j.seed] = r
			}
		})
	}
	for s := range c.Seeds {
		for p := range c.Policies {
			jobs <- job{p, s}
		}
	}
	close(jobs)
	workers.Wait()
	return rows, errors.Join(errs...)
}

// Requests is how many requests all runs draw together.
func (c *Comparison) Requests() int { return c.Scenario.Total() * len(c.Policies) * c.Seeds }

// Figure is one of the numbers a run gives.
type Figure struct {
	Name string // as in the JSON
	Of   func(world.Result) float64
}

// Figures lists them in the order they are shown.
func Figures() []Figure {
	return []Figure{
		{"requests", func(r world.Result) float64 { return float64(r.Requests) }},
		{"failed", func(r world.Result) float64 { return float64(r.Failed) }},
		{"mean_ms", func(r world.Result) float64 { return r.MeanMS }},
		{"p50_ms", func(r world.Result) float64 { return r.P50MS }},
		{"p90_ms", func(r world.Result) float64 { return r.P90MS }},
		{"p99_ms", func(r world.Result) float64 { return r.P99MS }},
		{"p999_ms", func(r world.Result) float64 { return r.P999MS }},
	}
}

// Mean is a figure's mean over the seeds; NaN when no run had it.
func (r *Row) Mean(f Figure) float64 {
	v := r.values(f)
	if len(v) == 0 {
		return math.NaN()
	}
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

// Spread is its standard deviation over the seeds; 0 with fewer than two.
func (r *Row) Spread(f Figure) float64 {
	v := r.values(f)
	if len(v) < 2 {
		return 0
	}
	mean, squares := r.Mean(f), 0.0
	for _, x := range v {
		squares += (x - mean) * (x - mean)
	}
	return math.Sqrt(squares / float64(len(v)-1))
}

// Median is its median over the seeds; NaN when no run had it.
func (r *Row) Median(f Figure) float64 { return median(r.values(f)) }

// Ratio is the median over the seeds of this row's figure over that of another row on the same seed.
func (r *Row) Ratio(to *Row, f Figure) float64 {
	var v []float64
	for i := range r.Results {
		if x := f.Of(r.Results[i]) / f.Of(to.Results[i]); !math.IsNaN(x) {
			v = append(v, x)
		}
	}
	return median(v)
}

func (r *Row) values(f Figure) []float64 {
	var v []float64
	for i := range r.Results {
		if x := f.Of(r.Results[i]); !math.IsNaN(x) {
			v = append(v, x)
		}
	}
	return v
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
