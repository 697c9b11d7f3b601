package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/alecthomas/kong"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/gate"
	"github.com/weirlb/weir/engine/serve"
	"github.com/weirlb/weir/engine/sim"
	"github.com/weirlb/weir/engine/sim/policy"
	"github.com/weirlb/weir/engine/sim/scenario"
)

type simulateCmd struct {
	Scenario  []string `required:"" sep:"none" help:"Scenario file, or a directory of them; may be repeated." placeholder:"FILE"`
	Policy    []string `default:"least_conn,weir,sed_oracle" help:"Policies to compare, or all. ${policies}." placeholder:"P1,P2"`
	Seed      uint64   `default:"1" help:"Same seed, same arrivals and sizes for every policy."`
	Seeds     int      `default:"1" help:"How many seeds to run, counting up from --seed; shows mean and spread."`
	JSON      bool     `name:"json" help:"Print one JSON object a policy."`
	Model     string   `default:"default" help:"Model file that the policy weir decides by; default = the one built in, none = the analytic policy." placeholder:"FILE"`
	Objective string   `enum:"mean,p99" default:"mean" help:"What weir keeps low, as objective of a pool: mean or p99." placeholder:"mean|p99"`
	Learn     bool     `help:"Let weir learn online: candidates of its model, from nothing but its own outcomes, through the gates."`
	Every     float64  `name:"learn-every" default:"60" help:"Simulated seconds from one candidate to the next." placeholder:"S"`
	Control   float64  `name:"learn-control" default:"0" help:"Share of requests of the control slice while learning. Without one nothing is rolled back." placeholder:"SHARE"`
	Steps     bool     `name:"learn-steps" help:"Tell what becomes of each candidate."`
	Jobs      int      `help:"Runs at a time. Default: one a processor. Results do not depend on it."`
}

const maxSeeds = 10_000

// AfterApply refuses what says how is learned where nothing is.
func (c *simulateCmd) AfterApply(parsed *kong.Context) error {
	return needs(parsed, c.Learn, "learn", "learn-every", "learn-control", "learn-steps")
}

func (c *simulateCmd) Run(to streams) error {
	if c.Seeds < 1 || c.Seeds > maxSeeds {
		return fmt.Errorf("--seeds must be from 1 to %d, not %d", maxSeeds, c.Seeds)
	}
	if len(c.Policy) == 1 && c.Policy[0] == "all" {
		c.Policy = policy.Names()
	}
	if len(c.Policy) == 0 { // --policy "$UNSET" of a script
		return errors.New("--policy names no policy; it is one or several of all, " + policyNames())
	}
	for _, name := range c.Policy {
		if _, err := policy.ByName(name); err != nil {
			return err
		}
	}
	if c.Learn && !slices.Contains(c.Policy, "weir") {
		return errors.New("--learn does nothing without the policy weir, which alone learns")
	}
	if c.Jobs < 1 {
		c.Jobs = runtime.GOMAXPROCS(0)
	}
	scenarios, err := loadScenarios(c.Scenario)
	if err != nil {
		return err
	}
	m, err := serve.ReadOnline(c.Model)
	if err != nil {
		return err
	}
	objective := decide.Mean
	if c.Objective == string(config.P99) {
		objective = decide.P99
		if c.Learn {
			return errors.New("--learn has nothing to learn with --objective p99: models are fitted to means, and have no say where the 99th percentile is to be kept low")
		}
	}
	all := make([]sim.Comparison, len(scenarios))
	if c.Learn && (!(c.Every > 0) || !(c.Control >= 0 && c.Control <= 0.5)) {
		return fmt.Errorf("--learn-every must be positive, and --learn-control from 0 to 0.5, not %v and %v", c.Every, c.Control)
	}
	requests := 0
	for i, s := range scenarios {
		all[i] = sim.Comparison{Scenario: s, Policies: c.Policy, Seed: c.Seed, Seeds: c.Seeds, Jobs: c.Jobs, Model: m, Objective: objective}
		all[i].Learn = c.learning(to, s.Name)
		requests += all[i].Requests()
	}
	bar := startBar(to.err, requests)
	defer bar.stop()
	outcomes := make([]sim.Outcome, 0, len(all))
	for i := range all {
		all[i].Progress = bar.add
		rows, err := all[i].Run()
		if err != nil {
			return err
		}
		o := sim.Outcome{Scenario: scenarios[i].Name, Rows: rows}
		outcomes = append(outcomes, o)
		bar.hide()
		if err := c.show(to, o, len(all) > 1); err != nil {
			return err
		}
	}
	bar.stop()
	if c.JSON || len(all) == 1 {
		return nil
	}
	return sim.WriteSummary(to.out, outcomes)
}

// learning is how weir learns; nil = not.
func (c *simulateCmd) learning(to streams, scenario string) *sim.Learn {
	if !c.Learn {
		return nil
	}
	l := &sim.Learn{EveryS: c.Every, Control: c.Control}
	if c.Steps {
		var one sync.Mutex // guards to.err: runs go on side by side
		l.Events = func(e gate.Event) {
			one.Lock()
			defer one.Unlock()
			fmt.Fprintf(to.err, "%s: %.0f s: %s %s: %s\n", scenario, e.AtMS/1000, e.Model, e.Step, e.Reason)
		}
	}
	return l
}

// show writes one scenario's result.
func (c *simulateCmd) show(to streams, o sim.Outcome, several bool) error {
	if c.JSON {
		name := ""
		if several {
			name = o.Scenario
		}
		return sim.WriteJSON(to.out, name, o.Rows)
	}
	title := fmt.Sprintf("%s, seed %d", o.Scenario, c.Seed)
	if c.Seeds > 1 {
		title = fmt.Sprintf("%s, seeds %d to %d: mean ± standard deviation, ratios are medians", o.Scenario, c.Seed,
			c.Seed+uint64(c.Seeds)-1)
	}
	return sim.WriteTable(to.out, title, o.Rows)
}

// loadScenarios reads files, and the .yaml files of directories in the order of their names.
func loadScenarios(paths []string) ([]*scenario.Scenario, error) {
	var all []*scenario.Scenario
	var errs []error
	for _, path := range paths {
		files := []string{path}
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			files, err = filepath.Glob(filepath.Join(path, "*.yaml"))
			if err != nil || len(files) == 0 {
				errs = append(errs, fmt.Errorf("%s: no .yaml files in this directory", path))
			}
		}
		for _, file := range files {
			s, err := scenario.Load(file)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			all = append(all, s)
		}
	}
	return all, errors.Join(errs...)
}

// policyNames is for the help text.
func policyNames() string { return strings.Join(policy.Names(), ", ") }
