package history

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"iter"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirlb/weir/engine/observe"
)

func anyBatch(t *rapid.T) *Batch {
	text := rapid.StringN(0, 20, 40)
	b := &Batch{
		Writer: text.Draw(t, "writer"), Seq: rapid.Uint64().Draw(t, "seq"), Instance: text.Draw(t, "instance"), Zone: text.Draw(t, "zone"),
		AtMS: rapid.Int64Range(0, 1e13).Draw(t, "at"), Series: []Series{{"api", "10.0.0.1:80", "*"}, {"api", "10.0.0.1:80", ""}, {text.Draw(t, "pool"), "p", "c"}},
	}
	f := rapid.Float32Range(0, 1e6)
	for range rapid.IntRange(0, 50).Draw(t, "outcomes") {
		b.Outcomes = append(b.Outcomes, Outcome{
			AtMS: rapid.Int64Range(0, 1e13).Draw(t, "ended"), Series: rapid.Uint32Range(0, 2).Draw(t, "series"), Attempt: rapid.Byte().Draw(t, "attempt"),
			Kind: uint8(rapid.IntRange(0, observe.Kinds-1).Draw(t, "kind")), Status: rapid.Uint16().Draw(t, "status"), Flags: rapid.Uint16().Draw(t, "flags"),
			Inflight: rapid.Uint16().Draw(t, "inflight"), AtUS: rapid.Uint16Range(0, 999).Draw(t, "micro"), Bytes: rapid.Uint32().Draw(t, "bytes"), Propensity: 0.5, HeaderMS: -1, TotalMS: f.Draw(t, "total"),
			Weight: f.Draw(t, "weight"), PredictedMS: f.Draw(t, "predicted"), Load: -1, Rate: 1,
		})
	}
	for range rapid.IntRange(0, 5).Draw(t, "rollups") {
		b.Rollups = append(b.Rollups, Rollup{MinuteMS: 60_000, Series: 1, Count: rapid.Uint64().Draw(t, "count"), SumMS: 3.5, MaxMS: 2, P50: 1, P90: 2, P99: 3, Sketch: []byte{1, 2}})
	}
	for range rapid.IntRange(0, 3).Draw(t, "events") {
		b.Events = append(b.Events, Event{AtMS: 5, Kind: Health, Pool: "api", Subject: text.Draw(t, "subject"), From: "up", To: "down", Detail: text.Draw(t, "detail")})
	}
	return b
}

func TestABatchComesBackFromItsEncodingAsItWas(t *testing.T) {
	c, into := NewCodec(), &Batch{}
	rapid.Check(t, func(t *rapid.T) {
		b := anyBatch(t)
		if err := c.Decode(c.Append(nil, b), into); err != nil {
			t.Fatal(err)
		}
		for _, list := range []*Batch{b, into} { // nil and empty are the same
			list.Outcomes, list.Rollups, list.Events = append([]Outcome{}, list.Outcomes...), append([]Rollup{}, list.Rollups...), append([]Event{}, list.Events...)
		}
		if !reflect.DeepEqual(b, into) {
			t.Fatalf("%+v\nbecame\n%+v", b, into)
		}
		series, outcomes, err := c.DecodeBlock(c.AppendBlock(nil, b.Series, b.Outcomes), nil, nil)
		if err != nil || !slices.Equal(series, b.Series) || !slices.Equal(outcomes, b.Outcomes) {
			t.Fatal("a block became another", err)
		}
	})
}

// TestABlockOfAnEngineOfBeforeIsRead: version 1, whose times are to the millisecond.
func TestABlockOfAnEngineOfBeforeIsRead(t *testing.T) {
	old, err := hex.DecodeString("57420128b52ffd0000b50200840401036170690b31302e302e302e313a3830012a0280a0abfef9620e000001020005c800f60100000100030004008004003f3e00800000000040bf8041a01000bf3f3f80800000000004002b0476e68b3364371428")
	if err != nil {
		t.Fatal(err)
	}
	dirty := make([]Outcome, 2) // memory that held something
	dirty[0].AtUS, dirty[1].AtUS = 7, 7
	series, outcomes, err := NewCodec().DecodeBlock(old, nil, dirty)
	want := []Outcome{
		{AtMS: 1_700_000_000_000, Attempt: 1, Status: 200, Inflight: 3, Bytes: 512, Propensity: 0.5, HeaderMS: 4, TotalMS: 5, PredictedMS: -1, Load: -1, Rate: 1},
		{AtMS: 1_700_000_000_007, Attempt: 2, Kind: 5, Status: 502, Flags: 1, Inflight: 4, Propensity: 0.25, HeaderMS: -1, TotalMS: 9, PredictedMS: -1, Load: -1, Rate: 1},
	}
	if err != nil || len(series) != 1 || series[0].Peer != "10.0.0.1:80" || !slices.Equal(outcomes, want) {
		t.Errorf("%v: %+v %+v", err, series, outcomes)
	}
	next := append([]byte{}, old...)
	next[2] = codecVersion + 1
	if _, _, err := NewCodec().DecodeBlock(next, nil, nil); err == nil || !strings.Contains(err.Error(), "reads 1 to 2") {
		t.Errorf("one of a version to come: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	c := NewCodec()
	b := &Batch{Writer: "w", Seq: 1, Series: []Series{{"a", "b", "c"}}, Outcomes: make([]Outcome, 3), Rollups: []Rollup{{Sketch: []byte{1, 1}}}, Events: make([]Event, 1)}
	whole := c.Append(nil, b)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(c.AppendBlock(nil, b.Series, b.Outcomes))
	f.Add([]byte("WH\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var into Batch
		_ = c.Decode(data, &into)
		_, _, _ = c.DecodeBlock(data, nil, nil)
		// The uncompressed form too, which a fuzzer does not reach through a compressor.
		r := reader{data: data}
		r.series(nil)
		r.outcomes(nil)
		r.rollups(nil)
		_ = DecodeRollups(data, func(*Rollup) error { return nil })
	})
}

// Case 29 of the field reports: a NUL or bad UTF-8 in a stored field.
func TestOneBadByteCostsItsRowOnly(t *testing.T) {
	b := &Batch{Series: []Series{{"api", "p", "c"}, {"api", "p", "a\x00b"}, {"api", "\xff", "c"}, {"api", "p", ""}}}
	for i := range uint32(3) {
		b.Outcomes = append(b.Outcomes, Outcome{Series: i, TotalMS: 1})
	}
	b.Outcomes = append(b.Outcomes, Outcome{Series: 0, TotalMS: float32(math.NaN())}, Outcome{Series: 9}, Outcome{Series: 0, TotalMS: 2})
	b.Rollups = []Rollup{{Series: 3, Count: 1}, {Series: 1}, {Series: 3, SumMS: math.Inf(1)}}
	b.Events = []Event{{Detail: "fine"}, {Detail: "a\x00"}, {Subject: "\xc3\x28"}}
	if n := b.Clean(); n != 8 {
		t.Errorf("%d rows were dropped", n)
	}
	if len(b.Outcomes) != 2 || b.Outcomes[1].TotalMS != 2 || len(b.Rollups) != 1 || len(b.Events) != 1 {
		t.Errorf("left: %+v", b)
	}
}

func outcome(at int64, series uint32, ms float32) Outcome {
	return Outcome{AtMS: at, Series: series, Attempt: 1, Status: 200, Propensity: 1, HeaderMS: ms, TotalMS: ms, PredictedMS: -1, Load: -1, Rate: 1}
}

func together(parts iter.Seq[[]Rollup]) (all []Rollup) {
	for part := range parts {
		all = append(all, part...)
	}
	return all
}

func TestRollupsHaveEveryOutcomeOnceUnderItsClassAndOnceUnderAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := NewMinutes()
		series := []Series{{"api", "a", "x"}, {"api", "a", "y"}, {"api", "b", "x"}}
		n := map[Series]uint64{}
		failures := map[Series]uint64{}
		var got []Rollup
		most := rapid.IntRange(1, 40).Draw(t, "most")
		take := func(end int64) { got = append(got, together(m.Take(end, most))...) }
		for i := range rapid.IntRange(1, 200).Draw(t, "n") {
			s := series[rapid.IntRange(0, 2).Draw(t, "series")]
			o := outcome(rapid.Int64Range(0, 10*MinuteMS).Draw(t, "at"), m.Index(s), 5)
			if rapid.Bool().Draw(t, "failed") {
				o.Kind = uint8(observe.Reset)
				failures[s]++
			}
			m.Add(&o)
			n[s]++
			if i%20 == 0 {
				take(rapid.Int64Range(0, 10*MinuteMS).Draw(t, "end"))
			}
		}
		peeked := together(m.Peek(most))
		left := len(got)
		take(math.MaxInt64)
		if len(got)-left != len(peeked) {
			t.Fatalf("%d rollups were peeked at and %d taken", len(peeked), len(got)-left)
		}
		counts, fails := map[Series]uint64{}, map[Series]uint64{}
		for i := range got {
			r := &got[i]
			s := m.Series(r.Series)
			counts[s] += r.Count
			fails[s] += r.Failures
			if r.MinuteMS%MinuteMS != 0 {
				t.Fatal("not a minute")
			}
		}
		for s, want := range n {
			if counts[s] != want || fails[s] != failures[s] {
				t.Fatalf("%v: %d, %d failed; want %d, %d", s, counts[s], fails[s], want, failures[s])
			}
		}
		for _, peer := range []string{"a", "b"} {
			want := n[Series{"api", peer, "x"}] + n[Series{"api", peer, "y"}]
			if counts[Series{"api", peer, ""}] != want {
				t.Fatalf("%s over all classes: %d, want %d", peer, counts[Series{"api", peer, ""}], want)
			}
		}
	})
}

func TestARestoredMinuteGoesOnWhereItWas(t *testing.T) {
	whole, first, second := NewMinutes(), NewMinutes(), NewMinutes()
	s := Series{"api", "a", "x"}
	for i := range 100 {
		o := outcome(int64(i), 0, float32(i))
		o.Series = whole.Index(s)
		whole.Add(&o)
		half := first
		if i >= 50 {
			half = second
		}
		if i == 50 {
			for _, r := range together(first.Peek(1)) {
				if err := second.Restore(first.Series(r.Series), &r); err != nil {
					t.Fatal(err)
				}
			}
		}
		o.Series = half.Index(s)
		half.Add(&o)
	}
	want, got := together(whole.Take(math.MaxInt64, 1)), together(second.Take(math.MaxInt64, 1))
	if !bytes.Equal(got[0].Sketch, want[0].Sketch) || got[0].Count != 100 || got[0].SumMS != want[0].SumMS {
		t.Errorf("%+v, want %+v", got[0], want[0])
	}
}

func ask(t *testing.T, q Question, series []Series, rollups []Rollup) []*Line {
	t.Helper()
	if err := q.Check(1e12); err != nil {
		t.Fatal(err)
	}
	c := NewCollector(q)
	for i := range rollups {
		if err := c.Add(series[rollups[i].Series], &rollups[i]); err != nil {
			t.Fatal(err)
		}
	}
	return c.Lines()
}

func TestAnAnswerMergesMinutesPeersAndLateRollups(t *testing.T) {
	m := NewMinutes()
	a, b := m.Index(Series{"api", "a", "x"}), m.Index(Series{"api", "b", "x"})
	var rollups []Rollup
	for i := range int64(600) { // ten minutes
		o := outcome(i*1000, a, 10)
		m.Add(&o)
		o = outcome(i*1000, b, 30)
		m.Add(&o)
		if i == 300 {
			rollups = together(m.Take(math.MaxInt64, 1)) // the fifth minute comes in two parts
		}
	}
	rollups = append(rollups, together(m.Take(math.MaxInt64, 7))...)
	series := m.series

	near := func(got, want float64) bool { return math.Abs(got-want) <= 0.021*want }
	lines := ask(t, Question{Pool: "api", ToMS: 600_000, FromMS: 1}, series, rollups)
	if len(lines) != 2 || lines[0].Peer != "a" || len(lines[0].AtMS) != 10 {
		t.Fatalf("%d lines: %+v", len(lines), lines)
	}
	for i, n := range lines[0].Count {
		if n != 60 || lines[0].AtMS[i] != int64(i)*60_000 || !near(lines[0].P99MS[i], 10) || lines[0].MeanMS[i] != 10 {
			t.Errorf("minute %d: %d attempts, p99 %v, mean %v", i, n, lines[0].P99MS[i], lines[0].MeanMS[i])
		}
	}
	pool := ask(t, Question{Pool: "api", ToMS: 600_000, FromMS: 1, StepMS: 600_000, By: ByPool}, series, rollups)
	if len(pool) != 1 || pool[0].Count[0] != 1200 || pool[0].MeanMS[0] != 20 || !near(pool[0].P50MS[0], 10) || !near(pool[0].P99MS[0], 30) || pool[0].MaxMS[0] != 30 {
		t.Errorf("the pool: %+v", pool[0])
	}
	byClass := ask(t, Question{ToMS: 600_000, FromMS: 1, StepMS: 600_000, By: ByClass}, series, rollups)
	if len(byClass) != 1 || byClass[0].Class != "x" || byClass[0].Count[0] != 1200 {
		t.Errorf("by class: %+v", byClass)
	}
	if l := ask(t, Question{Peer: "b", Class: "x", ToMS: 600_000, FromMS: 540_000}, series, rollups); len(l) != 1 || l[0].Count[0] != 60 {
		t.Errorf("one peer and class: %+v", l)
	}
}

func TestAQuestionThatMakesNoSenseIsRefusedByTheFieldThatIsWrong(t *testing.T) {
	for field, q := range map[string]Question{
		"by":   {By: "host"},
		"from": {FromMS: 2e9, ToMS: 1e9},
		"step": {StepMS: 1000},
	} {
		var wrong *FieldError
		if err := q.Check(1e12); err == nil {
			t.Errorf("%+v is taken", q)
		} else if wrong = err.(*FieldError); wrong.Field != field {
			t.Errorf("%+v: %v", q, err)
		}
	}
	if err := (&Question{FromMS: 1, ToMS: 1e12}).Check(1e12); err == nil {
		t.Error("30 years of minutes are answered")
	}
}

func TestALineIsJSONWithNullForNoAnswer(t *testing.T) {
	l := Line{Pool: `a"b`, Peer: "p", AtMS: []int64{60000, 120000}, Count: []uint64{1, 2}, MeanMS: []float64{math.NaN(), 1.25}, P50MS: []float64{0.001, 12}, MaxMS: []float64{99.9994, 1234.5}}
	var back struct {
		Pool string
		Mean []*float64 `json:"mean_ms"`
		P50  []float64  `json:"p50_ms"`
		Max  []float64  `json:"max_ms"`
	}
	if err := json.Unmarshal(l.AppendJSON(nil), &back); err != nil {
		t.Fatalf("%v in %s", err, l.AppendJSON(nil))
	}
	if back.Pool != l.Pool || back.Mean[0] != nil || *back.Mean[1] != 1.25 || back.P50[0] != 0.001 || back.Max[0] != 99.999 || back.Max[1] != 1234.5 {
		t.Errorf("%+v", back)
	}
}

func BenchmarkCodec(b *testing.B) {
	batch := sample(10_000)
	c := NewCodec()
	var data []byte
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			data = c.Append(data[:0], batch)
		}
		b.ReportMetric(float64(len(data))/10_000, "bytes/row")
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/row")
	})
	var into Batch
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			if err := c.Decode(data, &into); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/row")
	})
	b.Run("roll up", func(b *testing.B) {
		m := NewMinutes()
		for _, s := range batch.Series {
			m.Index(s)
		}
		for i := 0; b.Loop(); i++ {
			m.Add(&batch.Outcomes[i%10_000])
		}
	})
}

// Who wants all there is writes the first day there was.
func TestAQuestionFrom1970IsNotTakenForOneWithoutABeginning(t *testing.T) {
	const now = 1_795_972_980_000
	for _, text := range []string{"1970-01-01", "1970-01-01T00:00:00Z"} {
		from, err := ParseTime("from", text, now)
		if err != nil {
			t.Fatal(err)
		}
		q := Question{FromMS: from, StepMS: 24 * 60 * MinuteMS}
		if err := q.Check(now); err != nil || q.FromMS != 0 {
			t.Errorf("%s: from %d, %v", text, q.FromMS, err)
		}
	}
}
