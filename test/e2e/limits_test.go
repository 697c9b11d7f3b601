package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
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

// offer sends as many requests as wrk can for a second.
func offer(r *rig.Rig, path string) offered {
	r.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "wrk", "-t", "1", "-c", "40", "-d", "1s", "http://"+r.NGINX.Addr+path).CombinedOutput()
	total := wrkTotal.FindSubmatch(out)
	if err != nil || total == nil {
		r.T.Fatalf("wrk: %v\n%s", err, out)
	}
	var o offered
	o.requests, _ = strconv.Atoi(string(total[1]))
	if o.took, err = time.ParseDuration(string(total[2])); err != nil {
		r.T.Fatalf("wrk: %v\n%s", err, out)
	}
	if m := wrkRefused.FindSubmatch(out); m != nil {
		o.refused, _ = strconv.Atoi(string(m[1]))
	}
	return o
}

// Case 15. What NGINX accepts is compared with the rate over the time that passed. It may never be more. It may be less when the machine
// did not let NGINX run for longer than the burst lasts, so the best of three runs counts.
func TestRateLimitsAcceptTheConfiguredRate(t *testing.T) {
	const workers = 2
	zones, locations := "", "include "+filepath.Join(programs.Repo, "nginx/limits.conf")+";\n"
	for _, rate := range []int{500, 3000, 10000} {
		zones += fmt.Sprintf("limit_req_zone $server_port zone=rate%d:1m rate=%dr/s;\n", rate, rate)
		for _, burst := range []int{0, 100} {
			limit := fmt.Sprintf("limit_req zone=rate%d;", rate)
			if burst > 0 {
				limit = fmt.Sprintf("limit_req zone=rate%d burst=%d nodelay;", rate, burst)
			}
			locations += fmt.Sprintf("location = /rate/%d/%d { %s access_log off; empty_gif; }\n", rate, burst, limit)
		}
	}
	r := start(t, rig.Options{
		NoEngine: true, NoLog: true, Workers: workers, Main: "error_log error.log crit;", HTTP: zones + "limit_req_log_level info;", Server: locations,
		Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}}},
	})
	for _, rate := range []int{500, 3000, 10000} {
		for _, burst := range []int{0, 100} {
			t.Run(fmt.Sprintf("%d a second, burst %d", rate, burst), func(t *testing.T) {
				wantRate(t, r, rate, burst)
			})
		}
	}
}

func wantRate(t *testing.T, r *rig.Rig, rate, burst int) {
	path := fmt.Sprintf("/rate/%d/%d", rate, burst)
	// Without a burst NGINX takes a request only when it has owed nothing since the last, and its clock has whole milliseconds.
	possible := float64(rate)
	if burst == 0 {
		possible = min(possible, 1000)
	}
	best, most := 0.0, 0
	for range 3 {
		o := offer(r, path)
		accepted := float64(o.requests - o.refused)
		if limit := 1.05*float64(rate)*o.took.Seconds() + float64(burst) + 1; accepted > limit {
			t.Fatalf("%.0f requests accepted in %v, want at most %.0f", accepted, o.took, limit)
		}
		most = max(most, o.requests)
		if best = max(best, accepted/(possible*o.took.Seconds())); best >= 0.95 {
			break
		}
	}
	switch {
	case float64(most) < 1.5*float64(rate):
		t.Skipf("this machine offers %d requests a second: too few to tell", most)
	case best < 0.5:
		t.Errorf("%.0f %% of the rate accepted, with up to %d requests offered", 100*best, most)
	case best < 0.95 && burst > 0:
		t.Skipf("%.0f %% of the rate accepted at best: NGINX was not let run for longer than the burst lasts", 100*best)
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
