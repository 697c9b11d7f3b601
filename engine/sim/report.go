package sim

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// WriteJSON writes one object a row, each on a line:
//
//	{"policy","requests","failed","mean_ms","p50_ms","p90_ms","p99_ms","p999_ms"}
//
// When scenario is not empty, "scenario" comes first. With several seeds these are means over the seeds, and three keys follow: "seeds" (how many), "spread" (standard deviations)
// and "median", both by the same names. A latency nobody reached, since nothing was answered, is null.
func WriteJSON(w io.Writer, scenario string, rows []Row) error {
	var b strings.Builder
	for i := range rows {
		r := &rows[i]
		b.WriteByte('{')
		if scenario != "" {
			name, err := json.Marshal(scenario) // %q is Go's quoting, not JSON's
			if err != nil {
				return fmt.Errorf("writing the scenario's name as JSON: %w", err)
			}
			fmt.Fprintf(&b, `"scenario":%s,`, name)
		}
		fmt.Fprintf(&b, `"policy":%q`, r.Policy)
		for _, f := range Figures() {
			fmt.Fprintf(&b, `,%q:%s`, f.Name, number(r.Mean(f)))
		}
		if len(r.Results) > 1 {
			fmt.Fprintf(&b, `,"seeds":%d`, len(r.Results))
			nested(&b, "spread", r.Spread)
			nested(&b, "median", r.Median)
		}
		b.WriteString("}\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func nested(b *strings.Builder, name string, of func(Figure) float64) {
	fmt.Fprintf(b, `,%q:{`, name)
	for i, f := range Figures() {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(b, `%q:%s`, f.Name, number(of(f)))
	}
	b.WriteByte('}')
}

// number writes seven digits: more would only be noise. A whole number has all of its own: requests are counted, also above ten million.
func number(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "null"
	case v == math.Trunc(v) && math.Abs(v) < 1<<53:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 7, 64)
}

// WriteTable writes rows for people: means over the seeds, with their standard deviations when there are several. When one
// of the policies is least_conn, mean and p99 are also given as multiples of its.
func WriteTable(w io.Writer, title string, rows []Row) error {
	t := table{head: []string{"policy", "requests", "failed", "mean ms", "p50", "p90", "p99", "p99.9"}}
	base := slices.IndexFunc(rows, func(r Row) bool { return r.Policy == baseline })
	if base >= 0 {
		t.head = append(t.head, "mean/"+baseline, "p99/"+baseline)
	}
	for i := range rows {
		r := &rows[i]
		line := []string{r.Policy}
		for n, f := range Figures() {
			line = append(line, cell(r, f, n >= 2))
		}
		if base >= 0 {
			line = append(line, ratio(r.Ratio(&rows[base], figure("mean_ms"))), ratio(r.Ratio(&rows[base], figure("p99_ms"))))
		}
		t.lines = append(t.lines, line)
	}
	_, err := io.WriteString(w, title+"\n"+t.String()+"\n")
	return err
}

// baseline is the policy others are measured against: what people have without Weir.
const baseline = "least_conn"

func figure(name string) Figure {
	all := Figures()
	return all[slices.IndexFunc(all, func(f Figure) bool { return f.Name == name })]
}

func cell(r *Row, f Figure, spread bool) string {
	mean := r.Mean(f)
	switch {
	case math.IsNaN(mean):
		return "-"
	case !spread:
		return strconv.FormatFloat(math.Round(mean), 'f', 0, 64)
	case len(r.Results) < 2:
		return short(mean)
	}
	return short(mean) + " ±" + short(r.Spread(f))
}

// short writes four digits without an exponent.
func short(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case v >= 1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

func ratio(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// table is aligned text: the first column to the left, the others to the right.
type table struct {
	head  []string
	lines [][]string
}

func (t *table) String() string {
	width := make([]int, len(t.head))
	all := append([][]string{t.head}, t.lines...)
	for _, line := range all {
		for i, c := range line {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	var b strings.Builder
	for _, line := range all {
		for i, c := range line {
			pad := strings.Repeat(" ", width[i]-len([]rune(c)))
			switch {
			case i == 0:
				b.WriteString("  " + c + pad)
			default:
				b.WriteString("  " + pad + c)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}
