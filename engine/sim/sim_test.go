package sim

import (
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/sim/scenario"
	"github.com/weirlb/weir/engine/sim/world"
)

func load(t testing.TB, name string) *scenario.Scenario {
	t.Helper()
	s, err := scenario.Load(filepath.Join("../../bench/scenarios", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestKnownPoliciesReachTheirReferenceNumbers holds the simulator to an independent one: mean and p99 in mean services, for
// scenarios whose spread over seeds is small at this length.
func TestKnownPoliciesReachTheirReferenceNumbers(t *testing.T) {
	if testing.Short() {
		t.Skip("under the race detector it takes ten times as long; the others here run policies side by side too")
	}
	policies := []string{"least_conn", "p2c", "peak_ewma", "sed_oracle", "greedy_oracle"}
	for name, want := range map[string][5][2]float64{
		"equal":          {{1.02, 4.69}, {1.11, 4.77}, {1.11, 4.80}, {1.03, 4.64}, {1.02, 4.60}},
		"class-affinity": {{1.19, 13.6}, {1.38, 14.4}, {1.82, 13.2}, {0.60, 4.72}, {0.59, 4.73}},
		"brownout-80":    {{1.24, 6.87}, {1.55, 11.5}, {1.43, 5.99}, {1.12, 4.80}, {1.09, 4.73}},
		"mixed-1slot-50": {{1.94, 11.2}, {3.17, 24.5}, {2.68, 14.3}, {1.32, 6.2}, {1.28, 5.0}},
	} {
		t.Run(name, func(t *testing.T) {
			s := load(t, name)
			s.Requests, s.Warmup = 70_000, 10_000
			c := Comparison{Scenario: s, Policies: policies, Seed: 2, Seeds: 2, Jobs: 2}
			rows, err := c.Run()
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range rows {
				within := []float64{0.06, 0.12}
				if r.Policy == "peak_ewma" {
					within = []float64{0.2, 0.3} // one peak shapes seconds: a mean of 2.6 to 3.2 over seeds with mixed speeds
				}
				for j, f := range []Figure{figure("mean_ms"), figure("p99_ms")} {
					if got := r.Mean(f) / 100; math.Abs(got-want[i][j]) > within[j]*want[i][j] {
						t.Errorf("%s %s is %.3f services, the reference %.3f", r.Policy, f.Name, got, want[i][j])
					}
				}
			}
		})
	}
}

func TestTheTailObjectiveLowersTheTail(t *testing.T) {
	if testing.Short() {
		t.Skip("under the race detector it takes ten times as long; the others here run policies side by side too")
	}
	run := func(objective decide.Objective) (mean, p99 float64) {
		c := Comparison{Scenario: load(t, "drift"), Policies: []string{"weir"}, Seed: 1, Seeds: 2, Jobs: 2, Objective: objective}
		rows, err := c.Run()
		if err != nil {
			t.Fatal(err)
		}
		return rows[0].Mean(figure("mean_ms")), rows[0].Mean(figure("p99_ms"))
	}
	mean, p99 := run(decide.Mean)
	tailMean, tail := run(decide.P99)
	// Over seeds 1 to 4 the 99th percentile is 0.9 to 2.3 % lower, and the mean 0.9 to 1.2 % higher.
	if tail > 0.99*p99 || tailMean > 1.03*mean {
		t.Errorf("mean / p99 %.1f / %.1f ms with the objective p99, %.1f / %.1f with mean", tailMean, tail, mean, p99)
	}
}

func TestResultsDoNotDependOnHowManyRunAtATime(t *testing.T) {
	s := load(t, "equal")
	s.Requests, s.Warmup = 3000, 100
	var texts []string
	for _, jobs := range []int{1, 4} {
		c := Comparison{Scenario: s, Policies: []string{"p2c", "c3", "p2c"}, Seed: 3, Seeds: 3, Jobs: jobs}
		rows, err := c.Run()
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := WriteJSON(&b, "", rows); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, b.String())
	}
	if texts[0] != texts[1] {
		t.Errorf("one at a time:\n%sfour at a time:\n%s", texts[0], texts[1])
	}
	if lines := strings.Split(texts[0], "\n"); lines[0] != lines[2] {
		t.Errorf("a policy named twice gives\n%s and\n%s", lines[0], lines[2])
	}
}

func TestAComparisonStopsWhenItsProgressSaysSo(t *testing.T) {
	s := load(t, "equal")
	enough := errors.New("enough")
	c := Comparison{
		Scenario: s, Policies: []string{"random"}, Seeds: 5, Jobs: 2, Progress: func(int) error { return enough },
	}
	if _, err := c.Run(); !errors.Is(err, enough) || !strings.Contains(err.Error(), "equal under random") {
		t.Errorf("got %v", err)
	}
}

func rows() []Row {
	result := func(mean, p99 float64, failed int) world.Result {
		return world.Result{Requests: 100, Failed: failed, MeanMS: mean, P50MS: mean / 2, P90MS: 2 * mean, P99MS: p99, P999MS: 2 * p99}
	}
	return []Row{
		{"least_conn", []world.Result{result(100, 400, 0), result(200, 800, 0), result(90, 300, 0)}},
		{"weir", []world.Result{result(80, 200, 1), result(100, 400, 0), result(81, 150, 2)}},
		{"prequal", []world.Result{result(90, 600, 0), result(190, 900, 0), result(85, 700, 0)}},
		{"sed_oracle", []world.Result{result(40, 100, 0), result(50, 200, 0), result(81, 75, 0)}},
	}
}

func TestSeveralSeedsGiveMeanSpreadAndMedian(t *testing.T) {
	r := rows()
	f := figure("mean_ms")
	if r[0].Mean(f) != 130 || r[0].Median(f) != 100 || math.Abs(r[0].Spread(f)-60.8276253) > 1e-6 {
		t.Errorf("%v %v %v", r[0].Mean(f), r[0].Median(f), r[0].Spread(f))
	}
	// 0.8, 0.5 and 0.9 on the same seeds, not 81/100.
	if got := r[1].Ratio(&r[0], f); got != 0.8 {
		t.Errorf("ratio %v", got)
	}
	var b strings.Builder
	if err := WriteJSON(&b, `a "b"`, r[:1]); err != nil {
		t.Fatal(err)
	}
	want := `{"scenario":"a \"b\"","policy":"least_conn","requests":100,"failed":0,"mean_ms":130,"p50_ms":65,"p90_ms":260,` +
		`"p99_ms":500,"p999_ms":1000,"seeds":3,"spread":{"requests":0,"failed":0,"mean_ms":60.82763,"p50_ms":30.41381,` +
		`"p90_ms":121.6553,"p99_ms":264.5751,"p999_ms":529.1503},"median":{"requests":100,"failed":0,"mean_ms":100,"p50_ms":50,` +
		`"p90_ms":200,"p99_ms":400,"p999_ms":800}}` + "\n"
	if b.String() != want {
		t.Errorf("got  %swant %s", b.String(), want)
	}
}

func TestRequestsAreCountedToTheLastOneHoweverMany(t *testing.T) {
	r := []Row{{"random", []world.Result{{Requests: 12345678, Failed: 10000001, MeanMS: 5.04227654, P50MS: 5, P90MS: 5, P99MS: 5, P999MS: 12345678.5}}}}
	var b strings.Builder
	if err := WriteJSON(&b, "", r); err != nil {
		t.Fatal(err)
	}
	want := `{"policy":"random","requests":12345678,"failed":10000001,"mean_ms":5.042277,"p50_ms":5,"p90_ms":5,"p99_ms":5,"p999_ms":1.234568e+07}` + "\n"
	if b.String() != want {
		t.Errorf("got  %swant %s", b.String(), want)
	}
}

func TestALatencyNobodyReachedIsNull(t *testing.T) {
	nan := math.NaN()
	r := []Row{{"random", []world.Result{{Requests: 5, Failed: 5, MeanMS: nan, P50MS: nan, P90MS: nan, P99MS: nan, P999MS: nan}}}}
	var b strings.Builder
	if err := WriteJSON(&b, "", r); err != nil {
		t.Fatal(err)
	}
	want := `{"policy":"random","requests":5,"failed":5,"mean_ms":null,"p50_ms":null,"p90_ms":null,"p99_ms":null,"p999_ms":null}` + "\n"
	if b.String() != want {
		t.Errorf("got  %swant %s", b.String(), want)
	}
	b.Reset()
	if err := WriteTable(&b, "x", r); err != nil || !strings.Contains(b.String(), "-") || strings.Contains(b.String(), "NaN") {
		t.Errorf("%v %s", err, b.String())
	}
}

func TestTheTableIsAlignedAndShowsMultiplesOfLeastConn(t *testing.T) {
	var b strings.Builder
	if err := WriteTable(&b, "title", rows()); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	for _, l := range lines[1:6] {
		if len([]rune(l)) != len([]rune(lines[1])) {
			t.Errorf("line of another length: %q", l)
		}
	}
	if f := strings.Fields(lines[3]); f[0] != "weir" || f[len(f)-2] != "0.800" || f[len(f)-1] != "0.500" {
		t.Errorf("%q", lines[3])
	}
}

func TestTheSummaryComparesWithTheBestClassicalPolicyOfEachFigure(t *testing.T) {
	var b strings.Builder
	outcomes := []Outcome{{"some", rows()}, {"without weir", rows()[:1]}}
	if err := WriteSummary(&b, outcomes); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	got := strings.Fields(lines[len(lines)-1])
	// 3 of 300 failed; 80/100 and so on; 80/40, 100/50, 1; against prequal 80/90, 100/190, 81/85; p99 against least_conn.
	want := strings.Fields("some 1.000 0.800 2.000 0.889 prequal 0.500 2.000 0.500 least_conn")
	if strings.Join(got, " ") != strings.Join(want, " ") || len(lines) != 3 {
		t.Errorf("got  %v\nwant %v\n%s", got, want, b.String())
	}
	b.Reset()
	if err := WriteSummary(&b, outcomes[1:]); err != nil || b.Len() != 0 {
		t.Errorf("%v %s", err, b.String())
	}
}
