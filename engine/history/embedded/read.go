package embedded

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/weirlb/weir/engine/history"
)

// series returns the series of an id.
func (s *Store) series(ctx context.Context, id int64) (history.Series, error) {
	if known, ok := s.names.Load(id); ok {
		return known.(history.Series), nil
	}
	var got history.Series
	if err := s.read.QueryRowContext(ctx, "SELECT pool, peer, class FROM series WHERE id = ?", id).Scan(&got.Pool, &got.Peer, &got.Class); err != nil {
		return got, fmt.Errorf("looking up series %d: %w", id, err)
	}
	s.names.Store(id, got)
	return got, nil
}

// Rollups yields the rollups for a question.
func (s *Store) Rollups(ctx context.Context, q history.Question, yield func(history.Series, *history.Rollup) error) error {
	what := "peers"
	if q.Classes() {
		what = "classes"
	}
	query := "SELECT " + what + " FROM rollups WHERE minute_ms >= ? AND minute_ms < ?"
	args := []any{q.FromMS, q.ToMS}
	if q.Pool != "" {
		query += " AND pool = ?"
		args = append(args, q.Pool)
	}
	rows, err := s.read.QueryContext(ctx, query+" ORDER BY minute_ms", args...)
	if err != nil {
		return s.wrap("reading", err)
	}
	defer rows.Close()
	var data sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&data); err != nil {
			return s.wrap("reading", err)
		}
		err := history.DecodeRollups(data, func(r *history.Rollup) error {
			series, err := s.series(ctx, int64(r.Series))
			if err != nil || !q.Wants(series) {
				return err
			}
			return yield(series, r)
		})
		if err != nil {
			return s.wrap("reading", err)
		}
	}
	return s.wrap("reading", rows.Err())
}

// block is a stored batch of outcomes.
type block struct{ id, from, to int64 }

// Outcomes yields raw outcomes in the order of time. Blocks overlap a little, since attempts of one batch ended at different
// times and several engines may have written; so much is kept back as a later block could still precede.
func (s *Store) Outcomes(ctx context.Context, pool string, fromMS, toMS int64, yield func([]history.Series, []history.Outcome) error) error {
	blocks, err := s.blocks(ctx, fromMS, toMS)
	if err != nil {
		return s.wrap("reading", err)
	}
	m := history.NewMerger(pool, fromMS, toMS, yield)
	codec := history.NewCodec()
	get, err := s.read.PrepareContext(ctx, "SELECT data FROM outcomes WHERE id = ?")
	if err != nil {
		return s.wrap("reading", err)
	}
	defer get.Close()
	var data []byte
	var series []history.Series
	var outcomes []history.Outcome
	for i, b := range blocks {
		err := get.QueryRowContext(ctx, b.id).Scan(&data)
		if err == sql.ErrNoRows { // too old, and deleted meanwhile
			continue
		}
		if err != nil {
			return s.wrap("reading", err)
		}
		if series, outcomes, err = codec.DecodeBlock(data, series, outcomes); err != nil {
			return s.wrap("reading", err)
		}
		m.Add(series, outcomes)
		next := toMS
		if i+1 < len(blocks) {
			next = blocks[i+1].from
		}
		if err := m.Flush(next); err != nil {
			return err
		}
	}
	return m.Flush(toMS)
}

func (s *Store) blocks(ctx context.Context, fromMS, toMS int64) ([]block, error) {
	rows, err := s.read.QueryContext(ctx, "SELECT id, from_ms, to_ms FROM outcomes WHERE to_ms >= ? AND from_ms < ? ORDER BY from_ms", fromMS, toMS)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []block
	for rows.Next() {
		var b block
		if err := rows.Scan(&b.id, &b.from, &b.to); err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, rows.Err()
}

// Events returns events.
func (s *Store) Events(ctx context.Context, kind history.EventKind, pool string, fromMS, toMS int64, limit int) ([]history.Event, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT at_ms, kind, pool, subject, from_state, to_state, detail FROM events
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

// Maintain deletes what is too old, and the oldest when the file is too large: outcomes first, then rollups, then metrics.
func (s *Store) Maintain(ctx context.Context, nowMS int64, keep history.Retention) error {
	ctx, cancel := context.WithTimeout(ctx, maintainWithin)
	defer cancel()
	if keep.RawMS > 0 {
		for _, statement := range []string{
			"DELETE FROM outcomes WHERE from_ms < ? AND to_ms < ?", "DELETE FROM batch WHERE at_ms < ? AND at_ms < ?",
		} {
			if _, err := s.write.ExecContext(ctx, statement, nowMS-keep.RawMS, nowMS-keep.RawMS); err != nil {
				return s.wrap("deleting what is old in", err)
			}
		}
	}
	if keep.RollupMS > 0 {
		for _, statement := range []string{"DELETE FROM rollups WHERE minute_ms < ?", "DELETE FROM metrics WHERE minute_ms < ?", "DELETE FROM events WHERE at_ms < ?"} {
			if _, err := s.write.ExecContext(ctx, statement, nowMS-keep.RollupMS); err != nil {
				return s.wrap("deleting what is old in", err)
			}
		}
	}
	if keep.MaxBytes > 0 {
		if err := s.shrink(ctx, keep.MaxBytes); err != nil {
			return s.wrap("making room in", err)
		}
	}
	_, err := s.write.ExecContext(ctx, "PRAGMA incremental_vacuum(2000)")
	return s.wrap("making room in", err)
}

// shrink deletes the oldest rows, some at a time, until what is used fits.
func (s *Store) shrink(ctx context.Context, most int64) error {
	for ctx.Err() == nil {
		used, err := s.used(ctx)
		if err != nil || used <= most {
			return err
		}
		gone, some := int64(0), min(max((used-most)/(500<<10), 1), 20) // a busy engine's batch has 100 to 300 KB
		for _, statement := range []string{
			"DELETE FROM outcomes WHERE id IN (SELECT id FROM outcomes ORDER BY from_ms LIMIT ?)",
			"DELETE FROM rollups WHERE id IN (SELECT id FROM rollups ORDER BY minute_ms LIMIT 10 * ?)",
			"DELETE FROM metrics WHERE id IN (SELECT id FROM metrics ORDER BY minute_ms LIMIT 100 * ?)",
		} {
			res, err := s.write.ExecContext(ctx, statement, some)
			if err != nil {
				return err
			}
			if gone, err = res.RowsAffected(); err != nil {
				return err
			}
			if gone > 0 {
				break
			}
		}
		if gone == 0 {
			return nil
		}
	}
	return nil // the rest is for the next round
}

// used is the bytes of the file that hold something.
func (s *Store) used(ctx context.Context) (int64, error) {
	var pages, free, size int64
	for _, p := range []struct {
		name string
		into *int64
	}{{"page_count", &pages}, {"freelist_count", &free}, {"page_size", &size}} {
		if err := s.write.QueryRowContext(ctx, "PRAGMA "+p.name).Scan(p.into); err != nil {
			return 0, err
		}
	}
	return (pages - free) * size, nil
}
