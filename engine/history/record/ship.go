package record

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/spool"
)

type spoolBatch = spool.Batch

// ship is the shipper's goroutine: it opens the store and brings it what waits, in order.
func (r *Recorder) ship() {
	codec := history.NewCodec()
	var b history.Batch
	wait := firstRetry
	maintained := time.Time{}
	counted := uint64(0) // the last batch that was counted as spilled
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-r.life.Done():
			return
		case <-r.shipped:
			if r.outage.Load() != nil && !r.closing.Load() {
				continue // the timer says when to try again
			}
		case <-timer.C:
		}
		err := r.ready()
		if err == nil {
			err = r.drain(codec, &b, &counted)
		}
		if errors.Is(err, history.ErrGone) {
			_ = r.closeStore() // the next try opens another one
		}
		if err == nil && time.Since(maintained) >= maintainEvery {
			maintained = time.Now()
			r.maintain()
		}
		switch {
		case r.life.Err() != nil:
			return
		case err != nil && r.closing.Load(): // one more try was made
			return
		case err != nil:
			r.down(err)
			// A tenth of jitter either way: engines that share a store do not come back at one instant.
			timer.Reset(time.Duration(float64(wait) * (0.9 + 0.2*rand.Float64())))
			wait = min(wait*2, r.opt.LastRetry)
			continue
		}
		wait = firstRetry
		if batches, _, _ := r.spool.Waiting(); r.closing.Load() && batches == 0 {
			return
		}
		timer.Reset(maintainEvery)
	}
}

// ready opens the store when it is not open.
func (r *Recorder) ready() error {
	if r.store.Load() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.life, openWithin)
	defer cancel()
	s, err := r.opt.Open(ctx)
	if err != nil {
		return err
	}
	if err := r.prepare(s); err != nil {
		_ = s.Close()
		return err
	}
	r.store.Store(&s)
	r.opt.Log.Info().Str("store", s.Describe()).Msg("history is kept")
	return nil
}

// prepare brings the tables up to date and makes their pieces, which must be there before the first row.
func (r *Recorder) prepare(s history.Store) error {
	ctx, cancel := context.WithTimeout(r.life, openWithin)
	defer cancel()
	steps, err := s.Migrations(ctx)
	if err != nil {
		return err
	}
	changing, done := ctx, func() {}
	if missing := slices.IndexFunc(steps, func(m history.Migration) bool { return !m.Applied }); missing >= 0 {
		// A step may rewrite a table of a hundred million rows, and one that is cut off begins anew.
		changing, done = context.WithTimeout(r.life, migrateWithin)
		if r.outage.Load() == nil { // once, not at each try
			r.opt.Log.Info().Str("store", s.Describe()).Int("from_step", steps[missing].Version).Int("to_step", steps[len(steps)-1].Version).
				Msg("the tables of the history are brought up to date; what happens is kept on the disk meanwhile")
		}
	}
	defer done()
	var rights *history.RightsError
	if err := s.Migrate(changing); errors.As(err, &rights) {
		return fmt.Errorf("%w; weir migrate up makes the tables when it is run as a user who may", err)
	} else if err != nil {
		return err
	}
	pieces, cancelPieces := context.WithTimeout(r.life, openWithin)
	defer cancelPieces()
	err = s.Maintain(pieces, time.Now().UnixMilli(), r.opt.Keep)
	if errors.As(err, &rights) { // rows have a place without their pieces too
		r.unmaintained(err)
		return nil
	}
	return err
}

// unmaintained notes that pieces of tables could not be made or dropped.
func (r *Recorder) unmaintained(err error) {
	var rights *history.RightsError
	if errors.As(err, &rights) {
		err = fmt.Errorf("%w; weir migrate up does it when it is run each day as a user who may", err)
	}
	r.opt.Log.Repeated("history maintenance").Str("error", err.Error()).Msg("room for history could not be made ahead, or old history not deleted")
}

// drain sends what waits until nothing does or the store fails.
func (r *Recorder) drain(codec *history.Codec, b *history.Batch, counted *uint64) error {
	store := *r.store.Load()
	for r.life.Err() == nil {
		w, lost, ok := r.spool.Oldest()
		if lost > 0 {
			r.opt.Tel.DroppedSpool.Add(lost)
			r.opt.Log.Repeated("history spool damaged").Int("rows", lost).Msg("history that waited on the disk was damaged: it is dropped")
		}
		if !ok {
			break
		}
		b := b
		handed := r.hand.take(w.Seq)
		if handed != nil {
			b = handed
		} else if err := codec.Decode(w.Data, b); err != nil {
			r.refuse(w, err)
			continue
		}
		// Written by this process or an earlier one: the number is the one that counts.
		b.Seq = w.Seq
		ctx, cancel := context.WithTimeout(r.life, r.opt.WriteWithin)
		written, err := store.Write(ctx, b)
		cancel()
		r.hand.done(handed)
		var refused *history.DataError
		switch {
		case errors.As(err, &refused):
			r.refuse(w, err)
			continue
		case err != nil:
			if w.Seq > *counted {
				_, rows, _ := r.spool.Waiting()
				r.opt.Tel.Spilled.Add(int(rows))
				*counted = r.spool.Last()
			}
			return err
		}
		r.spool.Done(w.Seq)
		r.opt.Tel.Written.Add(written.Rows)
		r.opt.Tel.Batches.Inc()
		r.opt.Tel.DroppedBad.Add(written.Bad)
		if written.Bad > 0 {
			r.opt.Log.Repeated("history bad rows").Int("rows", written.Bad).Msg("rows of history hold what the store cannot: they are dropped")
		}
		r.up()
	}
	r.up()
	return nil
}

// refuse drops a batch that no repetition would bring into the store.
func (r *Recorder) refuse(w spool.Batch, err error) {
	r.opt.Tel.DroppedBad.Add(w.Rows)
	r.opt.Log.Repeated("history batch refused").Int("rows", w.Rows).Str("error", err.Error()).Msg("a batch of history cannot be stored: it is dropped")
	r.spool.Done(w.Seq)
}

func (r *Recorder) maintain() {
	ctx, cancel := context.WithTimeout(r.life, openWithin)
	defer cancel()
	if err := (*r.store.Load()).Maintain(ctx, time.Now().UnixMilli(), r.opt.Keep); err != nil && r.life.Err() == nil {
		r.unmaintained(err)
	}
}

// down notes that the store fails. An outage is logged when it begins and when it ends.
func (r *Recorder) down(err error) {
	before := r.outage.Load()
	now := &Outage{Since: time.Now(), Error: err.Error()}
	if before != nil {
		now.Since = before.Since
	}
	r.outage.Store(now)
	if before == nil {
		r.opt.Tel.Outages.Inc()
		where := "on the disk"
		if r.lock == nil || r.spool.InMemory() { // no folder, or its disk takes nothing
			where = "in memory, as far as there is room,"
		}
		r.opt.Log.Warn().Str("error", err.Error()).Msg("the history store is down; what happens is kept " + where + " until it is back")
	}
}

func (r *Recorder) up() {
	if o := r.outage.Swap(nil); o != nil {
		_, rows, _ := r.spool.Waiting()
		r.opt.Log.Info().Float64("seconds", time.Since(o.Since).Seconds()).Int64("waiting_rows", rows).Msg("the history store is up again")
	}
}
