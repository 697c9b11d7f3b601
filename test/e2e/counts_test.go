package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

// Rule 3 of the contract: in-flight counts are exact and cannot leak. Each of these tests holds requests on their peers, sees them counted,
// lets them end in one particular way, and sees every count at 0 again.

// twoPools are "api" with a and b and "other" with c; every way through NGINX that the tests of this file need has its location.
func twoPools(t *testing.T, opt rig.Options) *rig.Rig {
	opt.Pools = []rig.Pool{
		{Name: "api", Peers: []string{"a", "b"}, Settings: "explore: 0\ncontrol: 0"},
		{Name: "other", Peers: []string{"c"}},
	}
	proxy := "include " + programs.Repo + "/nginx/proxy.conf;"
	opt.Server += strings.ReplaceAll(`
    location /redirect/ { proxy_pass http://api/; PROXY proxy_intercept_errors on; error_page 500 = @other; }
    location @other     { proxy_pass http://other; PROXY }
    location /page/     { proxy_pass http://api/; PROXY proxy_intercept_errors on; error_page 500 /internal/page; }
    location /internal/ { internal; proxy_pass http://other/; PROXY }
    location /auth/     { auth_request /authz; proxy_pass http://api/; PROXY }
    location = /authz   { internal; proxy_pass http://other/status/204; PROXY proxy_pass_request_body off; proxy_set_header Content-Length ""; }
    location /slowauth/ { auth_request /slowauthz; proxy_pass http://api/; PROXY }
    location = /slowauthz { internal; proxy_pass http://other/x; PROXY }
    location /mirrored/ { mirror /mirror; proxy_pass http://api/; PROXY }
    location = /mirror  { internal; proxy_pass http://other/; PROXY }
    location /upload/   { proxy_request_buffering off; proxy_pass http://api/; PROXY }
    location /short/    { proxy_read_timeout 800ms; proxy_pass http://api/; PROXY }
    location /ownlog/   { proxy_pass http://api/; PROXY log_by_lua_block { local mine = 1 } }
`, "PROXY", proxy)
	return start(t, opt)
}

func TestCountsAreExactWhileRequestsRunAndZeroAfter(t *testing.T) {
	t.Parallel()
	r := twoPools(t, rig.Options{NoEngine: true, Workers: 3})
	r.Backend("a").Set(standStill)
	r.Backend("b").Set(standStill)
	p := r.Begin(24, rig.Request{Path: "/api/x", Fresh: true})
	wantInFlight(r, "api", 24, "a", "b")
	for _, b := range []string{"a", "b"} {
		r.Eventually("NGINX counts what a peer holds", func() error { // which may not have accepted them all yet
			if counted, held := r.NGINX.InFlight("api", b), r.Backend(b).Stats().InFlight; int64(counted) != held {
				return fmt.Errorf("NGINX counts %d on %s, which holds %d", counted, b, held)
			}
			return nil
		})
		r.Backend(b).Set(goOn)
	}
	r.WantAll(p.Wait(), 200)
	r.WantIdle()
}

func TestARetriedRequestIsCountedOnlyWhereItIs(t *testing.T) {
	t.Parallel()
	r := twoPools(t, rig.Options{NoEngine: true})
	r.Backend("a").Set(`{"hang":1}`)
	p := r.Begin(10, rig.Request{Path: "/short/sse?n=0&every=50ms", Fresh: true}) // b goes on answering. NGINX sets a timer anew when it is off by 300 ms, hence 800 ms for the time-out
	r.Eventually("the requests that met the hanging peer have left it for the other", func() error {
		if a, b := r.NGINX.InFlight("api", "a"), r.NGINX.InFlight("api", "b"); a != 0 || b != 10 {
			return fmt.Errorf("%d are counted on it, %d on the other", a, b)
		}
		return nil
	})
	wantTotal(r, 10)
	if r.Backend("a").Stats().Requests == 0 {
		t.Error("no request met the hanging peer: the test proved nothing")
	}
	p.Abort()
	r.WantIdle()
}

func TestCountsReturnToZeroWhenClientsLeave(t *testing.T) {
	t.Parallel()
	r := twoPools(t, rig.Options{NoEngine: true})
	for _, b := range []string{"a", "b", "c"} {
		r.Backend(b).Set(standStill)
	}
	for path, held := range map[string]int{"/api/x": 10, "/mirrored/x": 20, "/auth/x": 10, "/slowauth/x": 10} {
		p := r.Begin(10, rig.Request{Path: path, Fresh: true})
		wantTotal(r, held)
		p.Abort()
		r.WantIdle()
	}
}

func TestCountsFollowARequestThroughErrorPages(t *testing.T) {
	t.Parallel()
	r := twoPools(t, rig.Options{NoEngine: true})
	for _, b := range []string{"a", "b"} {
		r.Backend(b).Set(`{"fail":{"status":500,"share":1}}`)
	}
	for _, path := range []string{"/redirect/x", "/page/x"} {
		r.Backend("c").Set(standStill)
		p := r.Begin(10, rig.Request{Path: path, Fresh: true})
		wantInFlight(r, "other", 10, "c")
		wantTotal(r, 10)
		r.Backend("c").Set(goOn)
		for _, a := range p.Wait() {
			if a.Peer != "c" {
				t.Errorf("%s was answered %d by %q, want by c", path, a.Status, a.Peer)
			}
		}
		r.WantIdle()
	}
}

func TestCountsFollowAnAccelRedirect(t *testing.T) {
	t.Parallel()
	r := twoPools(t, rig.Options{NoEngine: true})
	r.Backend("c").Set(standStill)
	p := r.Begin(10, rig.Request{Path: "/api/accel?to=/internal/x", Fresh: true})
	wantInFlight(r, "other", 10, "c")
	wantTotal(r, 10)
	r.Backend("c").Set(goOn)
	r.WantAll(p.Wait(), 200)
	r.WantIdle()
}

// The application has a file sent from somewhere else, or a page of another server stands in for its own: what that takes, and how it ends, is not the peer's.
func TestARequestThatGoesOnAtAServerOfNoPoolIsOffItsPeer(t *testing.T) {
	t.Parallel()
	plain := "internal; proxy_http_version 1.1; proxy_pass http://$http_x_plain/x;"
	r := start(t, rig.Options{
		Pools: []rig.Pool{
			{Name: "api", Peers: []string{"a", "b"}, Location: "proxy_intercept_errors on; error_page 404 /instead;"},
			{Name: "files", Peers: []string{"c"}},
		},
		Server: "location /plain/ { " + plain + " }\nlocation = /instead { " + plain + " }",
	})
	to := map[string]string{"X-Plain": r.Addr("c")}
	for _, path := range []string{"/api/accel?to=/plain/x", "/api/status/404"} {
		r.Backend("c").Set(standStill)
		p := r.Begin(10, rig.Request{Path: path, Header: to, Fresh: true})
		r.Eventually("all are at the other server", func() error {
			if n := r.Backend("c").Stats().InFlight; n != 10 {
				return fmt.Errorf("%d are", n)
			}
			return nil
		})
		wantTotal(r, 0)
		r.Backend("c").Set(goOn)
		p.Wait()
	}
	r.Backend("c").Set(`{"reset":{"share":1,"after_bytes":100}}`)
	r.Send(20, 4, rig.Request{Path: "/api/accel?to=/plain/x", Header: to, Fresh: true})
	attempts := 0
	r.Eventually("the engine knows of all attempts", func() error {
		a, b := r.Engine.Figures("api", "a"), r.Engine.Figures("api", "b")
		if attempts = a.Attempts + b.Attempts; attempts < 40 {
			return fmt.Errorf("of %d", attempts)
		}
		if a.Failed()+b.Failed() > 0 {
			t.Fatalf("the peers are charged with %v and %v", a.Failures, b.Failures)
		}
		return nil
	})
}

func TestSubrequestsAreCountedOnTheirOwnPeers(t *testing.T) {
	t.Parallel()
	r := twoPools(t, rig.Options{NoEngine: true})
	r.WantAll(r.Send(40, 8, rig.Request{Path: "/auth/x"}), 200)
	r.WantIdle()
	if n := r.Backend("c").Stats().Requests; n != 40 {
		t.Errorf("the authorising backend saw %d requests, want 40", n)
	}
	r.Backend("a").Set(standStill)
	r.Backend("b").Set(standStill)
	p := r.Begin(10, rig.Request{Path: "/auth/x", Fresh: true})
	wantInFlight(r, "api", 10, "a", "b")
	wantTotal(r, 10) // the subrequests have ended
	r.Backend("a").Set(goOn)
	r.Backend("b").Set(goOn)
	r.WantAll(p.Wait(), 200)
	r.WantIdle()

	r.Backend("c").Set(standStill)
	p = r.Begin(10, rig.Request{Path: "/mirrored/x", Fresh: true})
	wantInFlight(r, "other", 10, "c")
	r.Backend("c").Set(goOn)
	r.WantAll(p.Wait(), 200)
	r.WantIdle()
}

func TestCountsDoNotNeedTheLogPhase(t *testing.T) {
	t.Parallel()
	r := twoPools(t, rig.Options{NoEngine: true})
	r.WantAll(r.Send(300, 8, rig.Request{Path: "/ownlog/x"}), 200)
	r.WantIdle()
}

func TestCountsReturnToZeroAfterFailuresOfEveryKind(t *testing.T) {
	t.Parallel()
	r := twoPools(t, rig.Options{NoEngine: true})
	for _, fault := range []string{
		`{"fail":{"status":503,"after_ms":1,"share":0.5}}`, `{"reset":{"share":0.5,"after_bytes":-1}}`, `{"reset":{"share":0.5,"after_bytes":5000}}`,
		`{"close_reused":true}`, `{"no_keep_alive":true}`, `{"refuse":true}`,
	} {
		for _, b := range []string{"a", "b"} {
			r.Backend(b).Set(fault)
		}
		r.Send(60, 8, rig.Request{Path: "/api/x"})
		r.Send(20, 8, rig.Request{Path: "/api/x", Body: "text"})
		r.WantIdle()
		for _, b := range []string{"a", "b"} {
			r.Backend(b).Set(`{"fail":null,"reset":null,"close_reused":false,"no_keep_alive":false,"refuse":false}`)
		}
	}
}

// An upload that goes on after the peer has answered: NGINX reads on for a while (lingering_close).
func TestCountsReturnToZeroAfterLingeringUploads(t *testing.T) {
	t.Parallel()
	r := twoPools(t, rig.Options{NoEngine: true})
	for range 5 {
		c := r.NGINX.Dial()
		_ = c.SetDeadline(time.Now().Add(rig.Patience))
		_, _ = fmt.Fprintf(c, "POST /upload/early HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n%s", strings.Repeat("x", 1000))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("answered %s, want the backend's 413", resp.Status)
		}
		for range 5 {
			_, _ = io.WriteString(c, "more")
			time.Sleep(10 * time.Millisecond)
		}
	}
	r.WantIdle() // the connections are still open
}

// A peer that has answered is free, however slowly its client reads the answer from NGINX's buffers.
func TestASlowReaderDoesNotKeepItsPeerBusy(t *testing.T) {
	t.Parallel()
	r := twoPools(t, rig.Options{NoEngine: true})
	for range 4 {
		c := r.NGINX.Dial()
		_ = c.SetDeadline(time.Now().Add(2 * rig.Patience))
		_, _ = fmt.Fprint(c, "GET /api/bytes?n=20000000 HTTP/1.1\r\nHost: x\r\n\r\n")
		_, _ = io.ReadFull(c, make([]byte, 1000))
	}
	r.Eventually("the backends have sent their answers", func() error {
		if n := r.Backend("a").Stats().InFlight + r.Backend("b").Stats().InFlight; n != 0 {
			return fmt.Errorf("%d are under way", n)
		}
		return nil
	})
	r.WantIdle() // nobody has read on
}

// Half a minute after a peer has left its place in shared memory is given to another one, though a slow client may still read the last answer.
func TestAClientThatReadsUntilThePeerIsLongGoneIsLoggedAsAny(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		Workers: 1, Tap: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Static: []string{}}},
		// half a minute later
		Server: `location /later { content_by_lua_block { require("resty.weir.slots").collect(require("resty.weir.clock").now_ms() * 0.001 + 31) } }`,
	})
	r.StartBackend("c", false)
	r.Backend("a").Set(`{"refuse":true}`)
	var readers []net.Conn
	read := func(c net.Conn) {
		if n, err := io.Copy(io.Discard, c); err != nil || n < 19_000_000 {
			t.Errorf("the client got %d bytes: %v", n, err)
		}
	}
	for i := range 2 {
		c := r.NGINX.Dial()
		_ = c.SetDeadline(time.Now().Add(2 * rig.Patience))
		_, _ = fmt.Fprintf(c, "GET /api/bytes?n=20000000 HTTP/1.1\r\nHost: x\r\nX-Request-Id: slow%d\r\nConnection: close\r\n\r\n", i)
		_, _ = io.ReadFull(c, make([]byte, 1000))
		readers = append(readers, c)
	}
	r.WantIdle()
	r.Backend("a").Set(`{"refuse":false}`)
	r.SetPeers("api", "a")
	r.Eventually("NGINX has no b", func() error {
		if r.NGINX.Status().Pools["api"].Peer(r.Addr("b")) != nil {
			return errors.New("it has")
		}
		return nil
	})
	r.Do(rig.Request{Path: "/later"})
	read(readers[0])
	r.SetPeers("api", "a", "c")
	r.WaitConnected()
	time.Sleep(time.Second) // such a client has been reading for longer
	read(readers[1])
	for _, e := range r.NGINX.Logged([]rig.Answer{{ID: "slow0"}, {ID: "slow1"}}) {
		if e.Status != 200 || !strings.HasSuffix(e.Addr, r.Addr("b")) || e.Peer != "-" || e.Attempts == "0" {
			t.Errorf("logged is %+v", e)
		}
	}
	r.NGINX.Stop() // which sends what there is
	if of := rig.Count(r.Tap.Records(t), func(rec rig.Record) bool { return rec.Peer == r.Addr("c") }); of != 0 {
		t.Errorf("%d outcomes are told of the peer that came", of)
	}
} // the rig looks for errors of Lua

func TestCountsSurviveAKilledWorker(t *testing.T) {
	t.Parallel()
	r := twoPools(t, rig.Options{NoEngine: true, Workers: 2})
	r.Backend("a").Set(standStill)
	r.Backend("b").Set(standStill)
	p := r.Begin(30, rig.Request{Path: "/api/x", Fresh: true})
	wantTotal(r, 30)
	kept := 0
	var victim int
	for _, w := range r.NGINX.Status().Workers {
		if victim == 0 && w.InFlight > 0 {
			victim = w.PID
			continue
		}
		kept += w.InFlight
	}
	r.NGINX.KillWorker(victim)
	wantTotal(r, kept) // what the other worker holds, no more and no less
	r.Backend("a").Set(goOn)
	r.Backend("b").Set(goOn)
	lost := 0
	for _, a := range p.Wait() {
		if a.Err != nil {
			lost++
		}
	}
	if lost != 30-kept {
		t.Errorf("%d requests were lost, want those of the killed worker: %d", lost, 30-kept)
	}
	r.WantIdle()
	r.WantAll(r.Send(60, 8, rig.Request{Path: "/api/x", Fresh: true}), 200)
}

// Case 13. Counts of held connections survive a change of peers and a reload of NGINX; a peer that joins gets what comes next.
func TestCountsSurviveReloadAndScaling(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: "slow_start_ms: 0\nexplore: 0\ncontrol: 0"}}})
	var closers []func()
	open := func(n int) map[string]int {
		by := map[string]int{}
		for range n {
			peer, closeIt := r.WebSocket("/api/ws")
			closers = append(closers, closeIt)
			by[peer]++
		}
		return by
	}
	first := open(40)
	if first["a"] < 10 || first["b"] < 10 {
		t.Errorf("40 WebSockets went %v, want them spread over a and b", first)
	}
	r.StartBackend("c", false)
	r.SetPeers("api", "a", "b", "c")
	r.WaitConnected()
	second := open(20)
	if second["c"] < 12 {
		t.Errorf("of 20 WebSockets opened beside 40 old ones %d went to the empty peer: %v", second["c"], second)
	}
	counts := func() string {
		return fmt.Sprint("a ", r.NGINX.InFlight("api", "a"), ", b ", r.NGINX.InFlight("api", "b"), ", c ", r.NGINX.InFlight("api", "c"))
	}
	want := fmt.Sprint("a ", first["a"]+second["a"], ", b ", first["b"]+second["b"], ", c ", second["c"])
	check := func(when string) {
		t.Helper()
		r.Eventually("NGINX counts "+want+" "+when, func() error { // a worker may be stopped between an answer and its count
			if got := counts(); got != want {
				return fmt.Errorf("it counts %s", got)
			}
			return nil
		})
	}
	check("before the reload")
	r.NGINX.Reload()
	check("after the reload")
	r.WantAll(r.Send(50, 8, rig.Request{Path: "/api/x"}), 200)
	check("after plain requests beside the WebSockets")
	for _, closeIt := range closers {
		closeIt()
	}
	r.WantIdle()
}
