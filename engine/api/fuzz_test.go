package api

import (
	"encoding/json"
	"io"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/serve"
	"github.com/weirlb/weir/engine/telemetry"
)

// bare is an engine and its socket handler, without a listener.
func bare(t testing.TB) (*serve.Engine, *handler) {
	t.Helper()
	e := serve.New(parse(t, twoPools), telemetry.NewLog(io.Discard, "error"), telemetry.New())
	t.Cleanup(e.Close)
	return e, socketHandler(e, make(chan struct{}))
}

func post(h *handler, path, media string, body []byte) *fasthttp.RequestCtx {
	var req fasthttp.Request
	req.Header.SetMethod("POST")
	req.SetRequestURI(path)
	req.Header.SetContentType(media)
	req.SetBody(body)
	var ctx fasthttp.RequestCtx
	ctx.Init(&req, nil, nil)
	h.serve(&ctx)
	return &ctx
}

// sane holds what every answer must be: JSON, never a crash, never a 500.
func sane(t *testing.T, ctx *fasthttp.RequestCtx) {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(ctx.Response.Body(), &v); err != nil {
		t.Fatalf("%d answered with %q: %v", ctx.Response.StatusCode(), ctx.Response.Body(), err)
	}
	if s := ctx.Response.StatusCode(); s == 500 || (s >= 400) != (v["error"] != nil) {
		t.Fatalf("%d: %s", s, ctx.Response.Body())
	}
}

func FuzzDecide(f *testing.F) {
	for _, s := range []string{
		`{"pool":"api","class":"GET /users/{n}"}`, `{"pool":"api","method":"POST","path":"/a/b","body_bytes":-1,"pick":true,"inflight":{"[::1]:9001":7},"weight":2.5}`,
		`{"pool":"bare"}`, `{"pool":"nowhere"}`, `{"pool":"api","class":"\u0000\ud800"}`, `{`, ``,
	} {
		f.Add([]byte(s))
	}
	_, h := bare(f)
	f.Fuzz(func(t *testing.T, body []byte) { sane(t, post(h, "/decide", "application/json", body)) })
}

func FuzzObserve(f *testing.F) {
	b := &observe.Batch{Instance: "web1", Dropped: 3, Inflight: []observe.Inflight{{Pool: "api", Peer: "[::1]:9001", Count: 3}}}
	for _, kind := range []observe.Kind{observe.OK, observe.Refused, observe.Abort} {
		r := observe.Record{Attempt: 1, Kind: kind, Propensity: 0.5, HeaderMS: 1, TotalMS: 2, PredictedMS: 3, Load: 0.5, AgeMS: 9}
		if err := b.Add("api", "GET /x", "10.0.0.1:80", r); err != nil {
			f.Fatal(err)
		}
	}
	compact, err := b.AppendCompact(nil)
	if err != nil {
		f.Fatal(err)
	}
	lines, err := b.AppendNDJSON(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(true, compact)
	f.Add(false, lines)
	f.Add(true, []byte("{\"v\":2,\"records\":0}\n"))
	f.Add(false, []byte(`{"pool":"api","peer":"10.0.0.1:80","total_ms":3.4e38,"age_ms":3.4e38,"weight":3e38,"load":3e38}`))
	e, h := bare(f)
	f.Fuzz(func(t *testing.T, compact bool, body []byte) {
		media := readableType
		if compact {
			media = compactType
		}
		sane(t, post(h, "/observe", media, body))
		for _, s := range e.State().Pools {
			if len(s.Peers) > 0 {
				sane(t, post(h, "/decide", "application/json", []byte(`{"pool":"api","pick":true}`)))
			}
		}
		e.Figures()
	})
}

func TestTheHotPathAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("under the race detector sync.Pool loses things on purpose")
	}
	_, h := bare(t)
	var req fasthttp.Request
	req.Header.SetMethod("POST")
	req.SetRequestURI("/decide")
	req.Header.Set(protocolHeader, "1")
	req.SetBody([]byte(`{"pool":"api","class":"GET /users/{n}"}`))
	var ctx fasthttp.RequestCtx
	ctx.Init(&req, nil, nil)
	if n := testing.AllocsPerRun(200, func() {
		ctx.Response.Reset()
		h.serve(&ctx)
	}); n != 0 {
		t.Errorf("%v allocations a table call", n)
	}
	if ctx.Response.StatusCode() != 200 {
		t.Fatalf("%d %s", ctx.Response.StatusCode(), ctx.Response.Body())
	}
}
