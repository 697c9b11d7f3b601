package main

import (
	"fmt"
	"slices"
	"time"
)

// enginesRaw is every single value.
type enginesRaw struct {
	Slices []fleetSlice `json:"slices"`
	Rounds []fleetRound `json:"rounds"`
}

// fleetSlice is a slice of time of a fleet.
type fleetSlice struct {
	Round int     `json:"round"`
	Fleet string  `json:"fleet"`
	From  float64 `json:"from_s"`
	To    float64 `json:"to_s"`
	pickedFigures
	LoadRatio []float64 `json:"load_ratio,omitempty"` // of each engine, at the slice's end
}

// fleetRound is what came after the warm-up.
type fleetRound struct {
	Round int    `json:"round"`
	Fleet string `json:"fleet"`
	pickedFigures
	Lost    int       `json:"failed_for_the_clients"` // of the whole round, time-outs and lost connections included
	Sent    int       `json:"sent"`                   // in the whole round
	LateP99 float64   `json:"generator_late_p99_ms"`
	Shows   []float64 `json:"load_ratio_above_1_at_s,omitempty"` // by engine; negative: never
	CPU     float64   `json:"engines_cpu_s"`
}

// between sums up all requests of the fleet that came in [from, to) after the load began.
func (f *fleet) between(from, to time.Duration) pickedFigures {
	all := &arm{began: f.arms[0].began}
	for _, a := range f.arms {
		all.seen = append(all.seen, a.seen...)
	}
	return all.between(from, to, f.name)
}

// sum adds a round.
func (c *enginesCmd) sum(raw *enginesRaw, round int, fleets []*fleet) {
	for _, f := range fleets {
		for i, from := 0, time.Duration(0); from < c.For; i, from = i+1, from+c.Slice {
			s := fleetSlice{Round: round, Fleet: f.name, From: from.Seconds(), To: (from + c.Slice).Seconds(), pickedFigures: f.between(from, from+c.Slice)}
			if f.weir {
				s.LoadRatio = f.ratio[i]
			}
			raw.Slices = append(raw.Slices, s)
		}
		whole := fleetRound{Round: round, Fleet: f.name, pickedFigures: f.between(c.Warmup, c.For)}
		for _, l := range f.loads {
			whole.Lost, whole.Sent, whole.LateP99 = whole.Lost+l.told.Failed, whole.Sent+l.told.Requests, max(whole.LateP99, l.told.LateP99)
		}
		if f.weir {
			whole.Shows = f.shows
			for _, a := range f.arms {
				whole.CPU += a.cpu.Seconds()
			}
		}
		raw.Rounds = append(raw.Rounds, whole)
	}
}

// what a fleet is called in tables.
func (c *enginesCmd) title(fleet string) string {
	return map[string]string{
		"least_conn":     fmt.Sprintf("%d NGINX, least_conn", c.Fronts),
		"found":          fmt.Sprintf("%d Weir, found out", c.Fronts),
		"told":           fmt.Sprintf("%d Weir, told", c.Fronts),
		"one_least_conn": "1 NGINX, least_conn",
		"one_weir":       "1 Weir",
	}[fleet]
}

// plainOf is what a fleet is compared with.
var plainOf = map[string]string{"least_conn": "least_conn", "found": "least_conn", "told": "least_conn", "one_least_conn": "one_least_conn", "one_weir": "one_least_conn"}

// finds tells whether the fleet's engines have to find out how much load is the others'.
func (f *fleet) finds() bool { return f.weir && f.pool == "" }

func (c *enginesCmd) report(r *result, raw *enginesRaw) {
	slicesOf := func(fleet string) (list []*fleetSlice) {
		for i := range raw.Slices {
			if s := &raw.Slices[i]; s.Fleet == fleet {
				list = append(list, s)
			}
		}
		return list
	}
	byTime := table{Title: "In slices of time: mean, p50, p99 in ms; load_ratio of each engine at the end of the slice", Columns: []string{"s"}}
	fleets := c.fleets()
	for _, f := range fleets {
		byTime.Columns = append(byTime.Columns, c.title(f.name))
	}
	for _, f := range fleets {
		if f.finds() {
			byTime.Columns = append(byTime.Columns, "load_ratio, "+c.title(f.name))
		}
	}
	for i, first := range slicesOf(fleets[0].name) {
		row := []string{fmt.Sprintf("%d: %.0f..%.0f", first.Round+1, first.From, first.To)}
		for _, f := range fleets {
			row = append(row, slicesOf(f.name)[i].String())
		}
		for _, f := range fleets {
			if f.finds() {
				row = append(row, ratios(slicesOf(f.name)[i].LoadRatio))
			}
		}
		byTime.Rows = append(byTime.Rows, row)
	}
	whole := table{Title: fmt.Sprintf("After %v: each round's figures, ms, and as shares of those of as many NGINX with least_conn; below 1 Weir is quicker", c.Warmup), Columns: []string{
		"round", "mean", "p50", "p99", "mean /", "p50 /", "p99 /", "requests", "failed", "of all sent", "lost", "generator late, p99 ms", "engines' CPU, s",
	}}
	plain := func(x *fleetRound) *fleetRound {
		for i := range raw.Rounds {
			if p := &raw.Rounds[i]; p.Round == x.Round && p.Fleet == plainOf[x.Fleet] {
				return p
			}
		}
		return &fleetRound{}
	}
	over := func(a, b float64) string {
		if b == 0 {
			return "-"
		}
		return fmt.Sprintf("%.3f", a/b)
	}
	for i := range raw.Rounds {
		x := &raw.Rounds[i]
		p := plain(x)
		whole.Rows = append(whole.Rows, []string{
			fmt.Sprintf("%d: %s", x.Round+1, c.title(x.Fleet)), ms1(x.Mean), ms1(x.P50), ms1(x.P99), over(x.Mean, p.Mean), over(x.P50, p.P50), over(x.P99, p.P99),
			fmt.Sprint(x.N), fmt.Sprint(x.Failed), fmt.Sprint(x.Sent), fmt.Sprint(x.Lost), ms1(x.LateP99), ms1(x.CPU),
		})
	}
	spreads := table{Title: fmt.Sprintf("Slices after %v as shares of another fleet's in the same slice: median (quartiles; extremes), and in how many it was below 1", c.Warmup), Columns: []string{
		"", "mean", "p99", "mean below 1",
	}}
	for _, pair := range [][2]string{{"found", "least_conn"}, {"told", "least_conn"}, {"found", "told"}, {"one_weir", "one_least_conn"}} {
		var mean, p99 []float64
		of := slicesOf(pair[1])
		if len(of) == 0 || len(slicesOf(pair[0])) == 0 {
			continue
		}
		for i, s := range slicesOf(pair[0]) {
			if s.From >= c.Warmup.Seconds() {
				mean, p99 = append(mean, s.Mean/of[i].Mean), append(p99, s.P99/of[i].P99)
			}
		}
		below := 0
		for _, m := range mean {
			if m < 1 {
				below++
			}
		}
		cell := func(v []float64) string {
			s := spreadOf(v)
			return fmt.Sprintf("%.3f (%s; %s)", s.Median, s.quartiles("%.3f"), s.extremes("%.3f"))
		}
		spreads.Rows = append(spreads.Rows, []string{c.title(pair[0]) + " / " + c.title(pair[1]), cell(mean), cell(p99), share(below, len(mean))})
	}
	r.Tables = append(r.Tables, whole, spreads, byTime)
	c.reportRatios(r, raw)
}

// reportRatios tells what the engines found.
func (c *enginesCmd) reportRatios(r *result, raw *enginesRaw) {
	for _, f := range c.fleets() {
		if !f.finds() {
			continue
		}
		fleet := f.name
		var after, at []float64
		engines, never := 0, 0
		for i := range raw.Slices {
			if s := &raw.Slices[i]; s.Fleet == fleet && s.From >= c.Warmup.Seconds() {
				after = append(after, s.LoadRatio...)
			}
		}
		for i := range raw.Rounds {
			if x := &raw.Rounds[i]; x.Fleet == fleet {
				engines += len(x.Shows)
				for _, s := range x.Shows {
					if s < 0 {
						never++
					} else {
						at = append(at, s)
					}
				}
			}
		}
		s := spreadOf(after)
		text := fmt.Sprintf("load_ratio of %s after %v: median %.2f (quartiles %s, extremes %s)", c.title(fleet), c.Warmup, s.Median, s.quartiles("%.2f"), s.extremes("%.2f"))
		switch {
		case len(at) == 0:
			text += fmt.Sprintf("; never above 1, %d engines", engines)
		default:
			t := spreadOf(at)
			text += fmt.Sprintf("; first above 1 at %.0f s in the median (%s s), never with %d of %d engines", t.Median, t.extremes("%.0f"), never, engines)
		}
		r.note("%s", text)
	}
	r.note("failed: answers of 5xx that NGINX logged after the warm-up; lost: what a client did not get an answer below 500 for, of the whole round, time-outs of 60 s included")
}

// ratios of a fleet's engines, from the least to the most.
func ratios(of []float64) string {
	text := ""
	for _, x := range slices.Sorted(slices.Values(of)) {
		text += fmt.Sprintf(" %.2f", x)
	}
	return text[min(1, len(text)):]
}
