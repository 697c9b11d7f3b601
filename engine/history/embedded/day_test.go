package embedded

import (
	"context"
	"fmt"
	"math"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/storetest"
)

func BenchmarkDay(b *testing.B) {
	s := storetest.Ready(b, opener(b)).(*Store)
	now := storetest.Now()
	for m := range int64(1440) {
		at := now - (1440-m)*history.MinuteMS
		up := history.NewMinutes()
		for p := range 20 {
			i := up.Index(history.Series{Pool: "api", Peer: fmt.Sprintf("10.0.0.%d:8080", p), Class: "x"})
			for k := range 60 {
				o := history.Outcome{AtMS: at + int64(k), Series: i, TotalMS: 5 + float32(k*k)/7}
				up.Add(&o)
			}
		}
		batch := &history.Batch{Writer: "w", Seq: uint64(m + 1), Rollups: slices.Collect(up.Take(math.MaxInt64, math.MaxInt))[0]}
		for i := range up.Known() {
			batch.Series = append(batch.Series, up.Series(uint32(i)))
		}
		if _, err := s.Write(context.Background(), batch); err != nil {
			b.Fatal(err)
		}
	}
	q := history.Question{Pool: "api", FromMS: now - 24*3_600_000, ToMS: now}
	if err := q.Check(now); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	c0 := cpuMS()
	for b.Loop() {
		c := history.NewCollector(q)
		if err := s.Rollups(context.Background(), q, c.Add); err != nil {
			b.Fatal(err)
		}
		_ = q.AppendAnswer(nil, c.Lines())
	}
	b.ReportMetric((cpuMS()-c0)/float64(b.N), "cpu-ms/op")
	_ = time.Now
}

func cpuMS() float64 {
	var r syscall.Rusage
	_ = syscall.Getrusage(0, &r)
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e6
}
