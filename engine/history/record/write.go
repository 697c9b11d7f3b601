package record

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
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

const minutesFile = "minutes"

// newWriter makes the name that the batches of one run are known by. A name that was kept with the folder would do only as long as the
// spool remembers each number it gave: batches that were sent while the disk was full, or that a power cut took, are numbers that come
// again, and a store leaves out what it takes for sent twice.
func newWriter() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b[:])
}

// replace writes a file so that it is the old one or the new one, whole.
func replace(path string, write func(io.Writer) error) error {
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(write(file), file.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// saveMinutes keeps the minutes in progress, so that a killed engine's are complete but for its last half second. Seq says up to
// which batch they are up to date. The file is a row of batches, each with its length in four bytes before it, so that those of a large
// pool are in memory a part at a time.
func (r *Recorder) saveMinutes(codec *history.Codec, nowMS int64) {
	if r.lock == nil {
		return
	}
	err := replace(filepath.Join(r.opt.Dir, minutesFile), func(file io.Writer) error {
		b := &r.progress
		b.Writer, b.Seq, b.AtMS = r.writer, r.spool.Last(), nowMS
		b.Series, b.Rollups, b.Metrics = b.Series[:0], nil, r.pack.metrics.Peek(b.Metrics[:0])
		save := func() error {
			r.saving = codec.Append(append(r.saving[:0], 0, 0, 0, 0), b)
			binary.BigEndian.PutUint32(r.saving, uint32(len(r.saving)-4))
			_, err := file.Write(r.saving)
			b.Series, b.Rollups, b.Metrics = b.Series[:0], nil, b.Metrics[:0]
			return err
		}
		for part := range r.pack.minutes.Peek(maxRollups) {
			b.Rollups = part
			for i := range part {
				b.Series = append(b.Series, r.pack.minutes.Series(part[i].Series))
				part[i].Series = uint32(i)
			}
			if err := save(); err != nil {
				return err
			}
		}
		return save() // of what there are no rollups with, and of Seq where there is nothing else
	})
	if err != nil {
		r.opt.Log.Repeated("history minutes").Str("error", err.Error()).Msg("the minute in progress cannot be saved: it would end with the engine")
	}
}

// savedPart cuts the first batch off what saveMinutes wrote. Engines of before there were parts wrote one batch, without a length.
func savedPart(data []byte) (part, rest []byte, err error) {
	switch {
	case bytes.HasPrefix(data, []byte("WH")):
		return data, nil, nil
	case len(data) < 4 || uint64(binary.BigEndian.Uint32(data)) > uint64(len(data)-4):
		return nil, nil, errors.New("it is cut off")
	}
	n := 4 + binary.BigEndian.Uint32(data)
	return data[4:n], data[n:], nil
}

// restoreMinutes takes over the minutes of an engine that was killed.
func (r *Recorder) restoreMinutes() {
	data, err := os.ReadFile(filepath.Join(r.opt.Dir, minutesFile))
	if err != nil {
		return // none yet
	}
	codec := history.NewCodec()
	var saved history.Batch
	var out *givenOut
	for len(data) > 0 {
		var part []byte
		if part, data, err = savedPart(data); err == nil {
			err = codec.Decode(part, &saved)
		}
		if err != nil {
			r.opt.Log.Warn().Str("error", err.Error()).Msg("the minutes in progress at the last stop cannot be read; they have a gap")
			return
		}
		if out == nil {
			out = r.givenOutSince(saved.Seq, codec)
		}
		r.restore(&saved, out)
	}
}

// givenOut is what is in batches that were made after the minutes in progress were saved last: it is not to be counted twice.
type givenOut struct {
	minutes map[minute]bool
	metrics map[metricMinute]bool
}

type minute struct {
	at int64
	history.Series
}

type metricMinute struct {
	at int64
	history.MetricSeries
}

func (r *Recorder) givenOutSince(seq uint64, codec *history.Codec) *givenOut {
	out := &givenOut{map[minute]bool{}, map[metricMinute]bool{}}
	var later history.Batch
	r.spool.Pending(seq+1, func(w spoolBatch) {
		if codec.Decode(w.Data, &later) != nil {
			return
		}
		for _, one := range later.Rollups {
			if int(one.Series) < len(later.Series) {
				out.minutes[minute{one.MinuteMS, later.Series[one.Series]}] = true
			}
		}
		for _, one := range later.Metrics {
			out.metrics[metricMinute{one.MinuteMS, one.MetricSeries}] = true
		}
	})
	return out
}

func (r *Recorder) restore(saved *history.Batch, out *givenOut) {
	for i := range saved.Metrics {
		if one := &saved.Metrics[i]; !out.metrics[metricMinute{one.MinuteMS, one.MetricSeries}] {
			r.pack.metrics.Restore(one)
		}
	}
	for i := range saved.Rollups {
		one := &saved.Rollups[i]
		if int(one.Series) >= len(saved.Series) || out.minutes[minute{one.MinuteMS, saved.Series[one.Series]}] {
			continue
		}
		r.pack.index(saved.Series[one.Series])
		if err := r.pack.minutes.Restore(saved.Series[one.Series], one); err != nil {
			r.opt.Log.Warn().Str("error", err.Error()).Msg("a minute in progress at the last stop cannot be read; it has a gap")
		}
	}
}
