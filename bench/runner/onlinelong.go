package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// slowPeer becomes slow in the second third of the long run.
const slowPeer = 1

// long is the run in which an engine learns. It returns the file of its last candidate, "" when it made none.
func (c *onlineCmd) long(b *bench, r *result, raw *onlineRaw) (string, error) {
	ms := c.Every.Milliseconds()
	arms := []*arm{
		{name: "nginx"},
		{name: "fixed", model: "default"},
		{name: "learning", model: "default", learn: fmt.Sprintf("{enabled: true, every_ms: %d, watch_ms: %d, min_decisions: 500}", ms, ms)},
	}
	defer b.stopAll()
	for _, a := range arms {
		if err := c.start(b, a); err != nil {
			return "", fmt.Errorf("%s: %w", a.name, err)
		}
	}
	for _, a := range arms {
		if err := c.send(b, a, c.Seed, c.For); err != nil {
			return "", err
		}
	}
	began := time.Now()
	for t := c.Slice; t <= c.For; t += c.Slice {
		for _, turn := range []struct {
			at    time.Duration
			speed float64
		}{{c.For / 3, c.Slow}, {2 * c.For / 3, 1}} {
			if turn.at > t-c.Slice && turn.at <= t {
				if err := b.sleep(time.Until(began.Add(turn.at))); err != nil {
					return "", err
				}
				for _, a := range arms {
					if err := a.speed(slowPeer, turn.speed); err != nil {
						return "", err
					}
				}
				b.say("peer %c: speed %g", 'a'+slowPeer, turn.speed)
			}
		}
		if err := b.sleep(time.Until(began.Add(t))); err != nil {
			return "", err
		}
		for _, a := range arms[1:] {
			a.memory = append(a.memory, rss(a.eng.pid()))
		}
		b.say("%v of %v", t, c.For)
	}
	for _, a := range arms {
		if err := a.sent(b); err != nil {
			return "", fmt.Errorf("%s: %w", a.name, err)
		}
		if a.eng != nil {
			user, system, err := cpuOf(a.eng.pid())
			if err != nil {
				return "", err
			}
			a.cpu = user + system
		}
	}
	took := time.Since(began)
	v, err := arms[2].models()
	if err != nil {
		return "", err
	}
	steps, err := readSteps(arms[2].eng.log, arms[2].began)
	if err != nil {
		return "", err
	}
	raw.Steps = steps
	c.reportLong(r, raw, arms, took, v)
	c.reportSteps(r, steps)
	last := ""
	for _, s := range slices.Backward(steps) {
		if s.Step == "trained" {
			last = filepath.Join(b.dir, "candidate.onnx")
			if err := download(arms[2].eng, "/api/models/"+s.Model+"/file", last); err != nil {
				return "", err
			}
			break
		}
	}
	models := []string{"default", analytic}
	if last == "" {
		r.note("no candidate was made: too short a run")
	} else {
		models = append(models, last)
	}
	raw.LongRun, err = c.evaluate(b, arms[2], models, min(c.Warmup, c.For/3))
	if err != nil {
		return "", fmt.Errorf("judging by the history of the long run: %w", err)
	}
	t := table{Title: "weir evaluate on the history of the engine that learned, ms a request (95 % interval): estimates for a model that had decided all the time", Columns: []string{
		"model", "cost", "interval", "response time", "interval", "decisions, worth", "sends elsewhere", "s to judge",
	}}
	for i := range raw.LongRun {
		e := &raw.LongRun[i]
		if i == 0 {
			t.Rows = append(t.Rows, []string{"as it was", ms1(e.Cost.Was), interval(e.Cost.WasLow, e.Cost.WasHigh), ms1(e.Own.Was), interval(e.Own.WasLow, e.Own.WasHigh), fmt.Sprint(e.Decisions), "", ""})
		}
		t.Rows = append(t.Rows, []string{
			e.Of, ms1(e.Cost.Value), interval(e.Cost.Low, e.Cost.High), ms1(e.Own.Value), interval(e.Own.Low, e.Own.High), fmt.Sprintf("%.0f", e.Effective),
			fmt.Sprintf("%.1f %%", 100*e.Moved), fmt.Sprintf("%.1f", e.Seconds),
		})
	}
	r.Tables = append(r.Tables, t)
	return last, nil
}

func ms1(x float64) string               { return fmt.Sprintf("%.1f", x) }
func interval(low, high float64) string  { return fmt.Sprintf("%.1f .. %.1f", low, high) }
func percent(x float64) string           { return fmt.Sprintf("%+.1f %%", 100*x) }
func inPercent(low, high float64) string { return fmt.Sprintf("%+.1f .. %+.1f %%", 100*low, 100*high) }
func holds(x, low, high float64) bool    { return x >= low && x <= high }
func share(n, of int) string             { return fmt.Sprintf("%d of %d", n, of) }

// download saves what an engine answers.
func download(e *engine, path, into string) error {
	resp, err := e.web.Get("http://" + e.admin + path)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s", path, resp.Status, text)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(into, text, 0o644)
}

// seen is one request as NGINX logged it.
type seen struct {
	came   float64 // Unix seconds
	ms     float64
	status int
	policy string
}

func readAccess(path string) (list []seen, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var s seen
		var end, took float64
		if _, err := fmt.Sscan(lines.Text(), &end, &took, &s.status, &s.policy); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", path, lines.Text(), err)
		}
		s.came, s.ms = end-took, 1000*took
		list = append(list, s)
	}
	return list, lines.Err()
}

// pickedFigures sums up answered requests.
type pickedFigures struct {
	N      int     `json:"requests"`
	Failed int     `json:"failed"`
	Mean   float64 `json:"mean_ms"`
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
}

// between sums up the requests that came in [from, to) after the load began, of some policies.
func (a *arm) between(from, to time.Duration, policies ...string) (f pickedFigures) {
	began := float64(a.began.UnixNano()) / 1e9
	var took []float64
	for i := range a.seen {
		s := &a.seen[i]
		if at := s.came - began; at < from.Seconds() || at >= to.Seconds() || !slices.Contains(policies, s.policy) {
			continue
		}
		f.N++
		if s.status >= 500 {
			f.Failed++
			continue
		}
		took = append(took, s.ms)
		f.Mean += s.ms
	}
	slices.Sort(took)
	f.Mean /= float64(max(len(took), 1))
	if len(took) > 0 {
		f.P50, f.P99 = rank(took, 0.5), rank(took, 0.99)
	}
	return f
}

func (f *pickedFigures) String() string {
	if f.N == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f %.0f %.0f", f.Mean, f.P50, f.P99)
}

// sliceFigures is one slice of the long run.
type sliceFigures struct {
	From     float64       `json:"from_s"`
	To       float64       `json:"to_s"`
	Slow     bool          `json:"peer_slow"`
	Nginx    pickedFigures `json:"least_conn"`
	Fixed    pickedFigures `json:"fixed"`
	Learning pickedFigures `json:"learning"`
	Control  pickedFigures `json:"control"`
	MiB      float64       `json:"engine_mib"`
}

// chosen are the policies whose picks the model's are: exploration belongs to what it costs.
var chosen = []string{"learned", "explore"}

func (c *onlineCmd) slice(arms []*arm, from, to time.Duration) sliceFigures {
	middle := (from + to) / 2
	return sliceFigures{
		From: from.Seconds(), To: to.Seconds(), Slow: middle >= c.For/3 && middle < 2*c.For/3,
		Nginx: arms[0].between(from, to, "least_conn"), Fixed: arms[1].between(from, to, chosen...), Learning: arms[2].between(from, to, chosen...),
		Control: arms[2].between(from, to, "control"),
	}
}

func (c *onlineCmd) reportLong(r *result, raw *onlineRaw, arms []*arm, took time.Duration, v modelsView) {
	t := table{Title: "The long run, in slices of time: mean, p50, p99 in ms", Columns: []string{
		"s", "world", "least_conn", "shipped model, fixed", "learning", "its control slice", "requests of it", "learning / least_conn", "learning / fixed", "engine MiB",
	}}
	row := func(s *sliceFigures, world string) {
		t.Rows = append(t.Rows, []string{
			fmt.Sprintf("%.0f..%.0f", s.From, s.To), world, s.Nginx.String(), s.Fixed.String(), s.Learning.String(), s.Control.String(), fmt.Sprint(s.Control.N),
			fmt.Sprintf("%.3f", s.Learning.Mean/s.Nginx.Mean), fmt.Sprintf("%.3f", s.Learning.Mean/s.Fixed.Mean), fmt.Sprintf("%.0f", s.MiB),
		})
	}
	var overNginx, overFixed []float64
	for i, from := 0, time.Duration(0); from+c.Slice <= c.For; i, from = i+1, from+c.Slice {
		s := c.slice(arms, from, from+c.Slice)
		s.MiB = arms[2].memory[min(i, len(arms[2].memory)-1)]
		raw.Slices = append(raw.Slices, s)
		row(&s, map[bool]string{true: fmt.Sprintf("peer %c at %g", 'a'+slowPeer, c.Slow), false: "as at first"}[s.Slow])
		if from > 0 {
			overNginx, overFixed = append(overNginx, s.Learning.Mean/s.Nginx.Mean), append(overFixed, s.Learning.Mean/s.Fixed.Mean)
		}
	}
	whole := c.slice(arms, 0, c.For)
	whole.MiB = arms[2].memory[len(arms[2].memory)-1]
	row(&whole, "all")
	r.Tables = append(r.Tables, t)
	n, f := spreadOf(overNginx), spreadOf(overFixed)
	r.note("mean of the learning engine's requests over least_conn's, slices after the first: median %.3f (quartiles %s, extremes %s); over those of the engine with the shipped model that does not learn: %.3f (%s, %s)",
		n.Median, n.quartiles("%.3f"), n.extremes("%.3f"), f.Median, f.quartiles("%.3f"), f.extremes("%.3f"))
	for _, a := range arms {
		r.note("%s: the load generator counts %d requests, %d failed, mean %.1f ms; it was late by %.1f ms (p99)", a.name, a.told.Requests, a.told.Failed, a.told.Mean, a.told.LateP99)
	}
	r.note("learning worked %.2f s of CPU in %.0f s, %.2f %% of a core (at most 10 %% while it works). The whole engine took %.1f s, the one that does not learn %.1f s", v.Learning.CPUSeconds, took.Seconds(),
		100*v.Learning.CPUSeconds/took.Seconds(), arms[2].cpu.Seconds(), arms[1].cpu.Seconds())
	r.note("memory at the end: %.0f MiB (most %.0f), without learning %.0f MiB (most %.0f); %d decisions in the replay store, %.1f MiB", whole.MiB, slices.Max(arms[2].memory),
		arms[1].memory[len(arms[1].memory)-1], slices.Max(arms[1].memory), v.Learning.Decisions, float64(v.Learning.Bytes)/(1<<20))
	evaluator, _, _ := strings.Cut(v.Evaluator, " (") // without where it lies on this machine
	r.note("models are evaluated by %s", evaluator)
}

// learned is one step of the online loop, as the engine logged it.
type learned struct {
	At      float64            `json:"at_s"`
	Step    string             `json:"step"`
	Model   string             `json:"model"`
	Before  string             `json:"before"`
	Reason  string             `json:"reason"`
	Figures map[string]float64 `json:"figures"`
}

func readSteps(log string, began time.Time) (list []learned, err error) {
	text, err := os.ReadFile(log)
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(text) {
		var s struct {
			learned
			Message string    `json:"message"`
			Time    time.Time `json:"time"`
		}
		if json.Unmarshal(line, &s) != nil || s.Message != "learning" {
			continue
		}
		s.At = s.Time.Sub(began).Seconds()
		list = append(list, s.learned)
	}
	return list, nil
}

func (c *onlineCmd) reportSteps(r *result, steps []learned) {
	t := table{Title: "What became of each candidate (difference: doubly robust estimate against the model before, with its 95 % interval)", Columns: []string{
		"candidate", "trained at s", "decisions", "difference", "interval", "outcome",
	}}
	count := map[string]int{}
	at := map[string]int{} // row by model
	for _, s := range steps {
		count[s.Step]++
		i, known := at[s.Model]
		if s.Step == "trained" || !known {
			i = len(t.Rows)
			at[s.Model] = i
			t.Rows = append(t.Rows, []string{orElse(s.Model, "-"), fmt.Sprintf("%.0f", s.At), "", "", "", ""})
		}
		row := t.Rows[i]
		for _, step := range []string{"refused", "shadow"} {
			if d, ok := s.Figures[step+"_difference"]; ok {
				row[2], row[3], row[4] = fmt.Sprintf("%.0f", s.Figures[step+"_decisions"]), percent(d), inPercent(s.Figures[step+"_low"], s.Figures[step+"_high"])
			}
		}
		switch s.Step {
		case "trained", "shadow":
		case "promoted":
			row[5] = fmt.Sprintf("promoted at %.0f", s.At)
		default:
			row[5] = strings.TrimPrefix(fmt.Sprintf("%s; %s at %.0f: %s", row[5], strings.ReplaceAll(s.Step, "_", " "), s.At, s.Reason), "; ")
		}
	}
	r.Tables = append(r.Tables, t)
	r.note("candidates: %d trained, %d refused, %d promoted, %d kept after their watch, %d rolled back", count["trained"], count["refused"], count["promoted"], count["kept"], count["rolled_back"])
}
