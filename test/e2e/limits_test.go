package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

// offered is what wrk sent in one run and how it was answered.
type offered struct {
	requests, refused int
	took              time.Duration
}

var (
	wrkTotal   = regexp.MustCompile(`(\d+) requests in (\S+),`)
	wrkRefused = regexp.MustCompile(`Non-2xx or 3xx responses: (\d+)`)
)

// offerFor sends as many requests as wrk can for a while. wrk takes whole seconds only, so it is interrupted.
func offerFor(r *rig.Rig, path string, span time.Duration) offered {
	r.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "wrk", "-t", "1", "-c", "40", "-d", "10s", "http://"+r.NGINX.Addr+path)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Start()
	if err == nil {
		timer := time.AfterFunc(span, func() { _ = cmd.Process.Signal(os.Interrupt) })
		err = cmd.Wait()
		timer.Stop()
	}
	total := wrkTotal.FindSubmatch(out.Bytes())
	if err != nil || total == nil {
		r.T.Fatalf("wrk: %v\n%s", err, out.Bytes())
	}
	var o offered
	o.requests, _ = strconv.Atoi(string(total[1]))
	if o.took, err = time.ParseDuration(string(total[2])); err != nil {
		r.T.Fatalf("wrk: %v\n%s", err, out.Bytes())
	}
	if m := wrkRefused.FindSubmatch(out.Bytes()); m != nil {
		o.refused, _ = strconv.Atoi(string(m[1]))
	}
	return o
}

var rates = [...]int{500, 3000, 10000}

// ofNGINX tells whether NGINX's own limiter can keep the rate: without a burst it takes a request only when it has owed nothing since the last,
// and its clock has whole milliseconds.
func ofNGINX(rate, burst int) bool { return burst > 0 || rate <= 1000 }

// Case 15. Every combination runs on Weir's limiter, with one worker and with two, and on NGINX's where that can keep it.
func TestRateLimitsAcceptTheConfiguredRate(t *testing.T) {
	for workers := 1; workers <= 2; workers++ {
		http, server := "limit_req_log_level info; lua_shared_dict weir_rate 1m;", "include "+filepath.Join(programs.Repo, "nginx/limits.conf")+";\n"
		for _, rate := range rates {
			http += fmt.Sprintf("limit_req_zone $server_port zone=rate%d:1m rate=%dr/s;\n", rate, rate)
			for _, burst := range []int{0, 100} {
				limit := fmt.Sprintf("limit_req zone=rate%d;", rate)
				if burst > 0 {
					limit = fmt.Sprintf("limit_req zone=rate%d burst=%d nodelay;", rate, burst)
				}
				server += fmt.Sprintf("location = /nginx/%d/%d { %s access_log off; empty_gif; }\n", rate, burst, limit)
				server += fmt.Sprintf("location = /weir/%d/%d { access_by_lua_block { require(\"resty.weir\").rate(\"api\", \"rate=%dr/s burst=%d\") } access_log off; empty_gif; }\n",
					rate, burst, rate, burst)
			}
		}
		r := start(t, rig.Options{
			NoEngine: true, NoLog: true, Workers: workers, Main: "error_log error.log crit;", HTTP: http, Server: server,
			Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}}},
		})
		for _, rate := range rates {
			for _, burst := range []int{0, 100} {
				t.Run(fmt.Sprintf("%d a second, burst %d, %d workers", rate, burst, workers), func(t *testing.T) {
					wantRate(t, r, "/weir", rate, burst)
				})
				if workers == 2 && ofNGINX(rate, burst) {
					t.Run(fmt.Sprintf("%d a second, burst %d, by NGINX", rate, burst), func(t *testing.T) {
						wantRate(t, r, "/nginx", rate, burst)
					})
				}
			}
		}
	}
}

// wantRate holds what is accepted to the rate over the time that passed. It may never be more. It may be less only when the machine did not let
// the load come: requests that were not sent cannot be accepted, and what a pause longer than the burst would have let in is lost. So the best of
// some runs counts.
func wantRate(t *testing.T, r *rig.Rig, limiter string, rate, burst int) {
	const runs = 6
	best, most := 0.0, 0.0
	path := fmt.Sprintf("%s/%d/%d", limiter, rate, burst)
	for range runs {
		if burst > 0 {
			offerFor(r, path, 100*time.Millisecond) // uses the burst up: what counts is the rate without it
		}
		o := offerFor(r, path, 500*time.Millisecond)
		accepted, due := float64(o.requests-o.refused), float64(rate)*o.took.Seconds()
		// Weir's limiter saves up 10 ms besides the burst.
		if limit := 1.05*due + float64(burst) + 0.01*float64(rate) + 1; accepted > limit {
			t.Fatalf("%.0f requests accepted in %v, want at most %.0f", accepted, o.took, limit)
		}
		most = max(most, float64(o.requests)/due)
		if best = max(best, accepted/due); best >= 0.95 {
			break
		}
	}
	t.Logf("%.1f %% of the rate accepted, up to %.1f times the rate offered", 100*best, most)
	switch {
	case most < 1.5:
		t.Skipf("this machine offers %.1f times the rate: too little to tell", most)
	case best < 0.95:
		t.Errorf("%.0f %% of the rate accepted at best of %d runs, with up to %.1f times the rate offered", 100*best, runs, most)
	}
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
