package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/sqlrows"
	"github.com/weirlb/weir/schema"
)

// lockKey is the advisory lock under which schemas and partitions are changed: "weir" and a number.
const lockKey = 0x77656972_00000001

// locked runs do on one connection under the advisory lock; other engines wait for it.
func (s *Store) locked(ctx context.Context, do func(*pgx.Conn) error) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(lockKey)); err != nil {
		return err
	}
	defer func() {
		ctx, cancel := afterwards(ctx)
		defer cancel()
		if _, err := conn.Exec(ctx, "SELECT pg_advisory_unlock($1)", int64(lockKey)); err != nil {
			_ = conn.Conn().Close(ctx) // which gives it back
		}
	}()
	return do(conn.Conn())
}

// Migrate brings the tables up to date. It needs no rights when they are.
func (s *Store) Migrate(ctx context.Context) error {
	if have, steps, _, err := s.state(ctx); err == nil && have == len(steps) {
		return nil
	}
	return s.wrap("migrating", s.locked(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `CREATE TABLE IF NOT EXISTS weir_migration (
			version integer PRIMARY KEY, name text NOT NULL, flavour text NOT NULL, at timestamptz NOT NULL DEFAULT now())`)
		if err != nil {
			return err
		}
		have, flavour, err := applied(ctx, conn)
		if err != nil {
			return err
		}
		steps, err := schema.Steps("postgres", flavour)
		if err != nil {
			return err
		}
		missing, err := sqlrows.Missing(steps, have)
		if err != nil {
			return err
		}
		for _, step := range missing {
			err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
				for _, statement := range step.Statements() {
					if _, err := tx.Exec(ctx, statement); err != nil {
						return err
					}
				}
				_, err := tx.Exec(ctx, "INSERT INTO weir_migration (version, name, flavour) VALUES ($1, $2, $3)", step.Version, step.Name, flavour)
				return err
			})
			if err != nil {
				return fmt.Errorf("step %d, %s: %w", step.Version, step.Name, err)
			}
		}
		return nil
	}))
}

// applied returns the number of steps that are, and the flavour: that of the first step, or what the server has now.
func applied(ctx context.Context, conn *pgx.Conn) (have int, flavour string, err error) {
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
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return 0, nil, "", err
	}
	defer conn.Release()
	if have, flavour, err = applied(ctx, conn.Conn()); err != nil {
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
