package sim

import (
	"io"
	"math"
	"slices"
	"strings"
)

// Outcome is one scenario's rows, for a summary.
type Outcome struct {
	Scenario string
	Rows     []Row
}

// WriteSummary writes one line a scenario: what `weir` reached as multiples of least_conn, of the oracle that knows the
// speeds, and of the best policy that neither cheats nor is Weir (the best may be another one for the mean than for the p99).
// Medians over the seeds of the ratio on each seed; where Weir loses, the multiple is above 1 and shown like any other.
// Nothing is written when `weir` is not among the policies.
func WriteSummary(w io.Writer, outcomes []Outcome) error {
	t := table{head: []string{
		"scenario", "failed %", "mean/" + baseline, "mean/" + oracle, "mean/best classical", "", "p99/" + baseline, "p99/" + oracle,
		"p99/best classical", "",
	}}
	for _, o := range outcomes {
		weir := find(o.Rows, product)
		if weir == nil {
			continue
		}
		failed := 100 * weir.Mean(figure("failed")) / weir.Mean(figure("requests"))
		line := []string{o.Scenario, short(failed)}
		for _, f := range []Figure{figure("mean_ms"), figure("p99_ms")} {
			for _, other := range []string{baseline, oracle} {
				line = append(line, against(weir, find(o.Rows, other), f))
			}
			best := bestClassical(o.Rows, f)
			line = append(line, against(weir, best, f))
			if best == nil {
				line = append(line, "-")
			} else {
				line = append(line, best.Policy)
			}
		}
		t.lines = append(t.lines, line)
	}
	if len(t.lines) == 0 {
		return nil
	}
	_, err := io.WriteString(w, product+" in all scenarios\n"+t.String())
	return err
}

const (
	product = "weir"
	oracle  = "sed_oracle"
)

func find(rows []Row, name string) *Row {
	if i := slices.IndexFunc(rows, func(r Row) bool { return r.Policy == name }); i >= 0 {
		return &rows[i]
	}
	return nil
}

func against(r, other *Row, f Figure) string {
	if other == nil {
		return "-"
	}
	return ratio(r.Ratio(other, f))
}

// bestClassical is the row with the lowest median of f among those that are neither oracles nor Weir.
func bestClassical(rows []Row, f Figure) *Row {
	var best *Row
	for i := range rows {
		r := &rows[i]
		if strings.HasSuffix(r.Policy, "_oracle") || strings.HasPrefix(r.Policy, product) || math.IsNaN(r.Median(f)) {
			continue
		}
		if best == nil || r.Median(f) < best.Median(f) {
			best = r
		}
	}
	return best
}
