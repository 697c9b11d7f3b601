// Package storetest is what every store of history must do, as tests: each store's own test calls Run with a way to open it.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/observe"
)

// Now is the time in these tests: all that Batch makes is before it, within an hour. It is near to the real time, so that stores
// with partitions and policies of their own agree, and stays what it was at first: a minute that ends within a test changes nothing.
var Now = sync.OnceValue(func() int64 { return time.Now().UnixMilli() / history.MinuteMS * history.MinuteMS })

// Opener opens the same new, empty store each time it is called within one test.
type Opener func(t testing.TB) history.Store

// Run runs all tests. fresh makes an empty store and returns how to open it; with one connection only, alone says so.
func Run(t *testing.T, alone bool, fresh func(t testing.TB) Opener) {
	with := func(test func(t *testing.T, open Opener)) func(t *testing.T) {
		return func(t *testing.T) { test(t, fresh(t)) }
	}
	t.Run("ABatchSentTwiceIsStoredOnce", with(twice))
	t.Run("OutcomesComeBackAsTheyWereInTheOrderOfTime", with(outcomes))
	t.Run("OneBadRowIsDroppedAloneAndCounted", with(badRow))
	t.Run("RollupsAnswerQuestions", with(rollups))
	t.Run("ServerMetricsComeBackByMinute", with(metrics))
	t.Run("EventsComeBackByKindPoolAndTime", with(events))
	t.Run("OldRowsGoAndNewOnesStay", with(retention))
	t.Run("MigrationsAreAppliedOnceAndSaySo", with(migrations))
	t.Run("AStoreThatIsNotMigratedSaysWhatIsMissingAndWhatMakesIt", with(notMigrated))
	if !alone {
		t.Run("EnginesThatStartAtOnceMigrateTogether", with(together))
	}
}

// Fine runs the test of stores that keep times to the microsecond; the others keep milliseconds.
func Fine(t *testing.T, fresh func(t testing.TB) Opener) {
	s := Ready(t, fresh(t))
	b := Batch(1, 200, 2, 2)
	want := map[int64]int{} // how many ended at a microsecond
	for i := range b.Outcomes {
		o := &b.Outcomes[i]
		o.AtUS = uint16(i * 7 % 1000)
		want[o.AtMS*1000+int64(o.AtUS)]++
	}
	write(t, s, b)
	for _, r := range read(t, s, "api", 0, Now()+1) {
		want[r.AtMS*1000+int64(r.AtUS)]--
	}
	for at, n := range want {
		if n != 0 {
			t.Errorf("%d more were stored than read at %d us", n, at)
		}
	}
}

func ctxOf(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// Ready opens the store, migrated and with room.
func Ready(t testing.TB, open Opener) history.Store {
	t.Helper()
	s := open(t)
	t.Cleanup(func() { _ = s.Close() })
	ctx := ctxOf(t)
	if err := s.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Maintain(ctx, Now(), Week()); err != nil {
		t.Fatal(err)
	}
	return s
}

// Week keeps what is of the last seven days.
func Week() history.Retention {
	return history.Retention{RawMS: 7 * 24 * 3_600_000, RollupMS: 400 * 24 * 3_600_000}
}

// Batch makes a batch of n outcomes of the hour before Now, over peers and classes, with their rollups.
func Batch(seq uint64, n, peers, classes int) *history.Batch {
	rnd := rand.New(rand.NewPCG(seq, 7))
	m := history.NewMinutes()
	b := &history.Batch{Writer: "w1", Seq: seq, Instance: "weir1", Zone: "z1", AtMS: Now()}
	for p := range peers {
		for c := range classes {
			m.Index(history.Series{Pool: "api", Peer: fmt.Sprintf("10.0.0.%d:80", p), Class: fmt.Sprintf("GET /c%d", c)})
		}
	}
	var real []uint32
	for i := range m.Known() {
		if m.Series(uint32(i)).Class != "" {
			real = append(real, uint32(i))
		}
	}
	for range n {
		o := history.Outcome{
			AtMS: Now() - 1 - rnd.Int64N(3_600_000), Series: real[rnd.IntN(len(real))], Attempt: 1 + uint8(rnd.IntN(3)), Status: 200,
			Flags: uint16(rnd.IntN(32)) &^ uint16(observe.Stream), Inflight: uint16(rnd.IntN(65536)), Bytes: rnd.Uint32(), Propensity: rnd.Float32()/2 + 0.1,
			HeaderMS: -1, TotalMS: 1 + 100*rnd.Float32(), Weight: rnd.Float32(), PredictedMS: -1, Load: rnd.Float32(), Rate: 1,
		}
		if rnd.IntN(10) == 0 {
			o.Kind, o.Status = uint8(observe.Status), 503
		}
		m.Add(&o)
		b.Outcomes = append(b.Outcomes, o)
	}
	for part := range m.Take(math.MaxInt64, math.MaxInt) { // one
		b.Rollups = part
	}
	for i := range m.Known() {
		b.Series = append(b.Series, m.Series(uint32(i)))
	}
	return b
}

func write(t testing.TB, s history.Store, b *history.Batch) history.Written {
	t.Helper()
	copied := *b // Write may drop rows
	copied.Series, copied.Outcomes = slices.Clone(b.Series), slices.Clone(b.Outcomes)
	copied.Rollups, copied.Events, copied.Metrics = slices.Clone(b.Rollups), slices.Clone(b.Events), slices.Clone(b.Metrics)
	w, err := s.Write(ctxOf(t), &copied)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// row is an outcome with its series, to be compared.
type row struct {
	history.Series
	history.Outcome
}

// Read reads all outcomes of a time.
func read(t testing.TB, s history.Store, pool string, from, to int64) (rows []row) {
	t.Helper()
	err := s.Outcomes(ctxOf(t), pool, from, to, func(series []history.Series, list []history.Outcome) error {
		for _, o := range list {
			r := row{series[o.Series], o}
			r.Outcome.Series = 0
			rows = append(rows, r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func twice(t *testing.T, open Opener) {
	s := Ready(t, open)
	b := Batch(1, 100, 2, 2)
	b.Events = []history.Event{{AtMS: Now() - 5, Kind: history.Health, Subject: "x"}}
	if w := write(t, s, b); w.Duplicate || w.Rows != b.Rows() {
		t.Errorf("first: %+v, want %d rows", w, b.Rows())
	}
	again := s
	for range 2 {
		if w := write(t, again, b); !w.Duplicate || w.Rows != 0 {
			t.Errorf("again: %+v", w)
		}
	}
	b.Writer = "w2"
	if w := write(t, s, b); w.Duplicate {
		t.Error("another writer's batch of the same number is taken for a duplicate")
	}
	if n := len(read(t, s, "", 0, Now()+1)); n != 200 {
		t.Errorf("%d outcomes, want 200", n)
	}
}

func outcomes(t *testing.T, open Opener) {
	s := Ready(t, open)
	var want []row
	for seq := range uint64(5) { // whose times overlap
		b := Batch(seq+1, 300, 3, 2)
		write(t, s, b)
		for _, o := range b.Outcomes {
			r := row{b.Series[o.Series], o}
			r.Outcome.Series = 0
			want = append(want, r)
		}
	}
	other := Batch(9, 10, 1, 1)
	for i := range other.Series {
		other.Series[i].Pool = "batch"
	}
	write(t, s, other)
	from, to := Now()-3_000_000, Now()-600_000
	want = slices.DeleteFunc(want, func(r row) bool { return r.AtMS < from || r.AtMS >= to })
	got := read(t, s, "api", from, to)
	if !slices.IsSortedFunc(got, func(a, b row) int { return int(a.AtMS - b.AtMS) }) {
		t.Error("they are not in the order of time")
	}
	order := func(a, b row) int {
		return slices.Compare([]int64{a.AtMS, int64(a.Bytes), int64(a.Inflight)}, []int64{b.AtMS, int64(b.Bytes), int64(b.Inflight)})
	}
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	if len(got) != len(want) {
		t.Fatalf("%d outcomes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("outcome %d is\n%+v, want\n%+v", i, got[i], want[i])
		}
	}
	if n := len(read(t, s, "", 0, Now()+1)); n != 1510 {
		t.Errorf("%d outcomes of all pools, want 1510", n)
	}
	stop := errors.New("enough")
	if err := s.Outcomes(ctxOf(t), "", 0, Now(), func([]history.Series, []history.Outcome) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the reader's error became %v", err)
	}
}

// badRow is case 29 of the field reports.
func badRow(t *testing.T, open Opener) {
	s := Ready(t, open)
	b := Batch(1, 50, 1, 1)
	good := b.Rows()
	n := uint32(len(b.Series))
	b.Series = append(b.Series, history.Series{Pool: "api", Peer: "p", Class: "a\x00b"}, history.Series{Pool: "api", Peer: "p\xff", Class: "c"})
	b.Outcomes = append(b.Outcomes, history.Outcome{AtMS: Now(), Series: n, Rate: 1}, history.Outcome{AtMS: Now(), Series: n + 1, Rate: 1})
	b.Events = append(b.Events, history.Event{AtMS: Now(), Kind: history.Health, Detail: "\x00"}, history.Event{AtMS: Now(), Kind: history.Health, Detail: "snowman \u2603 \U0001F600"})
	if w := write(t, s, b); w.Bad != 3 || w.Rows != good+1 {
		t.Errorf("%+v; want 3 bad and %d stored", w, good+1)
	}
	if n := len(read(t, s, "", 0, Now()+1)); n != 50 {
		t.Errorf("%d outcomes are stored, want 50", n)
	}
}

func rollups(t *testing.T, open Opener) {
	s := Ready(t, open)
	for seq := range uint64(3) {
		write(t, s, Batch(seq+1, 1000, 3, 2))
	}
	for _, q := range []history.Question{
		{Pool: "api"},
		{Pool: "api", By: history.ByPool, StepMS: 3_600_000},
		{Pool: "api", By: history.ByClass, StepMS: 600_000},
		{Peer: "10.0.0.1:80", By: history.ByPeerClass},
		{Class: "GET /c1"},
		{Pool: "none"},
	} {
		q.FromMS, q.ToMS = Now()-1_800_000, Now()
		if err := q.Check(Now()); err != nil {
			t.Fatal(err)
		}
		got, want := history.NewCollector(q), history.NewCollector(q)
		if err := s.Rollups(ctxOf(t), q, got.Add); err != nil {
			t.Fatal(err)
		}
		for seq := range uint64(3) {
			b := Batch(seq+1, 1000, 3, 2)
			for i := range b.Rollups {
				if err := want.Add(b.Series[b.Rollups[i].Series], &b.Rollups[i]); err != nil {
					t.Fatal(err)
				}
			}
		}
		a, b := got.Lines(), want.Lines()
		if len(a) != len(b) || (q.Pool != "none" && len(a) == 0) {
			t.Fatalf("%+v: %d lines, want %d", q, len(a), len(b))
		}
		for i := range a {
			if x, y := rounded(a[i]), rounded(b[i]); x != y {
				t.Fatalf("%+v:\n%s\nwant\n%s", q, x, y)
			}
		}
	}
}

// rounded is a line to be compared; sums of floats depend on their order.
func rounded(l *history.Line) string { return string(l.AppendJSON(nil)) }

func events(t *testing.T, open Opener) {
	s := Ready(t, open)
	b := &history.Batch{Writer: "w1", Seq: 1, AtMS: Now()}
	for i := range int64(10) {
		kind := history.Health
		if i%2 == 0 {
			kind = history.Config
		}
		b.Events = append(b.Events, history.Event{AtMS: Now() - 100 + i, Kind: kind, Pool: fmt.Sprint("p", i%3), Subject: fmt.Sprint(i), From: "up", To: "down", Detail: `{"a": "'\"é"}`})
	}
	write(t, s, b)
	all, err := s.Events(ctxOf(t), "", "", 0, Now(), 100)
	if err != nil || !slices.Equal(all, b.Events) {
		t.Fatalf("%v, %+v, want %+v", err, all, b.Events)
	}
	some, err := s.Events(ctxOf(t), history.Health, "p1", Now()-100, Now()-92, 1)
	if err != nil || len(some) != 1 || some[0].Subject != "7" {
		t.Errorf("%v, %+v", err, some)
	}
}

func retention(t *testing.T, open Opener) {
	s := Ready(t, open)
	write(t, s, Batch(1, 200, 2, 2))
	b := Batch(2, 100, 2, 2)
	days := func(n int64) int64 { return n * 24 * 3_600_000 }
	for i := range b.Outcomes {
		b.Outcomes[i].AtMS -= days(9)
	}
	for i := range b.Rollups {
		b.Rollups[i].MinuteMS -= days(500)
	}
	b.Events = []history.Event{{AtMS: Now() - days(500), Kind: history.Health}}
	write(t, s, b)
	if n := len(read(t, s, "", 0, Now())); n != 300 {
		t.Fatalf("%d outcomes before", n)
	}
	if err := s.Maintain(ctxOf(t), Now(), Week()); err != nil {
		t.Fatal(err)
	}
	if n := len(read(t, s, "", 0, Now())); n != 200 {
		t.Errorf("%d outcomes after, want 200", n)
	}
	q := history.Question{FromMS: 1, ToMS: Now(), StepMS: days(1), By: history.ByPool}
	if err := q.Check(Now()); err != nil {
		t.Fatal(err)
	}
	count := uint64(0)
	if err := s.Rollups(ctxOf(t), q, func(_ history.Series, r *history.Rollup) error { count += r.Count; return nil }); err != nil || count != 200 {
		t.Errorf("%v, rollups of %d attempts, want 200", err, count)
	}
	if e, err := s.Events(ctxOf(t), "", "", 0, Now(), 10); err != nil || len(e) != 0 {
		t.Errorf("%v, %+v", err, e)
	}
}

func migrations(t *testing.T, open Opener) {
	s := open(t)
	defer s.Close()
	before, err := s.Migrations(ctxOf(t))
	if err != nil || len(before) == 0 || before[0].Applied {
		t.Fatalf("%v, %+v", err, before)
	}
	for range 2 {
		if err := s.Migrate(ctxOf(t)); err != nil {
			t.Fatal(err)
		}
	}
	after, err := s.Migrations(ctxOf(t))
	if err != nil || len(after) != len(before) || slices.ContainsFunc(after, func(m history.Migration) bool { return !m.Applied }) {
		t.Errorf("%v, %+v", err, after)
	}
}

// notMigrated reads a store whose tables are not made, as weir history does where no engine with its rights ran yet.
func notMigrated(t *testing.T, open Opener) {
	s := open(t)
	defer s.Close()
	q := history.Question{FromMS: Now() - 3_600_000, ToMS: Now()}
	of := history.AskMetrics(q, "memory")
	for name, ask := range map[string]func() error{
		"rollups": func() error {
			return s.Rollups(ctxOf(t), q, func(history.Series, *history.Rollup) error { return nil })
		},
		"metrics": func() error { return s.Metrics(ctxOf(t), of, func(*history.MetricRow) error { return nil }) },
		"outcomes": func() error {
			return s.Outcomes(ctxOf(t), "", 0, Now(), func([]history.Series, []history.Outcome) error { return nil })
		},
		"events":  func() error { _, err := s.Events(ctxOf(t), "", "", 0, Now(), 1); return err },
		"writing": func() error { _, err := s.Write(ctxOf(t), Batch(1, 1, 1, 1)); return err },
	} {
		err := ask()
		if err == nil || !strings.Contains(err.Error(), "weir migrate up") || !strings.Contains(err.Error(), s.Describe()) {
			t.Errorf("%s: %v", name, err)
		}
		var refused *history.DataError
		if errors.As(err, &refused) {
			t.Errorf("%s: the batch is held for bad: %v", name, err)
		}
	}
}

func together(t *testing.T, open Opener) {
	const engines = 5
	stores := make([]history.Store, engines)
	for i := range stores {
		stores[i] = open(t)
		defer stores[i].Close()
	}
	var all sync.WaitGroup
	for i, s := range stores {
		all.Go(func() {
			ctx := ctxOf(t)
			if err := s.Migrate(ctx); err != nil {
				t.Error(err)
				return
			}
			if err := s.Maintain(ctx, Now(), Week()); err != nil {
				t.Error(err)
			}
			b := Batch(uint64(i+1), 50, 3, 3) // series that all of them meet for the first time
			if w, err := s.Write(ctx, b); err != nil || w.Bad > 0 {
				t.Errorf("%v, %+v", err, w)
			}
		})
	}
	all.Wait()
	if n := len(read(t, stores[0], "", 0, Now())); n != 50*engines {
		t.Errorf("%d outcomes, want %d", n, 50*engines)
	}
}
