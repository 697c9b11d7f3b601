package serve

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/jsonwrite"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/telemetry"
)

func TestQuantilesAreWithinAFifthOfTheTrueOnes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r recent
		times := rapid.SliceOfN(rapid.Float64Range(0.2, 100_000), 1, 300).Draw(t, "times")
		for _, ms := range times {
			r.add(10, ms)
		}
		slices.Sort(times)
		for i, q := range []float64{0.5, 0.9, 0.99} {
			got := r.quantiles(10, 0.5, 0.9, 0.99)[i]
			at := max(int(math.Ceil(q*float64(len(times))))-1, 0)
			if want := times[at]; got < want/bucketGrowth || got > want*bucketGrowth {
				t.Fatalf("quantile %v of %d is %v, want about %v", q, len(times), got, want)
			}
		}
	})
}

func TestRecentForgetsAfterAboutAMinute(t *testing.T) {
	var r recent
	if q := r.quantiles(0, 0.5); !math.IsNaN(q[0]) {
		t.Errorf("the quantile of nothing is %v", q[0])
	}
	r.add(1000, 5)
	r.add(1000, -1) // failed: an attempt without a latency
	for now, want := range map[float64][2]int{2000: {2, 2}, 14_000: {2, 2}, 16_000: {0, 2}, 59_000: {0, 2}, 66_000: {0, 0}, 1e9: {0, 0}} {
		c := r
		if short, long := c.attempts(now, shortSlots), c.attempts(now, longSlots); short != want[0] || long != want[1] {
			t.Errorf("at %v ms: %d and %d attempts, want %v", now, short, long, want)
		}
	}
	r.advance(66_000)
	r.add(64_000, 7) // late news goes into the present
	if n := r.attempts(66_000, 0); n != 1 {
		t.Errorf("%d attempts", n)
	}
}

func TestStringsAreValidJSONWhateverIsInThem(t *testing.T) {
	check := func(t interface{ Fatalf(string, ...any) }, s string) {
		var back string
		text := jsonwrite.String(nil, s)
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatalf("%q became %s: %v", s, text, err)
		}
		if want := strings.ToValidUTF8(s, "\uFFFD"); back != want && string([]rune(s)) != back {
			t.Fatalf("%q came back as %q", s, back)
		}
	}
	check(t, "a\"b\\c\n\x00\x7f\xff\xc3é😀\u2028")
	rapid.Check(t, func(t *rapid.T) { check(t, string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))) })
}

func TestAdmitMovesInStepsThatMatterAndArrivesAtOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.Float64Range(1e-6, 1).Draw(t, "admit")
		if r := round3(x); !(r > 0 && r <= 1) || math.Abs(r-x) > 0.006*x {
			t.Fatalf("%v became %v", x, r)
		}
		y := rapid.Float64Range(1e-6, 1).Draw(t, "next")
		if s := steady(x, y); s != y && (s != x || math.Abs(x-y) >= 0.02*x) {
			t.Fatalf("from %v to %v: %v", x, y, s)
		}
	})
	if steady(0.99, 1) != 1 || round3(0) != 1 || round3(math.NaN()) != 1 {
		t.Error("the ends are wrong")
	}
}

func TestTheTableCallAllocatesNothingOnceBuilt(t *testing.T) {
	e := still(t, threePeers)
	name, class := []byte("api"), []byte("*")
	if n := testing.AllocsPerRun(100, func() {
		s := e.State().PoolBytes(name)
		_ = s.Decide(s.Class(class))
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestARoundWithoutNewsAllocatesNothing(t *testing.T) {
	e := still(t, threePeers)
	p, _ := e.pool("api")
	now := e.now()
	p.refresh(now)
	if n := testing.AllocsPerRun(100, func() { p.refresh(now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// large makes a pool of peers that has learned classes.
func large(t testing.TB, peers, classes int) *Engine {
	t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "pools:\n  - name: big\n    classes: {top: %d}\n    peers:\n", classes)
	for i := range peers {
		fmt.Fprintf(&text, "      - 10.0.%d.%d:80\n", i/250, i%250+1)
	}
	e := New(parse(t, text.String()), telemetry.NewLog(io.Discard, "error"), telemetry.New())
	t.Cleanup(e.Close)
	teach(t, e, peers, classes)
	p, _ := e.pool("big")
	now := e.now()
	for round := range 5 {
		now += 1100 // classes are listed once a second
		p.mu.Lock()
		p.filledAt = math.Inf(-1)
		p.mu.Unlock()
		p.refresh(now)
		_ = round
	}
	return e
}

func teach(t testing.TB, e *Engine, peers, classes int) {
	t.Helper()
	for _, b := range lessons(t, peers, classes) {
		e.Observe(b)
	}
}

// lessons are batches in which every class meets every peer.
func lessons(t testing.TB, peers, classes int) (all []*observe.Batch) {
	t.Helper()
	b := &observe.Batch{Instance: "web1"}
	for c := range classes {
		for i := range peers {
			add(t, b, "big", fmt.Sprintf("GET /c%d", c), fmt.Sprintf("10.0.%d.%d:80", i/250, i%250+1), observe.OK, float32(5+i%7+c%11))
		}
		if len(b.Records) >= 2000 {
			all = append(all, b)
			b = &observe.Batch{Instance: "web1"}
		}
	}
	return append(all, b)
}

func TestTwoHundredPeersAndFiftyClassesStayBelowAHundredMegabytes(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	e := large(t, 200, 50)
	s := e.State()
	if n := len(s.Pool("big").Table.Classes); n < 50 {
		t.Fatalf("%d classes are listed, want 50 or more", n)
	}
	for c := range s.Pool("big").Table.Classes {
		s.Pool("big").Decide(c)
	}
	answer := s.AppendWatch(nil, "", 0, false)
	scrape(t, e)
	runtime.GC()
	runtime.ReadMemStats(&after)
	held := float64(after.HeapAlloc-before.HeapAlloc) / (1 << 20)
	t.Logf("%.1f MiB of heap held; /watch answers %d bytes", held, len(answer))
	// The collector lets the heap double, and the program itself has about 20 MB.
	if held > 30 {
		t.Errorf("%.1f MiB of live heap; with a heap that doubles the engine would pass 100 MB", held)
	}
	runtime.KeepAlive(e)
}

func TestRulesThatAreOffInTheFileAreOffInTheHealthCore(t *testing.T) {
	c := parse(t, `pools: [{name: api, slow_start_ms: 0, eject: {consecutive: 0, failure_share: 0, max_share: 0}, peers: ["10.0.0.1:80"]}]`)
	o := healthOptions(&c.Pools[0].Settings)
	if o.Consecutive != 0 || o.FailureShare != 0 || o.MaxShare != 0 || o.SlowStartMS != 0 {
		t.Errorf("%+v", o)
	}
	d := config.DefaultSettings()
	if o := healthOptions(&d); o.Consecutive != d.Eject.Consecutive || o.WindowMS != float64(d.Eject.IntervalMS) || o.SlowStartMS != float64(d.SlowStartMS) {
		t.Errorf("%+v", o)
	}
}

func BenchmarkRefresh200x50(b *testing.B) {
	e := large(b, 200, 50)
	p, _ := e.pool("big")
	batches := lessons(b, 200, 50)
	now := e.now() + 10_000
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		b.StopTimer()
		p.learn(now, batches[i%len(batches)], batches[i%len(batches)].Records)
		i++
		p.mu.Lock()
		p.filledAt = math.Inf(-1)
		p.mu.Unlock()
		now += 100
		b.StartTimer()
		p.refresh(now)
	}
}

// One iteration is a batch of 512; 20,000 records/s are 39 of them.
func BenchmarkObserve512(b *testing.B) {
	e := large(b, 16, 50)
	batch := &observe.Batch{Instance: "web1"}
	for i := range 512 {
		add(b, batch, "big", fmt.Sprintf("GET /c%d", i%50), fmt.Sprintf("10.0.0.%d:80", i%16+1), observe.OK, 5)
	}
	b.ReportAllocs()
	for b.Loop() {
		e.Observe(batch)
	}
}

func BenchmarkWatch200x50(b *testing.B) {
	e := large(b, 200, 50)
	s := e.State()
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = s.AppendWatch(out[:0], "", 0, false)
	}
}
