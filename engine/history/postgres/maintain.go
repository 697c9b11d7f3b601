package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirlb/weir/engine/history"
)

// aheadDays is how many days of partitions are made beforehand: so long may every engine be away.
const aheadDays = 3

// parted is a table that is kept in pieces of time.
type parted struct {
	name, column string
	keepMS       int64
	floor        func(time.Time) time.Time
	next         func(time.Time) time.Time
	layout       string
}

func tables(keep history.Retention) []parted {
	month := func(t time.Time) time.Time { return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC) }
	nextMonth := func(t time.Time) time.Time { return t.AddDate(0, 1, 0) }
	return []parted{
		{
			"weir_outcome", "at", keep.RawMS,
			func(t time.Time) time.Time { return t.Truncate(24 * time.Hour) },
			func(t time.Time) time.Time { return t.AddDate(0, 0, 1) }, "20060102",
		},
		{"weir_rollup", "minute", keep.RollupMS, month, nextMonth, "200601"},
		{"weir_metric", "minute", keep.RollupMS, month, nextMonth, "200601"},
	}
}

// Maintain makes partitions ahead and deletes what is too old. Of several engines one does it at a time, the others pass.
func (s *Store) Maintain(ctx context.Context, nowMS int64, keep history.Retention) error {
	_, _, flavour, err := s.state(ctx)
	if err != nil {
		return s.wrap("maintaining", err)
	}
	return s.wrap("maintaining", s.locked(ctx, func(conn *pgx.Conn) error {
		// A reader that takes hours must not make writers wait behind a DROP.
		if _, err := conn.Exec(ctx, "SET lock_timeout = '2s'"); err != nil {
			return err
		}
		defer func() {
			ctx, cancel := afterwards(ctx)
			defer cancel()
			_, _ = conn.Exec(ctx, "RESET lock_timeout")
		}()
		now := time.UnixMilli(nowMS).UTC()
		for _, t := range tables(keep) {
			var err error
			if flavour == timescale {
				err = dropChunks(ctx, conn, t, now)
			} else {
				err = partitions(ctx, conn, t, now)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
		for table, ms := range map[string]int64{"weir_batch": keep.RawMS, "weir_event": keep.RollupMS} {
			if ms <= 0 {
				continue
			}
			if _, err := conn.Exec(ctx, "DELETE FROM "+table+" WHERE at < $1", now.Add(-time.Duration(ms)*time.Millisecond)); err != nil {
				return fmt.Errorf("%s: %w", table, err)
			}
		}
		return nil
	}))
}

// dropChunks drops what is whole and too old. Retention is no policy of TimescaleDB's, so that it follows weir.yaml.
func dropChunks(ctx context.Context, conn *pgx.Conn, t parted, now time.Time) error {
	if t.keepMS <= 0 {
		return nil
	}
	oldest := now.Add(-time.Duration(t.keepMS) * time.Millisecond)
	_, err := conn.Exec(ctx, fmt.Sprintf("SELECT drop_chunks('%s', older_than => $1::timestamptz)", t.name), oldest)
	return err
}

// partitions makes those from the oldest row that may still come up to some days from now, and drops those that are too old.
func partitions(ctx context.Context, conn *pgx.Conn, t parted, now time.Time) error {
	have, err := existing(ctx, conn, t)
	if err != nil {
		return err
	}
	// What waited in a spool for days has its place too; what is older goes to the default partition.
	const lateDays = 8
	for at := t.floor(now.AddDate(0, 0, -lateDays)); at.Before(now.AddDate(0, 0, aheadDays)); at = t.next(at) {
		name := t.name + "_p" + at.Format(t.layout)
		if have[name] {
			continue
		}
		if _, err := conn.Exec(ctx, fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s PARTITION OF %s FOR VALUES FROM ('%s') TO ('%s')",
			name, t.name, at.Format(time.RFC3339), t.next(at).Format(time.RFC3339))); err != nil {
			return err
		}
	}
	if t.keepMS <= 0 {
		return nil
	}
	oldest := now.Add(-time.Duration(t.keepMS) * time.Millisecond)
	for name := range have {
		at, err := time.Parse(t.layout, strings.TrimPrefix(name, t.name+"_p"))
		if err == nil && !t.next(at).After(oldest) {
			if _, err := conn.Exec(ctx, "DROP TABLE IF EXISTS "+name); err != nil {
				return err
			}
		}
	}
	_, err = conn.Exec(ctx, fmt.Sprintf("DELETE FROM %s_other WHERE %s < $1", t.name, t.column), oldest)
	return err
}

func existing(ctx context.Context, conn *pgx.Conn, t parted) (map[string]bool, error) {
	rows, err := conn.Query(ctx, "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = $1::regclass", t.name)
	if err != nil {
		return nil, err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	have := make(map[string]bool, len(names))
	for _, name := range names {
		have[name] = true
	}
	return have, err
}
