package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/sqlrows"
)

// Outcomes are read in slices of about so many rows. Two slices are read at a time where there are connections for it, since the server's
// side of it takes one of its processes whole.
const sliceRows = 200_000

// slice is a piece of time being read. Until it is handed on, the Series of its outcomes are the database's ids.
type slice struct {
	fromMS, toMS int64
	outcomes     []history.Outcome
	err          error
	done         chan struct{}
}

// Outcomes yields raw outcomes in the order of time.
func (s *Store) Outcomes(ctx context.Context, pool string, fromMS, toMS int64, yield func([]history.Series, []history.Outcome) error) error {
	fromMS, toMS, err := s.bounds(ctx, fromMS, toMS)
	if err != nil {
		return s.wrap("reading", err)
	}
	s.summarize(ctx)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	atOnce := 2
	if s.pool.Config().MaxConns < 3 {
		atOnce = 1
	}
	var running, spare []*slice
	defer func() { // each holds a connection until it has noticed
		stop()
		for _, p := range running {
			<-p.done
		}
	}()
	names := sqlrows.Renamer{Pool: pool, Find: func(id int32) (history.Series, bool, error) { return s.find(ctx, id) }}
	length := int64(sqlrows.FirstSliceMS)
	begin := func() error {
		for fromMS < toMS && len(running) < atOnce {
			if length, err = sqlrows.FitSlice(fromMS, length, sliceRows, func(from, to int64, most int) (int, error) { return s.count(ctx, from, to, most) }); err != nil {
				return err
			}
			p := &slice{}
			if n := len(spare); n > 0 {
				p, spare = spare[n-1], spare[:n-1]
			}
			p.fromMS, p.toMS, p.done = fromMS, min(fromMS+length, toMS), make(chan struct{})
			fromMS = p.toMS
			running = append(running, p)
			go func() {
				defer close(p.done)
				p.err = s.slice(ctx, p)
			}()
		}
		return nil
	}
	if err := begin(); err != nil {
		return s.wrap("reading", err)
	}
	for len(running) > 0 {
		p := running[0]
		<-p.done
		running = running[1:]
		if p.err == nil {
			length = sqlrows.NextSlice(p.toMS-p.fromMS, len(p.outcomes), sliceRows)
			p.err = begin() // before this one is handed on: the server works while the reader does
		}
		if p.err == nil {
			p.outcomes, p.err = names.Rename(p.outcomes)
		}
		if p.err != nil {
			return s.wrap("reading", p.err)
		}
		if len(p.outcomes) > 0 {
			if err := yield(names.Series, p.outcomes); err != nil {
				return err
			}
		}
		spare = append(spare, p)
	}
	return nil
}

// slice reads one, in the order of time.
func (s *Store) slice(ctx context.Context, p *slice) error {
	p.outcomes = p.outcomes[:0]
	err := s.byIndex(ctx, func(tx pgx.Tx) error {
		if s.copies {
			return copyOut(ctx, tx, p)
		}
		return selectOut(ctx, tx, p)
	})
	sqlrows.SortByTime(p.outcomes)
	return err
}

// summarize has the index of times know the pages that were filled since it was looked after last: every slice would read them all. That
// it cannot be done, as for want of the right to, makes reading slower and nothing else.
func (s *Store) summarize(ctx context.Context) {
	_ = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '1s'"); err != nil { // a VACUUM may be at it
			return err
		}
		_, err := tx.Exec(ctx, `SELECT brin_summarize_new_values(i.indexrelid) FROM pg_inherits h JOIN pg_index i ON i.indrelid = h.inhrelid
			JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
			WHERE h.inhparent = 'weir_outcome'::regclass AND a.amname = 'brin' AND c.relkind = 'i'`)
		return err
	})
}

// find returns the series of an id, false when there is none.
func (s *Store) find(ctx context.Context, id int32) (history.Series, bool, error) {
	if known, ok := s.names.Load(id); ok {
		return known.(history.Series), true, nil
	}
	var one history.Series
	err := s.pool.QueryRow(ctx, "SELECT pool, peer, class FROM weir_series WHERE id = $1", id).Scan(&one.Pool, &one.Peer, &one.Class)
	if err == nil {
		s.names.Store(id, one)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return one, false, nil
	}
	return one, err == nil, err
}
