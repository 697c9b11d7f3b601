package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/weirlb/weir/engine/history"
)

// metrics shows server metrics.
func (c *historyShowCmd) metrics(all *cli, to streams, q history.MetricQuestion, now int64) error {
	if err := q.Check(now); err != nil {
		return err
	}
	return all.History.reading(func(ctx context.Context, s history.Store) error {
		found := history.NewMetricCollector(q)
		if err := s.Metrics(ctx, q, found.Add); err != nil {
			return err
		}
		return showLines(c, to.out, found.Lines(), q.AppendAnswer, metricsCSV, metricsTable)
	})
}

func metricsTable(w io.Writer, lines []*history.MetricLine) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "FROM (UTC)\tPOOL\tPEER\tMETRIC\tVALUES\tMEAN\tMIN\tMAX")
	for _, l := range lines {
		for i, at := range l.AtMS {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", time.UnixMilli(at).UTC().Format("2006-01-02 15:04"),
				l.Pool, orDash(l.Peer), l.Metric, l.Samples[i], rounded(l.Mean[i]), rounded(l.Min[i]), rounded(l.Max[i]))
		}
	}
	return t.Flush()
}

// rounded has four digits: metrics are shares as well as bytes.
func rounded(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) }

func metricsCSV(to io.Writer, lines []*history.MetricLine) error {
	w := csv.NewWriter(to)
	_ = w.Write([]string{"time", "pool", "peer", "metric", "samples", "mean", "min", "max"})
	whole := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	for _, l := range lines {
		for i, at := range l.AtMS {
			_ = w.Write([]string{
				time.UnixMilli(at).UTC().Format(time.RFC3339), l.Pool, l.Peer, l.Metric, strconv.FormatUint(l.Samples[i], 10), whole(l.Mean[i]), whole(l.Min[i]), whole(l.Max[i]),
			})
		}
	}
	w.Flush()
	return w.Error() // of the writes too
}
