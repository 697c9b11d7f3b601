package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/stores"
	"github.com/weirlb/weir/engine/learn/blocks"
	"github.com/weirlb/weir/engine/learn/ope"
	"github.com/weirlb/weir/engine/learn/recorded"
	"github.com/weirlb/weir/engine/serve"
)

// evaluateCmd judges models by what was recorded, without letting them decide anything.
type evaluateCmd struct {
	Model   []string `required:"" sep:"none" help:"Models to judge, or analytic. Several share one reading of the history." placeholder:"FILE"`
	Against string   `default:"analytic" help:"Model to compare them with, or analytic." placeholder:"FILE"`
	Level   float64  `default:"0.95" help:"Confidence of the intervals."`
	JSON    bool     `name:"json" help:"Print JSON, an object a line for each model."`
	recordedFlags
}

// recordedFlags say which history is read.
type recordedFlags struct {
	History   string        `help:"History to read: a file, or a URL as history.url in weir.yaml." placeholder:"URL|FILE"`
	Pool      string        `help:"Only this pool." placeholder:"NAME"`
	From      string        `default:"24h" help:"A time, or how long ago." placeholder:"TIME"`
	To        string        `help:"Left out: now." placeholder:"TIME"`
	Spread    float64       `default:"0.1" help:"spread of the pools, as it was configured."`
	Explore   float64       `default:"0.01" help:"explore of the pools, as it was configured."`
	Sizes     bool          `default:"true" negatable:"" help:"sizes of the pools, as it was configured."`
	Balancers int           `default:"0" help:"balancers of the pools, as it was configured."`
	Last      int           `default:"200000" help:"The last so many outcomes; estimators also see some of before."`
	Warmup    time.Duration `default:"60s" help:"Of the history's beginning, in which estimators only learn."`
}

// readRecorded makes decisions of history.
func (c *recordedFlags) readRecorded(ctx context.Context, said io.Writer) (*recorded.Replay, error) {
	s := span{From: c.From, To: c.To}
	from, to, err := s.read(time.Now().UnixMilli())
	if err != nil {
		return nil, err
	}
	switch {
	case c.Last < 1:
		return nil, fmt.Errorf("--last must be 1 or more, not %d", c.Last)
	case c.Warmup < time.Millisecond:
		return nil, fmt.Errorf("--warmup must be at least 1ms, not %v", c.Warmup)
	case !(c.Spread >= 0 && c.Spread <= 10) || !(c.Explore >= 0 && c.Explore <= 1):
		return nil, fmt.Errorf("--spread %v, --explore %v: the one is from 0 to 10, the other from 0 to 1, as in weir.yaml", c.Spread, c.Explore)
	case c.Balancers < 0 || c.Balancers > 10_000:
		return nil, fmt.Errorf("--balancers must be from 0 to 10000, not %d, as in weir.yaml", c.Balancers)
	}
	where, err := historyURL(c.History)
	if err != nil {
		return nil, err
	}
	if err := isThere(where); err != nil {
		return nil, err
	}
	store, err := stores.OpenToRead(ctx, config.History{URL: where})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	first, begin, err := c.tail(ctx, store, from, to)
	if err != nil {
		return nil, err
	}
	set := recorded.Settings{Rule: decide.Rule{Spread: c.Spread, Explore: c.Explore}, Sizes: c.Sizes, Balancers: c.Balancers}
	r := recorded.New(recorded.Options{
		Decisions: c.Last, WarmMS: float64(c.Warmup.Milliseconds()), FromMS: float64(first), Pool: func(string) recorded.Settings { return set },
	})
	events, err := store.Events(ctx, history.Health, c.Pool, from, to, 1_000_000)
	if err != nil {
		return nil, fmt.Errorf("reading events of %s: %w", store.Describe(), err)
	}
	r.Health(events)
	if err := store.Outcomes(ctx, c.Pool, begin, to, r.Add); err != nil {
		return nil, fmt.Errorf("reading outcomes of %s: %w", store.Describe(), err)
	}
	r.Finish()
	n := r.Counts()
	if r.Outcomes == 0 {
		return nil, fmt.Errorf("there are no outcomes%s in %s from %s to %s", ofPool(c.Pool), store.Describe(), instant(from), instant(to))
	}
	fmt.Fprintf(said, "%d outcomes of %s from %s on, %d decisions; not replayed: %d retries and picks by another rule, %d without a return, %d while the estimators warmed up, %d at peers that were not usable\n",
		r.Outcomes, store.Describe(), instant(begin), len(r.Decisions()), n.Foreign, n.NoReturn, r.Early+n.NoFrame, n.NoPeer)
	if n.Sized > 0 {
		fmt.Fprintf(said, "%d decisions were left out since requests told their size: there a model has no say (docs/estimators.md); --no-sizes where the pool's sizes is false\n", n.Sized)
	}
	if n.Shared > 0 {
		fmt.Fprintf(said, "%d decisions were left out since other engines' load showed in the answers, or was told: what a request costs others is not known there; --balancers 1 where this engine was the only one\n", n.Shared)
	}
	if r.Sampled > 0 {
		fmt.Fprintf(said, "%d outcomes were kept as a sample: what was in flight beside them is not fully known\n", r.Sampled)
	}
	if r.Late > 0 {
		fmt.Fprintf(said, "%d outcomes came out of the order of time and were left out\n", r.Late)
	}
	return r, nil
}

func ofPool(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" of pool %q", name)
}

// Before the outcomes that are judged, estimators see so much: they need a few thousand outcomes, of more than a moment.
const (
	leadMS       = 10 * 60_000
	leadOutcomes = 20_000
)

// tail finds where the last outcomes begin (first), and where reading is to begin for estimators to be warm there. Counting is
// a hundredth of the work of replaying, so a long history costs little more than the part that is judged.
func (c *recordedFlags) tail(ctx context.Context, store history.Store, from, to int64) (first, begin int64, err error) {
	const bin = 10_000 // ms
	bins := map[int64]int{}
	total := 0
	err = store.Outcomes(ctx, c.Pool, from, to, func(_ []history.Series, list []history.Outcome) error {
		for i := range list {
			bins[list[i].AtMS/bin]++
		}
		total += len(list)
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("reading outcomes of %s: %w", store.Describe(), err)
	}
	if total <= c.Last {
		return from, from, nil
	}
	keys := slices.Sorted(maps.Keys(bins))
	n, at := 0, len(keys)-1
	for ; at > 0; at-- {
		if n += bins[keys[at]]; n >= c.Last {
			break
		}
	}
	first = max(keys[at]*bin, from)
	for n = 0; at > 0; at-- {
		if n += bins[keys[at-1]]; n >= leadOutcomes && first-keys[at-1]*bin >= leadMS {
			at--
			break
		}
	}
	return first, max(keys[at]*bin, from), nil
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

// isThere refuses a file that is not: opening it would make it, and a mistyped name leave an empty history behind.
func isThere(where config.StoreURL) error {
	u, err := url.Parse(where.Reveal())
	if err != nil || u.Scheme != "file" {
		return nil // whoever opens it tells
	}
	info, err := os.Stat(u.Path)
	switch {
	case u.Path == "":
		return fmt.Errorf("reading the history: %s names no file; write file:/PATH, or the path alone", where.Reveal())
	case err != nil:
		return fmt.Errorf("reading the history: %w", err)
	case info.IsDir():
		return fmt.Errorf("reading the history: %s is a folder; the file in it is %s", u.Path, filepath.Join(u.Path, stores.File))
	}
	return nil
}

// judged is the output of one model.
type judged struct {
	Model   string `json:"model"`
	Against string `json:"against"`
	ope.Result
	Own ope.Result `json:"response_time"` // the same of response times alone
}

func (c *evaluateCmd) Run(to streams) error {
	if !(c.Level >= 0.5 && c.Level < 1) {
		return fmt.Errorf("--level must be from 0.5 to below 1, not %v", c.Level)
	}
	var models []decide.Predictor
	for _, name := range c.Model {
		m, err := predictorOf(name)
		if err != nil {
			return err
		}
		models = append(models, m)
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
	list := r.Decisions()
	var all []judged
	for i, m := range models {
		j := judged{Model: c.Model[i], Against: c.Against}
		if j.Result, err = ope.Evaluate(ctx, m, against, list, ope.Options{Level: c.Level}); err == nil {
			j.Own, err = ope.Evaluate(ctx, m, against, list, ope.Options{Level: c.Level, Own: true})
		}
		if err != nil {
			return tooFew(err, r, &j.Result)
		}
		all = append(all, j)
	}
	for i := range all {
		if err := c.print(to, &all[i], i == 0); err != nil {
			return err
		}
	}
	return nil
}

// tooFew says why there are so few decisions.
func tooFew(err error, r *recorded.Replay, res *ope.Result) error {
	n := r.Counts()
	switch {
	case !errors.Is(err, ope.ErrTooFew):
		return err
	case res.Passed > res.Decisions:
		return fmt.Errorf("%w; of %d it is not known who was considered (slow start, a split, a pool of more than 256 peers), or they are the control slice's", err, res.Passed)
	case n.Foreign > uint64(res.Decisions) && n.Foreign >= n.NoFrame:
		return fmt.Errorf("%w; %d were picked by another rule (NGINX without tables, affinity, retries, a sample of a busy pool)", err, n.Foreign)
	case r.Early+n.NoFrame > uint64(res.Decisions):
		return fmt.Errorf("%w; %d fell into the warm-up of the estimators: take a longer time by --from, or a shorter --warmup", err, r.Early+n.NoFrame)
	}
	return err
}

func (c *evaluateCmd) print(to streams, j *judged, first bool) error {
	if c.JSON {
		return json.NewEncoder(to.out).Encode(j)
	}
	w := tabwriter.NewWriter(to.out, 0, 8, 2, ' ', 0)
	row := func(name string, cells ...string) { fmt.Fprintln(w, name+"\t"+strings.Join(cells, "\t")) }
	part := func(res *ope.Result, what string) {
		ms := func(e blocks.Estimate) []string {
			f := func(x float64) string { return fmt.Sprintf("%.4g", x*res.MeanMS) }
			return []string{f(e.Value), f(e.Low), f(e.High), "ms"}
		}
		percent := func(e blocks.Estimate) []string {
			f := func(x float64) string { return fmt.Sprintf("%+.2f %%", 100*x) }
			return []string{f(e.Value), f(e.Low), f(e.High), verdict(e.Low, e.High)}
		}
		fmt.Fprintln(w, what)
		row("", "estimate", "low", "high", "")
		row("as it was", ms(res.Recorded)...)
		row(c.Against, ms(res.Current)...)
		row(j.Model, ms(res.Candidate)...)
		row("against "+c.Against, percent(res.Difference)...)
		row("against what was", percent(res.OnRecord)...)
	}
	if !first {
		fmt.Fprintln(w)
	}
	part(&j.Result, "What a request costs: response time, delay imposed on others, failures")
	part(&j.Own, "Response time alone")
	if err := w.Flush(); err != nil {
		return err
	}
	res := &j.Result
	_, err := fmt.Fprintf(to.out, "%d decisions, worth %.0f of the model's own; it sends %.1f %% of the requests elsewhere than %s; %.2f %% of the weights were cut at %.0f.\nIntervals of %.0f %%.\n",
		res.Decisions, res.Effective, 100*res.Moved, c.Against, 100*res.Cut, res.Most, 100*c.Level)
	if d := doubt(res); err == nil && d != "" {
		_, err = fmt.Fprintln(to.out, "Doubtful: "+d)
	}
	return err
}

// doubt says what is wrong with the propensities, if something is; "" = nothing.
func doubt(r *ope.Result) string {
	w := r.Weight
	switch {
	case r.Certain > 0.2:
		return fmt.Sprintf("%.0f %% of the picks among several peers were recorded with a propensity of 1. Of other picks such say nothing: either they were not random (explore: 0, and one peer by far the cheapest), or whoever sent the outcomes left the propensity out.",
			100*r.Certain)
	case w.High < 0.9:
		return fmt.Sprintf("%.0f %% of what the model would pick was hardly ever picked (its weights are %.2f in the mean, 1 if all was). For that part the estimate is what the other model believes. More exploration (explore) would show it.", 100*(1-w.Value), w.Value)
	case w.Low > 1.1:
		return fmt.Sprintf("the weights are %.2f in the mean, where right propensities give 1: those recorded are too small, or --spread and --explore are not the pool's.", w.Value)
	}
	return ""
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

// predictorOf reads a model; nil for the analytic policy, which "none" means too, as in weir.yaml.
func predictorOf(name string) (decide.Predictor, error) {
	if name == "analytic" {
		return nil, nil
	}
	m, err := serve.ReadOnline(name)
	if err != nil || m.Net == nil {
		return nil, err
	}
	return m.Net.Predictor(), nil
}
