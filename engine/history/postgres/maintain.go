package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/sqlrows"
)

// Maintain makes partitions ahead and deletes what is too old. Of several engines one does it at a time, the others wait.
func (s *Store) Maintain(ctx context.Context, nowMS int64, keep history.Retention) error {
	_, _, flavour, err := s.state(ctx)
	if err != nil {
		return s.wrap("maintaining", err)
	}
	now := time.UnixMilli(nowMS).UTC()
	do := func(table string, what func(pgx.Tx) error) error {
		err := s.locked(ctx, func(tx pgx.Tx) error {
			// A reader that takes hours must not make writers wait behind a DROP.
			if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '2s'"); err != nil {
				return err
			}
			return what(tx)
		})
		if err != nil {
			return s.wrap("maintaining", fmt.Errorf("%s: %w", table, err))
		}
		return nil
	}
	for _, t := range sqlrows.Tables(keep) {
		if flavour == timescale {
			err = do(t.Name, func(tx pgx.Tx) error { return dropChunks(ctx, tx, t, now) })
		} else if err = do(t.Name, func(tx pgx.Tx) error { return ahead(ctx, tx, t, now) }); err == nil {
			err = do(t.Name, func(tx pgx.Tx) error { return drop(ctx, tx, t, now) })
		}
		if err != nil {
			return err
		}
	}
	for table, ms := range sqlrows.Others(keep) {
		if ms <= 0 {
			continue
		}
		if err := do(table, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "DELETE FROM "+table+" WHERE at < $1", now.Add(-time.Duration(ms)*time.Millisecond))
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// dropChunks drops what is whole and too old. Retention is no policy of TimescaleDB's, so that it follows weir.yaml.
func dropChunks(ctx context.Context, conn pgx.Tx, t sqlrows.Parted, now time.Time) error {
	if t.KeepMS <= 0 {
		return nil
	}
	oldest := now.Add(-time.Duration(t.KeepMS) * time.Millisecond)
	_, err := conn.Exec(ctx, fmt.Sprintf("SELECT drop_chunks('%s', older_than => $1::timestamptz)", t.Name), oldest)
	return err
}

// over tells whether all of a piece that begins at a time is too old to be kept.
func over(t sqlrows.Parted, at, now time.Time) bool {
	return t.KeepMS > 0 && !t.Next(at).After(now.Add(-time.Duration(t.KeepMS)*time.Millisecond))
}

// ahead makes the partitions from the oldest row that may still come up to some days from now.
func ahead(ctx context.Context, tx pgx.Tx, t sqlrows.Parted, now time.Time) error {
	have, err := existing(ctx, tx, t)
	if err != nil {
		return err
	}
	// What is older goes to the default partition.
	for at := t.Floor(now.AddDate(0, 0, -sqlrows.LateDays)); at.Before(now.AddDate(0, 0, sqlrows.AheadDays)); at = t.Next(at) {
		name := t.Name + "_p" + at.Format(t.Layout)
		if have[name] || over(t, at, now) {
			continue
		}
		if err := makePiece(ctx, tx, t, name, at.Format(time.RFC3339), t.Next(at).Format(time.RFC3339)); err != nil {
			return err
		}
	}
	return nil
}

// makePiece makes a partition. Rows of its time that came before it are in the default one, and move.
func makePiece(ctx context.Context, tx pgx.Tx, t sqlrows.Parted, name, from, to string) error {
	create := fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s PARTITION OF %s FOR VALUES FROM ('%s') TO ('%s')", name, t.Name, from, to)
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { // a savepoint
		_, err := tx.Exec(ctx, create)
		return err
	})
	const overlaps = "23514"
	var e *pgconn.PgError
	if !errors.As(err, &e) || e.Code != overlaps {
		return err
	}
	rows := fmt.Sprintf("FROM %s_other WHERE %s >= '%s' AND %s < '%s'", t.Name, t.Column, from, t.Column, to)
	for _, statement := range []string{
		"LOCK TABLE " + t.Name + "_other IN ACCESS EXCLUSIVE MODE",
		"CREATE TEMPORARY TABLE weir_moved ON COMMIT DROP AS SELECT * " + rows,
		"DELETE " + rows,
		create,
		"INSERT INTO " + t.Name + " SELECT * FROM weir_moved",
		"DROP TABLE weir_moved",
	} {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// drop drops the partitions that are too old.
func drop(ctx context.Context, tx pgx.Tx, t sqlrows.Parted, now time.Time) error {
	if t.KeepMS <= 0 {
		return nil
	}
	have, err := existing(ctx, tx, t)
	if err != nil {
		return err
	}
	for name := range have {
		at, err := time.Parse(t.Layout, strings.TrimPrefix(name, t.Name+"_p"))
		if err == nil && over(t, at, now) {
			if _, err := tx.Exec(ctx, "DROP TABLE IF EXISTS "+name); err != nil {
				return err
			}
		}
	}
	_, err = tx.Exec(ctx, fmt.Sprintf("DELETE FROM %s_other WHERE %s < $1", t.Name, t.Column), now.Add(-time.Duration(t.KeepMS)*time.Millisecond))
	return err
}

func existing(ctx context.Context, conn querier, t sqlrows.Parted) (map[string]bool, error) {
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
