package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"
)

// pickCmd measures the picking rule by itself, in LuaJIT without NGINX.
type pickCmd struct {
	For    time.Duration `default:"300ms" help:"Length of a run; there are 21 in a round."`
	Rounds int           `default:"3" help:"Rounds, each in a LuaJIT of its own with the next seed."`
	Seed   uint64        `default:"1" help:"Of the costs, the counts and the draws."`
}

func (pickCmd) name() string           { return "pick" }
func (c pickCmd) limit() time.Duration { return time.Duration(c.Rounds) * (25*c.For + time.Minute) }

// pickTime is what batches of 200 picks took, a pick. Its names are those of bench/lua/pick.lua, as are the next's.
type pickTime struct {
	Median  float64 `json:"median_us"`
	P90     float64 `json:"p90_us"`
	Worst   float64 `json:"worst_us"`
	Batches int     `json:"batches"`
}

type pickRow struct {
	Peers int      `json:"peers"`
	One   pickTime `json:"one"`
	Many  pickTime `json:"many"`
	Alone pickTime `json:"alone"`
	Close struct {
		MedianRank   float64 `json:"median_rank"`
		P99Rank      float64 `json:"p99_rank"`
		MedianExcess float64 `json:"median_excess"`
		P99Excess    float64 `json:"p99_excess"`
	} `json:"close"`
}

func (c *pickCmd) measure(b *bench) (*result, error) {
	if err := need("luajit"); err != nil {
		return nil, err
	}
	r := &result{Setup: "LuaJIT, the production module, no NGINX. Peers up to three times as slow as the fastest, 0 to 2 requests in flight on each in each worker's row, spread 0.1, explore 0.01. " +
		"Batches of 200 picks; a time is a batch's divided by 200."}
	var rounds [][]pickRow
	for i := range c.Rounds {
		seed := c.Seed + uint64(i)
		r.Seeds = append(r.Seeds, seed)
		cmd := exec.CommandContext(b.ctx, "luajit", filepath.Join(b.repo, "bench", "lua", "pick.lua"), b.repo, fmt.Sprint(seed), fmt.Sprint(c.For.Seconds()))
		text, err := cmd.Output()
		if err != nil {
			if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
				err = fmt.Errorf("%w\n%s", err, exit.Stderr)
			}
			return nil, fmt.Errorf("bench/lua/pick.lua: %w", err)
		}
		var rows []pickRow
		if err := json.Unmarshal(text, &rows); err != nil {
			return nil, fmt.Errorf("bench/lua/pick.lua printed something else: %w", err)
		}
		rounds = append(rounds, rows)
		b.say("round %d of %d", i+1, c.Rounds)
	}
	times := table{Title: "Time of a pick, us: median of the rounds' medians (their extremes; worst p90 of a round)", Columns: []string{"peers", "1 worker", "8 workers", "8 workers, local rule"}}
	closer := table{
		Title:   "How close the choice comes to the best peer, spread and explore 0 (400 choices a round)",
		Columns: []string{"peers", "looked at", "better peers, median", "99 %", "cost above the best, median", "99 %"},
	}
	over := func(i int, of func(*pickRow) float64) spread {
		var all []float64
		for _, rows := range rounds {
			all = append(all, of(&rows[i]))
		}
		return spreadOf(all)
	}
	timed := func(i int, of func(*pickRow) pickTime) (string, float64) {
		m := over(i, func(p *pickRow) float64 { return of(p).Median })
		worst := over(i, func(p *pickRow) float64 { return of(p).P90 }).Max
		return fmt.Sprintf("%.2f (%.2f .. %.2f; %.2f)", m.Median, m.Min, m.Max, worst), m.Max
	}
	for i := range rounds[0] {
		n := rounds[0][i].Peers
		one, _ := timed(i, func(p *pickRow) pickTime { return p.One })
		many, slowest := timed(i, func(p *pickRow) pickTime { return p.Many })
		alone, _ := timed(i, func(p *pickRow) pickTime { return p.Alone })
		times.Rows = append(times.Rows, []string{fmt.Sprint(n), one, many, alone})
		looked := "all"
		if n > 256 { // FULL_SCAN and SAMPLE of candidates.lua
			looked = "128"
		}
		share := func(of func(*pickRow) float64) string { return fmt.Sprintf("%.2f %%", 100*over(i, of).Median) }
		closer.Rows = append(closer.Rows, []string{
			fmt.Sprint(n), looked,
			share(func(p *pickRow) float64 { return p.Close.MedianRank }), share(func(p *pickRow) float64 { return p.Close.P99Rank }),
			share(func(p *pickRow) float64 { return p.Close.MedianExcess }), share(func(p *pickRow) float64 { return p.Close.P99Excess }),
		})
		if n == 1000 {
			r.Targets = append(r.Targets, atMost("pick among 1,000 peers, 8 workers, slowest round's median", 20, slowest, "us"))
		}
	}
	r.Tables, r.Raw = []table{times, closer}, rounds
	return r, nil
}
