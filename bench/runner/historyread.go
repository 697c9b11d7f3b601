package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/stores"
)

// alone measures a store by itself: filling, the question about a day, reading all outcomes again.
func (c *historyCmd) alone(b *bench, r *result, k *kept) error {
	if k.name == "off" {
		return nil
	}
	if k.server != nil {
		var err error
		if _, k.url, err = k.server.Database(); err != nil {
			return err
		}
	}
	s, err := stores.Open(b.ctx, config.History{URL: config.StoreURL(k.place(b))})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	keep := history.Retention{RawMS: 30 * 24 * 3_600_000, RollupMS: 400 * 24 * 3_600_000}
	if err := s.Migrate(b.ctx); err != nil {
		return err
	}
	now := time.Now().UnixMilli() / history.MinuteMS * history.MinuteMS
	if err := s.Maintain(b.ctx, now, keep); err != nil {
		return err
	}
	f := filler{b: b, s: s, now: now, rnd: rand.New(rand.NewPCG(c.Seed, 0))}
	b.say("%s: a day of minutes", k.name)
	if err := f.day(); err != nil {
		return err
	}
	day, err := f.ask(20)
	if err != nil {
		return err
	}
	b.say("%s: %d outcomes", k.name, c.Rows)
	wrote, err := f.outcomes(c.Rows)
	if err != nil {
		return err
	}
	read, err := f.read(c.Rows)
	if err != nil {
		return err
	}
	if len(r.Tables) < 2 {
		r.Tables = append(r.Tables, table{
			Title:   "Stores by themselves",
			Columns: []string{"store", "day of minutes, 20 peers: ms", "quartiles", "largest", "answer MB", "outcomes", "written/s", "read again/s", "MB"},
		})
	}
	size := "-"
	if info, err := os.Stat(f.path(k, b)); err == nil {
		size = fmt.Sprintf("%.0f", float64(info.Size())/1e6)
	}
	t := &r.Tables[1]
	t.Rows = append(t.Rows, []string{
		k.name, fmt.Sprintf("%.1f", day.Median), day.quartiles("%.1f"), fmt.Sprintf("%.1f", day.Max), fmt.Sprintf("%.1f", float64(f.answer)/1e6),
		fmt.Sprint(c.Rows), fmt.Sprintf("%.0f", wrote), fmt.Sprintf("%.0f", read), size,
	})
	r.Targets = append(r.Targets, atMost(k.name+": one day by minutes over 20 peers, median of 20, JSON included", 50, day.Median, "ms"),
		atLeast(k.name+": outcomes read again in the order of time", 500_000, read, "1/s"))
	return nil
}

// filler fills and reads one store.
type filler struct {
	b      *bench
	s      history.Store
	now    int64
	rnd    *rand.Rand
	seq    uint64
	answer int // bytes
}

func (f *filler) path(k *kept, b *bench) string { return k.place(b)[len("file:"):] }

func (f *filler) write(batch *history.Batch) error {
	f.seq++
	batch.Writer, batch.Seq, batch.Instance, batch.AtMS = "bench", f.seq, "bench", f.now
	rows := batch.Rows()
	w, err := f.s.Write(f.b.ctx, batch)
	if err == nil && w.Rows != rows {
		err = fmt.Errorf("the store took %d of %d rows", w.Rows, rows)
	}
	return err
}

// series of 20 peers and 10 classes.
func (f *filler) series() (list []history.Series) {
	for p := range 20 {
		for c := range 10 {
			list = append(list, history.Series{Pool: "api", Peer: fmt.Sprintf("10.0.0.%d:8080", p+1), Class: fmt.Sprintf("GET /c%d/{n}", c)})
		}
	}
	return list
}

func (f *filler) outcome(at int64, series uint32) history.Outcome {
	ms := float32(5 + 20*f.rnd.ExpFloat64())
	return history.Outcome{
		AtMS: at, Series: series, Attempt: 1, Status: 200, Inflight: uint16(f.rnd.IntN(8)), Bytes: f.rnd.Uint32N(5000), Propensity: float32(1+f.rnd.IntN(4)) / 4,
		HeaderMS: ms, TotalMS: ms + f.rnd.Float32(), PredictedMS: 20 + f.rnd.Float32(), Load: -1, Rate: 1,
	}
}

// day writes the rollups of one day: 200 series and those of 20 peers, with some 60 attempts a peer and minute each.
func (f *filler) day() error {
	const minutes = 24 * 60
	for m := range int64(minutes) {
		at := f.now - (minutes-m)*history.MinuteMS
		up := history.NewMinutes()
		for _, s := range f.series() {
			i := up.Index(s)
			for range 6 {
				o := f.outcome(at+f.rnd.Int64N(history.MinuteMS), i)
				up.Add(&o)
			}
		}
		batch := &history.Batch{Rollups: slices.Collect(up.Take(math.MaxInt64, math.MaxInt))[0]}
		for i := range up.Known() {
			batch.Series = append(batch.Series, up.Series(uint32(i)))
		}
		if err := f.write(batch); err != nil {
			return err
		}
	}
	return nil
}

// ask times the question about the day, as the API answers it.
func (f *filler) ask(times int) (spread, error) {
	q := history.Question{Pool: "api", FromMS: f.now - 24*3_600_000, ToMS: f.now}
	if err := q.Check(f.now); err != nil {
		return spread{}, err
	}
	var took []float64
	for i := range times + 2 {
		began := time.Now()
		found := history.NewCollector(q)
		if err := f.s.Rollups(f.b.ctx, q, found.Add); err != nil {
			return spread{}, err
		}
		lines := found.Lines()
		f.answer = len(q.AppendAnswer(nil, lines))
		if i >= 2 { // the first warm the caches
			took = append(took, ms(time.Since(began)))
		}
		if len(lines) != 20 || len(lines[0].AtMS) != 24*60 {
			return spread{}, fmt.Errorf("the answer has %d lines", len(lines))
		}
	}
	return spreadOf(took), nil
}

// outcomes writes n of them at 20,000 for each second of the past and returns how many a second.
func (f *filler) outcomes(n int) (float64, error) {
	const size = 20_000
	series := f.series()
	template := make([]history.Outcome, size)
	for i := range template {
		template[i] = f.outcome(int64(i*1000/size), f.rnd.Uint32N(200))
	}
	batch := &history.Batch{}
	first := f.now - int64(n/size)*1000
	var took time.Duration
	for from := 0; from < n; from += size {
		batch.Series = append(batch.Series[:0], series...)
		batch.Outcomes = append(batch.Outcomes[:0], template...)
		for i := range batch.Outcomes {
			batch.Outcomes[i].AtMS += first + int64(from/size)*1000
		}
		began := time.Now()
		if err := f.write(batch); err != nil {
			return 0, err
		}
		took += time.Since(began)
	}
	return float64(n) / took.Seconds(), nil
}

// read reads all of them and returns how many a second.
func (f *filler) read(want int) (float64, error) {
	n, last := 0, int64(0)
	var sum float64
	began := time.Now()
	err := f.s.Outcomes(f.b.ctx, "api", 0, f.now+history.MinuteMS, func(_ []history.Series, list []history.Outcome) error {
		for i := range list {
			if list[i].AtMS < last {
				return fmt.Errorf("outcome %d is older than the one before it", n+i)
			}
			last = list[i].AtMS
			sum += float64(list[i].TotalMS)
		}
		n += len(list)
		return nil
	})
	if err == nil && n != want {
		err = fmt.Errorf("%d outcomes were read, %d written", n, want)
	}
	return float64(n) / time.Since(began).Seconds(), err
}
