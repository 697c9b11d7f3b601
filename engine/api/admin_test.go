package api

import (
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/serve"
)

func TestTheTokenIsAskedForWhenThereIsOne(t *testing.T) {
	r := start(t, twoPools)
	if a := r.manage("GET", "/api/health", ""); a.status != 200 {
		t.Errorf("without a token: %d", a.status)
	}
	r.token.Set("s3cret-of-the-site")
	for header, want := range map[string]int{
		"": 401, "s3cret-of-the-site": 401, "Bearer": 401, "Bearer ": 401, "Bearer s3cret": 401, "Basic s3cret-of-the-site": 401,
		"Bearer s3cret-of-the-site": 200, "bearer s3cret-of-the-site": 200,
	} {
		for _, path := range []string{"/api/health", "/metrics", "/openapi.yaml", "/nothing"} {
			want := want
			if path == "/nothing" && want == 200 {
				want = 404
			}
			a := r.manage("GET", path, "", "Authorization", header)
			if a.status != want || (want == 401 && (a.header.Get("WWW-Authenticate") != "Bearer" || strings.Contains(a.body, "s3cret"))) {
				t.Errorf("%s with %q: %d %.100s", path, header, a.status, a.body)
			}
		}
	}
	if a := r.ask("GET", "/healthz", ""); a.status != 200 {
		t.Errorf("the socket has its mode and asks for no token: %d", a.status)
	}
	if strings.Contains(r.logged(), "s3cret") {
		t.Error("the token is in the log")
	}
	r.token.Set("")
	if a := r.manage("GET", "/api/health", ""); a.status != 200 {
		t.Errorf("after the token was taken back: %d", a.status)
	}
}

func TestAPeerIsDrainedAndWeighedOverTheAPIAndNGINXHearsOfIt(t *testing.T) {
	r := start(t, twoPools)
	var f serve.PeerFigures
	for _, peer := range []string{"10.0.0.1:80", "%5B::1%5D:9001", "unix:%2Frun%2Fapp.sock"} {
		before := r.eng.State()
		a := r.manage("PATCH", "/api/pools/api/peers/"+peer, `{"drain":true,"weight":2}`)
		a.into(t, &f)
		if a.status != 200 || f.State != "draining" || f.Weight != 2 {
			t.Errorf("%s: %d %+v", peer, a.status, f)
		}
		select {
		case <-before.Next():
		default:
			t.Errorf("%s: nothing was published", peer)
		}
	}
	if a := r.manage("GET", "/api/pools/api/peers/[::1]:9001", ""); a.status != 200 || !strings.Contains(a.body, `"draining"`) {
		t.Errorf("brackets need no escape: %d %s", a.status, a.body)
	}
	a := r.manage("PATCH", "/api/pools/api/peers/10.0.0.2:80", `{"drain":true}`)
	if a.status != 409 || !strings.Contains(a.body, "last usable peer") || !strings.Contains(a.body, "force") {
		t.Errorf("the last one: %d %s", a.status, a.body)
	}
	r.manage("PATCH", "/api/pools/api/peers/10.0.0.1:80", `{"drain":false}`).into(t, &f)
	if !f.Usable || f.State != "slow_start" {
		t.Errorf("undrained: %+v", f)
	}
	r.manage("GET", "/api/pools/api/peers/10.0.0.1:80", "").into(t, &f)
	if f.Weight != 2 {
		t.Errorf("%+v", f)
	}
	for _, c := range []struct {
		path, body string
		status     int
		says       string
	}{
		{"/api/pools/no/peers/10.0.0.1:80", `{"drain":true}`, 404, `"known":["api","bare"]`},
		{"/api/pools/api/peers/9.9.9.9:1", `{"drain":true}`, 404, `"known":["10.0.0.1:80",`},
		{"/api/pools/bare/peers/9.9.9.9:1", `{"drain":true}`, 404, "no other either"},
		{"/api/pools/api/peers/10.0.0.1:80", ``, 400, "empty"},
		{"/api/pools/api/peers/10.0.0.1:80", `{}`, 400, "drain"},
		{"/api/pools/api/peers/10.0.0.1:80", `{"force":true}`, 400, "drain"},
		{"/api/pools/api/peers/10.0.0.1:80", `{"drian":true}`, 400, "drian"},
		{"/api/pools/api/peers/10.0.0.1:80", `{"drain":"yes"}`, 400, "drain"},
		{"/api/pools/api/peers/10.0.0.1:80", `{"drain":true}x`, 400, "follows"},
		{"/api/pools/api/peers/10.0.0.1:80", `{"weight":0}`, 400, "weight 0 is outside"},
		{"/api/pools/api/peers/10.0.0.1:80", `{"weight":1e300}`, 400, "outside"},
		{"/api/pools/api/peers/10.0.0.1:80", strings.Repeat(" ", maxAdminBody+1), 413, "65536 bytes"},
	} {
		if a := r.manage("PATCH", c.path, c.body); a.status != c.status || !strings.Contains(a.body, c.says) {
			t.Errorf("%s %.40s: %d %.200s; want %d and %s", c.path, c.body, a.status, a.body, c.status, c.says)
		}
	}
}

func TestRoutePicksForADescribedRequestAndSaysWhy(t *testing.T) {
	r := start(t, twoPools)
	a := r.manage("POST", "/api/route", `{"pool":"api","method":"POST","path":"/users/7/orders","body_bytes":2000,"weight":1.5}`)
	var got routed
	a.into(t, &got)
	if a.status != 200 || got.Pool != "api" || got.Policy != "analytic" || got.Peer == "" || got.Reason == "" || len(got.Alternatives) != 3 || got.PredictedMS <= 0 {
		t.Errorf("%d %s", a.status, a.body)
	}
	for body, status := range map[string]int{`{"pool":"no"}`: 404, `{"pool":"bare"}`: 503, `x`: 400} {
		if a := r.manage("POST", "/api/route", body); a.status != status {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
}

func TestFiguresShowTrafficFailuresAndShares(t *testing.T) {
	r := start(t, twoPools)
	r.learn("api", "*", "10.0.0.1:80", observe.OK, 6)
	r.learn("api", "*", "10.0.0.2:80", observe.OK, 1)
	r.learn("api", "*", "10.0.0.2:80", observe.Status, 1)
	r.learn("api", "*", "10.0.0.2:80", observe.Abort, 1)
	var f serve.Figures
	r.manage("GET", "/api/metrics", "").into(t, &f)
	one, two := f.Pools[0].Peers[0], f.Pools[0].Peers[1]
	if one.Attempts != 6 || *one.Share10s < 0.6 || *one.Share10s > 0.7 || *one.Latency.P50 < 4 || *one.Latency.P50 > 6 {
		t.Errorf("%+v", one)
	}
	if two.Failures["status"] != 1 || two.Others["abort"] != 1 || f.Pools[0].Attempts1m != 9 || f.Pools[1].Peers == nil {
		t.Errorf("%+v", two)
	}
	if _, there := f.Pools[0].Peers[1].Failures["abort"]; there {
		t.Error("an abort counts as a failure")
	}
}

func TestMetricsPleasePromtoolWithARealEngine(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed")
	}
	r := start(t, twoPools)
	r.learn("api", "GET /\"weird\\", "10.0.0.1:80", observe.OK, 6)
	r.ask("GET", "/some/path/that/must/not/become/a/label", "")
	r.manage("GET", "/metrics", "")
	a := r.manage("GET", "/metrics", "")
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(a.body)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
	if strings.Contains(a.body, "must/not") || strings.Contains(a.body, "weird") {
		t.Error("what clients send has become a label")
	}
	for _, want := range []string{
		`weir_http_requests_total{listener="socket",route="/observe",code="200"} 1`,
		`weir_http_requests_total{listener="socket",route="none",code="404"} 1`,
		`weir_http_requests_total{listener="admin",route="/metrics",code="200"} 1`,
	} {
		if !strings.Contains(a.body, want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestModelsArePromotedAndRolledBackOverTheAPI(t *testing.T) {
	r := start(t, twoPools)
	second := r.twoModels()
	var f serve.ModelsFigures
	r.manage("GET", "/api/models", "").into(t, &f)
	first := *f.Current
	if f.Candidate == nil || *f.Candidate != second || len(f.Models) != 2 || f.Models[0].ID != first || f.Models[0].Card["name"] != "test" {
		t.Fatalf("%+v", f)
	}
	r.manage("POST", "/api/models/"+second+"/promote", `{"why":"it is Monday"}`).into(t, &f)
	if *f.Current != second || *f.Previous != first || f.Events[len(f.Events)-1].Detail != "it is Monday" || f.Events[len(f.Events)-1].By != "operator" {
		t.Errorf("%+v", f)
	}
	within(t, 5*time.Second, "the tables are the learned policy's", func() bool {
		r.manage("GET", "/api/models", "").into(t, &f)
		return strings.Contains(r.manage("GET", "/api/pools", "").body, `"policy":"learned"`) && f.Models[0].Tables > 0
	})
	if a := r.manage("GET", "/api/models/"+second+"/file", ""); a.status != 200 || model.ID([]byte(a.body)) != second {
		t.Errorf("the file: %d, %d bytes", a.status, len(a.body))
	}
	r.manage("POST", "/api/models/"+second+"/rollback", "").into(t, &f)
	if *f.Current != first || f.Previous != nil {
		t.Errorf("%+v", f)
	}
	// A page in the browser of somebody on this host.
	for origin, status := range map[string]int{"http://evil.example": 403, "null": 403, "http://" + r.admin.Addr().String(): 200} {
		if a := r.manage("POST", "/api/models/"+second+"/promote", "", "Origin", origin); a.status != status {
			t.Errorf("from %s: %d %s", origin, a.status, a.body)
		}
	}
	if a := r.manage("PATCH", "/api/pools/api/peers/10.0.0.1:80", `{"drain":true}`, "Origin", "http://evil.example"); a.status != 403 {
		t.Errorf("a drain from another site: %d", a.status)
	}
	// A site whose name points at this host for a moment: its page is of one origin with the listener.
	for host, want := range map[string]int{"evil.example:9180": 403, "evil.example": 403, "localhost:9180": 200, "127.0.0.1:9180": 200, "[::1]:9180": 200, "[::1]": 200} {
		req, err := http.NewRequest("PATCH", "http://"+r.admin.Addr().String()+"/api/pools/api/peers/10.0.0.1:80", strings.NewReader(`{"weight":2}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		req.Header.Set("Origin", "http://"+host)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("a weight from a page of %s: %d, want %d", host, resp.StatusCode, want)
		}
	}
	if a := r.manage("GET", "/api/models", "", "Origin", "http://grafana.example"); a.status != 200 {
		t.Errorf("reading is not refused: %d", a.status)
	}
}

func TestHEADIsAnsweredAsGETWithoutTheBody(t *testing.T) {
	r := start(t, twoPools)
	for path, status := range map[string]int{
		"/metrics": 200, "/api/health": 200, "/api/pools": 200, "/openapi.yaml": 200, "/api/pools/no": 404, "/api/route": 405, "/none": 404,
	} {
		head := r.manage("HEAD", path, "")
		get := r.manage("GET", path, "")
		if head.status != status || get.status != status || head.body != "" || head.header.Get("Content-Type") != get.header.Get("Content-Type") {
			t.Errorf("%s: HEAD %d %q %v, GET %d", path, head.status, head.body, head.header, get.status)
		}
	}
	if a := r.manage("HEAD", "/metrics", "", "Origin", "http://elsewhere.example"); a.status != 200 {
		t.Errorf("of another site's page: %d, where GET is answered", a.status)
	}
	if a := r.ask("HEAD", "/healthz", ""); a.status != 200 {
		t.Errorf("on the socket: %d", a.status)
	}
	r.token.Set("0123456789abcdef")
	if a := r.manage("HEAD", "/metrics", ""); a.status != 401 {
		t.Errorf("without the token: %d", a.status)
	}
	if a := r.manage("HEAD", "/metrics", "", "Authorization", "Bearer 0123456789abcdef"); a.status != 200 {
		t.Errorf("with the token: %d", a.status)
	}
}

func TestAQueryParameterThatIsUnknownOrTwiceIsRefused(t *testing.T) {
	r := startKeeping(t, twoPools)
	for path, want := range map[string]string{
		"/api/history?form=24h":                "form",
		"/api/history?from=1h&from=24h":        "twice",
		"/api/history/events?kind=health&xyz":  "xyz",
		"/api/explain?pool=api&clas=*":         "clas",
		"/api/explain?pool=api&pool=bare":      "twice",
		"/api/pools?pool=api":                  "takes no parameter in its URL",
		"/api/pools/api/peers/10.0.0.1:80?x=1": "takes no parameter in its URL",
	} {
		if a := r.manage("GET", path, ""); a.status != 400 || !strings.Contains(a.body, want) {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	var p problem
	r.manage("GET", "/api/history?form=24h", "").into(t, &p)
	if !slices.Contains(p.Known, "from") {
		t.Errorf("the known ones are not named: %+v", p)
	}
	// What scrapers add to their addresses asks for nothing else.
	for _, path := range []string{"/metrics?format=prometheus", "/openapi.yaml?v=1", "/api/pools?", "/api/history?from=1h&by=pool"} {
		if a := r.manage("GET", path, ""); a.status != 200 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if a := r.manage("PATCH", "/api/pools/api/peers/10.0.0.1:80?force=true", `{"drain": true}`); a.status != 400 {
		t.Errorf("PATCH: %d %s", a.status, a.body)
	}
}

func TestABodyThatIsRefusedIsToldInTermsOfJSON(t *testing.T) {
	r := start(t, `
pools:
  - {name: api, peers: ["10.0.0.1:80", {address: "10.0.0.2:80", group: canary}], split: {group: canary, share: 0.1}}
`)
	const peer, split, route = "/api/pools/api/peers/10.0.0.1:80", "/api/pools/api/split", "/api/route"
	for _, c := range []struct{ method, path, body, want string }{
		{"PATCH", peer, `[]`, "it must be an object, not a list"},
		{"PATCH", peer, `5`, "it must be an object, not a number"},
		{"PATCH", peer, `"drain"`, "it must be an object, not a string"},
		{"PATCH", peer, `{"drain": "yes"}`, "drain must be true or false, not a string"},
		{"PATCH", peer, `{"weight": [2]}`, "weight must be a number, not a list"},
		{"PATCH", peer, `{"weight": 1e999}`, "weight: there is no room for the number 1e999"},
		{"PATCH", peer, `{"weight": 2, "weight": 3}`, `\"weight\" is there twice`},
		{"PATCH", peer, `{"drain": true, "Drain": false}`, `\"Drain\" is there twice`},
		{"PATCH", peer, `{"drain": true, "colour": 1}`, `unknown field \"colour\"`},
		{"PATCH", peer, `{"drain": tr`, "it ends too early"},
		{"PATCH", split, `{"share": true}`, "share must be a number, not true or false"},
		{"PATCH", split, `{"share": 0.1, "share": 0.9}`, `\"share\" is there twice`},
		{"POST", "/api/models/x/promote", `{"why": {}}`, "why must be a string, not an object"},
		{"POST", route, `{"pool": "api", "pool": "next"}`, `\"pool\" is there twice`},
		{"POST", route, `{"pool": "api", "inflight": {"10.0.0.1:80": 1, "10.0.0.1:80": 9}}`, `\"10.0.0.1:80\" is there twice`},
	} {
		a := r.manage(c.method, c.path, c.body)
		if a.status != 400 || !strings.Contains(a.body, c.want) || strings.Contains(a.body, "Go value") || strings.Contains(a.body, "struct") {
			t.Errorf("%s %s: %d %s", c.path, c.body, a.status, a.body)
		}
	}
}

func TestAPeerIsFoundHoweverItsAddressIsSpelled(t *testing.T) {
	r := startKeeping(t, twoPools)
	for spelled, want := range map[string]string{
		"%5B0:0:0:0:0:0:0:1%5D:9001": "[::1]:9001", "10.0.0.1:080": "10.0.0.1:80", "%5B::ffff:10.0.0.1%5D:80": "10.0.0.1:80",
		"unix:%2Frun%2F%2Fapp.sock": "unix:/run/app.sock",
	} {
		for method, body := range map[string]string{"GET": "", "PATCH": `{"weight": 2}`} {
			if a := r.manage(method, "/api/pools/api/peers/"+spelled, body); a.status != 200 || !strings.Contains(a.body, `"addr":"`+want+`"`) {
				t.Errorf("%s %s: %d %.200s", method, spelled, a.status, a.body)
			}
		}
	}
	if a := r.manage("GET", "/api/pools/api/peers/%5B::2%5D:9001", ""); a.status != 404 {
		t.Errorf("a peer that is not there: %d", a.status)
	}
}
