package api

import (
	"encoding/json"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestAPickIsWrittenAsEncodingJSONWritesIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := func(name string) float64 {
			return rapid.OneOf(rapid.Float64Range(0, 1e4), rapid.Float64Range(-math.MaxFloat64, math.MaxFloat64), rapid.SampledFrom([]float64{0, 1e-6, 1e-7, 1e21, 1e20, 3})).Draw(t, name)
		}
		text := func(name string) string {
			return rapid.OneOf(rapid.StringMatching(`[a-z0-9.:\[\]]{0,40}`), rapid.String()).Draw(t, name)
		}
		p := picked{
			Peer: text("peer"), PredictedMS: number("predicted"), Propensity: number("propensity"), Explored: rapid.Bool().Draw(t, "explored"),
			Size: number("size"), Reason: text("reason"), Alternatives: []alternative{},
		}
		for range rapid.IntRange(0, 4).Draw(t, "others") {
			p.Alternatives = append(p.Alternatives, alternative{Peer: text("other"), PredictedMS: number("its cost"), State: text("state"), Usable: rapid.Bool().Draw(t, "usable")})
		}
		want, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var a, b any
		got := p.append([]byte("kept"))[4:]
		if err := json.Unmarshal(got, &a); err != nil {
			t.Fatalf("%v in %s", err, got)
		}
		if err := json.Unmarshal(want, &b); err != nil {
			t.Fatal(err)
		}
		if x, y := mustJSON(t, a), mustJSON(t, b); x != y {
			t.Fatalf("got %s\nwant %s", got, want)
		}
	})
}

func mustJSON(t *rapid.T, v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAPickWithACostThatIsNoNumberIsJSONAllTheSame(t *testing.T) {
	p := picked{PredictedMS: math.NaN(), Alternatives: []alternative{{PredictedMS: math.Inf(1)}}}
	if out := p.append(nil); !json.Valid(out) {
		t.Errorf("%s", out)
	}
}

func BenchmarkPickHandler(b *testing.B) {
	r := start(b, sixteen())
	h := socketHandler(r.eng, make(chan struct{}))
	ctx := post(h, "/decide", "application/json", []byte(`{"pool":"api","class":"GET /c7","pick":true}`))
	b.ReportAllocs()
	for b.Loop() {
		ctx.Response.Reset()
		h.serve(ctx)
	}
}
