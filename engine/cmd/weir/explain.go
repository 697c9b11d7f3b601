package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/weirlb/weir/engine/serve"
)

type explainCmd struct {
	adminAPI
	JSON  bool   `name:"json" help:"Print JSON."`
	Pool  string `arg:"" help:"Name of the pool."`
	Class string `arg:"" default:"*" help:"Request class, as access logs name it; one that has no row of its own has that of *."`
	All   bool   `help:"Show every feature, and every peer of a large pool."`
}

func (c *explainCmd) Run(to streams) error {
	var x serve.Explanation
	raw, err := c.call("GET", "/api/explain?"+url.Values{"pool": {c.Pool}, "class": {c.Class}}.Encode(), nil, &x)
	if err != nil {
		return err
	}
	if c.JSON {
		_, err := to.out.Write(append(raw, '\n'))
		return err
	}
	return c.print(to.out, &x)
}

// columns is how many peers have a column in the table of features, and rows how many features without --all.
const (
	columns = 6
	rows    = 10
)

func (c *explainCmd) print(w io.Writer, x *serve.Explanation) error {
	by := x.Policy + " policy"
	if x.Model != nil {
		by += ", model " + *x.Model
	}
	fmt.Fprintf(w, "Pool %s, class %s: %s, for the %s\n%s.\n\n", x.Pool, x.Class, by, map[string]string{"mean": "mean", "p99": "99th percentile"}[x.Objective], x.Reason)
	if len(x.Peers) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "PEER\tSTATE\tADMIT\tIN FLIGHT\tSHARE\tTAKES ms\tCOST ms\tFORMULAS ms\tMODEL\tWHY NOT THE FIRST")
	shown := x.Peers
	if !c.All && len(shown) > 20 {
		shown = shown[:20]
	}
	for _, p := range shown {
		why := p.Why
		if !p.Usable {
			why = p.StateWhy
		}
		model := "-"
		if p.Correction != nil {
			model = fmt.Sprintf("x %.2f", *p.Correction)
		}
		fmt.Fprintf(t, "%s\t%s\t%.0f %%\t%d\t%.1f %%\t%.4g\t%.4g\t%.4g\t%s\t%s\n", p.Peer, p.State, 100*p.Admit, p.Inflight, 100*p.Share, p.Expected, p.Cost, p.Analytic, model, why)
	}
	if n := len(x.Peers) - len(shown); n > 0 {
		fmt.Fprintf(t, "and %d more, dearer\n", n)
	}
	fmt.Fprint(t, "\nCOST ms AT")
	for _, n := range x.Grid {
		fmt.Fprintf(t, "\t%d", n)
	}
	fmt.Fprintln(t)
	for _, p := range shown {
		curve := p.Curve
		if x.Policy == "learned" && p.Learned != nil {
			curve = p.Learned
		}
		fmt.Fprint(t, p.Peer)
		for _, ms := range curve {
			fmt.Fprintf(t, "\t%.3g", ms)
		}
		fmt.Fprintln(t)
	}
	for i, p := range shown {
		if len(p.Metrics) > 0 {
			if i == 0 {
				fmt.Fprintln(t, "\nSERVER METRICS")
			}
			fmt.Fprintf(t, "%s\t%s\n", p.Peer, metricsLine(p.Metrics))
		}
	}
	c.features(t, x)
	return t.Flush()
}

// features prints those in which the first peers differ the most, a row each.
func (c *explainCmd) features(t io.Writer, x *serve.Explanation) {
	peers := x.Peers[:min(len(x.Peers), columns)]
	spread := func(f int) float64 {
		low, high := math.Inf(1), math.Inf(-1)
		for _, p := range peers {
			low, high = min(low, float64(p.Values[f])), max(high, float64(p.Values[f]))
		}
		return high - low
	}
	order := make([]int, len(x.Features))
	for i := range order {
		order[i] = i
	}
	head := "\nFEATURE"
	if !c.All {
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(spread(b), spread(a)) })
		order = order[:min(len(order), rows)]
		head = "\nFEATURES THAT DIFFER"
	}
	names := make([]string, len(peers))
	for i, p := range peers {
		names[i] = p.Peer
	}
	fmt.Fprintf(t, "%s\t%s\n", head, strings.Join(names, "\t"))
	for _, f := range order {
		fmt.Fprint(t, x.Features[f])
		for _, p := range peers {
			fmt.Fprint(t, "\t"+strconv.FormatFloat(float64(p.Values[f]), 'f', 2, 32))
		}
		fmt.Fprintln(t)
	}
}
