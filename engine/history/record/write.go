package record

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/weirlb/weir/engine/history"
)

// write is the writer's goroutine.
func (r *Recorder) write() {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	codec := history.NewCodec()
	last := time.Now()
	for {
		select {
		case <-tick.C:
		case <-r.full:
		}
		ending := r.closing.Load()
		now := time.Now()
		r.flush(codec, now, now.Sub(last).Seconds(), ending)
		last = now
		if ending {
			return
		}
	}
}

// flush makes batches of what is queued. At the end minutes in progress are given out too, as rollups of their first part.
func (r *Recorder) flush(codec *history.Codec, now time.Time, seconds float64, ending bool) {
	list, at, events, values := r.queue.take()
	nowMS := now.UnixMilli()
	end := nowMS
	if ending {
		end = math.MaxInt64
	}
	rolledUp := false
	bad, out := r.pack.make(list, at, events, values, seconds, end, func(b *history.Batch) {
		rolledUp = rolledUp || len(b.Rollups)+len(b.Metrics) > 0
		b.Writer, b.Instance, b.Zone, b.AtMS = r.writer, r.opt.Instance, r.opt.Zone, nowMS
		_, dropped, err := r.spool.Append(b.Rows(), func(seq uint64) []byte {
			b.Seq = seq
			return codec.Append(nil, b)
		})
		if r.outage.Load() == nil {
			r.hand.give(b)
		}
		if dropped > 0 {
			r.opt.Tel.DroppedSpool.Add(dropped)
			r.opt.Log.Repeated("history spool full").Int("rows", dropped).Msg("too much history waits for the store: the oldest is dropped")
		}
		if err != nil {
			r.opt.Log.Repeated("history spool disk").Str("error", err.Error()).Msg("history that waits cannot be written to the disk: it is kept in memory")
		}
	})
	r.queue.give(list)
	r.opt.Tel.DroppedBad.Add(bad)
	r.opt.Tel.SampledOut.Add(out)
	r.unsaved = r.unsaved || len(list)+len(values) > 0
	// Before the shipper is told, so that no rollups can be gone from the spool that the saved minutes still have.
	if rolledUp || ending || (r.unsaved && now.Sub(r.saved) >= saveEvery) {
		r.unsaved, r.saved = false, now
		r.saveMinutes(codec, nowMS)
	}
	r.wake(r.shipped)
}

const (
	writerFile  = "writer"
	minutesFile = "minutes"
)

func newWriter() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b[:])
}

// writerOf returns the name that a folder's batches are known by, and gives it one the first time.
func writerOf(dir, fresh string) (string, error) {
	path := filepath.Join(dir, writerFile)
	name, err := os.ReadFile(path)
	if err == nil && len(bytes.TrimSpace(name)) > 0 {
		return string(bytes.TrimSpace(name)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return fresh, replace(path, []byte(fresh+"\n"))
}

// replace writes a file so that it is the old one or the new one, whole.
func replace(path string, data []byte) error {
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// saveMinutes keeps the minutes in progress, so that a killed engine's are complete but for its last half second. Seq says up to
// which batch they are up to date.
func (r *Recorder) saveMinutes(codec *history.Codec, nowMS int64) {
	if r.lock == nil {
		return
	}
	b := &r.progress
	b.Writer, b.Seq, b.AtMS = r.writer, r.spool.Last(), nowMS
	b.Series, b.Rollups = b.Series[:0], r.pack.minutes.Peek(b.Rollups[:0])
	for i := range b.Rollups {
		b.Series = append(b.Series, r.pack.minutes.Series(b.Rollups[i].Series))
		b.Rollups[i].Series = uint32(i)
	}
	b.Metrics = r.pack.metrics.Peek(b.Metrics[:0])
	r.saving = codec.Append(r.saving[:0], b)
	if err := replace(filepath.Join(r.opt.Dir, minutesFile), r.saving); err != nil {
		r.opt.Log.Repeated("history minutes").Str("error", err.Error()).Msg("the minute in progress cannot be saved: it would end with the engine")
	}
}

// restoreMinutes takes over the minutes of an engine that was killed. Batches after the last saving may hold some of them: those
// are out already.
func (r *Recorder) restoreMinutes() {
	data, err := os.ReadFile(filepath.Join(r.opt.Dir, minutesFile))
	if err != nil {
		return // none yet
	}
	codec := history.NewCodec()
	var saved, later history.Batch
	if err := codec.Decode(data, &saved); err != nil {
		r.opt.Log.Warn().Str("error", err.Error()).Msg("the minutes in progress at the last stop cannot be read; they have a gap")
		return
	}
	type minute struct {
		at int64
		history.Series
	}
	type metricMinute struct {
		at int64
		history.MetricSeries
	}
	out, outMetrics := map[minute]bool{}, map[metricMinute]bool{}
	r.spool.Pending(saved.Seq+1, func(w spoolBatch) {
		if codec.Decode(w.Data, &later) != nil {
			return
		}
		for _, one := range later.Rollups {
			if int(one.Series) < len(later.Series) {
				out[minute{one.MinuteMS, later.Series[one.Series]}] = true
			}
		}
		for _, one := range later.Metrics {
			outMetrics[metricMinute{one.MinuteMS, one.MetricSeries}] = true
		}
	})
	for i := range saved.Metrics {
		if one := &saved.Metrics[i]; !outMetrics[metricMinute{one.MinuteMS, one.MetricSeries}] {
			r.pack.metrics.Restore(one)
		}
	}
	for i := range saved.Rollups {
		one := &saved.Rollups[i]
		if int(one.Series) >= len(saved.Series) || out[minute{one.MinuteMS, saved.Series[one.Series]}] {
			continue
		}
		r.pack.index(saved.Series[one.Series])
		if err := r.pack.minutes.Restore(saved.Series[one.Series], one); err != nil {
			r.opt.Log.Warn().Str("error", err.Error()).Msg("a minute in progress at the last stop cannot be read; it has a gap")
		}
	}
}
