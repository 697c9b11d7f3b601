package mysql

import (
	"context"
	"strconv"
	"strings"

	"github.com/weirlb/weir/engine/history"
)

const metricColumns = "minute_ms, series, engine, samples, mean, lowest, highest"

func appendMetric(w []byte, r *history.MetricRow, series, engine int32) []byte {
	w = appendInts(w, r.MinuteMS, int64(series), int64(engine), int64(r.Samples))
	for _, x := range [...]float64{r.Mean, r.Min, r.Max} {
		w = append(appendFloat(w, x, 64), ',')
	}
	return w[:len(w)-1]
}

// Metrics yields the rows for a question.
func (s *Store) Metrics(ctx context.Context, q history.MetricQuestion, yield func(*history.MetricRow) error) error {
	names, list, err := s.metricSeries(ctx, q)
	if err != nil || list == "" {
		return s.wrap("reading", err)
	}
	rows, err := s.db.QueryContext(ctx, "SELECT minute_ms, samples, mean, lowest, highest, series FROM weir_metric WHERE series IN ("+list+") AND minute_ms >= ? AND minute_ms < ?", q.FromMS, q.ToMS)
	if err != nil {
		return s.wrap("reading", err)
	}
	defer rows.Close()
	var r history.MetricRow
	var id int32
	for rows.Next() {
		if err := rows.Scan(&r.MinuteMS, &r.Samples, &r.Mean, &r.Min, &r.Max, &id); err != nil {
			return s.wrap("reading", err)
		}
		r.MetricSeries = names[id]
		if err := yield(&r); err != nil {
			return err
		}
	}
	return s.wrap("reading", rows.Err())
}

// metricSeries returns the metrics that a question is about, and their ids as SQL wants a list.
func (s *Store) metricSeries(ctx context.Context, q history.MetricQuestion) (map[int32]history.MetricSeries, string, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT id, pool, peer, metric FROM weir_metric_series WHERE (? = '' OR pool = ?) AND (? = '' OR peer = ?) AND (? = '' OR metric = ?)",
		q.Pool, q.Pool, q.Peer, q.Peer, q.Metric, q.Metric)
	if err != nil {
		return nil, "", err
	}
	defer rows.Close()
	names := map[int32]history.MetricSeries{}
	var ids []string
	for rows.Next() {
		var id int32
		var one history.MetricSeries
		if err := rows.Scan(&id, &one.Pool, &one.Peer, &one.Metric); err != nil {
			return nil, "", err
		}
		names[id] = one
		ids = append(ids, strconv.Itoa(int(id)))
	}
	return names, strings.Join(ids, ","), rows.Err()
}
