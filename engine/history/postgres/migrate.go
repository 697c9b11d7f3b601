package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/sqlrows"
	"github.com/weirlb/weir/schema"
)

// lockKey is the advisory lock under which schemas and partitions are changed: "weir" and a number.
const lockKey = 0x77656972_00000001

// querier is what a connection, a transaction and the pool have in common.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// locked runs do in a transaction that holds the advisory lock; other engines wait for it. A lock of the session would outlive its owner
// behind a pooler that gives each transaction another session.
func (s *Store) locked(ctx context.Context, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(lockKey)); err != nil {
			return err
		}
		return do(tx)
	})
}

// Migrate brings the tables up to date. It needs no rights when they are.
func (s *Store) Migrate(ctx context.Context) error {
	if have, steps, _, err := s.state(ctx); err == nil && have == len(steps) {
		return nil
	}
	for more := true; more; {
		err := s.locked(ctx, func(tx pgx.Tx) (err error) {
			more, err = step(ctx, tx)
			return err
		})
		if err != nil {
			return s.wrap("migrating", err)
		}
	}
	return nil
}

// step applies the first step that is missing. False when none is.
func step(ctx context.Context, tx pgx.Tx) (more bool, err error) {
	_, err = tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS weir_migration (
		version integer PRIMARY KEY, name text NOT NULL, flavour text NOT NULL, at timestamptz NOT NULL DEFAULT now())`)
	if err != nil {
		return false, err
	}
	have, flavour, err := applied(ctx, tx)
	if err != nil {
		return false, err
	}
	steps, err := schema.Steps("postgres", flavour)
	if err != nil {
		return false, err
	}
	missing, err := sqlrows.Missing(steps, have)
	if err != nil || len(missing) == 0 {
		return false, err
	}
	next := missing[0]
	for _, statement := range next.Statements() {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return false, fmt.Errorf("step %d, %s: %w", next.Version, next.Name, err)
		}
	}
	_, err = tx.Exec(ctx, "INSERT INTO weir_migration (version, name, flavour) VALUES ($1, $2, $3)", next.Version, next.Name, flavour)
	return len(missing) > 1, err
}

// applied returns the number of steps that are, and the flavour: that of the first step, or what the server has now.
func applied(ctx context.Context, conn querier) (have int, flavour string, err error) {
	var exists bool
	if err = conn.QueryRow(ctx, "SELECT to_regclass('weir_migration') IS NOT NULL").Scan(&exists); err != nil {
		return 0, "", err
	}
	if exists {
		err = conn.QueryRow(ctx, "SELECT count(*), coalesce(min(flavour), '') FROM weir_migration").Scan(&have, &flavour)
	}
	if err != nil || flavour != "" {
		return have, flavour, err
	}
	var present bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')").Scan(&present)
	if flavour = plain; present {
		flavour = timescale
	}
	return have, flavour, err
}

func (s *Store) state(ctx context.Context) (have int, steps []schema.Step, flavour string, err error) {
	if have, flavour, err = applied(ctx, s.pool); err != nil {
		return 0, nil, "", err
	}
	steps, err = schema.Steps("postgres", flavour)
	return have, steps, flavour, err
}

// Migrations tells the state of the schema.
func (s *Store) Migrations(ctx context.Context) ([]history.Migration, error) {
	have, steps, flavour, err := s.state(ctx)
	if err != nil {
		return nil, s.wrap("reading the state of", err)
	}
	return sqlrows.State(steps, have, " ("+flavour+")"), nil
}
