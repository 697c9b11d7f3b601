package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/weirlb/weir/engine/history"
)

func (c *historyExportCmd) Run(all *cli, to streams) error {
	from, until, err := c.read(time.Now().UnixMilli())
	if err != nil {
		return err
	}
	q := history.Question{Pool: c.Pool, FromMS: from, ToMS: until}
	return all.History.reading(func(ctx context.Context, s history.Store) error { return c.export(ctx, s, q, to) })
}

func (c *historyExportCmd) export(ctx context.Context, s history.Store, q history.Question, to streams) error {
	if c.File == "-" {
		_, _, err := c.write(ctx, s, q, to.out)
		return err
	}
	f, err := os.OpenFile(c.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("writing the export: %w", err)
	}
	n, what, err := c.write(ctx, s, q, f)
	if err = errors.Join(err, f.Close()); err != nil {
		// What a full disk or an interruption leaves would be taken for the whole, and be in the way of the next try.
		return errors.Join(err, os.Remove(c.File))
	}
	_, err = fmt.Fprintf(to.out, "%d %s are in %s\n", n, what, c.File)
	return err
}

// write writes the export and tells how much of what that is.
func (c *historyExportCmd) write(ctx context.Context, s history.Store, q history.Question, out io.Writer) (n int, what string, err error) {
	w := bufio.NewWriterSize(out, 1<<20)
	parquet := c.Format == "parquet" || (c.Format == "" && strings.HasSuffix(c.File, ".parquet"))
	what, export := "outcomes", exportOutcomes
	if c.Metrics {
		what, export = "minutes of server metrics", exportMetrics
	}
	if n, err = export(ctx, s, q, w, parquet); err != nil {
		return n, what, err
	}
	if err := w.Flush(); err != nil {
		return n, what, fmt.Errorf("writing the export: %w", err)
	}
	return n, what, nil
}

// exportOutcomes writes them one by one, in the order of time.
func exportOutcomes(ctx context.Context, s history.Store, q history.Question, w *bufio.Writer, parquet bool) (n int, err error) {
	begin := exportCSV
	if parquet {
		begin = exportParquet
	}
	write, end := begin(w)
	err = s.Outcomes(ctx, q.Pool, q.FromMS, q.ToMS, func(series []history.Series, list []history.Outcome) error {
		n += len(list)
		return write(series, list)
	})
	if err != nil {
		return n, err
	}
	return n, end()
}

// exportMetrics writes minutes of server metrics. Their order is the store's: by time in a file, by series in a database.
func exportMetrics(ctx context.Context, s history.Store, q history.Question, w *bufio.Writer, parquet bool) (n int, err error) {
	var row []byte
	write := func(r *history.MetricRow) error {
		row = r.AppendCSV(row[:0])
		_, err := w.Write(row)
		return err
	}
	end := func() error { return nil }
	if parquet {
		p := history.NewMetricParquet(w)
		write, end = p.Add, p.Close
	} else if _, err := w.WriteString(history.MetricCSVHeader); err != nil {
		return 0, err
	}
	err = s.Metrics(ctx, history.MetricQuestion{Question: q}, func(r *history.MetricRow) error { n++; return write(r) })
	if err != nil {
		return n, err
	}
	return n, end()
}

func exportParquet(w *bufio.Writer) (write func([]history.Series, []history.Outcome) error, end func() error) {
	p := history.NewOutcomeParquet(w)
	return p.Write, p.Close
}

// exportCSV writes outcomes as CSV. Errors of the buffer stay until it is flushed.
func exportCSV(w *bufio.Writer) (write func([]history.Series, []history.Outcome) error, end func() error) {
	_, _ = w.WriteString(history.CSVHeader)
	var row []byte
	return func(series []history.Series, list []history.Outcome) error {
		for i := range list {
			row = list[i].AppendCSV(row[:0], series[list[i].Series])
			if _, err := w.Write(row); err != nil {
				return err
			}
		}
		return nil
	}, func() error { return nil }
}
