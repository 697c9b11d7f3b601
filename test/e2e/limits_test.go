package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

var rates = [...]int{500, 3000, 10000}

// ofNGINX tells whether NGINX's own limiter can keep the rate: without a burst it takes a request only when it has owed nothing since the last,
// and its clock has whole milliseconds.
func ofNGINX(rate, burst int) bool { return burst > 0 || rate <= 1000 }

// counted is Lua that counts the request in the millisecond it came in: of Weir's clock, or of NGINX's, which stands while a worker is busy.
func counted(what string, byNGINX bool) string {
	clock := `require("resty.weir.clock").now_ms()`
	if byNGINX {
		clock = "ngx.now() * 1000"
	}
	return fmt.Sprintf(`ngx.shared.counts:incr("%s" .. math.floor(%s), 1, 0)`, what, clock)
}

// Case 15. Every combination runs on Weir's limiter, with one worker and with two, and on NGINX's where that can keep it.
//
// NGINX counts what comes and what the limiter lets in by the millisecond, since a busy machine leaves NGINX or the load generator waiting for
// longer than a burst lasts: what was not offered cannot be accepted. So the limiter is held to a bucket that is offered the same.
func TestRateLimitsAcceptTheConfiguredRate(t *testing.T) {
	patience := time.Now().Add(20 * time.Second)
	for workers := 1; workers <= 2; workers++ {
		http, server := "limit_req_log_level info; lua_shared_dict weir_rate 1m; lua_shared_dict counts 4m;", "include "+filepath.Join(programs.Repo, "nginx/limits.conf")+";\n"+
			`location = /counts { access_log off; content_by_lua_block {
				local d, out = ngx.shared.counts, {}
				for _, k in ipairs(d:get_keys(0)) do out[k] = d:get(k) end
				d:flush_all()
				ngx.print(require("cjson").encode(out))
			} }`
		for _, rate := range rates {
			http += fmt.Sprintf("limit_req_zone $server_port zone=rate%d:1m rate=%dr/s;\n", rate, rate)
			for _, burst := range []int{0, 100} {
				limit := fmt.Sprintf("limit_req zone=rate%d;", rate)
				if burst > 0 {
					limit = fmt.Sprintf("limit_req zone=rate%d burst=%d nodelay;", rate, burst)
				}
				server += fmt.Sprintf("location = /nginx/%d/%d { rewrite_by_lua_block { %s } %s access_by_lua_block { %s } access_log off; empty_gif; }\n",
					rate, burst, counted("came", true), limit, counted("let", true))
				server += fmt.Sprintf("location = /weir/%d/%d { access_by_lua_block { %s require(\"resty.weir\").rate(\"api\", \"rate=%dr/s burst=%d\") %s } access_log off; empty_gif; }\n",
					rate, burst, counted("came", false), rate, burst, counted("let", false))
			}
		}
		r := start(t, rig.Options{
			NoEngine: true, NoLog: true, Workers: workers, Main: "error_log error.log crit;", HTTP: http, Server: server,
			Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}}},
		})
		for _, rate := range rates {
			for _, burst := range []int{0, 100} {
				t.Run(fmt.Sprintf("%d a second, burst %d, %d workers", rate, burst, workers), func(t *testing.T) {
					wantRate(t, r, "/weir", rate, burst, patience)
				})
				if workers == 2 && ofNGINX(rate, burst) {
					t.Run(fmt.Sprintf("%d a second, burst %d, by NGINX", rate, burst), func(t *testing.T) {
						wantRate(t, r, "/nginx", rate, burst, patience)
					})
				}
			}
		}
	}
}

// offer has wrk send what it can to a path for half a second and more, and returns what NGINX counted, by the millisecond.
func offer(r *rig.Rig, path string) (came, let []int) {
	r.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "wrk", "-t", "1", "-c", "40", "-d", "10s", "http://"+r.NGINX.Addr+path)
	if err := cmd.Start(); err != nil {
		r.T.Fatal(err)
	}
	time.Sleep(600 * time.Millisecond)
	_ = cmd.Process.Signal(os.Interrupt) // wrk takes whole seconds only
	_ = cmd.Wait()
	a := r.Do(rig.Request{Path: "/counts"})
	var counts map[string]int
	if err := json.Unmarshal([]byte(a.Body), &counts); err != nil {
		r.T.Fatalf("%v: %q, %v", err, a.Body, a.Err)
	}
	at := func(key string) (what string, ms int) {
		i := strings.IndexAny(key, "0123456789")
		ms, _ = strconv.Atoi(key[i:])
		return key[:i], ms
	}
	from, to := math.MaxInt, 0
	for key := range counts {
		_, ms := at(key)
		from, to = min(from, ms), max(to, ms)
	}
	if len(counts) == 0 || to-from > 10_000 {
		return nil, nil
	}
	came, let = make([]int, to-from+1), make([]int, to-from+1)
	for key, n := range counts {
		if what, ms := at(key); what == "came" {
			came[ms-from] += n
		} else {
			let[ms-from] += n
		}
	}
	return came, let
}

// bucket is what a token bucket of this size, full at first, lets in of what came each millisecond.
func bucket(came []int, perMS, size float64) (let []int) {
	tokens := size
	for _, n := range came {
		tokens = min(size, tokens+perMS)
		n = min(n, int(tokens+1e-9))
		tokens -= float64(n)
		let = append(let, n)
	}
	return let
}

func total(list []int) (all float64) {
	for _, n := range list {
		all += float64(n)
	}
	return all
}

// wantRate tries up to three times to offer a load that comes steadily, once when patience is over. Whatever came is held to the bucket.
func wantRate(t *testing.T, r *rig.Rig, limiter string, rate, burst int, patience time.Time) {
	const skip = 100 // ms at the start, in which the burst is used up
	size := float64(burst) + 1
	tolerance := 0.5 // NGINX goes by a clock that stands while a worker is busy, each worker by its own
	if limiter == "/weir" {
		size += 0.01 * float64(rate) // the 10 ms that it saves up
		tolerance = 0.05
	}
	steady, mostly := false, false
	for try := 0; try < 1 || try < 3 && time.Now().Before(patience); try++ {
		came, let := offer(r, fmt.Sprintf("%s/%d/%d", limiter, rate, burst))
		if len(came) < 2*skip {
			continue
		}
		want := total(bucket(came, float64(rate)/1000, size)[skip:])
		due := float64(rate) * float64(len(came)-skip) / 1000
		offered, accepted := total(came[skip:]), total(let[skip:])
		t.Logf("in %d ms %.0f offered, %.0f accepted, %.0f by a bucket, %.0f due", len(came)-skip, offered, accepted, want, due)
		if accepted > 1.05*due+size {
			t.Errorf("%.0f requests accepted, %.0f are due", accepted, due)
		}
		if math.Abs(accepted-want) > tolerance*want+2 {
			t.Errorf("%.0f requests accepted, a bucket that was offered the same accepts %.0f", accepted, want)
		}
		mostly = mostly || offered > 1.5*due && want > 0.5*due && limiter == "/weir"
		if offered > 1.5*due && want > 0.95*due {
			if steady = true; accepted > 0.95*due-2 {
				return
			}
		}
	}
	if steady && burst > 0 { // without one NGINX's is at the mercy of when its clock is set
		t.Error("the load came steadily, and not even 95 % of the rate was accepted")
	}
	if mostly {
		t.Log("the load did not come all the time; what came was let in as by a bucket")
		return
	}
	t.Skip("this machine does not offer the load steadily: see above what was held to a bucket")
}

// Case 15, second part, and 17: what NGINX refuses tells the client when to come again and is no failure of any peer.
func TestWhatALimitRefusesIsAnswered429AndChargedToNobody(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		HTTP:   "limit_req_zone $server_port zone=few:1m rate=20r/s; limit_conn_zone $server_port zone=one:1m;",
		Server: "include " + filepath.Join(programs.Repo, "nginx/limits.conf") + ";",
		Pools: []rig.Pool{
			{Name: "api", Peers: []string{"a", "b"}, Location: "limit_req zone=few burst=5 nodelay;"},
			{Name: "narrow", Peers: []string{"a"}, Location: "limit_conn one 1;"},
			{Name: "own", Peers: []string{"c"}},
		},
	})
	answers := r.Send(200, 20, rig.Request{Path: "/api/x"})
	accepted := 0
	for _, a := range answers {
		switch {
		case a.Status == 200:
			accepted++
		case a.Status != 429 || a.Header.Get("Retry-After") != "1":
			t.Errorf("status %d, Retry-After %q, %v", a.Status, a.Header.Get("Retry-After"), a.Err)
		}
	}
	if accepted == 0 || accepted == 200 {
		t.Fatalf("%d of 200 accepted: the test proved nothing", accepted)
	}
	r.Eventually("the engine knows of the accepted requests and of no failure", func() error {
		a, b := r.Engine.Figures("api", "a"), r.Engine.Figures("api", "b")
		if a.Attempts+b.Attempts != accepted || a.Failed()+b.Failed() != 0 || a.Ejections+b.Ejections != 0 {
			return fmt.Errorf("%d accepted; %+v %+v", accepted, a, b)
		}
		return nil
	})
	for _, e := range r.NGINX.Logged(answers) {
		if e.Status == 429 && e.Addr != "" {
			t.Errorf("a refused request went to %s", e.Addr)
		}
	}

	r.Backend("a").Set(`{"default":{"mean_ms":300}}`)
	refused := 0
	for _, a := range r.Send(4, 4, rig.Request{Path: "/narrow/x"}) {
		if a.Status == 429 && a.Header.Get("Retry-After") == "1" {
			refused++
		} else if a.Status != 200 {
			t.Errorf("status %d, %v", a.Status, a.Err)
		}
	}
	if refused == 0 {
		t.Error("limit_conn refused nothing")
	}
	// The application's own 429 is not touched.
	if a := r.Do(rig.Request{Path: "/own/status/429"}); a.Status != 429 || a.Peer != "c" || a.Header.Get("Retry-After") != "" {
		t.Errorf("the application's 429 became %d %q of %q", a.Status, a.Body, a.Peer)
	}
}

// As above, of Weir's own limiter, in one access phase with admit, over a reload and without an engine.
func TestWhatARateRefusesIsCountedAndChargedToNobody(t *testing.T) {
	t.Parallel()
	access := func(words string) string {
		return fmt.Sprintf(`access_by_lua_block { local weir = require "resty.weir"; weir.rate("api", "%s"); weir.admit("api") }`, words)
	}
	r := start(t, rig.Options{
		HTTP:   "lua_shared_dict weir_rate 1m;",
		Server: "include " + filepath.Join(programs.Repo, "nginx/limits.conf") + "; location = /hour { " + access("rate=1r/h") + " empty_gif; }",
		Pools:  []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: "max_inflight: 50", Location: access("rate=20r/s burst=5 key=$http_x_client")}},
	})
	wantRefused := func(a rig.Answer, retry string) {
		t.Helper()
		if a.Status != 429 || a.Header.Get("Retry-After") != retry || len(a.Header.Values("Retry-After")) != 1 {
			t.Errorf("status %d, Retry-After %q, %v", a.Status, a.Header.Values("Retry-After"), a.Err)
		}
	}
	ada := rig.Request{Path: "/api/x", Header: map[string]string{"X-Client": "ada"}, Fresh: true}
	answers := r.Send(200, 20, ada)
	accepted := 0
	for _, a := range answers {
		if a.Status == 200 {
			accepted++
		} else {
			wantRefused(a, "1")
		}
	}
	if accepted < 6 || accepted > 150 {
		t.Fatalf("%d of 200 accepted: the test proved nothing", accepted)
	}
	// The engine is away: the limit holds, other keys are not touched, and the counts are told later.
	r.Engine.Freeze()
	post := ada
	post.Body = strings.Repeat("x", 20_000)
	more := r.Send(60, 20, post)
	for _, a := range more {
		if a.Status == 200 {
			accepted++
		} else {
			wantRefused(a, "1")
		}
	}
	other := r.Send(5, 1, rig.Request{Path: "/api/x", Header: map[string]string{"X-Client": "bob"}})
	r.WantAll(other, 200)
	r.Engine.Thaw()
	refused := len(answers) + len(more) - accepted
	for _, e := range r.NGINX.Logged(append(answers, more...)) {
		if (e.Status == 429) != (e.Policy == "rate") || (e.Status == 429) != (e.Addr == "") {
			t.Errorf("logged as %+v", e)
			break
		}
	}
	if s := r.NGINX.Status().Pools["api"]; s.Shed.Rate != refused || s.Shed.Full+s.Shed.Normal != 0 {
		t.Errorf("%d refused, NGINX counts %+v", refused, s.Shed)
	}
	r.Eventually("the engine knows of what was refused, and charges nobody", func() error {
		a, b := r.Engine.Figures("api", "a"), r.Engine.Figures("api", "b")
		told := r.Engine.Samples(`weir_shed_requests_total{pool="api",reason="rate",priority="any"}`)
		if a.Attempts+b.Attempts != accepted+len(other) || a.Failed()+b.Failed() != 0 || a.Ejections+b.Ejections != 0 ||
			len(told) != 1 || !strings.HasSuffix(told[0], fmt.Sprintf(" %d", refused)) {
			return fmt.Errorf("%d accepted, %d refused; %+v %+v %q", accepted, refused, a, b, told)
		}
		return nil
	})

	// One an hour: whoever asks again is told when to come, by every worker and by those of after a reload.
	if a := r.Do(rig.Request{Path: "/hour"}); a.Status != 200 {
		t.Errorf("status %d", a.Status)
	}
	hourly := func() {
		t.Helper()
		for _, a := range append(r.Send(6, 1, rig.Request{Path: "/hour", Fresh: true}), r.Do(rig.Request{Path: "/hour", Method: "HEAD"})) {
			if n, err := strconv.Atoi(a.Header.Get("Retry-After")); a.Status != 429 || err != nil || n < 3500 || n > 3600 || len(a.Header.Values("Retry-After")) != 1 {
				t.Errorf("status %d, Retry-After %q, %v", a.Status, a.Header.Values("Retry-After"), a.Err)
			}
		}
	}
	hourly()
	r.NGINX.Reload()
	hourly()
}

// More keys than the zone has room for: the keys that were not asked for the longest go, nothing fails, and who keeps asking stays limited.
func TestAFloodOfKeysForgetsNobodyWhoAsksAllTheTime(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		NoEngine: true, HTTP: "lua_shared_dict weir_rate 32k;", Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}}},
		Server: `location = /flood { content_by_lua_block {
			local gcra, let, other = require "resty.weir.gcra", 0, 0
			for i = 1, 20000 do
				if assert(gcra.take(ngx.shared.weir_rate, "hot", 1000 + i, 100, 10, 2)) == 0 then let = let + 1 end
				if assert(gcra.take(ngx.shared.weir_rate, "cold " .. i, 1000 + i, 100, 10, 2)) == 0 then other = other + 1 end
			end
			ngx.print(let, " ", other, " ", #ngx.shared.weir_rate:get_keys(0) < 1000)
		} }`,
	})
	if a := r.Do(rig.Request{Path: "/flood"}); a.Status != 200 || a.Body != "201 20000 true" {
		t.Errorf("status %d, %q", a.Status, a.Body)
	}
}

// A request that came by another pool is refused as one that came straight: the service is busy, not broken.
func TestAFullPoolBehindAnAccelRedirectRefusesAsAnyFullPool(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		Pools: []rig.Pool{
			{Name: "api", Peers: []string{"a"}},
			{Name: "files", Peers: []string{"b"}, Settings: "max_inflight: 2"},
		},
		Server: "location /inside/ { internal; proxy_pass http://files/; include " + programs.Repo + "/nginx/proxy.conf; }",
	})
	r.Backend("a").Set(`{"slots":0,"headers":{"X-Accel-Redirect":"/inside/y"}}`)
	r.Backend("b").Set(`{"hang":1}`)
	held := r.Begin(2, rig.Request{Path: "/api/x"})
	r.Eventually("the pool is full", func() error {
		if n := r.NGINX.InFlight("files", "b"); n != 2 {
			return fmt.Errorf("%d are in flight", n)
		}
		return nil
	})
	for _, a := range r.Send(6, 2, rig.Request{Path: "/api/x"}) {
		if a.Status != 503 || a.Header.Get("Retry-After") == "" {
			t.Errorf("status %d, Retry-After %q, %v", a.Status, a.Header.Get("Retry-After"), a.Err)
		}
	}
	if shed := r.NGINX.Status().Pools["files"].Shed.Full; shed != 6 {
		t.Errorf("%d are counted as refused, want 6", shed)
	}
	held.Abort()
}

// A request that comes to its pool once more, by X-Accel-Redirect or an error page, is off the peer that it comes from.
func TestARequestThatComesBackToItsPoolIsNotInItsOwnWay(t *testing.T) {
	t.Parallel()
	admit := `access_by_lua_block { require("resty.weir").admit("api") }`
	r := start(t, rig.Options{
		Workers: 1, Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}, Settings: "max_inflight: 1"}},
		Server: "location /inside/ { internal; proxy_pass http://api/; }\n" +
			"location /page/ { proxy_pass http://api/status/404; proxy_intercept_errors on; error_page 404 = @again; }\nlocation @again { proxy_pass http://api; }\n" +
			"location /admitted/ { " + admit + " proxy_pass http://api/status/404; proxy_intercept_errors on; error_page 404 = @admitted; }\n" +
			"location @admitted { " + admit + " proxy_pass http://api; }",
	})
	for _, path := range []string{"/api/accel?to=/inside/x", "/page/x", "/admitted/x"} {
		answers := r.Send(5, 1, rig.Request{Path: path})
		r.WantAll(answers, 200)
		for _, e := range r.NGINX.Logged(answers) {
			if e.Attempts != "2" {
				t.Errorf("logged of %s is %+v", path, e)
			}
		}
	}
	if shed := r.NGINX.Status().Pools["api"].Shed.Full; shed != 0 {
		t.Errorf("%d are counted as refused", shed)
	}
}

// Under `satisfy any` the access phase is over with the first yes: an access_by_lua there would not see who is let in, and let in whoever is not. In the
// rewrite phase, as docs/limits.md has it, a limit holds and lets nobody in.
func TestALimitUnderSatisfyAnyHoldsAndLetsNobodyIn(t *testing.T) {
	t.Parallel()
	proxy := "proxy_pass http://api/; include " + programs.Repo + "/nginx/proxy.conf;"
	limit := `rewrite_by_lua_block { local weir = require "resty.weir" weir.rate("api", "rate=1r/h burst=1 name=one") weir.admit("api") }`
	r := start(t, rig.Options{
		Workers: 1, Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}, Settings: "max_inflight: 1\nqueue_ms: 10000"}}, HTTP: "lua_shared_dict weir_rate 1m;",
		Server: "satisfy any;\nlocation /out/ { deny all; " + limit + proxy + " }\nlocation /in/ { allow 127.0.0.1; deny all; " + limit + proxy + " }\n" +
			`location /wait/ { allow 127.0.0.1; deny all; rewrite_by_lua_block { require("resty.weir").admit("api") }` + proxy + " }",
	})
	if a := r.Do(rig.Request{Path: "/out/x"}); a.Status != 403 {
		t.Errorf("who is denied gets %d", a.Status)
	}
	statuses := map[int]int{}
	for range 3 {
		statuses[r.Do(rig.Request{Path: "/in/x"}).Status]++
	}
	if statuses[200] != 1 || statuses[429] != 2 { // the first of the burst of two was the one that was denied
		t.Errorf("who is allowed gets %v, want one answer and two refusals", statuses)
	}
	r.WantAll(r.Send(4, 4, rig.Request{Path: "/wait/poll?wait=100ms", Fresh: true}), 200) // one at a time
	if most := r.Backend("a").Stats().MaxInFlight; most != 1 {
		t.Errorf("the peer had %d at a time", most)
	}
}
