package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/ope"
	"github.com/weirlb/weir/engine/model"
)

// offPolicy is what weir evaluate says of a model by the history of another, and what was true of it.
type offPolicy struct {
	Round     int      `json:"round"`
	Served    string   `json:"served"` // whose history it is
	Of        string   `json:"of"`
	Decisions int      `json:"decisions"`
	Effective float64  `json:"effective_decisions"`
	Moved     float64  `json:"moved"`
	Weight    float64  `json:"mean_weight"`
	Seconds   float64  `json:"seconds"`     // to judge all models of the call
	Late      float64  `json:"late_p99_ms"` // of the load generators of the round: how far the machine kept them from their work
	Cost      judgment `json:"cost"`
	Own       judgment `json:"response_time"`
}

// judgment is in ms.
type judgment struct {
	Value, Low, High          float64
	Was, WasLow, WasHigh      float64 // of who served
	Diff, DiffLow, DiffHigh   float64 // estimated difference from that, paired
	True, TrueLow, TrueHigh   float64 // of Of when it served itself
	Inside, DiffInside, Known bool    // whether the truth lies in the intervals
}

func judgmentOf(r *ope.Result) judgment {
	ms := r.MeanMS
	return judgment{
		Value: ms * r.Candidate.Value, Low: ms * r.Candidate.Low, High: ms * r.Candidate.High,
		Was: ms, WasLow: ms * r.Recorded.Low, WasHigh: ms * r.Recorded.High,
		Diff: ms * r.OnRecord.Value, DiffLow: ms * r.OnRecord.Low, DiffHigh: ms * r.OnRecord.High,
	}
}

func (j *judgment) truth(t *judgment) {
	j.True, j.TrueLow, j.TrueHigh, j.Known = t.Was, t.WasLow, t.WasHigh, true
	j.Inside = holds(j.True, j.Low, j.High)
	j.DiffInside = holds(j.True-j.Was, j.DiffLow, j.DiffHigh)
}

// stored waits until an arm's history has all that its engine observed: a disk that is busy, as after images were built, keeps it waiting.
func (a *arm) stored(b *bench) error {
	for end := time.Now().Add(time.Minute); ; {
		m, err := metricsOf(a.eng)
		switch {
		case err != nil:
			return err
		case m.waiting == 0:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("%.0f rows of history of %s still wait for their store a minute after its load", m.waiting, a.name)
		}
		if err := b.sleep(200 * time.Millisecond); err != nil {
			return err
		}
	}
}

// evaluate runs weir evaluate on an arm's history.
func (c *onlineCmd) evaluate(b *bench, a *arm, models []string, warmup time.Duration) ([]offPolicy, error) {
	if err := a.stored(b); err != nil {
		return nil, err
	}
	args := []string{"evaluate", "--json", "--history", a.history, "--explore", fmt.Sprint(c.Explore), "--warmup", warmup.String(), "--balancers", "1", "--from", a.began.UTC().Format(time.RFC3339)}
	for _, m := range models {
		if m == "default" {
			m = filepath.Join(b.repo, "models", "default.onnx")
		}
		args = append(args, "--model", m)
	}
	cmd := exec.CommandContext(b.ctx, filepath.Join(b.dir, "bin-weir"), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	began := time.Now()
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("weir evaluate: %w\n%s", err, complaints.String())
	}
	took := time.Since(began).Seconds()
	var list []offPolicy
	dec := json.NewDecoder(bytes.NewReader(out))
	for _, m := range models {
		var said struct {
			ope.Result
			Own ope.Result `json:"response_time"`
		}
		if err := dec.Decode(&said); err != nil {
			return nil, fmt.Errorf("weir evaluate printed something else: %w\n%.500s", err, out)
		}
		list = append(list, offPolicy{
			Served: a.name, Of: shortName(m), Decisions: said.Decisions, Effective: said.Effective, Moved: said.Moved, Weight: said.Weight.Value, Seconds: took,
			Cost: judgmentOf(&said.Result), Own: judgmentOf(&said.Own),
		})
	}
	return list, nil
}

func shortName(model string) string { return strings.TrimSuffix(filepath.Base(model), ".onnx") }

// scrambled writes a model that is worse than the formulas: costs to a power near 0 hardly tell peers apart.
func (c *onlineCmd) scrambled(b *bench) (string, error) {
	net := model.New([]int{decide.Inputs, 1}, nil)
	net.W[0][slices.Index(decide.InputNames(), "log_cost")] = -float32(c.Scramble)
	file, err := model.Encode(net, model.Meta{Features: decide.InputNames(), Heads: []string{decide.Head}, Card: map[string]string{"name": "scrambled"}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(b.dir, "scrambled.onnx")
	return path, os.WriteFile(path, file, 0o644)
}

// round lets every policy serve the same load, and judges each by the history of each other.
func (c *onlineCmd) round(b *bench, raw *onlineRaw, number int, seed uint64, candidate string) error {
	bad, err := c.scrambled(b)
	if err != nil {
		return err
	}
	models := []string{analytic, "default", bad}
	if candidate != "" {
		models = append(models, candidate)
	}
	defer b.stopAll()
	var arms []*arm
	for _, m := range models {
		a := &arm{name: fmt.Sprintf("%s-%d", shortName(m), number+1), model: m}
		if err := c.start(b, a); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		arms = append(arms, a)
	}
	for _, a := range arms {
		if err := c.send(b, a, seed, c.Round); err != nil {
			return err
		}
	}
	for _, a := range arms {
		if err := a.sent(b); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	late := 0.0
	for _, a := range arms {
		late = max(late, a.told.LateP99)
	}
	b.say("the load generators were late by %.0f ms (p99)", late)
	first := len(raw.Compared)
	own := make([]offPolicy, len(arms))
	for i, a := range arms {
		list, err := c.evaluate(b, a, models, c.Warmup)
		if err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		for j := range list {
			list[j].Served, list[j].Round, list[j].Late = shortName(models[i]), number+1, late
		}
		own[i] = list[i]
		raw.Compared = append(raw.Compared, list...)
	}
	for i := first; i < len(raw.Compared); i++ {
		e := &raw.Compared[i]
		for j := range own {
			if own[j].Of == e.Of {
				e.Cost.truth(&own[j].Cost)
				e.Own.truth(&own[j].Own)
			}
		}
	}
	return nil
}

func (c *onlineCmd) reportRounds(r *result, raw *onlineRaw) {
	if len(raw.Compared) == 0 {
		return
	}
	for _, what := range []struct {
		title string
		of    func(*offPolicy) *judgment
	}{
		{"response time", func(e *offPolicy) *judgment { return &e.Own }},
		{"cost (response time and 0.75 of the delay imposed on others)", func(e *offPolicy) *judgment { return &e.Cost }},
	} {
		t := table{Title: "Estimates of the " + what.title + " by another policy's history, and what it was when the model served; ms, medians over the rounds (extremes)", Columns: []string{
			"served -> judged", "served: was", "estimate", "its interval", "true", "error", "true in interval", "difference estimated", "true difference", "in interval", "right sign",
		}}
		var pairs []string
		by := map[string][]*offPolicy{}
		for i := range raw.Compared {
			e := &raw.Compared[i]
			name := e.Served + " -> " + e.Of
			if by[name] == nil {
				pairs = append(pairs, name)
			}
			by[name] = append(by[name], e)
		}
		for _, name := range pairs {
			med := func(f func(*judgment) float64) float64 {
				var v []float64
				for _, e := range by[name] {
					v = append(v, f(what.of(e)))
				}
				return spreadOf(v).Median
			}
			var off []float64
			in, diff, sign := 0, 0, 0
			for _, e := range by[name] {
				j := what.of(e)
				off = append(off, j.Value/j.True-1)
				if j.Inside {
					in++
				}
				if j.DiffInside {
					diff++
				}
				if (j.True-j.Was)*j.Diff > 0 {
					sign++
				}
			}
			count := len(by[name])
			self := by[name][0].Served == by[name][0].Of
			s := spreadOf(off)
			row := []string{
				name, ms1(med(func(j *judgment) float64 { return j.Was })), ms1(med(func(j *judgment) float64 { return j.Value })),
				interval(med(func(j *judgment) float64 { return j.Low }), med(func(j *judgment) float64 { return j.High })), ms1(med(func(j *judgment) float64 { return j.True })),
				fmt.Sprintf("%s (%s)", percent(s.Median), inPercent(s.Min, s.Max)), share(in, count),
			}
			if self {
				row = append(row, "", "", "", "")
			} else {
				row = append(row, fmt.Sprintf("%+.1f", med(func(j *judgment) float64 { return j.Diff })), fmt.Sprintf("%+.1f", med(func(j *judgment) float64 { return j.True - j.Was })), share(diff, count), share(sign, count))
			}
			t.Rows = append(t.Rows, row)
		}
		r.Tables = append(r.Tables, t)
		c.sum(r, raw, what.title, "all rounds", math.Inf(1), what.of)
		c.sum(r, raw, what.title, fmt.Sprintf("rounds in which the machine left the load generators alone (late by less than %d ms, p99)", quietMS), quietMS, what.of)
	}
}

// quietMS is how late load generators may be in a round that the machine did not disturb. A pause of the whole machine makes every
// request in it slow, whatever was decided, and no two arms lose the same requests to it.
const quietMS = 50

// sum adds up how often the truth was in the intervals, over the rounds that were late by less, policies judged by their own history left out.
func (c *onlineCmd) sum(r *result, raw *onlineRaw, title, which string, late float64, of func(*offPolicy) *judgment) {
	inside, differs, signs, all := 0, 0, 0, 0
	rounds := map[int]bool{}
	var errors, self []float64
	for i := range raw.Compared {
		e := &raw.Compared[i]
		j := of(e)
		if e.Late >= late {
			continue
		}
		rounds[e.Round] = true
		off := j.Value/j.True - 1
		if e.Served == e.Of {
			self = append(self, off)
			continue
		}
		all++
		errors = append(errors, math.Abs(off))
		if j.Inside {
			inside++
		}
		if j.DiffInside {
			differs++
		}
		if (j.True-j.Was)*j.Diff > 0 {
			signs++
		}
	}
	if all == 0 {
		r.note("%s, %s: none", title, which)
		return
	}
	s, own := spreadOf(errors), spreadOf(self)
	r.note("%s, %s: %d; the truth was in the 95 %% interval of the estimate in %s judgements of another policy, in that of the difference in %s; the difference had the right sign in %s. Estimates were off by %.1f %% in the median, %.1f %% at most; a policy judged by its own history by %s (%s)",
		title, which, len(rounds), share(inside, all), share(differs, all), share(signs, all), 100*s.Median, 100*s.Max, percent(own.Median), inPercent(own.Min, own.Max))
}
