package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/embedded"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/telemetry"
)

func TestOutcomesReachTheStoreWithinASecondOrTwo(t *testing.T) {
	r := newRig(t, nil)
	r.rec.Add(numbered(0, 1000))
	within(t, 10*time.Second, "they are stored", func() bool { return len(r.stored()) == 1000 })
	onceEach(t, r.stored(), 0, 1000)
}

// A table of a hundred million rows takes minutes to be rewritten, and a step that is cut off begins anew.
func TestStepsThatAreMissingMayTakeLongAndAreAnnounced(t *testing.T) {
	r := newRig(t, nil)
	within(t, 20*time.Second, "the store is open", func() bool { _, err := r.rec.Store(); return err == nil })
	first := r.gate.left
	r.close()
	if text := r.log.String(); first < 30*time.Minute || strings.Count(text, "brought up to date") != 1 {
		t.Errorf("%v for missing steps, and the log says %s", first, text)
	}
	r.start(nil)
	within(t, 20*time.Second, "the store is open again", func() bool { _, err := r.rec.Store(); return err == nil })
	again := r.gate.left
	r.close()
	if text := r.log.String(); again > time.Minute || strings.Contains(text, "brought up to date") {
		t.Errorf("%v with nothing to do, and the log says %s", again, text)
	}
}

func TestAUserWhoMayNotMakePiecesOfTablesKeepsHistoryAllTheSameAndIsToldWhatToDo(t *testing.T) {
	r := &rig{t: t, dir: t.TempDir(), gate: &gate{mode: "rights"}}
	r.start(nil)
	r.rec.Add(numbered(0, 10))
	within(t, 20*time.Second, "the outcomes are stored", func() bool { return len(r.stored()) == 10 })
	if r.logged("weir migrate up does it") != 1 || r.logged("is down") != 0 {
		t.Errorf("the log says %s", r.log)
	}
}

func TestWhatCameDuringAnOutageArrivesOnceAndTheOutageIsLoggedOnce(t *testing.T) {
	r := newRig(t, nil)
	n := 0
	for _, mode := range []string{"", "forget", "down", "forget", ""} {
		r.gate.set(mode)
		took := time.Hour // the least: a busy machine holds up some, a store all
		for range 4 {
			began := time.Now()
			r.rec.Add(numbered(n, 500))
			took = min(took, time.Since(began))
			n += 500
			time.Sleep(flushEvery / 2)
		}
		if took > 200*time.Millisecond {
			t.Errorf("adding took %v while the store is %q", took, mode)
		}
		if mode == "down" {
			within(t, 10*time.Second, "the outage shows", func() bool { return r.rec.State().Outage != nil })
		}
	}
	within(t, 15*time.Second, "everything is stored", func() bool { return len(r.stored()) == n && r.rec.State().Outage == nil })
	onceEach(t, r.stored(), 0, n)
	if down, up := r.logged("store is down"), r.logged("up again"); down != 1 || up != 1 {
		t.Errorf("the outage is logged %d times and its end %d times", down, up)
	}
}

func TestAFileThatIsRemovedWhileItIsWrittenToIsMadeAnewAndHasWhatComes(t *testing.T) {
	for name, beside := range map[string][]string{"alone": {""}, "with what is beside it": {"", "-wal", "-shm"}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.rec.Add(numbered(0, 100))
			within(t, 10*time.Second, "the first are stored", func() bool { return len(r.stored()) == 100 })
			for _, end := range beside {
				if err := os.Remove(filepath.Join(r.dir, "history.db") + end); err != nil {
					t.Fatal(err)
				}
			}
			r.rec.Add(numbered(100, 100))
			time.Sleep(2 * flushEvery)
			r.rec.Add(numbered(200, 100))
			within(t, 10*time.Second, "the others are in a new file", func() bool { return len(r.stored()) == 200 && r.rec.State().Outage == nil })
			if got := r.stored(); got[100] != 1 || got[299] != 1 || r.logged("it was removed") != 1 {
				t.Errorf("%d are stored; the log: %s", len(got), r.log)
			}
			if s, err := r.rec.Store(); err != nil {
				t.Error(err)
			} else if _, err := s.Events(t.Context(), "", "", 0, 1e14, 1); err != nil {
				t.Errorf("reading the new one: %v", err)
			}
		})
	}
}

func TestAStoreThatHangsHoldsUpNobody(t *testing.T) {
	r := newRig(t, nil)
	r.gate.set("hang")
	r.rec.Add(numbered(0, 10))
	time.Sleep(2 * flushEvery)
	slow := 0
	for range 50 {
		began := time.Now()
		r.rec.Add(numbered(10, 100))
		r.rec.Event(history.Event{Kind: history.Health})
		r.rec.Measured(cpu(time.Now().UnixMilli(), 1))
		if time.Since(began) > 200*time.Millisecond {
			slow++
		}
	}
	if slow > 5 { // a busy machine holds up some, a store would hold up all
		t.Errorf("adding took more than 200 ms %d times of 50", slow)
	}
	within(t, 5*time.Second, "what waits is on the disk", func() bool { return r.rec.State().Rows >= 5000 && !r.rec.State().InMemory })
}

func TestAKilledEngineLosesAtMostTheLastSecondAndRepeatsNothing(t *testing.T) {
	r := newRig(t, nil)
	r.rec.Add(numbered(0, 1000))
	old := time.Now().UnixMilli() - 600_000 // a minute that is over, stored at once
	for i := range 40 {
		r.rec.Measured(cpu(old, float64(i)))
		r.rec.Measured(cpu(time.Now().UnixMilli(), float64(i)))
	}
	within(t, 10*time.Second, "the first are stored", func() bool { return len(r.stored()) == 1000 })
	r.gate.set("forget") // stored, but the engine does not know
	r.rec.Add(numbered(1000, 1000))
	within(t, 10*time.Second, "the second are stored", func() bool { return len(r.stored()) == 2000 })
	r.gate.set("down")
	r.rec.Add(numbered(2000, 1000))
	within(t, 10*time.Second, "the third are written down", func() bool { return r.rec.State().Rows >= 2000 })
	r.minutesSaved()
	r.kill()

	r.gate.set("")
	r.start(nil)
	within(t, 10*time.Second, "what waited is stored", func() bool { return len(r.stored()) == 3000 })
	onceEach(t, r.stored(), 0, 3000)

	// The minute in progress was saved, and goes on: ending the engine gives it out.
	r.rec.Add(numbered(3000, 500))
	within(t, 10*time.Second, "the next are stored", func() bool { return len(r.stored()) == 3500 })
	r.rec.Measured(cpu(time.Now().UnixMilli(), 400))
	r.close()
	if all := r.rolledUp(); all != 3500 {
		t.Errorf("rollups of %d attempts, want 3500", all)
	}
	if got := r.metered(); got.Samples != 81 || got.Min != 0 || got.Max != 400 || math.Abs(got.Mean-(2*40*19.5+400)/81) > 1e-9 {
		t.Errorf("server metrics: %+v", got)
	}
}

// The same as after a full disk: batches were sent whose numbers are in no file.
func TestWhatComesAfterAPowerCutIsStoredThoughTheSpoolHasForgottenItsLastNumbers(t *testing.T) {
	r := newRig(t, nil)
	for i := range 3 { // a batch each
		r.rec.Add(numbered(1000*i, 1000))
		within(t, 10*time.Second, "what came is stored", func() bool { return len(r.stored()) == 1000*(i+1) })
	}
	r.kill()
	segments, err := filepath.Glob(filepath.Join(r.dir, "spool", "*.spool"))
	if err != nil || len(segments) != 1 {
		t.Fatal(err, segments)
	}
	if err := os.Truncate(segments[0], 0); err != nil { // nothing of it was synced
		t.Fatal(err)
	}

	r.start(nil)
	r.rec.Add(numbered(3000, 1000))
	within(t, 10*time.Second, "what came after is stored", func() bool { return len(r.stored()) == 4000 })
	onceEach(t, r.stored(), 0, 4000)
}

// A large pool has more rollups in a minute than are in memory, or in a batch, at a time.
func TestMinutesOfManySeriesAreSavedAndGivenOutInParts(t *testing.T) {
	const series = 2*maxRollups + 100
	spread := func(at int64) []Observed {
		list := numbered(0, series)
		for i := range list {
			list[i].AtMS, list[i].Class = at, fmt.Sprintf("GET /%d", i)
		}
		return list
	}
	r := newRig(t, nil)
	r.rec.Measured(cpu(time.Now().UnixMilli(), 7))
	r.rec.Add(spread(time.Now().UnixMilli()))
	within(t, 10*time.Second, "they are stored", func() bool { return len(r.stored()) == series && r.rec.State().Rows == 0 })
	r.minutesSaved()
	r.kill()
	r.start(nil)
	r.rec.Add(spread(time.Now().UnixMilli() - 600_000)) // a minute that is over
	within(t, 10*time.Second, "those are rolled up, and those of before too when their minute is over", func() bool { return r.rolledUp() >= series })
	r.close()
	if all, metric := r.rolledUp(), r.metered(); all != 2*series || metric.Samples != 1 {
		t.Errorf("rollups of %d attempts, want %d; %d values of a metric, want 1", all, 2*series, metric.Samples)
	}
	if _, _, err := savedPart([]byte{0, 0, 0, 9, 1}); err == nil {
		t.Error("a part that is cut off was taken for whole")
	}
	if part, rest, err := savedPart([]byte("WH before parts")); string(part) != "WH before parts" || rest != nil || err != nil {
		t.Errorf("of a file of before there were parts: %q %q %v", part, rest, err)
	}
}

// minutesSaved waits until the minutes in progress are saved with all that is in batches by now.
func (r *rig) minutesSaved() {
	r.t.Helper()
	last := r.rec.spool.Last()
	within(r.t, 10*time.Second, "the minutes are saved", func() bool {
		data, err := os.ReadFile(filepath.Join(r.dir, minutesFile))
		if err != nil {
			return false
		}
		part, _, err := savedPart(data)
		var saved history.Batch
		return err == nil && history.NewCodec().Decode(part, &saved) == nil && saved.Seq >= last
	})
}

// cpu is a value of a server metric.
func cpu(at int64, value float64) Measured {
	return Measured{history.MetricSeries{Pool: "api", Peer: "10.0.0.1:80", Metric: "cpu"}, at, value}
}

// metered adds up all rows of server metrics.
func (r *rig) metered() (all history.MetricRow) {
	r.t.Helper()
	s, err := embedded.Open(filepath.Join(r.dir, "history.db"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.Close()
	q := history.MetricQuestion{Question: history.Question{FromMS: 1, ToMS: 1e14}}
	if err := s.Metrics(context.Background(), q, func(m *history.MetricRow) error {
		if all.Samples == 0 {
			all = *m
		} else {
			all.Merge(m)
		}
		return nil
	}); err != nil {
		r.t.Fatal(err)
	}
	return all
}

// rolledUp counts the attempts in rollups of peers.
func (r *rig) rolledUp() (all uint64) {
	r.t.Helper()
	s, err := embedded.Open(filepath.Join(r.dir, "history.db"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.Close()
	q := history.Question{FromMS: 1, ToMS: 1e14, StepMS: 1e12 / history.MinuteMS * history.MinuteMS}
	if err := s.Rollups(context.Background(), q, func(_ history.Series, m *history.Rollup) error { all += m.Count; return nil }); err != nil {
		r.t.Fatal(err)
	}
	return all
}

func TestRollupsCountWhatSamplingLeavesOutAndFailuresAreAllKept(t *testing.T) {
	r := newRig(t, func(o *Options) { o.SampleAbove = 4000 })
	list := numbered(0, 20_000)
	for i := range list {
		if i%100 == 0 {
			list[i].Kind = uint8(observe.Reset)
		}
	}
	r.rec.Add(list)
	within(t, 10*time.Second, "they are stored", func() bool { return len(r.stored()) > 0 && r.rec.State().Rows == 0 })
	r.close()
	if n := r.rolledUp(); n != 20_000 {
		t.Errorf("rollups of %d attempts", n)
	}
	s, err := embedded.Open(filepath.Join(r.dir, "history.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	failures, kept, estimate := 0, 0, 0.0
	_ = s.Outcomes(context.Background(), "", 0, 1e14, func(_ []history.Series, list []history.Outcome) error {
		for _, o := range list {
			if observe.Kind(o.Kind).Failure() {
				failures++
				if o.Rate != 1 {
					t.Fatalf("a failure was kept at rate %v", o.Rate)
				}
			} else {
				kept++
			}
			estimate += 1 / float64(o.Rate)
		}
		return nil
	})
	// The budget of a quarter second is 1000; what is taken late has more.
	if failures != 200 || kept > 8000 || kept < 300 || estimate < 15_000 || estimate > 25_000 {
		t.Errorf("%d failures, %d successes kept, which stand for %.0f", failures, kept, estimate)
	}
}

func TestPastTheQueueTheOldestGoesAndIsCounted(t *testing.T) {
	var q queue
	dropped := 0
	for i := range 10 {
		d, _ := q.add(numbered(i*10_000, 10_000))
		dropped += d
	}
	list, at, _, _ := q.take()
	if len(list) != maxQueue || dropped != 100_000-maxQueue {
		t.Fatalf("%d are left and %d dropped", len(list), dropped)
	}
	for k := range list {
		if got := int(list[(at+k)%len(list)].TotalMS); got != dropped+k {
			t.Fatalf("entry %d is number %d", k, got)
		}
	}
}

// Case 29 of the field reports, before the store.
func TestABadNameCostsItsOutcomesOnlyAndIsCounted(t *testing.T) {
	r := newRig(t, nil)
	list := numbered(0, 100)
	list[7].Class = "GET /\x00"
	list[8].Peer = "\xff\xfe"
	r.rec.Add(list)
	r.rec.Event(history.Event{AtMS: time.Now().UnixMilli(), Kind: history.Health, Detail: "\x00"})
	within(t, 10*time.Second, "the others are stored", func() bool { return len(r.stored()) == 98 })
	var text bytes.Buffer
	within(t, 5*time.Second, "the bad ones are counted", func() bool {
		text.Reset()
		_ = r.tel.Write(&text)
		return strings.Contains(text.String(), `weir_history_dropped_rows_total{reason="bad"} 3`)
	})
}

func TestTwoEnginesDoNotShareAFolder(t *testing.T) {
	r := newRig(t, nil)
	other := New(Options{Dir: r.dir, Log: telemetry.NewLog(io.Discard, "info"), Tel: telemetry.New().History(), Open: func(context.Context) (history.Store, error) { return nil, errors.New("none") }})
	if s := other.State(); s.Folder == nil || !strings.Contains(s.Folder.Error(), "another engine") {
		t.Errorf("%+v", s)
	}
	_ = other.Close(context.Background())
}

func TestWithoutAFolderOrAStoreTheRecorderStaysWithinItsBounds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tel := telemetry.New()
	var log bytes.Buffer
	r := New(Options{Dir: filepath.Join(file, "dir"), Log: telemetry.NewLog(&lockedWriter{w: &log}, "info"), Tel: tel.History(), Open: func(context.Context) (history.Store, error) { return nil, errors.New("no store") }})
	r.Start()
	list := numbered(0, 50_000)
	for range 40 {
		r.Add(list)
		time.Sleep(flushEvery / 10)
	}
	if s := r.State(); s.Folder == nil || s.Outage == nil {
		t.Errorf("%+v", s)
	}
	if _, err := r.Store(); err == nil || !strings.Contains(err.Error(), "no store") {
		t.Error(err)
	}
	if _, _, n := r.spool.Waiting(); n > 20<<20 {
		t.Errorf("%d bytes wait", n)
	}
	if err := r.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if text := log.String(); !strings.Contains(text, "what happens is kept in memory") || strings.Contains(text, "on the disk") {
		t.Errorf("the log speaks of a disk that there is not: %s", text)
	}
}

func TestAddingAllocatesNothingOnceTheQueueHasGrown(t *testing.T) {
	var q queue
	list := numbered(0, 100)
	for range 2 {
		for range 200 {
			q.add(list)
		}
		taken, _, _, _ := q.take()
		q.give(taken)
	}
	if n := testing.AllocsPerRun(100, func() { q.add(list) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
