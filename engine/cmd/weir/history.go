package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/stores"
)

// historyCmd reads the store itself, so it works without a running engine too.
type historyCmd struct {
	Config string `default:"/etc/weir/weir.yaml" help:"Configuration file, which says where history is kept." placeholder:"FILE"`

	Show   historyShowCmd   `cmd:"" default:"withargs" help:"Attempts, failures and latencies in steps, or server metrics (the default)."`
	Events historyEventsCmd `cmd:"" help:"Changes of peers' health, of models and of the configuration."`
	Export historyExportCmd `cmd:"" help:"Write outcomes one by one, or minutes of server metrics, as CSV or Parquet."`
}

// span is a time on the command line.
type span struct {
	Pool string `help:"Only this pool." placeholder:"NAME"`
	From string `default:"1h" help:"A time, or how long ago: 2026-11-25T07:00:00Z, 2026-11-25, 90m, 24h, 7d." placeholder:"TIME"`
	To   string `help:"Left out: now." placeholder:"TIME"`
}

func (s *span) read(now int64) (from, to int64, err error) {
	if from, err = history.ParseTime("from", s.From, now); err != nil {
		return 0, 0, err
	}
	if to = now; s.To != "" {
		if to, err = history.ParseTime("to", s.To, now); err != nil {
			return 0, 0, err
		}
	}
	if from >= to {
		return 0, 0, &history.FieldError{Field: "from", Reason: "must be before to"}
	}
	return from, to, nil
}

type historyShowCmd struct {
	span
	Peer   string `help:"Only this peer." placeholder:"ADDRESS"`
	Class  string `help:"Only this class; left out, all together." placeholder:"CLASS"`
	Metric string `help:"Show this server metric in place of attempts; * for all of them." placeholder:"NAME"`
	Step   string `default:"5m" help:"Whole minutes, as 1m, 15m, 1h, 1d." placeholder:"TIME"`
	By     string `default:"peer" enum:"pool,peer,class,peer+class" help:"What has a line of its own: ${enum}."`
	JSON   bool   `name:"json" xor:"form" help:"Print JSON."`
	CSV    bool   `name:"csv" xor:"form" help:"Print CSV."`
}

type historyEventsCmd struct {
	span
	Kind  string `default:"" enum:",health,model,config" help:"Only this kind: health, model, config." placeholder:"KIND"`
	Limit int    `default:"1000" help:"The last so many."`
	JSON  bool   `name:"json" help:"Print JSON."`
}

type historyExportCmd struct {
	File    string `arg:"" help:"File to write; - for standard output."`
	Format  string `default:"" enum:",csv,parquet" help:"csv or parquet; left out, parquet when the file's name ends so, else csv." placeholder:"FORMAT"`
	Metrics bool   `help:"Server metrics, a row a minute, in place of outcomes."`
	span
}

// store opens the store of the configuration, for reading.
func (c *historyCmd) store(ctx context.Context) (history.Store, error) {
	conf, _, err := config.Load(c.Config, nil)
	if err != nil {
		return nil, err
	}
	const none = "there is no history in %s yet: an engine makes it when it runs, or weir migrate up"
	// Who only reads makes no file: it would belong to this user, and an engine of another one could not write to it.
	if path := stores.FilePath(conf.History); path != "" {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf(none, "the file "+path)
		}
	}
	s, err := stores.OpenToRead(ctx, conf.History)
	if err != nil {
		return nil, err
	}
	steps, err := s.Migrations(ctx)
	if err == nil && (len(steps) == 0 || !steps[0].Applied) {
		err = fmt.Errorf(none, s.Describe())
	}
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// reading opens the store for as long as do reads it, or until the user interrupts.
func (c *historyCmd) reading(do func(ctx context.Context, s history.Store) error) error {
	ctx, stop := interrupted()
	defer stop()
	s, err := c.store(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	return do(ctx, s)
}

func interrupted() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
}

func (c *historyShowCmd) Run(all *cli, to streams) error {
	now := time.Now().UnixMilli()
	if addr, err := config.ParseAddress(c.Peer); err == nil { // as history has it, however it was spelled
		c.Peer = addr
	}
	q := history.Question{Pool: c.Pool, Peer: c.Peer, Class: c.Class, By: history.By(c.By)}
	if c.By == "peer+class" {
		q.By = history.ByPeerClass
	}
	var err error
	if q.FromMS, q.ToMS, err = c.read(now); err != nil {
		return err
	}
	if q.StepMS, err = history.ParseStep(c.Step); err != nil {
		return err
	}
	if c.Metric != "" {
		return c.metrics(all, to, history.AskMetrics(q, c.Metric), now)
	}
	if err := q.Check(now); err != nil {
		return err
	}
	return all.History.reading(func(ctx context.Context, s history.Store) error {
		found := history.NewCollector(q)
		if err := s.Rollups(ctx, q, found.Add); err != nil {
			return err
		}
		return showLines(c, to.out, found.Lines(), q.AppendAnswer, linesCSV, linesTable)
	})
}

// showLines prints what was found in the form that was asked for.
func showLines[L any](c *historyShowCmd, w io.Writer, lines []*L, asJSON func([]byte, []*L) []byte, asCSV, asTable func(io.Writer, []*L) error) error {
	switch {
	case c.JSON:
		_, err := w.Write(append(asJSON(nil, lines), '\n'))
		return err
	case c.CSV:
		return asCSV(w, lines)
	case len(lines) == 0:
		_, err := fmt.Fprintln(w, "There is no history of that.")
		return err
	}
	return asTable(w, lines)
}

func linesTable(w io.Writer, lines []*history.Line) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "FROM (UTC)\tPOOL\tPEER\tCLASS\tATTEMPTS\tFAILED\tABORTED\tMEAN ms\tP50 ms\tP90 ms\tP99 ms\tMAX ms")
	for _, l := range lines {
		for i, at := range l.AtMS {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", time.UnixMilli(at).UTC().Format("2006-01-02 15:04"),
				l.Pool, orDash(l.Peer), orDash(l.Class), l.Count[i], l.Failures[i], l.Others[i],
				ms(l.MeanMS[i]), ms(l.P50MS[i]), ms(l.P90MS[i]), ms(l.P99MS[i]), ms(l.MaxMS[i]))
		}
	}
	return t.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func ms(x float64) string {
	if math.IsNaN(x) {
		return "-"
	}
	return strconv.FormatFloat(x, 'f', 1, 64)
}

func linesCSV(to io.Writer, lines []*history.Line) error {
	w := csv.NewWriter(to)
	_ = w.Write([]string{"time", "pool", "peer", "class", "count", "failures", "others", "mean_ms", "p50_ms", "p90_ms", "p99_ms", "max_ms", "bytes"})
	number := func(x float64) string {
		if math.IsNaN(x) {
			return ""
		}
		return strconv.FormatFloat(x, 'f', 3, 64)
	}
	for _, l := range lines {
		for i, at := range l.AtMS {
			_ = w.Write([]string{
				time.UnixMilli(at).UTC().Format(time.RFC3339), l.Pool, l.Peer, l.Class, fmt.Sprint(l.Count[i]), fmt.Sprint(l.Failures[i]), fmt.Sprint(l.Others[i]),
				number(l.MeanMS[i]), number(l.P50MS[i]), number(l.P90MS[i]), number(l.P99MS[i]), number(l.MaxMS[i]), fmt.Sprint(l.Bytes[i]),
			})
		}
	}
	w.Flush()
	return w.Error() // of the writes too
}

func (c *historyEventsCmd) Run(all *cli, to streams) error {
	if c.Limit < 1 { // a negative one is none to SQLite and an error to PostgreSQL
		return fmt.Errorf("--limit must be 1 or more, not %d", c.Limit)
	}
	from, end, err := c.read(time.Now().UnixMilli())
	if err != nil {
		return err
	}
	var events []history.Event
	err = all.History.reading(func(ctx context.Context, s history.Store) (err error) {
		events, err = s.Events(ctx, history.EventKind(c.Kind), c.Pool, from, end, c.Limit)
		return err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(to.out).Encode(map[string]any{"events": events})
	}
	t := tabwriter.NewWriter(to.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "TIME (UTC)\tKIND\tPOOL\tSUBJECT\tFROM\tTO\tWHY")
	for _, e := range events {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", time.UnixMilli(e.AtMS).UTC().Format("2006-01-02 15:04:05.000"), e.Kind, orDash(e.Pool), e.Subject, orDash(e.From), orDash(e.To), e.Detail)
	}
	return t.Flush()
}
