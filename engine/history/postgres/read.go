package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirlb/weir/engine/history"
)

// wanted returns the ids of the series that a question is about.
func (s *Store) wanted(ctx context.Context, tx pgx.Tx, pool, peer, where string) ([]int32, error) {
	rows, err := tx.Query(ctx, "SELECT id, pool, peer, class FROM weir_series WHERE ($1 = '' OR pool = $1) AND ($2 = '' OR peer = $2) AND "+where, pool, peer)
	if err != nil {
		return nil, err
	}
	var ids []int32
	var id int32
	var one history.Series
	_, err = pgx.ForEachRow(rows, []any{&id, &one.Pool, &one.Peer, &one.Class}, func() error {
		s.names.Store(id, one)
		ids = append(ids, id)
		return nil
	})
	return ids, err
}

// series returns the name of an id, which wanted has seen.
func (s *Store) series(id int32) (history.Series, error) {
	if known, ok := s.names.Load(id); ok {
		return known.(history.Series), nil
	}
	return history.Series{}, fmt.Errorf("there is no series %d", id)
}

// Rollups yields the rollups for a question. They come as they lie, which is in the order of minutes but for late ones: sorting would
// take longer than finding them.
func (s *Store) Rollups(ctx context.Context, q history.Question, yield func(history.Series, *history.Rollup) error) error {
	var stopped error // by the caller: its error goes back as it is
	err := s.reading(ctx, func(tx pgx.Tx) error {
		return s.rollups(ctx, tx, q, func(series history.Series, r *history.Rollup) error {
			stopped = yield(series, r)
			return stopped
		})
	})
	if stopped != nil {
		return stopped
	}
	return s.wrap("reading", err)
}

func (s *Store) rollups(ctx context.Context, tx pgx.Tx, q history.Question, yield func(history.Series, *history.Rollup) error) error {
	where := "class = ''"
	if q.Classes() {
		where = "class <> ''"
	}
	ids, err := s.wanted(ctx, tx, q.Pool, q.Peer, where)
	if err != nil {
		return err
	}
	ids = slices.DeleteFunc(ids, func(id int32) bool {
		series, err := s.series(id)
		return err != nil || !q.Wants(series)
	})
	rows, err := tx.Query(ctx, "SELECT "+rollupColumns+" FROM weir_rollup WHERE series = ANY($1) AND minute >= $2 AND minute < $3",
		pgx.QueryResultFormats{pgx.BinaryFormatCode}, binaryMode(tx), ids, time.UnixMilli(q.FromMS), time.UnixMilli(q.ToMS))
	if err != nil {
		return err
	}
	defer rows.Close()
	var r history.Rollup
	for rows.Next() {
		v := rows.RawValues()
		if !sized(v[:12], 8, 8, 8, 8, 8, 8, 4, 4, 4, 4, 4, 4) {
			return errWidth
		}
		r.MinuteMS = (i64(v[0]) + epochUS) / 1000
		r.Count, r.Failures, r.Others, r.Bytes = uint64(i64(v[1])), uint64(i64(v[2])), uint64(i64(v[3])), uint64(i64(v[4]))
		r.SumMS = math.Float64frombits(uint64(i64(v[5])))
		r.MaxMS, r.P50, r.P90, r.P99 = f32(v[8]), f32(v[9]), f32(v[10]), f32(v[11])
		r.Sketch = v[12]
		series, err := s.series(i32(v[6]))
		if err != nil {
			return err
		}
		if err := yield(series, &r); err != nil {
			return err
		}
	}
	return rows.Err()
}

var errWidth = errors.New("a column does not have the width that weir gave it")

func sized(v [][]byte, widths ...int) bool {
	for i, n := range widths {
		if len(v[i]) != n {
			return false
		}
	}
	return true
}

func i64(b []byte) int64   { return int64(binary.BigEndian.Uint64(b)) }
func i32(b []byte) int32   { return int32(binary.BigEndian.Uint32(b)) }
func i16(b []byte) int16   { return int16(binary.BigEndian.Uint16(b)) }
func f32(b []byte) float32 { return math.Float32frombits(binary.BigEndian.Uint32(b)) }

// Events returns events.
func (s *Store) Events(ctx context.Context, kind history.EventKind, pool string, fromMS, toMS int64, limit int) ([]history.Event, error) {
	rows, err := s.pool.Query(ctx, `SELECT at, kind, pool, subject, from_state, to_state, detail FROM weir_event
		WHERE at >= $1 AND at < $2 AND ($3 = '' OR kind = $3) AND ($4 = '' OR pool = $4) ORDER BY at DESC, id DESC LIMIT $5`,
		time.UnixMilli(fromMS), time.UnixMilli(toMS), string(kind), pool, limit)
	if err != nil {
		return nil, s.wrap("reading", err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e history.Event, err error) {
		var at time.Time
		err = row.Scan(&at, &e.Kind, &e.Pool, &e.Subject, &e.From, &e.To, &e.Detail)
		e.AtMS = at.UnixMilli()
		return e, err
	})
	if out == nil {
		out = []history.Event{}
	}
	slices.Reverse(out)
	return out, s.wrap("reading", err)
}
