package postgres

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirlb/weir/engine/history"
)

// metricColumns are in the order of the table, which is also that of the binary form here.
const metricColumns = "minute, mean, lowest, highest, series, engine, samples"

func appendMetric(w []byte, r *history.MetricRow, series, engine int32) []byte {
	w = append(w, 0, 7)
	w = appendI64(w, r.MinuteMS*1000-epochUS)
	for _, x := range [...]float64{r.Mean, r.Min, r.Max} {
		w = appendI64(w, int64(math.Float64bits(x)))
	}
	return appendI32(appendI32(appendI32(w, series), engine), int32(r.Samples))
}

// insertMetrics does without COPY.
func insertMetrics(ctx context.Context, tx pgx.Tx, list []history.MetricRow, ids []int32, engine int32) error {
	for i := range list {
		r := &list[i]
		if _, err := tx.Exec(ctx, "INSERT INTO weir_metric ("+metricColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7)",
			time.UnixMilli(r.MinuteMS), r.Mean, r.Min, r.Max, ids[i], engine, int32(r.Samples)); err != nil {
			return err
		}
	}
	return nil
}

// Metrics yields the rows for a question.
func (s *Store) Metrics(ctx context.Context, q history.MetricQuestion, yield func(*history.MetricRow) error) error {
	var stopped error // by the caller: its error goes back as it is
	err := s.reading(ctx, func(tx pgx.Tx) error {
		return readMetrics(ctx, tx, q, func(r *history.MetricRow) error {
			stopped = yield(r)
			return stopped
		})
	})
	if stopped != nil {
		return stopped
	}
	return s.wrap("reading", err)
}

func readMetrics(ctx context.Context, tx pgx.Tx, q history.MetricQuestion, yield func(*history.MetricRow) error) error {
	rows, err := tx.Query(ctx, `SELECT id, pool, peer, metric FROM weir_metric_series
		WHERE ($1 = '' OR pool = $1) AND ($2 = '' OR peer = $2) AND ($3 = '' OR metric = $3)`, q.Pool, q.Peer, q.Metric)
	if err != nil {
		return err
	}
	names := map[int32]history.MetricSeries{}
	var ids []int32
	var id int32
	var one history.MetricSeries
	if _, err = pgx.ForEachRow(rows, []any{&id, &one.Pool, &one.Peer, &one.Metric}, func() error {
		names[id] = one
		ids = append(ids, id)
		return nil
	}); err != nil || len(ids) == 0 {
		return err
	}
	slices.Sort(ids)
	rows, err = tx.Query(ctx, "SELECT minute, mean, lowest, highest, series, samples FROM weir_metric WHERE series = ANY($1) AND minute >= $2 AND minute < $3",
		pgx.QueryResultFormats{pgx.BinaryFormatCode}, binaryMode(tx), ids, time.UnixMilli(q.FromMS), time.UnixMilli(q.ToMS))
	if err != nil {
		return err
	}
	defer rows.Close()
	var r history.MetricRow
	for rows.Next() {
		v := rows.RawValues()
		if !sized(v, 8, 8, 8, 8, 4, 4) {
			return errWidth
		}
		r.MetricSeries = names[i32(v[4])]
		r.MinuteMS, r.Samples = (i64(v[0])+epochUS)/1000, uint64(i32(v[5]))
		r.Mean, r.Min, r.Max = f64(v[1]), f64(v[2]), f64(v[3])
		if err := yield(&r); err != nil {
			return err
		}
	}
	return rows.Err()
}

func f64(b []byte) float64 { return math.Float64frombits(uint64(i64(b))) }
