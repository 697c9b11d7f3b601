package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weirlb/weir/engine/sim"
	"github.com/weirlb/weir/engine/sim/policy"
	"github.com/weirlb/weir/engine/sim/scenario"
	"github.com/weirlb/weir/engine/sim/world"
)

// limitsCmd asks what any table over in-flight counts can reach where the world never changes. It makes the tables from
// the world itself, with millions of requests of which everything is known, by policy iteration: measure what requests cost at each
// peer and count under the present table, make that the table, and again (Krishnan 1990 is one such step by formula; Sutton and Barto
// 2018, section 5.3). What Weir misses of the result, it misses by not knowing; what the result misses of a target, no such table has.
// The same is done for tables over the work that each peer really has left, where peers have one slot: no balancer sees that. And beside both
// is the formula that prices are made by (the Whittle index, decide/delays.go), with the world known, offered so many times what a peer can serve. Where speeds change see changing.
type limitsCmd struct {
	Seeds  int      `default:"5" help:"Seeds; figures are medians over them."`
	Only   []string `default:"mixed-1slot-50,mixed-1slot-80,mixed-1slot-92,mixed-4slot-92,brownout-80" help:"Scenarios of one class; events may change speeds." placeholder:"NAME"`
	Rounds int      `default:"40" help:"Rounds of policy iteration, each of --requests."`
	// Seeds of the rounds differ from those that are measured.
	Requests int `default:"1000000"`
	Jobs     int `help:"Runs at a time. Default: one a processor."`
}

func (limitsCmd) name() string         { return "limits" }
func (limitsCmd) limit() time.Duration { return time.Hour }

// parts of the delay imposed on later requests that the tables charge; 0 = own response time only.
func imposedParts() []float64 { return []float64{0, 0.25, 0.5, 0.75, 1} }

func (c *limitsCmd) measure(b *bench) (*result, error) {
	files, err := scenarioFiles(b.repo, c.Only)
	if err != nil {
		return nil, err
	}
	r := &result{
		Seeds: seeds(c.Seeds),
		Setup: fmt.Sprintf("weir simulate. Each cell is mean and 99th percentile over those of least_conn on the same seed, median over the seeds. The tables are found by %d rounds of %d requests with the world "+
			"known, charging a part of the delay a request imposes on later ones; they are measured without exploration, control slice or estimates.", c.Rounds, c.Requests),
	}
	t := table{Title: "Mean and 99th percentile, of least_conn's", Columns: []string{"scenario", "sed_oracle", "greedy_oracle"}}
	for _, over := range offered() {
		t.Columns = append(t.Columns, fmt.Sprintf("index, %g offered", over))
	}
	for _, part := range imposedParts() {
		t.Columns = append(t.Columns, fmt.Sprintf("table, %g of the delay", part))
	}
	for _, part := range imposedParts() {
		t.Columns = append(t.Columns, fmt.Sprintf("by work left, %g", part))
	}
	changing := table{Title: "Speeds that change: the same, of who is told them late and of a filter that knows all but when", Columns: changingColumns()}
	for i, s := range files {
		b.say("%s, %d of %d", s.Name, i+1, len(files))
		if len(s.Events) > 0 {
			line, err := c.changing(b, s)
			if err != nil {
				return nil, err
			}
			changing.Rows = append(changing.Rows, line)
			continue
		}
		if len(s.Classes) != 1 {
			return nil, fmt.Errorf("%s: only scenarios of one class have one best table", s.Name)
		}
		makers := map[string]policy.New{}
		policies := []string{"least_conn", "sed_oracle", "greedy_oracle"}
		for _, over := range offered() {
			name, found := fmt.Sprint("index_", over), indexTable(s, over)
			policies = append(policies, name)
			makers[name] = func(set *world.Setup) world.Balancer { return &tableBalancer{rnd: set.Rand, cost: found} }
		}
		for _, work := range []bool{false, true} {
			for _, part := range imposedParts() {
				if work && !lone(s) {
					continue
				}
				found, err := c.iterate(b, s, part, work)
				if err != nil {
					return nil, err
				}
				name := fmt.Sprint("table_", part, work)
				policies = append(policies, name)
				makers[name] = func(set *world.Setup) world.Balancer { return newTableBalancer(set, s, found, work) }
			}
		}
		rows, err := (&sim.Comparison{Scenario: s, Policies: policies, Seed: 1, Seeds: c.Seeds, Jobs: jobs(c.Jobs), Makers: makers, Progress: b.goOn}).Run()
		if err != nil {
			return nil, err
		}
		line := cells(s.Name, rows)
		for len(line) < len(t.Columns) {
			line = append(line, "-")
		}
		t.Rows = append(t.Rows, line)
	}
	for _, t := range []table{t, changing} {
		if len(t.Rows) > 0 {
			r.Tables = append(r.Tables, t)
		}
	}
	return r, nil
}

// cells is a table's line: what it is called, and mean and 99th percentile of all rows over those of the first.
func cells(name string, rows []sim.Row) []string {
	line := []string{name}
	for i := range rows[1:] {
		line = append(line, fmt.Sprintf("%.3f %.3f", rows[i+1].Ratio(&rows[0], figure("mean_ms")), rows[i+1].Ratio(&rows[0], figure("p99_ms"))))
	}
	return line
}

// counts is how many states a table has a cost for; a longer queue costs as the last.
const counts = 512

// perMean is how many of them there are to a mean request where the state is the work left: a state of 0 is an idle peer.
const perMean = 4

// lone tells whether every peer has one slot.
func lone(s *scenario.Scenario) bool {
	return !slices.ContainsFunc(s.Peers, func(p scenario.Peer) bool { return p.Slots != 1 })
}

// iterate returns cost[peer][state], the state being an in-flight count or the work left.
func (c *limitsCmd) iterate(b *bench, s *scenario.Scenario, part float64, work bool) ([][]float64, error) {
	known := *s
	known.Requests, known.Warmup, known.Episodes = c.Requests, 0, 1
	cost := make([][]float64, len(s.Peers))
	for i, p := range s.Peers {
		for n := range counts {
			held := float64(n)
			if work {
				held /= perMean
			}
			cost[i] = append(cost[i], s.MixMeanMS(i)/p.Speed*math.Max(1, (held+1)/float64(p.Slots)))
		}
	}
	const step = 0.3
	for round := range c.Rounds {
		var seen *tableBalancer
		run := sim.Comparison{Scenario: &known, Policies: []string{"table"}, Seed: uint64(1000 + round), Seeds: 1, Jobs: 1, Progress: b.goOn, Makers: map[string]policy.New{
			"table": func(set *world.Setup) world.Balancer {
				seen = newTableBalancer(set, s, cost, work)
				seen.spread, seen.learn = 0.1, newReturns(s)
				return seen
			},
		}}
		if _, err := run.Run(); err != nil {
			return nil, err
		}
		for p := range cost {
			seen.learn.improve(p, part, step, cost[p])
		}
	}
	return cost, nil
}

// tableBalancer picks the lowest cost; with a spread, also what is nearly as low, so that more of the table is seen.
type tableBalancer struct {
	rnd    *rand.Rand
	cost   [][]float64
	spread float64
	learn  *returnsOf // nil = only picks
	weight []float64
	left   func(peer int32) float64 // work left at a peer, in mean requests; nil = the state is the in-flight count
}

func newTableBalancer(set *world.Setup, s *scenario.Scenario, cost [][]float64, work bool) *tableBalancer {
	t := &tableBalancer{rnd: set.Rand, cost: cost}
	if work {
		set.Truth.TrackBacklog()
		t.left = func(p int32) float64 { return set.Truth.Backlog(p) * s.Peers[p].Speed / s.MixMeanMS(int(p)) }
	}
	return t
}

// state is that of a peer which holds n requests.
func (t *tableBalancer) state(p, n int32) int {
	if t.left != nil && n > 0 {
		return min(1+int(perMean*t.left(p)), counts-1)
	}
	return min(int(n), counts-1)
}

// Pick implements world.Balancer.
func (t *tableBalancer) Pick(a *world.Attempt) int32 {
	best := math.Inf(1)
	at := func(p int32) float64 { return t.cost[p][t.state(p, a.InFlight[p])] }
	for _, p := range a.Present {
		best = math.Min(best, at(p))
	}
	t.weight = t.weight[:0]
	sum := 0.0
	for _, p := range a.Present {
		w := 0.0
		if d := (at(p) - best) / best; d == 0 {
			w = 1
		} else if t.spread > 0 {
			w = math.Pow(math.Max(0, 1-d/t.spread), 2)
		}
		sum += w
		t.weight = append(t.weight, sum)
	}
	draw := t.rnd.Float64() * sum
	to := a.Present[len(a.Present)-1]
	for i, p := range a.Present {
		if draw < t.weight[i] {
			to = p
			break
		}
	}
	if t.learn != nil {
		a.Cookie = t.learn.arrived(to, t.state(to, a.InFlight[to]))
	}
	return to
}

// Done implements world.Balancer.
func (t *tableBalancer) Done(o *world.Outcome) {
	if t.learn != nil {
		t.learn.ended(o)
	}
}

// offered is the rates that index tables take to be offered to a peer, over what it can serve; 0 = all requests of the pool.
func offered() []float64 { return []float64{0.5, 1, 1.5, 2, 0} }

// indexTable has the Whittle index of every peer and in-flight count, by its definition: what one more place for a request adds to the mean number at the peer, over
// what it adds to its throughput. Engines compute the same in closed form.
func indexTable(s *scenario.Scenario, over float64) [][]float64 {
	cost := make([][]float64, len(s.Peers))
	for i, p := range s.Peers {
		service := s.MixMeanMS(i) / p.Speed
		rate := over * float64(p.Slots) / service
		if over == 0 {
			rate = s.Arrivals[0].RatePerS / 1000
		}
		full, number := 1.0, 0.0 // the chance that the peer is full, and the mean number, where it takes no more than n
		rising := 0.0
		for n := range counts {
			next := rate * service / float64(min(n+1, p.Slots)) // arrivals over departures of n + 1
			// The throughput with n places is rate (1 - full), with one more rate (1 - fuller).
			fuller := full * next / (1 + full*next)
			more := (1-fuller)*number + fuller*float64(n+1)
			if gain := rate * (full - fuller); gain > 1e-12*rate {
				rising = math.Max(rising, (more-number)/gain)
			} else {
				rising *= 1 + 1/float64(n+1)
			}
			cost[i] = append(cost[i], rising)
			full, number = fuller, more
		}
	}
	return cost
}
