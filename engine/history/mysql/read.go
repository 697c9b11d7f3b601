package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
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
	query := "SELECT minute_ms, attempts, failures, others, bytes, sum_ms, series, max_ms, p50_ms, p90_ms, p99_ms, sketch FROM weir_rollup " +
		"WHERE series IN (" + ids + ") AND minute_ms >= ? AND minute_ms < ? ORDER BY series, minute_ms"
	var r history.Rollup
	var name history.Series
	var stopped error // by the caller: its error goes back as it is
	last := int32(-1)
	err = eachRow(ctx, s.db, query, []int64{q.FromMS, q.ToMS}, func(row []driver.Value) (err error) {
		v := reader{row: row}
		r.MinuteMS = v.int()
		r.Count, r.Failures, r.Others, r.Bytes = uint64(v.int()), uint64(v.int()), uint64(v.int()), uint64(v.int())
		r.SumMS = v.double()
		id := int32(v.int())
		r.MaxMS, r.P50, r.P90, r.P99 = v.float(), v.float(), v.float(), v.float()
		r.Sketch = v.bytes()
		if v.err != nil {
			return v.err
		}
		if id != last { // the ids are those that wanted has seen
			if name, err = s.series(ctx, id); err != nil {
				return err
			}
			last = id
		}
		stopped = yield(name, &r)
		return stopped
	})
	if stopped != nil {
		return stopped
	}
	return s.wrap("reading", err)
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
	names := sqlrows.Renamer{Pool: pool, Find: func(id int32) (history.Series, bool, error) {
		series, err := s.series(ctx, id)
		if errors.Is(err, sql.ErrNoRows) {
			return series, false, nil
		}
		return series, err == nil, err
	}}
	var held []history.Outcome
	var err error
	for slice := int64(sqlrows.FirstSliceMS); fromMS < toMS; {
		if slice, err = sqlrows.FitSlice(fromMS, slice, sliceRows, func(from, to int64, most int) (n int, err error) {
			err = s.db.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT 1 FROM weir_outcome WHERE at_ms >= ? AND at_ms < ? LIMIT ?) AS some", from, to, most).Scan(&n)
			return n, err
		}); err != nil {
			return s.wrap("reading", err)
		}
		end := min(fromMS+slice, toMS)
		if held, err = s.slicedOutcomes(ctx, fromMS, end, held[:0]); err != nil {
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
func (s *Store) slicedOutcomes(ctx context.Context, fromMS, toMS int64, held []history.Outcome) ([]history.Outcome, error) {
	const query = "SELECT at_ms, bytes, series, status, flags, inflight, propensity, header_ms, total_ms, weight, predicted_ms, `load`, rate, attempt, kind " +
		"FROM weir_outcome WHERE at_ms >= ? AND at_ms < ?"
	err := eachRow(ctx, s.db, query, []int64{fromMS, toMS}, func(row []driver.Value) error {
		v := reader{row: row}
		held = append(held, history.Outcome{
			AtMS: v.int(), Bytes: uint32(v.int()), Series: uint32(v.int()), Status: uint16(v.int()), Flags: uint16(v.int()), Inflight: uint16(v.int()),
			Propensity: v.float(), HeaderMS: v.float(), TotalMS: v.float(), Weight: v.float(), PredictedMS: v.float(), Load: v.float(), Rate: v.float(),
			Attempt: uint8(v.int()), Kind: uint8(v.int()),
		})
		return v.err
	})
	sqlrows.SortByTime(held)
	return held, err
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
