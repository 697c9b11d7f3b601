package storetest

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/weirlb/weir/engine/history"
)

// MetricBatch makes a batch of server metrics: so many minutes before Now, of peers, cpu and memory.
func MetricBatch(seq uint64, minutes, peers int) *history.Batch {
	b := &history.Batch{Writer: "w1", Seq: seq, Instance: "weir1", Zone: "z1", AtMS: Now()}
	for m := range minutes {
		for p := range peers {
			for i, metric := range []string{"cpu", "memory"} {
				mean := float64(m+1) + float64(p)/8 + float64(i*1000)
				b.Metrics = append(b.Metrics, history.MetricRow{
					MetricSeries: history.MetricSeries{Pool: "api", Peer: fmt.Sprintf("10.0.0.%d:80", p), Metric: metric},
					MinuteMS:     Now() - int64(m+1)*history.MinuteMS, Samples: uint64(seq), Mean: mean, Min: mean - 1, Max: mean + 1,
				})
			}
		}
	}
	return b
}

func metricLines(t testing.TB, s history.Store, q history.MetricQuestion) []*history.MetricLine {
	t.Helper()
	if err := q.Check(Now()); err != nil {
		t.Fatal(err)
	}
	c := history.NewMetricCollector(q)
	if err := s.Metrics(ctxOf(t), q, c.Add); err != nil {
		t.Fatal(err)
	}
	return c.Lines()
}

func metrics(t *testing.T, open Opener) {
	s := Ready(t, open)
	for seq := range uint64(2) { // two engines' values of the same minutes, of 1 and 2 samples
		b := MetricBatch(seq+1, 30, 3)
		b.Instance = fmt.Sprint("weir", seq)
		for i := range b.Metrics {
			b.Metrics[i].Mean += 3 * float64(seq)
			b.Metrics[i].Min += 3 * float64(seq)
			b.Metrics[i].Max += 3 * float64(seq)
		}
		for _, duplicate := range []bool{false, true} {
			if w := write(t, s, b); w.Duplicate != duplicate || !duplicate && w.Rows != len(b.Metrics) {
				t.Fatalf("%+v of %d rows", w, len(b.Metrics))
			}
		}
	}
	lines := metricLines(t, s, history.MetricQuestion{Metric: "cpu", Question: history.Question{Pool: "api", Peer: "10.0.0.1:80", FromMS: Now() - 10*history.MinuteMS, ToMS: Now()}})
	if len(lines) != 1 || len(lines[0].AtMS) != 10 {
		t.Fatalf("%+v", lines)
	}
	// The last minute's: 1.125 once and 4.125 twice.
	if l := lines[0]; l.Peer != "10.0.0.1:80" || l.Metric != "cpu" || l.AtMS[9] != Now()-history.MinuteMS || l.Samples[9] != 3 || math.Abs(l.Mean[9]-3.125) > 1e-9 || l.Min[9] != 0.125 || l.Max[9] != 5.125 {
		t.Errorf("%+v", l)
	}
	if lines = metricLines(t, s, history.MetricQuestion{Question: history.Question{FromMS: Now() - 3_600_000, StepMS: 24 * 3_600_000, By: history.ByPool}}); len(lines) != 2 || len(lines[0].AtMS) > 2 {
		t.Fatalf("%d lines of a pool", len(lines))
	}
	sum := uint64(0)
	for _, n := range lines[0].Samples {
		sum += n
	}
	if lines[0].Peer != "" || lines[0].Metric != "cpu" || lines[1].Metric != "memory" || sum != 3*30*3 {
		t.Errorf("%+v", lines[0])
	}
	for _, none := range []history.MetricQuestion{{Metric: "disk"}, {Question: history.Question{Pool: "other"}}, {Question: history.Question{Peer: "10.0.0.9:80"}}} {
		if lines = metricLines(t, s, none); len(lines) != 0 {
			t.Errorf("%+v: %+v", none, lines[0])
		}
	}
	stop := errors.New("enough")
	q := history.MetricQuestion{}
	_ = q.Check(Now())
	if err := s.Metrics(ctxOf(t), q, func(*history.MetricRow) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the reader's error became %v", err)
	}

	// What no store can hold costs its row.
	bad := MetricBatch(3, 1, 1)
	good := len(bad.Metrics)
	for _, change := range []func(*history.MetricRow){
		func(r *history.MetricRow) { r.Mean = math.NaN() }, func(r *history.MetricRow) { r.Max = math.Inf(1) },
		func(r *history.MetricRow) { r.Metric = "a\x00b" }, func(r *history.MetricRow) { r.Peer = "\xff" }, func(r *history.MetricRow) { r.Samples = 0 },
	} {
		row := bad.Metrics[0]
		change(&row)
		bad.Metrics = append(bad.Metrics, row)
	}
	big := bad.Metrics[0]
	big.Metric, big.Mean, big.Min, big.Max = "big", -math.MaxFloat64/2, -math.MaxFloat64, 1e-300
	bad.Metrics = append(bad.Metrics, big)
	if w := write(t, s, bad); w.Bad != 5 || w.Rows != good+1 {
		t.Errorf("%+v; want 5 bad and %d stored", w, good+1)
	}
	if lines = metricLines(t, s, history.MetricQuestion{Metric: "big"}); len(lines) != 1 || lines[0].Min[0] != big.Min || lines[0].Mean[0] != big.Mean || lines[0].Max[0] != big.Max {
		t.Errorf("%+v, want %+v", lines, big)
	}

	// They go when rollups do.
	old := MetricBatch(4, 1, 1)
	for i := range old.Metrics {
		old.Metrics[i].Metric = "old"
		old.Metrics[i].MinuteMS -= 500 * 24 * 3_600_000
	}
	write(t, s, old)
	ever := history.MetricQuestion{Metric: "old", Question: history.Question{FromMS: 1, StepMS: 24 * 3_600_000}}
	if lines = metricLines(t, s, ever); len(lines) != 1 {
		t.Errorf("%d old lines before", len(lines))
	}
	if err := s.Maintain(ctxOf(t), Now(), Week()); err != nil {
		t.Fatal(err)
	}
	if lines = metricLines(t, s, ever); len(lines) != 0 {
		t.Errorf("%d old lines after", len(lines))
	}
	if lines = metricLines(t, s, history.MetricQuestion{}); len(lines) == 0 {
		t.Error("new ones went too")
	}
}
