package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/sqlrows"
)

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
		for _, t := range sqlrows.Tables(keep) {
			var err error
			if flavour == timescale {
				err = dropChunks(ctx, conn, t, now)
			} else {
				err = partitions(ctx, conn, t, now)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", t.Name, err)
			}
		}
		for table, ms := range sqlrows.Others(keep) {
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
func dropChunks(ctx context.Context, conn *pgx.Conn, t sqlrows.Parted, now time.Time) error {
	if t.KeepMS <= 0 {
		return nil
	}
	oldest := now.Add(-time.Duration(t.KeepMS) * time.Millisecond)
	_, err := conn.Exec(ctx, fmt.Sprintf("SELECT drop_chunks('%s', older_than => $1::timestamptz)", t.Name), oldest)
	return err
}

// partitions makes those from the oldest row that may still come up to some days from now, and drops those that are too old.
func partitions(ctx context.Context, conn *pgx.Conn, t sqlrows.Parted, now time.Time) error {
	have, err := existing(ctx, conn, t)
	if err != nil {
		return err
	}
	// What is older goes to the default partition.
	for at := t.Floor(now.AddDate(0, 0, -sqlrows.LateDays)); at.Before(now.AddDate(0, 0, sqlrows.AheadDays)); at = t.Next(at) {
		name := t.Name + "_p" + at.Format(t.Layout)
		if have[name] {
			continue
		}
		if _, err := conn.Exec(ctx, fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s PARTITION OF %s FOR VALUES FROM ('%s') TO ('%s')",
			name, t.Name, at.Format(time.RFC3339), t.Next(at).Format(time.RFC3339))); err != nil {
			return err
		}
	}
	if t.KeepMS <= 0 {
		return nil
	}
	oldest := now.Add(-time.Duration(t.KeepMS) * time.Millisecond)
	for name := range have {
		at, err := time.Parse(t.Layout, strings.TrimPrefix(name, t.Name+"_p"))
		if err == nil && !t.Next(at).After(oldest) {
			if _, err := conn.Exec(ctx, "DROP TABLE IF EXISTS "+name); err != nil {
				return err
			}
		}
	}
	_, err = conn.Exec(ctx, fmt.Sprintf("DELETE FROM %s_other WHERE %s < $1", t.Name, t.Column), oldest)
	return err
}

func existing(ctx context.Context, conn *pgx.Conn, t sqlrows.Parted) (map[string]bool, error) {
	rows, err := conn.Query(ctx, "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = $1::regclass", t.Name)
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
