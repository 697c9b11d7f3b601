package embedded

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/weirlb/weir/engine/history"
)

// metrics stores those of each pool and minute together.
func (s *Store) metrics(ctx context.Context, tx *sql.Tx, b *history.Batch) error {
	type key struct {
		pool   string
		minute int64
	}
	series := make([]history.MetricSeries, len(b.Metrics))
	for i := range b.Metrics {
		series[i] = b.Metrics[i].MetricSeries
	}
	ids, err := s.meters.IDs(series, func(m history.MetricSeries) (id int32, err error) {
		// DO UPDATE to the same: with DO NOTHING nothing would be returned.
		err = tx.QueryRowContext(ctx, "INSERT INTO metric_series (pool, peer, metric) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET pool = pool RETURNING id",
			m.Pool, m.Peer, m.Metric).Scan(&id)
		return id, err
	}, func(error) bool { return false })
	if err != nil {
		return err
	}
	parts := map[key][]byte{}
	for i := range b.Metrics {
		r := &b.Metrics[i]
		k := key{r.Pool, r.MinuteMS}
		parts[k] = r.AppendValues(parts[k], uint64(ids[i]))
	}
	for k, data := range parts {
		if _, err := tx.ExecContext(ctx, "INSERT INTO metrics (pool, minute_ms, data) VALUES (?, ?, ?)", k.pool, k.minute, data); err != nil {
			return err
		}
	}
	return nil
}

// metric returns the series of an id.
func (s *Store) metric(ctx context.Context, id uint64) (history.MetricSeries, error) {
	if known, ok := s.measured.Load(id); ok {
		return known.(history.MetricSeries), nil
	}
	var got history.MetricSeries
	if err := s.read.QueryRowContext(ctx, "SELECT pool, peer, metric FROM metric_series WHERE id = ?", int64(id)).Scan(&got.Pool, &got.Peer, &got.Metric); err != nil {
		return got, fmt.Errorf("looking up metric %d: %w", id, err)
	}
	s.measured.Store(id, got)
	return got, nil
}

// Metrics yields the rows for a question.
func (s *Store) Metrics(ctx context.Context, q history.MetricQuestion, yield func(*history.MetricRow) error) error {
	rows, err := s.read.QueryContext(ctx, "SELECT minute_ms, data FROM metrics WHERE minute_ms >= ? AND minute_ms < ? AND (? = '' OR pool = ?) ORDER BY minute_ms", q.FromMS, q.ToMS, q.Pool, q.Pool)
	if err != nil {
		return s.wrap("reading", err)
	}
	defer rows.Close()
	var minute int64
	var data sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&minute, &data); err != nil {
			return s.wrap("reading", err)
		}
		var stop error
		err := history.DecodeValues(data, func(id uint64, r *history.MetricRow) error {
			series, err := s.metric(ctx, id)
			if err != nil || !q.Wants(series) {
				return err
			}
			r.MetricSeries, r.MinuteMS = series, minute
			stop = yield(r)
			return stop
		})
		switch {
		case stop != nil:
			return stop
		case err != nil:
			return s.wrap("reading", err)
		}
	}
	return s.wrap("reading", rows.Err())
}
