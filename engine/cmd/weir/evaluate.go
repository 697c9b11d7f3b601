package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/stores"
	"github.com/weirlb/weir/engine/learn/ope"
	"github.com/weirlb/weir/engine/learn/recorded"
	"github.com/weirlb/weir/engine/learn/replay"
)

// evaluateCmd judges a model by what was recorded, without letting it decide anything.
type evaluateCmd struct {
	Model   string  `required:"" help:"Model to judge, or analytic." placeholder:"FILE"`
	Against string  `default:"analytic" help:"Model to compare it with, or analytic." placeholder:"FILE"`
	Level   float64 `default:"0.95" help:"Confidence of the intervals."`
	JSON    bool    `name:"json" help:"Print JSON."`
	recordedFlags
}

// recordedFlags say which history is read.
type recordedFlags struct {
	History string  `help:"History to read: a file, or a URL as history.url in weir.yaml." placeholder:"URL|FILE"`
	Pool    string  `help:"Only this pool." placeholder:"NAME"`
	From    string  `default:"24h" help:"A time, or how long ago." placeholder:"TIME"`
	To      string  `help:"Left out: now." placeholder:"TIME"`
	Spread  float64 `default:"0.1" help:"spread of the pools, as it was configured."`
	Explore float64 `default:"0.01" help:"explore of the pools, as it was configured."`
	Last    int     `default:"200000" help:"The last so many decisions."`
}

// readRecorded makes decisions of history.
func (c *recordedFlags) readRecorded(ctx context.Context, said io.Writer) (*recorded.Replay, error) {
	s := span{From: c.From, To: c.To}
	from, to, err := s.read(time.Now().UnixMilli())
	if err != nil {
		return nil, err
	}
	where, err := historyURL(c.History)
	if err != nil {
		return nil, err
	}
	store, err := stores.Open(ctx, config.History{URL: where})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	set := recorded.Settings{Rule: decide.Rule{Spread: c.Spread, Explore: c.Explore}}
	r := recorded.New(recorded.Options{Decisions: c.Last, Pool: func(string) recorded.Settings { return set }})
	events, err := store.Events(ctx, history.Health, c.Pool, from, to, 1_000_000)
	if err != nil {
		return nil, fmt.Errorf("reading events of %s: %w", store.Describe(), err)
	}
	r.Health(events)
	if err := store.Outcomes(ctx, c.Pool, from, to, r.Add); err != nil {
		return nil, fmt.Errorf("reading outcomes of %s: %w", store.Describe(), err)
	}
	r.Finish()
	n := r.Counts()
	if r.Outcomes == 0 {
		return nil, fmt.Errorf("there are no outcomes in %s from %s to %s", store.Describe(), instant(from), instant(to))
	}
	fmt.Fprintf(said, "%d outcomes of %s, %d decisions; not replayed: %d retries and picks by another rule, %d without a return, %d while the estimators warmed up, %d at peers that were not usable\n",
		r.Outcomes, store.Describe(), len(r.Decisions()), n.Foreign, n.NoReturn, n.NoFrame, n.NoPeer)
	if r.Sampled > 0 {
		fmt.Fprintf(said, "%d outcomes were kept as a sample: what was in flight beside them is not fully known\n", r.Sampled)
	}
	return r, nil
}

func instant(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// historyURL makes a URL of a file's path.
func historyURL(s string) (config.StoreURL, error) {
	switch {
	case s == "":
		return "", errors.New("--history is missing: name the file or URL that history is in")
	case strings.Contains(s, "://") || strings.HasPrefix(s, "file:"):
		return config.StoreURL(s), nil
	}
	path, err := filepath.Abs(s)
	if err != nil {
		return "", err
	}
	u := url.URL{Scheme: "file", Path: path}
	return config.StoreURL(u.String()), nil
}

// judged is the output.
type judged struct {
	Model   string `json:"model"`
	Against string `json:"against"`
	ope.Result
}

func (c *evaluateCmd) Run(to streams) error {
	if !(c.Level >= 0.5 && c.Level < 1) {
		return fmt.Errorf("--level must be from 0.5 to below 1, not %v", c.Level)
	}
	model, err := predictorOf(c.Model)
	if err != nil {
		return err
	}
	against, err := predictorOf(c.Against)
	if err != nil {
		return err
	}
	ctx, stop := interrupted()
	defer stop()
	r, err := c.readRecorded(ctx, to.err)
	if err != nil {
		return err
	}
	return c.judge(ctx, to, model, against, r.Decisions())
}

func (c *evaluateCmd) judge(ctx context.Context, to streams, model, against decide.Predictor, list []replay.Decision) error {
	res, err := ope.Evaluate(ctx, model, against, list, ope.Options{Level: c.Level})
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(to.out).Encode(judged{Model: c.Model, Against: c.Against, Result: res})
	}
	w := tabwriter.NewWriter(to.out, 0, 8, 2, ' ', 0)
	row := func(name string, cells ...string) { fmt.Fprintln(w, name+"\t"+strings.Join(cells, "\t")) }
	ms := func(x float64) string { return fmt.Sprintf("%.4g", x*res.MeanMS) }
	percent := func(x float64) string { return fmt.Sprintf("%+.2f %%", 100*x) }
	row("", "estimate", "low", "high", "")
	row("as it was", ms(1), "", "", "ms a request: response time, delay imposed on others, failures")
	row(c.Against, ms(res.Current.Value), ms(res.Current.Low), ms(res.Current.High), "ms")
	row(c.Model, ms(res.Candidate.Value), ms(res.Candidate.Low), ms(res.Candidate.High), "ms")
	row("against "+c.Against, percent(res.Difference.Value), percent(res.Difference.Low), percent(res.Difference.High), verdict(res.Difference.Low, res.Difference.High))
	row("against what was", percent(res.OnRecord.Value), percent(res.OnRecord.Low), percent(res.OnRecord.High), verdict(res.OnRecord.Low, res.OnRecord.High))
	if err := w.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(to.out, "%d decisions, worth %.0f of the model's own; it sends %.1f %% of the requests elsewhere than %s; %.2f %% of the weights were cut at %.0f.\nIntervals of %.0f %%.\n",
		res.Decisions, res.Effective, 100*res.Moved, c.Against, 100*res.Cut, res.Most, 100*c.Level)
	return err
}

func verdict(low, high float64) string {
	switch {
	case high < 0:
		return "less: better"
	case low > 0:
		return "more: worse"
	}
	return "not told apart"
}

// predictorOf reads a model; nil for the analytic policy.
func predictorOf(name string) (decide.Predictor, error) {
	if name == "analytic" {
		return nil, nil
	}
	net, err := readModel(name)
	if err != nil {
		return nil, err
	}
	return net.Predictor(), nil
}
