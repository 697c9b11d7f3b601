package api

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/record"
	"github.com/weirlb/weir/engine/observe"
)

func describe(t testing.TB) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return doc
}

// served lists "METHOD pattern" of both listeners.
func served(r *rig) (all []string) {
	for _, h := range []*handler{socketHandler(r.eng, nil), adminHandler(r.eng, r.token)} {
		for _, route := range h.routes {
			for method := range route.methods {
				all = append(all, method+" "+route.pattern)
			}
		}
	}
	slices.Sort(all)
	return all
}

func TestEveryRouteIsDescribedAndEveryDescribedRouteExists(t *testing.T) {
	var described []string
	for path, item := range describe(t).Paths.Map() {
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	slices.Sort(described)
	if got := served(start(t, twoPools)); !slices.Equal(got, described) {
		t.Errorf("served    %q\ndescribed %q", got, described)
	}
}

// holds checks an answer against the description of its operation. pattern is the path in the description.
func holds(t *testing.T, doc *openapi3.T, method, pattern string, a *answer) {
	t.Helper()
	item := doc.Paths.Find(pattern)
	req := &http.Request{Method: method, URL: &url.URL{Path: pattern}, Header: http.Header{}}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: req,
			Route:   &routers.Route{Spec: doc, Path: pattern, PathItem: item, Method: method, Operation: item.GetOperation(method)},
		},
		Status: a.status, Header: a.header, Body: io.NopCloser(bytes.NewReader([]byte(a.body))),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}
	if err := openapi3filter.ValidateResponse(context.Background(), input); err != nil {
		t.Errorf("%s %s answered %d with %.300s\nwhich is not as described: %v", method, pattern, a.status, a.body, err)
	}
}

func TestRealAnswersAreAsDescribed(t *testing.T) {
	openapi3filter.RegisterBodyDecoder("application/yaml", openapi3filter.FileBodyDecoder)
	doc := describe(t)
	r := startKeeping(t, `
refresh_ms: 20
pools:
  - name: api
    peers: ["10.0.0.1:80", "10.0.0.2:80", "[::1]:9001"]
  - {name: bare, peers: []}
  - {name: parts, peers: ["10.0.0.1:80", {address: "10.0.0.2:80", group: canary}], split: {group: canary, share: 0.1}}
  - {name: next, peers: ["10.0.0.9:80"], shadow_of: api, retry: {tries: 1}, check: {interval_ms: 100, timeout_ms: 50, fall: 100}}
`)
	const promote, rollback = "/api/models/{model}/promote", "/api/models/{model}/rollback"
	second := r.twoModels()
	const splitPattern = "/api/pools/{pool}/split"
	const peerPattern = "/api/pools/{pool}/peers/{peer}"
	type step struct {
		method, pattern, path, body string
		status                      int
		header                      []string
	}
	media := []string{"Content-Type", ndjson}
	good := `{"pool":"api","class":"GET /x","peer":"10.0.0.1:80","total_ms":5,"load":0.5}` + "\n"
	socket := []step{
		{"POST", "/decide", "/decide", `{"pool":"api","class":"*"}`, 200, nil},
		{"POST", "/decide", "/decide", `{"pool":"api","path":"/x","pick":true}`, 200, nil},
		{"POST", "/decide", "/decide", `{`, 400, nil},
		{"POST", "/decide", "/decide", `{"pool":"no"}`, 404, nil},
		{"POST", "/decide", "/decide", `{"pool":"bare"}`, 503, nil},
		{"POST", "/decide", "/decide", strings.Repeat(" ", maxDecideBody+1), 413, nil},
		{"POST", "/decide", "/decide", `{}`, 426, []string{protocolHeader, "2"}},
		{"POST", "/observe", "/observe", good, 200, media},
		{"POST", "/observe", "/observe", good + "{}", 400, media},
		{"POST", "/observe", "/observe", "{\n", 400, []string{"Content-Type", compactType}},
		{"POST", "/observe", "/observe", strings.ReplaceAll(good, "api", "no"), 404, media},
		{"POST", "/observe", "/observe", strings.Repeat(" ", observe.MaxBody+1), 413, media},
		{"POST", "/observe", "/observe", good, 415, nil},
		{"POST", "/observe", "/observe", good, 426, append([]string{protocolHeader, "0"}, media...)},
		{"GET", "/watch", "/watch", "", 200, nil},
		{"GET", "/watch", "/watch?format=json", "", 200, nil},
		{"GET", "/watch", "/watch?wait=0&since=99999999&epoch=" + r.eng.State().Epoch, "", 204, nil},
		{"GET", "/watch", "/watch?since=x", "", 400, nil},
		{"GET", "/watch", "/watch", "", 426, []string{protocolHeader, "x"}},
		{"GET", "/healthz", "/healthz", "", 200, nil},
		{"GET", "/healthz", "/healthz", "", 426, []string{protocolHeader, "x"}},
		{"POST", "/decide", "/decide", strings.Repeat("x", maxHeader), 431, []string{"Cookie", strings.Repeat("x", maxHeader)}},
	}
	admin := []step{
		{"GET", "/api/health", "/api/health", "", 200, nil},
		{"POST", "/api/route", "/api/route", `{"pool":"api","method":"GET","path":"/x"}`, 200, nil},
		{"POST", "/api/route", "/api/route", `{"pool":1}`, 400, nil},
		{"POST", "/api/route", "/api/route", `{"pool":"no"}`, 404, nil},
		{"POST", "/api/route", "/api/route", `{"pool":"bare"}`, 503, nil},
		{"POST", "/api/route", "/api/route", strings.Repeat(" ", maxAdminBody+1), 413, nil},
		{"GET", "/api/metrics", "/api/metrics", "", 200, nil},
		{"GET", "/api/pools", "/api/pools", "", 200, nil},
		{"GET", "/api/pools/{pool}", "/api/pools/api", "", 200, nil},
		{"GET", "/api/pools/{pool}", "/api/pools/bare", "", 200, nil},
		{"GET", "/api/pools/{pool}", "/api/pools/no", "", 404, nil},
		{"GET", peerPattern, "/api/pools/api/peers/%5B::1%5D:9001", "", 200, nil},
		{"GET", peerPattern, "/api/pools/api/peers/x", "", 404, nil},
		{"GET", splitPattern, "/api/pools/parts/split", "", 200, nil},
		{"GET", "/api/pools/{pool}/shadow", "/api/pools/next/shadow", "", 200, nil},
		{"GET", "/api/pools/{pool}/shadow", "/api/pools/api/shadow", "", 404, nil},
		{"GET", splitPattern, "/api/pools/api/split", "", 404, nil},
		{"PATCH", splitPattern, "/api/pools/parts/split", `{"share":0.25}`, 200, nil},
		{"PATCH", splitPattern, "/api/pools/parts/split", `{"share":2}`, 400, nil},
		{"PATCH", splitPattern, "/api/pools/parts/split", `{}`, 400, nil},
		{"PATCH", splitPattern, "/api/pools/api/split", `{"share":0.25}`, 404, nil},
		{"PATCH", splitPattern, "/api/pools/parts/split", strings.Repeat(" ", maxAdminBody+1), 413, nil},
		{"PATCH", peerPattern, "/api/pools/api/peers/10.0.0.1:80", `{"drain":true}`, 200, nil},
		{"PATCH", peerPattern, "/api/pools/api/peers/10.0.0.2:80", `{"drain":true,"weight":3}`, 200, nil},
		{"PATCH", peerPattern, "/api/pools/api/peers/[::1]:9001", `{"drain":true}`, 409, nil},
		{"PATCH", peerPattern, "/api/pools/api/peers/10.0.0.1:80", `{}`, 400, nil},
		{"PATCH", peerPattern, "/api/pools/no/peers/10.0.0.1:80", `{"drain":true}`, 404, nil},
		{"PATCH", peerPattern, "/api/pools/api/peers/x", strings.Repeat(" ", maxAdminBody+1), 413, nil},
		{"GET", "/api/explain", "/api/explain?pool=api", "", 200, nil},
		{"GET", "/api/explain", "/api/explain?pool=bare&class=GET+/x", "", 200, nil},
		{"GET", "/api/explain", "/api/explain", "", 400, nil},
		{"GET", "/api/explain", "/api/explain?pool=no", "", 404, nil},
		{"GET", "/api/models", "/api/models", "", 200, nil},
		{"GET", "/api/models/{model}/file", "/api/models/" + second + "/file", "", 200, nil},
		{"GET", "/api/models/{model}/file", "/api/models/no/file", "", 404, nil},
		{"POST", promote, "/api/models/" + second + "/promote", `{"why":"because"}`, 200, nil},
		{"POST", promote, "/api/models/" + second + "/promote", "", 409, nil},
		{"POST", promote, "/api/models/" + second + "/promote", "{", 400, nil},
		{"POST", promote, "/api/models/no/promote", "", 404, nil},
		{"POST", promote, "/api/models/no/promote", "", 403, []string{"Origin", "https://evil.example"}},
		{"POST", rollback, "/api/models/" + second + "/rollback", "", 200, nil},
		{"POST", rollback, "/api/models/" + second + "/rollback", "", 409, nil},
		{"POST", rollback, "/api/models/" + second + "/rollback", `{"why":"` + strings.Repeat("x", 501) + `"}`, 400, nil},
		{"POST", rollback, "/api/models/no/rollback", "", 404, nil},
		{"POST", rollback, "/api/models/no/rollback", "", 403, []string{"Origin", "null"}},
		{"GET", "/api/history", "/api/history?pool=api&from=2h&to=2100-01-01&step=1d", "", 200, nil},
		{"GET", "/api/history", "/api/history?by=peer,class&from=1h&to=2100000000000&step=10d", "", 200, nil},
		{"GET", "/api/history", "/api/history?metric=*&pool=api", "", 200, nil},
		{"GET", "/api/history", "/api/history?metric=cpu&by=pool&from=1h&step=10m", "", 200, nil},
		{"GET", "/api/history", "/api/history?metric=cpu&by=class", "", 400, nil},
		{"GET", "/api/history", "/api/history?metric=cpu&class=x", "", 400, nil},
		{"GET", "/api/history", "/api/history?from=7", "", 400, nil},
		{"GET", "/api/history", "/api/history?step=10s", "", 400, nil},
		{"GET", "/api/history/events", "/api/history/events", "", 200, nil},
		{"GET", "/api/history/events", "/api/history/events?kind=health&pool=api&limit=1", "", 200, nil},
		{"GET", "/api/history/events", "/api/history/events?kind=x", "", 400, nil},
		{"GET", "/api/history/events", "/api/history/events?limit=0", "", 400, nil},
		{"GET", "/metrics", "/metrics", "", 200, nil},
		{"GET", "/openapi.yaml", "/openapi.yaml", "", 200, nil},
	}
	covered := map[string]bool{}
	run := func(s step, ask func(string, string, string, ...string) *answer) {
		t.Helper()
		a := ask(s.method, s.path, s.body, s.header...)
		if a.status != s.status {
			t.Errorf("%s %s: %d %.200s, want %d", s.method, s.path, a.status, a.body, s.status)
		}
		holds(t, doc, s.method, s.pattern, a)
		covered[fmt.Sprint(s.method, " ", s.pattern, " ", s.status)] = true
	}
	for _, s := range socket {
		run(s, r.ask)
	}
	r.learn("api", "*", "10.0.0.2:80", observe.Refused, 10) // figures with an ejected peer and its timer
	for _, s := range admin {
		run(s, r.manage)
	}
	r.token.Set("0123456789abcdef")
	for _, s := range admin {
		if s.status == 403 {
			continue // comes before the token
		}
		s.status, s.body = 401, ""
		run(s, r.manage)
	}
	r.token.Set("")
	r.keeper.Measured(record.Measured{MetricSeries: history.MetricSeries{Pool: "api", Peer: "10.0.0.1:80", Metric: "cpu"}, AtMS: time.Now().UnixMilli() - 120_000, Value: 0.5})
	within(t, 10*time.Second, "the metric is kept", func() bool {
		return strings.Contains(r.manage("GET", "/api/history?metric=cpu", "").body, `"mean":[0.5]`)
	})
	run(step{"GET", "/api/history", "/api/history?metric=cpu", "", 200, nil}, r.manage)
	run(step{"GET", "/api/history", "/api/history?metric=*&by=pool", "", 200, nil}, r.manage)
	r.keeper.Event(history.Event{Kind: history.Model, Subject: "v1"})
	within(t, 10*time.Second, "the event is kept", func() bool { return strings.Contains(r.manage("GET", "/api/history/events?kind=model", "").body, "v1") })
	off := start(t, twoPools)
	run(step{"GET", "/api/history", "/api/history", "", 503, nil}, off.manage)
	run(step{"GET", "/api/history/events", "/api/history/events", "", 503, nil}, off.manage)
	r.eng.Watchers().Join()
	for range maxWatchers {
		r.eng.Watchers().Join()
	}
	run(step{"GET", "/watch", "/watch", "", 503, nil}, r.ask)
	r.eng.Close()
	r.token.Set("")
	run(step{"GET", "/healthz", "/healthz", "", 503, nil}, r.ask)
	run(step{"GET", "/api/health", "/api/health", "", 503, nil}, r.manage)

	for pattern, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			for status := range op.Responses.Map() {
				if status != "default" && !covered[method+" "+pattern+" "+status] {
					t.Errorf("%s %s is described to answer %s, and no test has seen it", method, pattern, status)
				}
			}
		}
	}
}

// TestAnAnswerWithAWrongTypeOrAnUndescribedMemberIsNoticed proves that the description is strict enough to fail.
func TestAnAnswerWithAWrongTypeOrAnUndescribedMemberIsNoticed(t *testing.T) {
	doc := describe(t)
	for _, body := range []string{`{"status":7}`, `{"status":"ok","more":1}`, `{}`, `{"status":"fine"}`} {
		item := doc.Paths.Find("/healthz")
		input := &openapi3filter.ResponseValidationInput{
			RequestValidationInput: &openapi3filter.RequestValidationInput{
				Request: &http.Request{Method: "GET", URL: &url.URL{Path: "/healthz"}},
				Route:   &routers.Route{Spec: doc, Path: "/healthz", PathItem: item, Method: "GET", Operation: item.Get},
			},
			Status: 200, Header: http.Header{"Content-Type": {"application/json"}, protocolHeader: {"1"}},
			Body: io.NopCloser(strings.NewReader(body)),
		}
		if err := openapi3filter.ValidateResponse(context.Background(), input); err == nil {
			t.Errorf("%s passes", body)
		}
	}
}
