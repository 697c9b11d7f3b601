package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/embedded"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/engine/observe"
)

// keptHistory writes a history of two peers of 10 and 30 ms, 100 requests a second for five minutes, half of them placed at random.
func keptHistory(t *testing.T) string { return keptWith(t, func(int, *history.Outcome) {}) }

// keptWith is keptHistory with something changed in each outcome.
func keptWith(t *testing.T, change func(i int, o *history.Outcome)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "history.db")
	s, err := embedded.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	b := &history.Batch{Writer: "w", Seq: 1, AtMS: time.Now().UnixMilli()}
	for _, peer := range []string{"10.0.0.1:80", "10.0.0.2:80"} {
		b.Series = append(b.Series, history.Series{Pool: "api", Peer: peer, Class: "*"})
	}
	at := b.AtMS - 400_000
	for i := range int64(30_000) {
		o := history.Outcome{AtMS: at + 10*i, Attempt: 1, Status: 200, Propensity: 0.75, Load: -1, PredictedMS: -1, Rate: 1}
		if rnd.Float64() < 0.25 {
			o.Series, o.Propensity = 1, 0.25
		}
		o.TotalMS = float32(10*math.Pow(3, float64(o.Series))) * (0.5 + rnd.Float32())
		o.HeaderMS = o.TotalMS
		change(int(i), &o)
		b.Outcomes = append(b.Outcomes, o)
	}
	slices.SortStableFunc(b.Outcomes, func(a, b history.Outcome) int { return int(a.AtMS - b.AtMS) })
	if _, err := s.Write(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	return path
}

func weirRun(t *testing.T, args ...string) (code int, out, err string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(args, streams{&o, &e})
	return code, o.String(), e.String()
}

// turnedModel writes a model that takes the dear for the cheap.
func turnedModel(t *testing.T) string {
	t.Helper()
	net := model.New([]int{decide.Inputs, 1}, rand.New(rand.NewPCG(1, 1)))
	net.W[0][slices.Index(decide.InputNames(), "log_cost")] = -3
	path := filepath.Join(t.TempDir(), "turned.onnx")
	if err := writeModel(path, net, decide.Price{}, map[string]string{"name": "turned"}); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAModelIsJudgedByRecordedHistory(t *testing.T) {
	kept, turned := keptHistory(t), turnedModel(t)
	code, out, errs := weirRun(t, "evaluate", "--model", turned, "--history", kept, "--json")
	if code != 0 {
		t.Fatalf("%d: %s", code, errs)
	}
	var r judged
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	// It sends all to the peer of 30 ms instead of that of 10; three quarters went to the one, a quarter to the other, 15 ms in the mean.
	if d := r.Difference; !(d.Low > 1 && d.High < 1.7) || r.Model != turned || r.Against != "analytic" {
		t.Errorf("%+v", r)
	}
	if got := r.Candidate.Value * r.MeanMS; math.Abs(got-30) > 2 {
		t.Errorf("the model is said to make %v ms; 30 is true", got)
	}
	if d := r.OnRecord; !(d.Low > 0.7 && d.High < 1.3) {
		t.Errorf("against what was: %+v; twice is true", d)
	}
	code, out, errs = weirRun(t, "evaluate", "--model", "analytic", "--against", turned, "--history", "file:"+kept)
	if code != 0 || !strings.Contains(out, "less: better") || !strings.Contains(errs, "30000 outcomes") {
		t.Errorf("%d: %s\n%s", code, out, errs)
	}
	code, out, errs = weirRun(t, "evaluate", "--model", "none", "--history", kept) // as model.file in weir.yaml: the analytic policy
	if code != 0 || !strings.Contains(out, "+0.00 %") {
		t.Errorf("none: %d: %s\n%s", code, out, errs)
	}
}

func TestEvaluateSaysWhatIsMissing(t *testing.T) {
	kept := keptHistory(t)
	mistyped := kept + "x"
	defer func() {
		if _, err := os.Stat(mistyped); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a mistyped name was made a file (%v)", err)
		}
	}()
	for _, c := range []struct{ want, args string }{
		{"--history is missing", "--model analytic"},
		{mistyped + ": no such file", "--model analytic --history " + mistyped},
		{"is a folder; the file in it is", "--model analytic --history " + filepath.Dir(kept)},
		{"file: names no file", "--model analytic --history file:"},
		{"no outcomes", "--model analytic --pool other --history " + kept},
		{"nosuch.onnx", "--model nosuch.onnx --history " + kept},
		{"--level", "--model analytic --level 2 --history " + kept},
		{"from", "--model analytic --from yesterday --history " + kept},
		{"--last", "--model analytic --last 0 --history " + kept},
		{"--warmup", "--model analytic --warmup 0s --history " + kept},
		{"--explore 2", "--model analytic --explore 2 --history " + kept},
		{"warm-up of the estimators: take a longer time by --from, or a shorter --warmup", "--model analytic --warmup 1h --history " + kept},
		{"picked by another rule", "--model analytic --history " + keptWith(t, func(_ int, o *history.Outcome) { o.Flags = uint16(observe.Local) })},
		{"not known who was considered", "--model analytic --history " + keptWith(t, func(_ int, o *history.Outcome) { o.Flags = uint16(observe.Confined) })},
	} {
		code, _, errs := weirRun(t, append([]string{"evaluate"}, strings.Fields(c.args)...)...)
		if code != 1 || !strings.Contains(errs, c.want) {
			t.Errorf("%s: %d, %q", c.args, code, errs)
		}
	}
}

func TestAModelIsTrainedOnRecordedHistoryToo(t *testing.T) {
	out := filepath.Join(t.TempDir(), "m.onnx")
	code, said, errs := weirRun(t, "train", "--out", out, "--worlds", "10", "--requests", "1500", "--rounds", "1", "--hidden", "8", "--history", keptHistory(t))
	if code != 0 {
		t.Fatalf("%d: %s", code, errs)
	}
	file, err := model.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	_, meta, err := model.Decode(file)
	if err != nil || !strings.Contains(meta.Card["data"], "recorded history") || !strings.Contains(meta.Card["recipe"], "--history") {
		t.Errorf("%v, %+v", err, meta.Card)
	}
	if rows := meta.Card["rows"]; len(rows) < 5 { // 24,000 recorded, 1,600 played
		t.Errorf("%s rows: %s", rows, said)
	}
}

func TestSeveralModelsShareOneReadingAndEachIsJudgedTwice(t *testing.T) {
	kept, turned := keptHistory(t), turnedModel(t)
	code, out, errs := weirRun(t, "evaluate", "--model", turned, "--model", "analytic", "--history", kept, "--json")
	if code != 0 {
		t.Fatalf("%d: %s", code, errs)
	}
	dec := json.NewDecoder(strings.NewReader(out))
	var bad, good judged
	if err := errors.Join(dec.Decode(&bad), dec.Decode(&good)); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if bad.Model != turned || good.Model != "analytic" || good.Difference.Value != 0 || bad.Difference.Low < 1 {
		t.Errorf("%+v\n%+v", bad, good)
	}
	// 10 ms at the one, 30 at the other, and nobody waits.
	if ms := bad.Own.Candidate.Value * bad.Own.MeanMS; math.Abs(ms-30) > 2 {
		t.Errorf("response time %v ms; 30 is true", ms)
	}
	if strings.Count(errs, "outcomes of") != 1 {
		t.Errorf("read more than once: %s", errs)
	}
	_, out, _ = weirRun(t, "evaluate", "--model", turned, "--model", "analytic", "--history", kept)
	if strings.Count(out, "Response time alone") != 2 || strings.Contains(out, "Doubtful") {
		t.Error(out)
	}
}

func TestPropensitiesThatSayNothingAreNamed(t *testing.T) {
	for want, change := range map[string]func(int, *history.Outcome){
		// As from a program that does not tell them: 1 is what is taken then.
		"recorded with a propensity of 1": func(_ int, o *history.Outcome) { o.Propensity = 1 },
		"are too small":                   func(_ int, o *history.Outcome) { o.Propensity /= 3 },
		"was hardly ever picked": func(_ int, o *history.Outcome) {
			if o.Series == 1 {
				o.Propensity = 0.9
			}
		},
	} {
		code, out, errs := weirRun(t, "evaluate", "--model", turnedModel(t), "--history", keptWith(t, change))
		if code != 0 || !strings.Contains(out, "Doubtful: ") || !strings.Contains(out, want) {
			t.Errorf("%s: %d\n%s%s", want, code, out, errs)
		}
	}
}

func TestOfALongHistoryTheEndIsReplayed(t *testing.T) {
	kept := keptHistory(t)
	code, _, errs := weirRun(t, "evaluate", "--model", "analytic", "--history", kept, "--last", "3000")
	var read, decisions int
	if _, err := fmt.Sscanf(errs, "%d outcomes of", &read); code != 0 || err != nil {
		t.Fatalf("%d %v: %s", code, err, errs)
	}
	// All is of ten minutes, so estimators see all of it; decisions are the last 30 s.
	if _, err := fmt.Sscanf(errs[strings.Index(errs, " on, ")+5:], "%d decisions", &decisions); err != nil || read != 30_000 || decisions < 2500 || decisions > 4200 {
		t.Errorf("%v: %d outcomes, %d decisions: %s", err, read, decisions, errs)
	}
	c := recordedFlags{Last: 3000}
	s, err := embedded.Open(kept)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	now := time.Now().UnixMilli()
	first, begin, err := c.tail(t.Context(), s, now-86_400_000, now)
	if err != nil || now-first > 150_000 || begin >= first {
		t.Errorf("%v: judged from %d ms ago, read from %d", err, now-first, now-begin)
	}
}
