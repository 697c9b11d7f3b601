package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/sqlrows"
)

const (
	outcomeColumns = "at_ms, bytes, series, engine, status, flags, inflight, propensity, header_ms, total_ms, weight, predicted_ms, `load`, rate, attempt, kind"
	rollupColumns  = "minute_ms, attempts, failures, others, bytes, sum_ms, series, engine, max_ms, p50_ms, p90_ms, p99_ms, sketch"

	// A statement ends with the row that reaches this, far below any max_allowed_packet; longer ones cost the server more a row.
	statementBytes = 48 << 10
)

// Write stores a batch.
func (s *Store) Write(ctx context.Context, b *history.Batch) (w history.Written, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Bad = b.Clean()
	defer func() {
		if err != nil { // a server that crashed may have lost the names too
			s.lookUp.Forget()
		}
	}()
	conn, err := s.writes.Conn(ctx)
	if err != nil {
		return history.Written{}, s.wrap("connecting to", err)
	}
	defer func() {
		// A session keeps the rights it began with; the next try gets a new one.
		if err != nil {
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		}
		_ = conn.Close()
	}()
	ids, bad, err := s.lookUp.Batch(b, func(table string, columns []string, names ...any) (int32, error) {
		return insertName(ctx, conn, table, columns, names)
	}, refused)
	if err != nil {
		return history.Written{}, s.wrap("writing to", err)
	}
	w.Bad += bad
	done, err := s.transaction(ctx, conn, b, &ids, !s.noLoad && len(b.Outcomes) >= loadFrom)
	if errors.Is(err, errNotLoaded) {
		done, err = s.transaction(ctx, conn, b, &ids, false)
	}
	if err != nil {
		if refused(err) {
			err = &history.DataError{Err: err}
		}
		return history.Written{}, s.wrap("writing to", err)
	}
	done.Bad += w.Bad
	return done, nil
}

// transaction stores a batch whose names have ids, whole or not at all.
func (s *Store) transaction(ctx context.Context, conn *sql.Conn, b *history.Batch, ids *sqlrows.IDs, load bool) (w history.Written, err error) {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return w, err
	}
	defer func() { _ = tx.Rollback() }() // after a commit this does nothing
	res, err := tx.ExecContext(ctx, "INSERT IGNORE INTO weir_batch (writer, seq, at_ms) VALUES (?, ?, ?)", b.Writer, int64(b.Seq), b.AtMS)
	if err != nil {
		return w, err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return history.Written{Duplicate: true}, err
	}
	outcomes := b.Outcomes
	if load {
		if err := s.loadRows(ctx, tx, outcomes, ids.Series, ids.Engine); err != nil {
			return w, err
		}
		outcomes = nil
	}
	if err := s.rows(ctx, tx, outcomes, b, ids); err != nil {
		return w, err
	}
	if w.Bad, err = events(ctx, tx, b.Events, ids.Engine); err != nil {
		return w, err
	}
	w.Rows = b.Rows() - w.Bad
	return w, tx.Commit()
}

// insertName makes a row of names, or finds the one that is there.
func insertName(ctx context.Context, conn *sql.Conn, table string, columns []string, names []any) (id int32, err error) {
	find := "SELECT id FROM " + table + " WHERE " + strings.Join(columns, " = ? AND ") + " = ?"
	if err = conn.QueryRowContext(ctx, find, names...).Scan(&id); !errors.Is(err, sql.ErrNoRows) {
		return id, err
	}
	// ON DUPLICATE KEY and not IGNORE, which would also cut a name that is too long.
	insert := "INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") VALUES (?" + strings.Repeat(", ?", len(columns)-1) + ") ON DUPLICATE KEY UPDATE id = id"
	if _, err = conn.ExecContext(ctx, insert, names...); err != nil {
		return 0, err
	}
	err = conn.QueryRowContext(ctx, find, names...).Scan(&id)
	return id, err
}

// rows stores outcomes, and the rollups and metrics of a batch, by INSERT.
func (s *Store) rows(ctx context.Context, tx *sql.Tx, outcomes []history.Outcome, b *history.Batch, ids *sqlrows.IDs) error {
	for _, part := range []struct {
		n      int
		target string
		encode func(w []byte, i int) []byte
	}{
		{len(outcomes), "weir_outcome (" + outcomeColumns + ")", func(w []byte, i int) []byte {
			o := &outcomes[i]
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
		for i := 0; i < part.n; {
			w := append(s.buffer[:0], "INSERT INTO "+part.target+" VALUES "...)
			for ; i < part.n && len(w) < statementBytes; i++ {
				w = append(part.encode(append(w, '('), i), ')', ',')
			}
			s.buffer = w
			if _, err := tx.ExecContext(ctx, string(w[:len(w)-1])); err != nil {
				return err
			}
		}
	}
	return nil
}

func appendInts(w []byte, values ...int64) []byte {
	for _, x := range values {
		w = append(strconv.AppendInt(w, x, 10), ',')
	}
	return w
}

// appendFloat writes a float so that the server reads the same one, and NULL for what SQL has no number for.
func appendFloat(w []byte, x float64, bits int) []byte {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return append(w, "NULL"...)
	}
	return strconv.AppendFloat(w, x, 'g', -1, bits)
}

// The rows' encodings are what stands between the parentheses of a statement, and for outcomes a line of LOAD DATA.

func appendOutcome(w []byte, o *history.Outcome, series, engine int32) []byte {
	w = appendInts(w, o.AtMS, int64(o.Bytes), int64(series), int64(engine), int64(o.Status), int64(o.Flags), int64(o.Inflight))
	for _, x := range [...]float32{o.Propensity, o.HeaderMS, o.TotalMS, o.Weight, o.PredictedMS, o.Load, o.Rate} {
		w = append(appendFloat(w, float64(x), 32), ',')
	}
	w = appendInts(w, int64(o.Attempt), int64(o.Kind))
	return w[:len(w)-1]
}

func appendRollup(w []byte, r *history.Rollup, series, engine int32) []byte {
	w = appendInts(w, r.MinuteMS, int64(r.Count), int64(r.Failures), int64(r.Others), int64(r.Bytes))
	w = append(appendFloat(w, r.SumMS, 64), ',')
	w = appendInts(w, int64(series), int64(engine))
	for _, x := range [...]float32{r.MaxMS, r.P50, r.P90, r.P99} {
		w = append(appendFloat(w, float64(x), 32), ',')
	}
	const hex = "0123456789abcdef"
	w = append(w, "x'"...)
	for _, b := range r.Sketch {
		w = append(w, hex[b>>4], hex[b&15])
	}
	return append(w, '\'')
}

// events inserts events one by one; there are few. One that the server refuses is dropped: these servers undo only the statement.
func events(ctx context.Context, tx *sql.Tx, list []history.Event, engine int32) (bad int, err error) {
	for i := range list {
		e := &list[i]
		_, err := tx.ExecContext(ctx, "INSERT INTO weir_event (at_ms, engine, kind, pool, subject, from_state, to_state, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			e.AtMS, engine, string(e.Kind), e.Pool, e.Subject, e.From, e.To, e.Detail)
		if refused(err) {
			bad++
		} else if err != nil {
			return bad, err
		}
	}
	return bad, nil
}
