package e2e

import (
	"fmt"
	"testing"

	"github.com/weirlb/weir/test/e2e/rig"
)

// NGINX's own record of an answer is read instead of its variables, once a worker has seen for some answers that it is found where it is looked for.
func TestStatusAndLengthOfAnAnswerAreTheSameBeforeAndAfterTheWorkerFindsNGINXsRecord(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Workers: 1, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}}})
	want := map[string]struct{ status, bytes, kind int }{
		"/api/bytes?n=1":          {200, 1, 0},
		"/api/bytes?n=777":        {200, 777, 0},
		"/api/bytes?n=30000":      {200, 30000, 0},
		"/api/status/404":         {404, 0, 0},
		"/api/status/503":         {503, 0, 5},
		"/api/bytes?n=1000000":    {200, 1000000, 0},
		"/api/status/204?nothing": {204, 0, 0},
	}
	for round := range 30 { // some 150 plain answers; the worker wants to see 32
		for path, w := range want {
			a := r.Do(rig.Request{Path: path})
			if a.Status != w.status {
				t.Fatalf("%s: status %d", path, a.Status)
			}
			if round == 0 && w.bytes == 0 {
				w.bytes = len(a.Body)
				want[path] = w
			}
		}
	}
	n := map[[3]int]int{}
	for _, rec := range r.WaitRecords(30*len(want), func(rig.Record) bool { return true }) {
		n[[3]int{rec.Status, rec.Bytes, rec.Kind}]++
	}
	for path, w := range want {
		if got := n[[3]int{w.status, w.bytes, w.kind}]; got != 30 {
			t.Errorf("%s: %d records of status %d, %d bytes, kind %d; want 30; all: %v", path, got, w.status, w.bytes, w.kind, n)
		}
	}
}

// NGINX takes an answer without a length that its peer broke off for a complete one; whole.conf looks for its end.
func TestAnAnswerWithoutALengthThatBreaksOffIsAFailureWhereItsEndIsLookedFor(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"good", "cut"}, Location: "include " + programs.Repo + "/nginx/whole.conf;"}}})
	const whole = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	r.Backend("good").Set(fmt.Sprintf(`{"raw":%q}`, whole))
	r.Backend("cut").Set(fmt.Sprintf(`{"raw":%q}`, whole[:len(whole)-5]))
	for range 10 {
		r.Send(20, 4, rig.Request{Path: "/api/x"})
		if r.Engine.Figures("api", "cut").Failed() >= 5 {
			break
		}
	}
	r.Eventually("the failures are charged", func() error {
		if f := r.Engine.Figures("api", "cut"); f.Failures["reset"] < 5 {
			return fmt.Errorf("%+v", f.Failures)
		}
		return nil
	})
	r.Engine.WaitState("api", "cut", "ejected", "slow_start", "suspect")
	if f := r.Engine.Figures("api", "good"); f.Failed() > 0 || f.Attempts == 0 {
		t.Errorf("the other peer: %d attempts, failures %v", f.Attempts, f.Failures)
	}
}

// NGINX reads no body of an answer to post_action, where the client has been served already. The peer broke nothing off.
func TestAnAnswerThatNGINXDoesNotReadIsNoFailure(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		Pools:  []rig.Pool{{Name: "api", Peers: []string{"a"}, Location: "post_action /after/x;"}},
		Server: "location /after/ { internal; proxy_pass http://api/; include " + programs.Repo + "/nginx/proxy.conf; }\nlocation /static { return 200 hello; post_action /after/x; }",
	})
	const sent = 20
	for _, path := range []string{"/api/x", "/static"} {
		r.WantAll(r.Send(sent, 2, rig.Request{Path: path}), 200)
	}
	if f := r.Engine.WaitAttempts("api", "a", 3*sent); f.Failed() > 0 {
		t.Errorf("%d attempts, failures %v", f.Attempts, f.Failures)
	}
}

// An answer whose body NGINX did not want, since something else went to the client in its place, is whole, though the client got nothing.
func TestAnAnswerThatGaveWayToAnEmptyOneIsNoFailure(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		Pools: []rig.Pool{{
			Name: "api", Peers: []string{"a"},
			Location: "proxy_intercept_errors on; error_page 404 = @empty; error_page 410 @empty;",
		}},
		Server: "location @empty { return 204; }\nlocation /internal/ { internal; return 204; }",
	})
	const sent = 10
	const head, body = "HTTP/1.1 %s\r\nContent-Length: 5\r\n%s\r\n", "hello"
	for i, c := range []struct {
		answer, header string
		want           int
	}{
		{"404 Not Found", "", 204},
		{"410 Gone", "", 410},
		{"200 OK", "X-Accel-Redirect: /internal/x\r\n", 204},
	} {
		r.Backend("a").Set(fmt.Sprintf(`{"raw":%q}`, fmt.Sprintf(head, c.answer, c.header)+body))
		r.WantAll(r.Send(sent, 2, rig.Request{Path: "/api/x", Fresh: true}), c.want)
		if f := r.Engine.WaitAttempts("api", "a", (i+1)*sent); f.Failed() > 0 {
			t.Errorf("%s %s: %d attempts, failures %v", c.answer, c.header, f.Attempts, f.Failures)
		}
	}
	r.Backend("a").Set(fmt.Sprintf(`{"raw":%q}`, fmt.Sprintf(head, "200 OK", "")))
	r.Send(sent, 2, rig.Request{Path: "/api/x", Fresh: true})
	if f := r.Engine.WaitAttempts("api", "a", 4*sent); f.Failures["reset"] < sent {
		t.Errorf("of answers that broke off before their body %v are failures, want %d", f.Failures, sent)
	}
}

// The page of server.conf is for a client that waits for an answer.
func TestAPostActionToAPoolThatIsDownIsNoErrorOfLua(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		Workers: 1, Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}, Location: "post_action /after/x;"}, {Name: "count", Peers: []string{"b"}}},
		Server: "location /after/ { internal; proxy_pass http://count/; include " + programs.Repo + "/nginx/proxy.conf; }",
	})
	r.Backend("b").Set(`{"refuse":true}`)
	answers := r.Send(5, 1, rig.Request{Path: "/api/x"})
	r.WantAll(answers, 200)
	for _, e := range r.NGINX.Logged(answers) {
		if len(e.UpstreamStatus) < len("200 : 502") {
			t.Errorf("the post_action found its pool up: %+v", e)
		}
	}
} // the rig looks for errors of Lua
