package observe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
)

// good is a record that passes.
func good() Record {
	return Record{
		Attempt: 1, Status: 200, Inflight: 3, Propensity: 0.5, HeaderMS: 4.25, TotalMS: 5, PredictedMS: None,
		Bytes: 512, Load: None,
	}
}

func batchOf(t testing.TB, n int) *Batch {
	t.Helper()
	b := &Batch{Instance: "web1", Worker: 3, Dropped: 2}
	for i := range n {
		r := good()
		r.TotalMS = float32(i)
		if err := b.Add("api", fmt.Sprintf("GET /c%d", i%7), fmt.Sprintf("10.0.0.%d:8080", i%5), r); err != nil {
			t.Fatal(err)
		}
	}
	b.Inflight = append(b.Inflight, Inflight{"api", "10.0.0.1:8080", 7})
	return b
}

func compact(t testing.TB, b *Batch) []byte {
	t.Helper()
	body, err := b.AppendCompact(nil)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestTheDocumentedOffsetsAreTheOnesRead(t *testing.T) {
	p := make([]byte, RecordSize)
	le := binary.LittleEndian
	le.PutUint16(p[0:], 1)
	le.PutUint16(p[2:], 2)
	le.PutUint16(p[4:], 3)
	p[6], p[7] = 4, 5
	le.PutUint16(p[8:], 503)
	le.PutUint16(p[10:], 9)
	le.PutUint16(p[12:], 77)
	le.PutUint16(p[14:], 88)
	for i, x := range []float32{0.25, 1, 2, 3, 4, 5} {
		le.PutUint32(p[16+4*i:], math.Float32bits(x))
	}
	le.PutUint32(p[40:], 12345)
	le.PutUint32(p[44:], math.Float32bits(0.75))
	want := Record{
		Pool: 1, Class: 2, Peer: 3, Attempt: 4, Kind: Status, Status: 503, Flags: Explored | Local, Inflight: 77, Reported: 88,
		Propensity: 0.25, HeaderMS: 1, TotalMS: 2, Weight: 3, PredictedMS: 4, AgeMS: 5, Bytes: 12345, Load: 0.75,
	}
	if got := decodeRecord(p); got != want {
		t.Errorf("read %+v, want %+v", got, want)
	}
	if got := want.append(nil); !bytes.Equal(got, p) {
		t.Errorf("wrote %x, want %x", got, p)
	}
}

func TestTheHeaderOfTheProtocolPageIsRead(t *testing.T) {
	line := `{"v":1,"instance":"web1","worker":3,"records":0,"dropped":4,"pools":["api"],"classes":["*","GET /users/{n}"],"peers":["10.0.0.1:8080"],
 "inflight":[["api","10.0.0.1:8080",7]]}`
	var b Batch
	if err := b.DecodeCompact([]byte(strings.ReplaceAll(line, "\n", "") + "\n")); err != nil {
		t.Fatal(err)
	}
	if b.Instance != "web1" || b.Worker != 3 || b.Dropped != 4 || !reflect.DeepEqual(b.Pools, []string{"api"}) ||
		!reflect.DeepEqual(b.Classes, []string{"*", "GET /users/{n}"}) || !reflect.DeepEqual(b.Peers, []string{"10.0.0.1:8080"}) ||
		!reflect.DeepEqual(b.Inflight, []Inflight{{"api", "10.0.0.1:8080", 7}}) {
		t.Errorf("read %+v", b)
	}
}

func TestBadReportsOfAHeaderAreReadAndWritten(t *testing.T) {
	want := []BadReports{{"api", "finite", 3}, {"web", "json", 1}}
	b := Batch{BadReports: want}
	body := compact(t, &b)
	var got Batch
	if err := got.DecodeCompact(body); err != nil || !reflect.DeepEqual(got.BadReports, want) {
		t.Errorf("%v: read %+v of %s", err, got.BadReports, body)
	}
	for _, bad := range []string{`[["api","finite"]]`, `[["api","finite",-1]]`, `[["api",3,"finite"]]`, `"x"`} {
		if err := got.DecodeCompact([]byte(`{"v":1,"records":0,"bad_reports":` + bad + "}\n")); !errors.Is(err, ErrHeader) || len(got.BadReports) > 0 {
			t.Errorf("%s: %v, %+v", bad, err, got.BadReports)
		}
	}
}

func TestTheLineOfTheProtocolPageIsReadAndItsDefaultsHold(t *testing.T) {
	var b Batch
	body := `{"pool":"api","class":"*","peer":"10.0.0.1:8080","attempt":1,"kind":"ok","status":200,"flags":0,"inflight":3,"propensity":0.9,"header_ms":4.2,"total_ms":5.0,"weight":0,"predicted_ms":5.1,"age_ms":0,"bytes":512,"load":-1,"inflight_reported":7}

{"pool":"api","class":"*","peer":"[::1]:9001","total_ms":3}`
	if err := b.DecodeNDJSON([]byte(body)); err != nil {
		t.Fatal(err)
	}
	want := []Record{
		{Attempt: 1, Status: 200, Inflight: 3, Reported: 8, Propensity: 0.9, HeaderMS: 4.2, TotalMS: 5, PredictedMS: 5.1, Bytes: 512, Load: None},
		{Peer: 1, Attempt: 1, Propensity: 1, HeaderMS: None, TotalMS: 3, PredictedMS: None, Load: None},
	}
	if !reflect.DeepEqual(b.Records, want) {
		t.Errorf("read %+v, want %+v", b.Records, want)
	}
	if !reflect.DeepEqual(b.Peers, []string{"10.0.0.1:8080", "[::1]:9001"}) {
		t.Errorf("peers %q", b.Peers)
	}
}

// badRecords are changes that make a good record bad, and a word the reason must have.
var badRecords = map[string]struct {
	change func(*Record)
	reason string
}{
	"attempt 0":          {func(r *Record) { r.Attempt = 0 }, "attempt"},
	"unknown kind":       {func(r *Record) { r.Kind = 8 }, "kind 8"},
	"propensity 0":       {func(r *Record) { r.Propensity = 0 }, "propensity 0"},
	"propensity over 1":  {func(r *Record) { r.Propensity = 1.001 }, "propensity"},
	"propensity NaN":     {func(r *Record) { r.Propensity = nan() }, "propensity NaN"},
	"header NaN":         {func(r *Record) { r.HeaderMS = nan() }, "header_ms NaN"},
	"header below 0":     {func(r *Record) { r.HeaderMS = -0.5 }, "header_ms -0.5"},
	"total -1":           {func(r *Record) { r.TotalMS = -1 }, "total_ms -1"},
	"total infinite":     {func(r *Record) { r.TotalMS = inf() }, "total_ms +Inf"},
	"weight below 0":     {func(r *Record) { r.Weight = -3 }, "weight"},
	"weight NaN":         {func(r *Record) { r.Weight = nan() }, "weight"},
	"predicted infinite": {func(r *Record) { r.PredictedMS = inf() }, "predicted_ms"},
	"age below 0":        {func(r *Record) { r.AgeMS = -1 }, "age_ms"},
	"load -2":            {func(r *Record) { r.Load = -2 }, "load"},
	"class index":        {func(r *Record) { r.Class = 999 }, "class index 999"},
	"pool index":         {func(r *Record) { r.Pool = 1 }, "pool index 1"},
	"peer index":         {func(r *Record) { r.Peer = 65535 }, "peer index 65535"},
}

func nan() float32 { return float32(math.NaN()) }
func inf() float32 { return float32(math.Inf(1)) }

func TestABadRecordIsNamedAndTheGoodOnesBeforeItAreKept(t *testing.T) {
	for name, bad := range badRecords {
		t.Run(name, func(t *testing.T) {
			b := batchOf(t, 10)
			bad.change(&b.Records[6])
			var got Batch
			err := got.DecodeCompact(compact(t, b))
			var at *RecordError
			if !errors.As(err, &at) || at.Record != 6 || !strings.Contains(at.Reason, bad.reason) {
				t.Fatalf("error %v; it should name record 6 and say %q", err, bad.reason)
			}
			if len(got.Records) != 6 || got.Records[5].TotalMS != 5 {
				t.Errorf("%d records kept, want the 6 before the bad one", len(got.Records))
			}
		})
	}
}

func TestABatchThatEndsInsideARecordOrGoesOnAfterTheLastIsBadAtThatRecord(t *testing.T) {
	body := compact(t, batchOf(t, 4))
	var at *RecordError
	for _, c := range []struct {
		name string
		body []byte
		at   int
	}{
		{"cut by one byte", body[:len(body)-1], 3},
		{"cut by a record and a byte", body[:len(body)-RecordSize-1], 2},
		{"no records at all", body[:bytes.IndexByte(body, '\n')+1], 0},
		{"one byte more", append(bytes.Clone(body), 0), 4},
	} {
		var got Batch
		if err := got.DecodeCompact(c.body); !errors.As(err, &at) || at.Record != c.at || len(got.Records) != c.at {
			t.Errorf("%s: error %v with %d records kept, want record %d", c.name, err, len(got.Records), c.at)
		}
	}
}

func TestAReportedInFlightCountComesThroughBothFormsAndNoneStaysNone(t *testing.T) {
	for _, c := range []struct{ told, read int }{{-1, -1}, {-5, -1}, {0, 0}, {7, 7}, {65534, 65534}, {65535, 65534}, {1 << 40, 65534}} {
		r := good()
		r.Reported = ReportedOf(c.told)
		var b, got Batch
		if err := b.Add("api", "*", "x", r); err != nil {
			t.Fatal(err)
		}
		body := compact(t, &b)
		if n := binary.LittleEndian.Uint16(body[len(body)-RecordSize+14:]); int(n) != c.read+1 {
			t.Errorf("%d is %d on the wire", c.told, n)
		}
		if err := got.DecodeCompact(body); err != nil || got.Records[0].Reported.Count() != c.read {
			t.Errorf("compact: %d became %+v, %v", c.told, got.Records, err)
		}
		text, err := b.AppendNDJSON(nil)
		if err != nil || strings.Contains(string(text), "inflight_reported") != (c.read >= 0) {
			t.Errorf("%d: %s, %v", c.told, text, err)
		}
		if err := got.DecodeNDJSON(text); err != nil || got.Records[0].Reported.Count() != c.read {
			t.Errorf("readable: %d became %+v, %v", c.told, got.Records, err)
		}
	}
}

func TestWorkComesThroughBothFormsAndABatchWithoutIsAsItWas(t *testing.T) {
	var b, back Batch
	for i := range 3 {
		r := good()
		r.Work = float32(i) * 2.5
		if err := b.Add("api", "*", "10.0.0.1:8080", r); err != nil {
			t.Fatal(err)
		}
	}
	body := compact(t, &b)
	text, err := b.AppendNDJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	for form, err := range map[string]error{"compact": back.DecodeCompact(body), "readable": new(Batch).DecodeNDJSON(text)} {
		if err != nil {
			t.Errorf("%s: %v", form, err)
		}
	}
	if !reflect.DeepEqual(back.Records, b.Records) {
		t.Errorf("compact: %+v", back.Records)
	}
	if err := back.DecodeNDJSON(text); err != nil || !reflect.DeepEqual(back.Records, b.Records) {
		t.Errorf("readable: %v, %+v", err, back.Records)
	}
	head := bytes.IndexByte(body, '\n') + 1
	for what, c := range map[string]struct {
		body []byte
		kept int
	}{
		"cut inside the work":     {body[:len(body)-1], 2},
		"no work at all":          {body[:len(body)-12], 0},
		"something behind":        {append(bytes.Clone(body), 0), 3},
		"work that is no number":  {append(bytes.Clone(body[:len(body)-8]), 0, 0, 0x80, 0xff, 0, 0, 0, 0), 1},
		"work for one record":     {append(bytes.Replace(body[:head], []byte(`"work":3`), []byte(`"work":1`), 1), body[head:]...), 0},
		"work that is not stated": {append(bytes.Replace(bytes.Clone(body[:head]), []byte(`,"work":3`), nil, 1), body[head:]...), 3},
	} {
		if err := back.DecodeCompact(c.body); err == nil || len(back.Records) != c.kept {
			t.Errorf("%s: %v, %d records kept", what, err, len(back.Records))
		}
	}
	for i := range b.Records {
		b.Records[i].Work = 0
	}
	if plain := compact(t, &b); bytes.Contains(plain, []byte(`"work"`)) || len(plain) != len(body)-len(`,"work":3`)-12 {
		t.Errorf("a batch without work: %q", plain)
	}
}

func TestAHeaderThatCannotBeReadRefusesTheBatchAndSaysWhy(t *testing.T) {
	many := `["` + strings.Repeat(`x","`, MaxNames) + `"]`
	for _, c := range []struct{ header, reason string }{
		{``, "expected"},
		{`[]`, "expected"},
		{`{"v":1,"records":0`, "ends"},
		{`{"v":1,"records":0}x`, "end was expected"},
		{`{"records":0}`, `no "v"`},
		{`{"v":1}`, `no "records"`},
		{`{"v":1,"records":-1}`, "whole number"},
		{`{"v":1,"records":1.5}`, "whole number"},
		{`{"v":1,"records":NaN}`, "number was expected"},
		{`{"v":1,"records":01}`, "comma"},
		{`{"v":1,"records":1e999}`, "too large"},
		{`{"v":1,"records":0,"pool":["api"]}`, `"pool" is no key`},
		{`{"v":1,"records":0,"pools":"api"}`, "expected"},
		{`{"v":1,"records":0,"pools":{"a":1}}`, "list of names"},
		{`{"v":1,"records":0,"pools":["` + strings.Repeat("x", 257) + `"]}`, "257 bytes"},
		{`{"v":1,"records":0,"classes":["` + "\xff" + `"]}`, "UTF-8"},
		{`{"v":1,"records":0,"peers":["a` + "\x00" + `"]}`, "control character"},
		{`{"v":1,"records":0,"peers":["\x"]}`, "escape"},
		{`{"v":1,"records":0,"peers":["\u12"]}`, "hexadecimal"},
		{`{"v":1,"records":0,"peers":["`, "does not end"},
		{`{"v":1,"records":0,"peers":["a\`, "does not end"},
		{`{"v":1,"records":0,"peers":` + many + `}`, "more than 4096"},
		{`{"v":1,"records":0,"inflight":[["api","x"]]}`, "entry 0"},
		{`{"v":1,"records":0,"inflight":[["api","x",-1]]}`, "whole number"},
		{`{"v":1,"records":0,"inflight":{"a":1}}`, "[pool, peer, count]"},
		{`{"v":1,"records":0,"shed":[["api",1,2,3]]}`, "[pool, high, normal, low, full]"},
		{`{"v":1,"records":0,"shed":[["api",1,2,3,-1]]}`, "whole number"},
		{`{"v":1,"records":0,"rate_limited":["api",1]}`, "[pool, count]"},
		{`{"v":1,"records":0,"rate_limited":[["api",1.5]]}`, "whole number"},
	} {
		b := Batch{Records: make([]Record, 3)}
		err := b.DecodeCompact([]byte(c.header + "\n"))
		if !errors.Is(err, ErrHeader) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("header %.80q: error %v; it should say %q", c.header, err, c.reason)
		}
		if len(b.Records)+len(b.Pools)+len(b.Peers)+len(b.Inflight) != 0 {
			t.Errorf("header %.80q: the batch still holds %+v", c.header, b)
		}
	}
	var b Batch
	if err := b.DecodeCompact([]byte(`{"v":1}`)); !errors.Is(err, ErrHeader) {
		t.Errorf("no newline: %v", err)
	}
	var version *VersionError
	if err := b.DecodeCompact([]byte("{\"v\":2,\"whatever\":1}\n")); !errors.As(err, &version) || version.Got != 2 {
		t.Errorf("version 2: %v", err)
	}
}

func TestLuaEmptyTablesPassForEmptyLists(t *testing.T) {
	var b Batch
	if err := b.DecodeCompact([]byte(`{"v":1,"records":0,"pools":{},"classes":{ },"peers":{},"inflight":{}}` + "\n")); err != nil {
		t.Error(err)
	}
}

func TestTooManyRecordsOrBytesKeepNothing(t *testing.T) {
	var b Batch
	line := []byte(`{"pool":"a","peer":"b","total_ms":1}` + "\n")
	for name, err := range map[string]error{
		"ndjson records": b.DecodeNDJSON(bytes.Repeat(line, MaxRecords+1)),
		"ndjson bytes":   b.DecodeNDJSON(make([]byte, MaxBody+1)),
		"compact bytes":  b.DecodeCompact(make([]byte, MaxBody+1)),
		"compact count":  b.DecodeCompact([]byte(`{"v":1,"records":65537}` + "\n")),
		"compact body":   b.DecodeCompact(append([]byte(`{"v":1,"records":1}`+"\n"), make([]byte, (MaxRecords+1)*RecordSize)...)),
	} {
		if !errors.Is(err, ErrTooMany) || len(b.Records) != 0 {
			t.Errorf("%s: %v with %d records", name, err, len(b.Records))
		}
	}
	if err := b.DecodeNDJSON(bytes.Repeat(line, MaxRecords)); err != nil || len(b.Records) != MaxRecords {
		t.Errorf("%d records must pass: %v", MaxRecords, err)
	}
}

func TestABadLineIsNamedAndTheGoodOnesBeforeItAreKept(t *testing.T) {
	const ok = `{"pool":"api","peer":"a:1","total_ms":1}` + "\n"
	for _, c := range []struct{ line, reason string }{
		{`nonsense`, "expected"},
		{`{}`, `"pool" is missing`},
		{`{"pool":"api","total_ms":1}`, `"peer" is missing`},
		{`{"pool":"api","peer":"a:1"}`, `"total_ms" is missing`},
		{`{"pool":"api","peer":"a:1","total":1}`, `"total" is no key`},
		{`{"pool":"api","peer":"a:1","total_ms":1,"total_ms":2}`, "twice"},
		{`{"pool":"api","peer":"a:1","total_ms":"1"}`, "total_ms: a number"},
		{`{"pool":"api","peer":"a:1","total_ms":null}`, "number"},
		{`{"pool":"api","peer":"a:1","total_ms":1e39}`, "too large"},
		{`{"pool":"api","peer":"a:1","total_ms":-1}`, "total_ms -1"},
		{`{"pool":"api","peer":"a:1","total_ms":1,"kind":"fine"}`, "ok refused connect_timeout"},
		{`{"pool":"api","peer":"a:1","total_ms":1,"kind":0}`, "string"},
		{`{"pool":"api","peer":"a:1","total_ms":1,"attempt":0}`, "attempt is 0"},
		{`{"pool":"api","peer":"a:1","total_ms":1,"attempt":256}`, "whole number"},
		{`{"pool":"api","peer":"a:1","total_ms":1,"propensity":1e-60}`, "propensity 0"},
		{`{"pool":"api","peer":"a:1","total_ms":1}{}`, "end was expected"},
		{`{"pool":"api","peer":"` + strings.Repeat("x", 257) + `","total_ms":1}`, "257 bytes"},
		{`{"pool":"api","peer":"` + "\xc3" + `","total_ms":1}`, "UTF-8"},
	} {
		var b Batch
		err := b.DecodeNDJSON([]byte(ok + "\n" + ok + c.line + "\n" + ok))
		var at *RecordError
		if !errors.As(err, &at) || at.Record != 2 || !strings.Contains(at.Reason, c.reason) || len(b.Records) != 2 {
			t.Errorf("%.80s: error %v with %d records kept; it should be record 2 and say %q", c.line, err, len(b.Records), c.reason)
		}
	}
}

func TestCountsPastTheirFieldAreCappedInTheReadableForm(t *testing.T) {
	var b Batch
	if err := b.DecodeNDJSON([]byte(`{"pool":"a","peer":"b","total_ms":1,"bytes":5000000000,"inflight":70000}`)); err != nil {
		t.Fatal(err)
	}
	if b.Records[0].Bytes != math.MaxUint32 || b.Records[0].Inflight != InflightMore {
		t.Errorf("read %+v", b.Records[0])
	}
}

func TestAddRefusesWhatTheDecoderWouldRefuse(t *testing.T) {
	for name, bad := range badRecords {
		if strings.HasSuffix(name, "index") {
			continue
		}
		var b Batch
		r := good()
		bad.change(&r)
		if err := b.Add("a", "b", "c", r); err == nil || len(b.Records) != 0 {
			t.Errorf("%s: added", name)
		}
	}
	var b Batch
	if err := b.Add("a", strings.Repeat("x", 257), "c", good()); err == nil {
		t.Error("a class of 257 bytes was added")
	}
}

func TestKindNamesAndFailuresAreThoseOfTheProtocol(t *testing.T) {
	for k := range Kind(Kinds) {
		back, ok := kindOf([]byte(k.String()))
		if !ok || back != k {
			t.Errorf("%v reads back as %v", k, back)
		}
		if want := k != OK && k != Abort && k != IdleRace; k.Failure() != want {
			t.Errorf("%v.Failure() = %v", k, k.Failure())
		}
	}
}
