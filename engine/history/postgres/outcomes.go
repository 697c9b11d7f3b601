package postgres

import (
	"context"
	"errors"
	"time"

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
	for fromMS < toMS || len(running) > 0 {
		for fromMS < toMS && len(running) < atOnce {
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
		p := running[0]
		<-p.done
		running = running[1:]
		if p.err == nil {
			length = sqlrows.NextSlice(p.toMS-p.fromMS, len(p.outcomes), sliceRows)
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

// bounds narrows a time to what there is.
func (s *Store) bounds(ctx context.Context, fromMS, toMS int64) (from, to int64, err error) {
	const end = 253_402_300_799_999 // of the year 9999
	var first, last *time.Time
	if err := s.pool.QueryRow(ctx, "SELECT min(at), max(at) FROM weir_outcome WHERE at >= $1 AND at < $2", time.UnixMilli(max(fromMS, 0)), time.UnixMilli(min(toMS, end))).Scan(&first, &last); err != nil {
		return 0, 0, err
	}
	if first == nil {
		return 0, 0, nil
	}
	return max(fromMS, first.UnixMilli()), min(toMS, last.UnixMilli()+1), nil
}

// slice reads one, in the order of time.
func (s *Store) slice(ctx context.Context, p *slice) error {
	p.outcomes = p.outcomes[:0]
	rows, err := s.pool.Query(ctx, "SELECT "+outcomeColumns+" FROM weir_outcome WHERE at >= $1 AND at < $2",
		pgx.QueryResultFormats{pgx.BinaryFormatCode}, time.UnixMilli(p.fromMS), time.UnixMilli(p.toMS))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		v := rows.RawValues()
		if !sized(v, 8, 8, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 2, 2) {
			return errWidth
		}
		us := i64(v[0]) + epochUS
		p.outcomes = append(p.outcomes, history.Outcome{
			AtMS: us / 1000, AtUS: uint16(us % 1000), Bytes: uint32(i64(v[1])), Series: uint32(i32(v[2])), Status: uint16(i32(v[4])), Flags: uint16(i32(v[5])),
			Inflight: uint16(i32(v[6])), Propensity: f32(v[7]), HeaderMS: f32(v[8]), TotalMS: f32(v[9]), Weight: f32(v[10]),
			PredictedMS: f32(v[11]), Load: f32(v[12]), Rate: f32(v[13]), Attempt: uint8(i16(v[14])), Kind: uint8(i16(v[15])),
		})
	}
	sqlrows.SortByTime(p.outcomes)
	return rows.Err()
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
