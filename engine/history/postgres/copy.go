package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/sqlrows"
)

// The columns in the order of the tables, which is also that of the binary form here.
const (
	outcomeColumns = "at, bytes, series, engine, status, flags, inflight, propensity, header_ms, total_ms, weight, predicted_ms, load, rate, attempt, kind"
	rollupColumns  = "minute, attempts, failures, others, bytes, sum_ms, series, engine, max_ms, p50_ms, p90_ms, p99_ms, sketch"
)

// epochUS is PostgreSQL's epoch, 2000-01-01, in Unix microseconds.
const epochUS = 946_684_800_000_000

// rows stores outcomes, rollups and metrics.
func (s *Store) rows(ctx context.Context, tx pgx.Tx, b *history.Batch, ids *sqlrows.IDs) error {
	if !s.copies {
		if err := insertRows(ctx, tx, b, ids.Series, ids.Engine); err != nil {
			return err
		}
		return insertMetrics(ctx, tx, b.Metrics, ids.Metrics, ids.Engine)
	}
	for _, part := range []struct {
		n      int
		target string
		encode func(w []byte, i int) []byte
	}{
		{len(b.Outcomes), "weir_outcome (" + outcomeColumns + ")", func(w []byte, i int) []byte {
			o := &b.Outcomes[i]
			return appendOutcome(w, o, ids.Series[o.Series], ids.Engine)
		}},
		{len(b.Rollups), "weir_rollup (" + rollupColumns + ")", func(w []byte, i int) []byte {
			r := &b.Rollups[i]
			return appendRollup(w, r, ids.Series[r.Series], ids.Engine)
		}},
		{len(b.Metrics), "weir_metric (" + metricColumns + ")", func(w []byte, i int) []byte {
			return appendMetric(w, &b.Metrics[i], ids.Metrics[i], ids.Engine)
		}},
	} {
		if part.n == 0 {
			continue
		}
		w := append(s.buffer[:0], "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
		for i := range part.n {
			w = part.encode(w, i)
		}
		w = append(w, 0xff, 0xff)
		s.buffer = w
		tag, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(w), "COPY "+part.target+" FROM STDIN (FORMAT binary)")
		if err != nil {
			return err
		}
		if int(tag.RowsAffected()) != part.n {
			return fmt.Errorf("the server took %d of %d rows", tag.RowsAffected(), part.n)
		}
	}
	return nil
}

func appendI64(w []byte, x int64) []byte {
	return binary.BigEndian.AppendUint64(append(w, 0, 0, 0, 8), uint64(x))
}

func appendI32(w []byte, x int32) []byte {
	return binary.BigEndian.AppendUint32(append(w, 0, 0, 0, 4), uint32(x))
}

func appendI16(w []byte, x int16) []byte {
	return binary.BigEndian.AppendUint16(append(w, 0, 0, 0, 2), uint16(x))
}

func appendF32(w []byte, x float32) []byte { return appendI32(w, int32(math.Float32bits(x))) }

func appendOutcome(w []byte, o *history.Outcome, series, engine int32) []byte {
	w = append(w, 0, 16) // columns
	w = appendI64(w, o.AtMS*1000+int64(o.AtUS)-epochUS)
	w = appendI64(w, int64(o.Bytes))
	for _, x := range [...]int32{series, engine, int32(o.Status), int32(o.Flags), int32(o.Inflight)} {
		w = appendI32(w, x)
	}
	for _, x := range [...]float32{o.Propensity, o.HeaderMS, o.TotalMS, o.Weight, o.PredictedMS, o.Load, o.Rate} {
		w = appendF32(w, x)
	}
	return appendI16(appendI16(w, int16(o.Attempt)), int16(o.Kind))
}

func appendRollup(w []byte, r *history.Rollup, series, engine int32) []byte {
	w = append(w, 0, 13)
	w = appendI64(w, r.MinuteMS*1000-epochUS)
	for _, n := range [...]uint64{r.Count, r.Failures, r.Others, r.Bytes, math.Float64bits(r.SumMS)} {
		w = appendI64(w, int64(n))
	}
	w = appendI32(appendI32(w, series), engine)
	for _, x := range [...]float32{r.MaxMS, r.P50, r.P90, r.P99} {
		w = appendF32(w, x)
	}
	w = binary.BigEndian.AppendUint32(w, uint32(len(r.Sketch)))
	return append(w, r.Sketch...)
}

// insertRows does without COPY: a statement with an array a column.
func insertRows(ctx context.Context, tx pgx.Tx, b *history.Batch, ids []int32, engine int32) error {
	if n := len(b.Outcomes); n > 0 {
		at, bytes, series := make([]time.Time, n), make([]int64, n), make([]int32, n)
		var ints [3][]int32
		var floats [7][]float32
		var small [2][]int16
		for i := range b.Outcomes {
			o := &b.Outcomes[i]
			at[i], bytes[i], series[i] = time.UnixMicro(o.AtMS*1000+int64(o.AtUS)), int64(o.Bytes), ids[o.Series]
			for c, x := range [...]int32{int32(o.Status), int32(o.Flags), int32(o.Inflight)} {
				ints[c] = append(ints[c], x)
			}
			for c, x := range [...]float32{o.Propensity, o.HeaderMS, o.TotalMS, o.Weight, o.PredictedMS, o.Load, o.Rate} {
				floats[c] = append(floats[c], x)
			}
			small[0], small[1] = append(small[0], int16(o.Attempt)), append(small[1], int16(o.Kind))
		}
		_, err := tx.Exec(ctx, `INSERT INTO weir_outcome (`+outcomeColumns+`)
			SELECT a, b, c, $4::int4, d, e, f, g, h, i, j, k, l, m, n, o FROM unnest($1::timestamptz[], $2::int8[], $3::int4[], $5::int4[], $6::int4[], $7::int4[],
				$8::float4[], $9::float4[], $10::float4[], $11::float4[], $12::float4[], $13::float4[], $14::float4[], $15::int2[], $16::int2[]) AS t (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o)`,
			at, bytes, series, engine, ints[0], ints[1], ints[2], floats[0], floats[1], floats[2], floats[3], floats[4], floats[5], floats[6], small[0], small[1])
		if err != nil {
			return err
		}
	}
	for i := range b.Rollups {
		r := &b.Rollups[i]
		if _, err := tx.Exec(ctx, "INSERT INTO weir_rollup ("+rollupColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
			time.UnixMilli(r.MinuteMS), int64(r.Count), int64(r.Failures), int64(r.Others), int64(r.Bytes), r.SumMS, ids[r.Series], engine,
			r.MaxMS, r.P50, r.P90, r.P99, append([]byte{}, r.Sketch...)); err != nil {
			return err
		}
	}
	return nil
}
