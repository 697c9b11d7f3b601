package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/weirlb/weir/test/e2e/rig"
)

// With one client in-flight counts tell nothing: what moves the traffic is learned.
func TestTrafficLeavesAPeerThatTurnsSlowAndComesBack(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b", "c"}, Settings: "slow_start_ms: 0"}}})
	for _, b := range []string{"a", "b", "c"} {
		r.Backend(b).Set(`{"slots":4,"default":{"mean_ms":10}}`)
	}
	q := rig.Request{Path: "/api/x"}
	var even []rig.Answer
	r.Within(75*time.Second, "c has a part of the traffic, as one of three equal peers", func() error {
		even = append(even, traffic(r, 500*time.Millisecond, 1, q)...)
		if share := rig.Share(even, "c"); share < 0.1 {
			return fmt.Errorf("%.0f %%", 100*share)
		}
		return nil
	})
	r.WantAll(even, 200)
	r.Backend("c").Set(`{"speed":0.1}`)
	slow := traffic(r, 3*time.Second, 1, q)
	r.WantAll(slow, 200)
	if share := rig.Share(slow[len(slow)/2:], "c"); share > 0.12 {
		t.Errorf("at a tenth of the speed c still got %.0f %%", 100*share)
	}
	r.Backend("c").Set(`{"speed":1}`)
	load := r.StartLoad(6, 0, q)
	// Only exploration and the control slice try c, one request in a hundred: with six clients it is found again in a fraction of the
	// time one would need.
	r.Within(5*rig.Patience, "the peer that recovered has its share again", func() error {
		all := load.Answers()
		if share := rig.Share(all[len(all)-min(len(all), 300):], "c"); share < 0.2 {
			return fmt.Errorf("%.0f %%", 100*share)
		}
		return nil
	})
	load.Stop()
}

func TestPeersThatSuitAClassGetIt(t *testing.T) {
	t.Parallel()
	const class = `{"slots":4,"classes":{"light":{"mean_ms":10},"heavy":{"mean_ms":40}},"affinity":{"light":%g,"heavy":%g}}`
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: "slow_start_ms: 0"}}})
	r.Backend("a").Set(fmt.Sprintf(class, 4.0, 0.25))
	r.Backend("b").Set(fmt.Sprintf(class, 0.5, 2.0))
	light := r.StartLoad(2, 0, rig.Request{Path: "/api/light/1"})
	heavy := r.StartLoad(2, 0, rig.Request{Path: "/api/heavy/1"})
	recent := func(l *rig.Load) []rig.Answer {
		all := l.Answers()
		return all[len(all)-min(len(all), 100):]
	}
	time.Sleep(2 * time.Second)
	r.Eventually("each class goes to the peer that is quick with it", func() error {
		onB, onA := rig.Share(recent(light), "b"), rig.Share(recent(heavy), "a")
		if onB < 0.85 || onA < 0.85 {
			return fmt.Errorf("%.0f %% of light on b, %.0f %% of heavy on a", 100*onB, 100*onA)
		}
		return nil
	})
	r.WantAll(light.Stop(), 200)
	r.WantAll(heavy.Stop(), 200)
}

// A weight set over the API is in the table at once, and NGINX goes by it: of peers that are alike the heavier is cheaper by its weight.
func TestMostRequestsGoToTheHeavierOfPeersThatAreAlike(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: "slow_start_ms: 0"}}})
	for _, p := range []string{"a", "b"} {
		r.Backend(p).Set(`{"slots":4,"default":{"mean_ms":10}}`)
	}
	load := r.StartLoad(2, 0, rig.Request{Path: "/api/x"})
	for _, heavy := range []string{"b", "a"} {
		light := string('a' + 'b' - heavy[0])
		r.Engine.Patch(r.Engine.PeerPath("api", light), `{"weight":1}`)
		r.Engine.Patch(r.Engine.PeerPath("api", heavy), `{"weight":10}`)
		r.Eventually(heavy+", which is ten times as heavy, gets most requests", func() error {
			all := load.Answers()
			if share := rig.Share(all[len(all)-min(len(all), 100):], heavy); share < 0.75 {
				return fmt.Errorf("%.0f %% of the last 100", 100*share)
			}
			return nil
		})
	}
	r.WantAll(load.Stop(), 200)
}

// A subrequest shares its variables with the main request.
func TestTheAccessLogNamesNoPeerOfASubrequestAsTheRequestsOwn(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}}},
		Server: `
    location /file/ { auth_request /authz; content_by_lua_block { ngx.say("a file") } }
    location = /authz { internal; proxy_pass http://api/status/204; include ` + programs.Repo + `/nginx/proxy.conf; }
`,
	})
	answers := r.Send(10, 1, rig.Request{Path: "/file/x"})
	r.WantAll(answers, 200)
	var entries []rig.Entry
	r.Eventually("the access log has requests and subrequests", func() error {
		if entries = r.NGINX.AccessLog(0); len(entries) < 20 {
			return fmt.Errorf("it has %d lines", len(entries))
		}
		return nil
	})
	for _, e := range entries {
		peer, attempts := "-", "0"
		if e.Status == 204 {
			peer, attempts = r.Addr("a"), "1"
		}
		if e.Peer != peer || e.Attempts != attempts || (e.Policy == "-") != (peer == "-") || peer == "-" && e.PredictedMS != "-" {
			t.Errorf("logged is %+v, with peer %s as it should be", e, peer)
		}
	}
}

// A request that no log phase of Weir's ended leaves its record behind for a moment, in which NGINX gives its memory to the next one.
func TestTheAccessLogNamesNoPeerOfARequestBeforeThatWasNotLogged(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		Workers: 1, Tap: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}, Location: "log_by_lua_block { }"}},
		Server: "location = /file { return 200 file; }",
	})
	r.Backend("a").Set(`{"default":{"mean_ms":3}}`) // the next request begins at another millisecond
	var files []rig.Answer
	for range 20 {
		r.WantAll([]rig.Answer{r.Do(rig.Request{Path: "/api/x"})}, 200)
		files = append(files, r.Do(rig.Request{Path: "/file"}))
	}
	r.WantAll(files, 200)
	for _, e := range r.NGINX.Logged(files) {
		if e.Peer != "-" || e.Policy != "-" || e.Attempts != "0" {
			t.Errorf("logged of a file is %+v", e)
		}
	}
	r.NGINX.Stop() // which sends what there is
	if records := r.Tap.Records(t); len(records) != 0 {
		t.Errorf("the engine is told of %+v", records)
	}
}

func TestTheAccessLogMissesNoPeerWhereARequestThatWasLetInNeededNone(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		Workers: 1, Pools: []rig.Pool{{
			Name: "api", Peers: []string{"a"}, Settings: "max_inflight: 5",
			Location: `access_by_lua_block { require("resty.weir").admit("api") } proxy_cache one; proxy_cache_valid 200 1h;`,
		}},
		HTTP:   "proxy_cache_path cache keys_zone=one:1m;\nlua_shared_dict weir_rate 1m;",
		Server: `location /file/ { access_by_lua_block { require("resty.weir").rate("api", "rate=1r/h") } content_by_lua_block { ngx.say("a file") } }`,
	})
	r.WantAll(r.Send(1, 1, rig.Request{Path: "/api/x"}), 200)
	answers := append(r.Send(2, 1, rig.Request{Path: "/api/x"}), r.Do(rig.Request{Path: "/file/x"}))
	r.WantAll(answers, 200)
	for _, e := range r.NGINX.Logged(answers) {
		if e.Addr != "" || e.Peer != "-" || e.Policy != "-" || e.Attempts != "0" {
			t.Errorf("logged is %+v", e)
		}
	}
}

func TestTheAccessLogTellsEachDecision(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		Tap:   true,
		Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: "explore: 0\ncontrol: 0", Location: "access_log access.json weir_json; access_log access.log e2e;"}},
		HTTP: `map $http_x_class $weir_class { default $http_x_class; }
  map $http_x_weight $weir_weight { default $http_x_weight; }`,
	})
	plain := r.Send(20, 2, rig.Request{Path: "/api/users/42"})
	own := r.Send(5, 1, rig.Request{Path: "/api/users/42", Header: map[string]string{"X-Class": "big report", "X-Weight": "2.5"}})
	post := r.Send(5, 1, rig.Request{Path: "/api/users/42", Body: "text"})
	r.WantAll(append(append(plain, own...), post...), 200)
	policy := r.Engine.Decide("api", "*").Settings.Policy
	want := func(answers []rig.Answer, class string) {
		t.Helper()
		for i, e := range r.NGINX.Logged(answers) {
			predicted, err := strconv.ParseFloat(e.PredictedMS, 64)
			if e.Class != class || e.Policy != policy || r.Name(e.Peer) != answers[i].Peer || e.Attempts != "1" || err != nil || predicted < 0 {
				t.Errorf("%s answered by %s is logged as %+v (class should be %s)", answers[i].ID, answers[i].Peer, e, class)
			}
		}
	}
	want(plain, "GET /api/users/{n}")
	want(own, "big report")
	want(post, "POST /api/users/{n} b1k")
	weighed := r.WaitRecords(5, func(rec rig.Record) bool { return rec.Class == "big report" })
	for _, rec := range weighed {
		if rec.Weight != 2.5 {
			t.Errorf("the weight hint of 2.5 arrives as %v", rec.Weight)
		}
	}
	r.WaitRecords(20, func(rec rig.Record) bool { return rec.Class == "GET /api/users/{n}" && rec.Weight == 0 })

	text, err := os.ReadFile(r.File("access.json"))
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for line := range strings.Lines(string(text)) {
		var e struct {
			Peer  string `json:"weir_peer"`
			Class string `json:"weir_class"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Peer == "" || e.Class == "" {
			t.Errorf("weir_json wrote %s: %v", line, err)
		}
		lines++
	}
	if lines != 30 {
		t.Errorf("weir_json wrote %d lines, want 30", lines)
	}
}

// A variable that no directive reads has no place in the request, and Weir finds out once a worker whether the configuration sets these two.
func TestHintsAreFollowedWhereverTheyAreSet(t *testing.T) {
	t.Parallel()
	const own = "own"
	for name, c := range map[string]struct {
		http, location string
		class          string
		weight         float64
	}{
		"nowhere":                {class: "GET /api/users/{n}"},
		"by a map":               {http: "map $http_x_class $weir_class { default $http_x_class; }", class: own},
		"by a map of the weight": {http: "map $http_x_weight $weir_weight { default $http_x_weight; }", class: "GET /api/users/{n}", weight: 2.5},
		"by geo":                 {http: "geo $weir_class { default own; }", class: own},
		"in the location":        {location: "set $weir_class own; set $weir_weight 2.5;", class: own, weight: 2.5},
		"by Lua":                 {location: `rewrite_by_lua_block { ngx.var.weir_class = "own" }`, http: `log_format other "$weir_class";`, class: own},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, rig.Options{
				Tap: true, Workers: 1, NoLog: true, HTTP: c.http,
				Pools: []rig.Pool{{Name: "plain", Peers: []string{"b"}}, {Name: "api", Peers: []string{"a"}, Location: c.location}},
			})
			// the first request, with which the worker finds out, is one without hints, to another location
			r.WantAll(r.Send(1, 1, rig.Request{Path: "/plain/users/42"}), 200)
			r.WantAll(r.Send(5, 1, rig.Request{Path: "/api/users/42", Header: map[string]string{"X-Class": own, "X-Weight": "2.5"}}), 200)
			records := r.WaitRecords(5, func(rec rig.Record) bool { return rec.Pool == "api" })
			for _, rec := range records {
				if rec.Class != c.class || rec.Weight != c.weight {
					t.Errorf("class %q, weight %v; want %q, %v", rec.Class, rec.Weight, c.class, c.weight)
				}
			}
		})
	}
}

func TestAPoolWithoutPeersAnswersAClearPage(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "empty"}, {Name: "api", Peers: []string{"a"}}}})
	a := r.Do(rig.Request{Path: "/empty/x"})
	if a.Status != 503 || !strings.Contains(a.Body, "No server is registered") || a.Header.Get("Retry-After") == "" || a.Took > 2*time.Second {
		t.Errorf("after %v: status %d, Retry-After %q, %q", a.Took, a.Status, a.Header.Get("Retry-After"), a.Body)
	}
	if post := r.Do(rig.Request{Path: "/empty/x", Body: "an order"}); post.Status != 503 {
		t.Errorf("a POST: status %d", post.Status)
	}
	if _, body := r.Engine.Get("/api/health"); !strings.Contains(string(body), "empty") {
		t.Errorf("the engine's health says nothing of the pool: %s", body)
	}
	r.WantAll(r.Send(5, 1, rig.Request{Path: "/api/x"}), 200)

	r.StartBackend("late", false)
	r.SetPeers("empty", "late")
	r.WaitConnected()
	r.WantAll(r.Send(5, 1, rig.Request{Path: "/empty/x"}), 200)
	r.SetPeers("empty")
	r.Eventually("the pool is empty again", func() error {
		if a := r.Do(rig.Request{Path: "/empty/x"}); a.Status != 503 {
			return fmt.Errorf("status %d", a.Status)
		}
		return nil
	})
}

// Case 22, from the file.
func TestIPv6PeersWorkToTheLastLabel(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, IPv6: true, Settings: checks}}})
	answers := r.Send(60, 6, rig.Request{Path: "/api/x"})
	r.WantAll(answers, 200)
	addr := r.Addr("a")
	if !strings.HasPrefix(addr, "[::1]:") {
		t.Fatalf("the peer is on %s", addr)
	}
	for i, e := range r.NGINX.Logged(answers) {
		if r.Name(e.Peer) != answers[i].Peer || e.Peer != e.Addr {
			t.Errorf("logged as %+v", e)
		}
	}
	r.WaitRecords(1, func(rec rig.Record) bool { return rec.Peer == addr && rec.Kind == rig.KindOK })
	r.Engine.WaitAttempts("api", "a", 1)
	if s := r.Engine.Samples(`weir_attempts_total{pool="api",peer="` + addr + `",kind="ok"}`); len(s) != 1 {
		t.Errorf("no series of %s: %v", addr, r.Engine.Samples("weir_attempts_total"))
	}
	r.Eventually("the peer is probed", func() error {
		if r.Backend("a").Stats().Probes == 0 {
			return fmt.Errorf("no probe")
		}
		return nil
	})
	r.Engine.Patch(r.Engine.PeerPath("api", "a"), `{"weight":2}`)
	r.Backend("b").Set(`{"refuse":true}`)
	r.WantAll(r.Send(40, 4, rig.Request{Path: "/api/x"}), 200)
	wantCleanMetrics(r, 1000)
}

func TestIPv6StaticPeersServeWithoutAnEngine(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{NoEngine: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, IPv6: true}}})
	r.Backend("a").Set(`{"refuse":true}`)
	r.WantAll(r.Send(40, 4, rig.Request{Path: "/api/x"}), 200)
}

// The shipped snippets and the checker agree about a whole configuration.
func TestTheRigsOwnConfigurationPassesTheCheck(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}}})
	if ok, said := r.Check(r.ConfigText(), "--nginx", r.NGINX.File()); !ok {
		t.Errorf("weir check: %s", said)
	}
	if ok, said := r.NGINX.Test(); !ok {
		t.Errorf("nginx -t: %s", said)
	}
}

func TestTheJSONLogHasANumberForEveryStatus(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		NoEngine: true, Workers: 1, Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}}}, Main: "worker_shutdown_timeout 1s;",
		Server: "access_log access.json weir_json; location /upload/ { proxy_request_buffering off; proxy_pass http://api/; include " + programs.Repo + "/nginx/proxy.conf; }",
	})
	r.Do(rig.Request{Path: "/api/x"})
	c := r.NGINX.Dial() // an upload that the worker's end cuts off
	if _, err := io.WriteString(c, "PUT /upload/x HTTP/1.1\r\nHost: app\r\nContent-Length: 1000\r\n\r\nthe beginning"); err != nil {
		t.Fatal(err)
	}
	wantTotal(r, 1)
	r.NGINX.Reload()
	_, _ = io.ReadAll(c)
	r.Backend("a").Set(`{"raw":"SSH-2.0-OpenSSH_9.2\r\n"}`)
	r.Do(rig.Request{Path: "/api/x"})
	r.Eventually("all are logged", func() error {
		log, err := os.ReadFile(r.File("access.json"))
		if err != nil {
			return err
		}
		var got []int
		for line := range bytes.Lines(log) {
			var e struct{ Status int }
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			got = append(got, e.Status)
		}
		if want := []int{200, 0, 9}; !slices.Equal(got, want) {
			return fmt.Errorf("got %d, want %d", got, want)
		}
		return nil
	})
}

// NGINX escapes quotes and control characters for JSON and leaves other bytes alone; strict readers refuse a line that is no UTF-8.
func TestTheJSONLogIsUTF8WhateverTheClientSends(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{NoEngine: true, Workers: 1, Server: "access_log access.json weir_json; location /x { return 204; }"})
	var want []string
	for _, x := range []struct{ path, host, line string }{
		{"/x/%C3%A9t%C3%A9/%E2%82%AC/%F0%9F%98%80", "app", "app /x/été/€/😀"},
		{"/x/%ff%00", "app", ""}, // NGINX refuses a NUL
		{"/x/%22%5C%0a", "app", "app /x/\"\\\n"},
		{"/x/%ff?q=1", "app", "app /x/%ff?q=1"},
		{"/x/%C0%AF", "app", "app /x/%C0%AF"},             // overlong
		{"/x/%ED%A0%80", "app", "app /x/%ED%A0%80"},       // a surrogate
		{"/x/%F4%90%80%80", "app", "app /x/%F4%90%80%80"}, // above U+10FFFF
		{"/x/%C3", "app", "app /x/%C3"},                   // cut off
		{"/x/\xff", "app", "app -"},
		{"/x/\xc3\xa9", "\xffapp", "- /x/é"},
		{"/x/" + strings.Repeat("%C3%A9", 900) + "%ff", "app", "app /x/" + strings.Repeat("%C3%A9", 900) + "%ff"},
	} {
		c := r.NGINX.Dial()
		if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", x.path, x.host); err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(c)
		if bytes.HasPrefix(answer, []byte("HTTP/1.1 204 ")) {
			want = append(want, x.line)
		} else {
			t.Logf("%q: %.20q", x.path, answer)
		}
	}
	r.Eventually("all are logged", func() error {
		log, err := os.ReadFile(r.File("access.json"))
		if err != nil {
			return err
		}
		var got []string
		for line := range bytes.Lines(log) {
			var e struct {
				Host, URI string
				Status    int
			}
			if err := json.Unmarshal(line, &e); err != nil || !utf8.Valid(line) {
				t.Fatalf("%q is no JSON in UTF-8: %v", line, err)
			}
			if e.Status == 204 {
				got = append(got, e.Host+" "+e.URI)
			}
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
}
