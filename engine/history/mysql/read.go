package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/sqlrows"
)

// wanted returns the ids of the series that a question is about, as SQL wants a list.
func (s *Store) wanted(ctx context.Context, q history.Question) (string, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT id, pool, peer, class FROM weir_series WHERE (? = '' OR pool = ?) AND (? = '' OR peer = ?)", q.Pool, q.Pool, q.Peer, q.Peer)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var list strings.Builder
	for rows.Next() {
		var id int32
		var one history.Series
		if err := rows.Scan(&id, &one.Pool, &one.Peer, &one.Class); err != nil {
			return "", err
		}
		s.names.Store(id, one)
		if !q.Wants(one) {
			continue
		}
		if list.Len() > 0 {
			list.WriteByte(',')
		}
		list.WriteString(strconv.Itoa(int(id)))
	}
	return list.String(), rows.Err()
}

func (s *Store) series(ctx context.Context, id int32) (history.Series, error) {
	if known, ok := s.names.Load(id); ok {
		return known.(history.Series), nil
	}
	var one history.Series
	if err := s.db.QueryRowContext(ctx, "SELECT pool, peer, class FROM weir_series WHERE id = ?", id).Scan(&one.Pool, &one.Peer, &one.Class); err != nil {
		return one, fmt.Errorf("looking up series %d: %w", id, err)
	}
	s.names.Store(id, one)
	return one, nil
}

// Rollups yields the rollups for a question.
func (s *Store) Rollups(ctx context.Context, q history.Question, yield func(history.Series, *history.Rollup) error) error {
	ids, err := s.wanted(ctx, q)
	if err != nil || ids == "" {
		return s.wrap("reading", err)
	}
	rows, err := s.db.QueryContext(ctx, "SELECT "+rollupColumns+" FROM weir_rollup WHERE series IN ("+ids+") AND minute_ms >= ? AND minute_ms < ? ORDER BY series, minute_ms", q.FromMS, q.ToMS)
	if err != nil {
		return s.wrap("reading", err)
	}
	defer rows.Close()
	var r history.Rollup
	var series, engine int32
	var quantile [3]sql.NullFloat64
	var sketch sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&r.MinuteMS, &r.Count, &r.Failures, &r.Others, &r.Bytes, &r.SumMS, &series, &engine, &r.MaxMS, &quantile[0], &quantile[1], &quantile[2], &sketch); err != nil {
			return s.wrap("reading", err)
		}
		for i, into := range []*float32{&r.P50, &r.P90, &r.P99} {
			*into = float32(math.NaN())
			if quantile[i].Valid {
				*into = float32(quantile[i].Float64)
			}
		}
		r.Sketch = sketch
		name, err := s.series(ctx, series)
		if err != nil {
			return s.wrap("reading", err)
		}
		if err := yield(name, &r); err != nil {
			return err
		}
	}
	return s.wrap("reading", rows.Err())
}

// sliceRows is about how many rows of outcomes are read at a time.
const sliceRows = 100_000

// Outcomes yields raw outcomes in the order of time.
func (s *Store) Outcomes(ctx context.Context, pool string, fromMS, toMS int64, yield func([]history.Series, []history.Outcome) error) error {
	var first, last sql.NullInt64
	if err := s.db.QueryRowContext(ctx, "SELECT min(at_ms), max(at_ms) FROM weir_outcome WHERE at_ms >= ? AND at_ms < ?", fromMS, toMS).Scan(&first, &last); err != nil {
		return s.wrap("reading", err)
	}
	if !first.Valid {
		return nil
	}
	fromMS, toMS = max(fromMS, first.Int64), min(toMS, last.Int64+1)
	stmt, err := s.db.PrepareContext(ctx, "SELECT "+outcomeColumns+" FROM weir_outcome WHERE at_ms >= ? AND at_ms < ?")
	if err != nil {
		return s.wrap("reading", err)
	}
	defer stmt.Close()
	names := sqlrows.Renamer{Pool: pool, Find: func(id int32) (history.Series, bool, error) {
		series, err := s.series(ctx, id)
		if errors.Is(err, sql.ErrNoRows) {
			return series, false, nil
		}
		return series, err == nil, err
	}}
	var held []history.Outcome
	for slice := int64(sqlrows.FirstSliceMS); fromMS < toMS; {
		if slice, err = sqlrows.FitSlice(fromMS, slice, sliceRows, func(from, to int64, most int) (n int, err error) {
			err = s.db.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT 1 FROM weir_outcome WHERE at_ms >= ? AND at_ms < ? LIMIT ?) AS some", from, to, most).Scan(&n)
			return n, err
		}); err != nil {
			return s.wrap("reading", err)
		}
		end := min(fromMS+slice, toMS)
		if held, err = slicedOutcomes(ctx, stmt, fromMS, end, held[:0]); err != nil {
			return s.wrap("reading", err)
		}
		slice = sqlrows.NextSlice(end-fromMS, len(held), sliceRows)
		if held, err = names.Rename(held); err != nil {
			return s.wrap("reading", err)
		}
		if len(held) > 0 {
			if err := yield(names.Series, held); err != nil {
				return err
			}
		}
		fromMS = end
	}
	return nil
}

// slicedOutcomes appends those of a time, in its order. Their Series are the database's ids.
func slicedOutcomes(ctx context.Context, stmt *sql.Stmt, fromMS, toMS int64, held []history.Outcome) ([]history.Outcome, error) {
	rows, err := stmt.QueryContext(ctx, fromMS, toMS)
	if err != nil {
		return held, err
	}
	defer rows.Close()
	var o history.Outcome
	var engine int32
	into := []any{
		&o.AtMS, &o.Bytes, &o.Series, &engine, &o.Status, &o.Flags, &o.Inflight, &o.Propensity, &o.HeaderMS, &o.TotalMS, &o.Weight, &o.PredictedMS,
		&o.Load, &o.Rate, &o.Attempt, &o.Kind,
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return held, err
		}
		held = append(held, o)
	}
	sqlrows.SortByTime(held)
	return held, rows.Err()
}

// Events returns events.
func (s *Store) Events(ctx context.Context, kind history.EventKind, pool string, fromMS, toMS int64, limit int) ([]history.Event, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT at_ms, kind, pool, subject, from_state, to_state, detail FROM weir_event
		WHERE at_ms >= ? AND at_ms < ? AND (? = '' OR kind = ?) AND (? = '' OR pool = ?) ORDER BY at_ms DESC, id DESC LIMIT ?`,
		fromMS, toMS, string(kind), string(kind), pool, pool, limit)
	if err != nil {
		return nil, s.wrap("reading", err)
	}
	defer rows.Close()
	out := []history.Event{}
	for rows.Next() {
		var e history.Event
		if err := rows.Scan(&e.AtMS, &e.Kind, &e.Pool, &e.Subject, &e.From, &e.To, &e.Detail); err != nil {
			return nil, s.wrap("reading", err)
		}
		out = append(out, e)
	}
	slices.Reverse(out)
	return out, s.wrap("reading", rows.Err())
}
