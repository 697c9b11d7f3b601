package main

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/learn/blocks"
	"github.com/weirlb/weir/engine/learn/ope"
)

func logFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestRequestsCountInTheSliceTheyCameInByWhoChose(t *testing.T) {
	// One of 300 ms that ended in the second slice came in the first; a failure has no time.
	list, err := readAccess(logFile(t, "1010.200 0.300 200 learned\n1001.000 0.100 200 explore\n1002.000 0.900 200 control\n1003.000 0.001 502 learned\n1015.000 0.050 200 learned\n"))
	if err != nil {
		t.Fatal(err)
	}
	a := &arm{began: time.Unix(1000, 0), seen: list}
	if f := a.between(0, 10*time.Second, chosen...); f.N != 3 || f.Failed != 1 || math.Abs(f.Mean-200) > 1e-6 || f.P50 != 100 || f.P99 != 300 {
		t.Errorf("%+v", f)
	}
	if f := a.between(0, 10*time.Second, "control"); f.N != 1 || math.Abs(f.Mean-900) > 1e-6 {
		t.Errorf("%+v", f)
	}
	if f := a.between(20*time.Second, 30*time.Second, chosen...); f.N != 0 || f.String() != "-" {
		t.Errorf("%+v", f)
	}
	if _, err := readAccess(logFile(t, "nonsense\n")); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("a line that is none: %v", err)
	}
}

func TestWhatBecameOfEachCandidateIsOneLine(t *testing.T) {
	log := logFile(t, `{"level":"info","message":"listening","time":"2026-01-01T00:00:01.000Z"}
not JSON
{"model":"m1","step":"trained","figures":{"trained_rows":700},"reason":"fitted","message":"learning","time":"2026-01-01T00:00:10.000Z"}
{"model":"m1","step":"refused","figures":{"refused_difference":0.01,"refused_low":-0.02,"refused_high":0.03,"refused_decisions":900},"reason":"it would be worse","message":"learning","time":"2026-01-01T00:00:11.000Z"}
{"model":"m2","step":"trained","message":"learning","time":"2026-01-01T00:00:20.000Z"}
{"model":"m2","step":"shadow","figures":{"shadow_difference":-0.02,"shadow_low":-0.04,"shadow_high":0.001,"shadow_decisions":1000},"message":"learning","time":"2026-01-01T00:00:21.000Z"}
{"model":"m2","step":"promoted","message":"learning","time":"2026-01-01T00:00:26.000Z"}
{"model":"m2","step":"rolled_back","reason":"slower","message":"learning","time":"2026-01-01T00:01:00.000Z"}
`)
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	steps, err := readSteps(log, began)
	if err != nil || len(steps) != 6 {
		t.Fatalf("%+v, %v", steps, err)
	}
	var r result
	(&onlineCmd{}).reportSteps(&r, steps)
	want := [][]string{
		{"m1", "10", "900", "+1.0 %", "-2.0 .. +3.0 %", "refused at 11: it would be worse"},
		{"m2", "20", "1000", "-2.0 %", "-4.0 .. +0.1 %", "promoted at 26; rolled back at 60: slower"},
	}
	if got := r.Tables[0].Rows; len(got) != 2 || !slices.Equal(got[0], want[0]) || !slices.Equal(got[1], want[1]) {
		t.Errorf("%q", got)
	}
	if n := r.Notes[0]; n != "candidates: 2 trained, 1 refused, 1 promoted, 0 kept after their watch, 1 rolled back" {
		t.Error(n)
	}
}

func TestAnEstimateIsHeldToWhatTheModelDidWhenItServed(t *testing.T) {
	part := func(value, low, high float64) blocks.Estimate {
		return blocks.Estimate{Value: value, Low: low, High: high, Blocks: 40}
	}
	// Served at 100 ms; the other is estimated at 90 (85 to 95), 10 less (-15 to -5). In truth it has 93: within; or 97: not.
	est := judgmentOf(&ope.Result{MeanMS: 100, Candidate: part(0.9, 0.85, 0.95), OnRecord: part(-0.1, -0.15, -0.05), Recorded: part(1, 0.97, 1.04)})
	est.truth(&judgment{Was: 93, WasLow: 90, WasHigh: 96})
	if !est.Inside || !est.DiffInside || est.True != 93 || est.Was != 100 || est.WasHigh != 104 {
		t.Errorf("%+v", est)
	}
	est.truth(&judgment{Was: 97})
	if est.Inside || est.DiffInside {
		t.Errorf("%+v", est)
	}
}

func TestRoundsThatTheMachineDisturbedAreAlsoLeftOut(t *testing.T) {
	raw := &onlineRaw{Compared: []offPolicy{
		{Round: 1, Served: "a", Of: "b", Late: 5, Own: judgment{Value: 110, Was: 120, Diff: -10, True: 100, Inside: true, DiffInside: true}},
		{Round: 1, Served: "a", Of: "a", Late: 5, Own: judgment{Value: 98, True: 100}},
		{Round: 2, Served: "a", Of: "b", Late: 500, Own: judgment{Value: 300, Was: 120, Diff: 180, True: 100}},
	}}
	own := func(e *offPolicy) *judgment { return &e.Own }
	var r result
	c := &onlineCmd{}
	c.sum(&r, raw, "time", "all", math.Inf(1), own)
	c.sum(&r, raw, "time", "quiet", quietMS, own)
	c.sum(&r, raw, "time", "quietest", 1, own)
	for i, want := range []string{"time, all: 2; the truth", "time, quiet: 1; the truth", "time, quietest: none"} {
		if !strings.HasPrefix(r.Notes[i], want) {
			t.Error(r.Notes[i])
		}
	}
	if !strings.Contains(r.Notes[0], "1 of 2 judgements") || !strings.Contains(r.Notes[1], "right sign in 1 of 1. Estimates were off by 10.0 %") || !strings.Contains(r.Notes[1], "-2.0 %") {
		t.Error(r.Notes)
	}
}
