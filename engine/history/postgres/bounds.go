package postgres

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/sqlrows"
)

// bounds narrows a time to where there are outcomes; the end is not after the beginning when there are none. In plain PostgreSQL that is
// whole days, by the partitions that hold something: the first and the last time themselves would take reading every row.
func (s *Store) bounds(ctx context.Context, fromMS, toMS int64) (from, to int64, err error) {
	const end = 253_402_300_799_999 // of the year 9999
	fromMS, toMS = max(fromMS, 0), min(toMS, end)
	from, to, ok := s.days(ctx, fromMS, toMS)
	if !ok {
		from, to, err = s.ends(ctx, "weir_outcome", fromMS, toMS)
	}
	return max(fromMS, from), min(toMS, to), err
}

// days returns the days that hold something. False when that cannot be told by partitions: TimescaleDB's chunks have other names, and one
// may have been dropped meanwhile.
func (s *Store) days(ctx context.Context, fromMS, toMS int64) (from, to int64, ok bool) {
	t := sqlrows.Tables(history.Retention{})[0]
	names, err := existing(ctx, s.pool, t)
	if err != nil {
		return 0, 0, false
	}
	for name := range names {
		var first, after int64
		if name == t.Name+"_other" { // what fits no day, which is nothing mostly
			if first, after, err = s.ends(ctx, name, fromMS, toMS); err != nil {
				return 0, 0, false
			}
		} else {
			day, err := time.Parse(t.Layout, strings.TrimPrefix(name, t.Name+"_p"))
			if err != nil {
				return 0, 0, false
			}
			first, after = day.UnixMilli(), t.Next(day).UnixMilli()
			if first >= toMS || after <= fromMS {
				continue
			}
			// By way of the whole table: a user may have no right to a piece that another one made.
			var filled bool
			if err := s.pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM weir_outcome WHERE at >= $1 AND at < $2)", day, t.Next(day)).Scan(&filled); err != nil {
				return 0, 0, false
			}
			if !filled {
				continue
			}
		}
		switch {
		case first == after:
		case from == to:
			from, to = first, after
		default:
			from, to = min(from, first), max(to, after)
		}
	}
	return from, to, true
}

// ends returns the first time of a table and the millisecond after the last, 0 and 0 when it holds nothing of that time.
func (s *Store) ends(ctx context.Context, table string, fromMS, toMS int64) (from, to int64, err error) {
	var first, last *time.Time
	err = s.pool.QueryRow(ctx, "SELECT min(at), max(at) FROM "+table+" WHERE at >= $1 AND at < $2", time.UnixMilli(fromMS), time.UnixMilli(toMS)).Scan(&first, &last)
	if err != nil || first == nil {
		return 0, 0, err
	}
	return first.UnixMilli(), last.UnixMilli() + 1, nil
}

// count returns how many outcomes a time has, at most so many.
func (s *Store) count(ctx context.Context, fromMS, toMS int64, most int) (n int, err error) {
	err = s.byIndex(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT count(*) FROM (SELECT FROM weir_outcome WHERE at >= $1 AND at < $2 LIMIT $3) AS t", time.UnixMilli(fromMS), time.UnixMilli(toMS), most).Scan(&n)
	})
	return n, err
}

// byIndex runs queries that go by the index of times. Before the server has looked at the distribution of times (ANALYZE) it does not know
// that rows lie in their order, and takes reading the whole day for a slice of it to be cheaper.
func (s *Store) byIndex(ctx context.Context, do func(pgx.Tx) error) error {
	return s.reading(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL enable_seqscan = off"); err != nil {
			return err
		}
		return do(tx)
	})
}

// reading runs queries in a transaction. Compiling costs more than it saves in queries of this length; parallel workers would mix up the
// order of rows, and take cores that serve requests when the database is on the same host. They are not settings of the session, which a
// pooler refuses at its start and may share with others later.
func (s *Store) reading(ctx context.Context, do func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0"); err != nil {
			return err
		}
		return do(tx)
	})
}

// binaryMode is how a query in a transaction is asked whose answer is wanted in binary form, which the mode for poolers cannot: within a
// transaction the session stays the same, so a statement may be described before.
func binaryMode(tx pgx.Tx) pgx.QueryExecMode {
	if mode := tx.Conn().Config().DefaultQueryExecMode; mode != pgx.QueryExecModeExec {
		return mode
	}
	return pgx.QueryExecModeDescribeExec
}
