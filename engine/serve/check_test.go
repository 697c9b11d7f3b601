package serve

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/observe"
)

// backend is a peer that counts its probes and answers with a status that can change.
type backend struct {
	*httptest.Server
	addr   string
	probes atomic.Int64
	status atomic.Int64
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{}
	b.status.Store(200)
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.probes.Add(1)
		if s := int(b.status.Load()); s >= 300 && s < 400 {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(s)
		} else {
			w.WriteHeader(s)
		}
	}))
	t.Cleanup(b.Close)
	b.addr = b.Listener.Addr().String()
	return b
}

func checked(peers ...string) string {
	return `
refresh_ms: 20
defaults: {check: {path: /up, interval_ms: 100, timeout_ms: 100, rise: 2, fall: 3}, slow_start_ms: 100}
pools: [{name: api, peers: ["` + strings.Join(peers, `", "`) + `"]}]`
}

func state(t *testing.T, e *Engine, addr string) string { return peerOf(t, e, "api", addr).State }

func TestAPeerThatFailsItsChecksGoesDownAndComesBack(t *testing.T) {
	a, b := newBackend(t), newBackend(t)
	e := live(t, checked(a.addr, b.addr))
	within(t, 15*time.Second, "both are checked", func() bool { return a.probes.Load() > 2 && b.probes.Load() > 2 })
	b.status.Store(503)
	within(t, 15*time.Second, "b is down", func() bool { return state(t, e, b.addr) == "down" && !peerOf(t, e, "api", b.addr).Usable })
	if f, _ := e.Peer("api", b.addr); f.Check == nil || f.Check.Pass || f.Check.Detail != "status 503 is not in 200-399" {
		t.Errorf("figures of the check: %+v", f.Check)
	}
	b.status.Store(204)
	within(t, 15*time.Second, "b is back", func() bool { return peerOf(t, e, "api", b.addr).Usable && state(t, e, b.addr) != "down" })
	if state(t, e, a.addr) != "up" {
		t.Errorf("a is %s", state(t, e, a.addr))
	}
	if text := scrape(t, e); !strings.Contains(text, fmt.Sprintf(`weir_peer_transitions_total{pool="api",peer=%q,to="down"} 1`, b.addr)) {
		t.Error("the transition is not counted")
	}
}

// Case 19 of the field reports: a peer joins whose port opens later.
func TestAPeerThatJoinsIsNotUsableBeforeItsFirstPass(t *testing.T) {
	a := newBackend(t)
	e := live(t, checked(a.addr))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	late := ln.Addr().String()
	_ = ln.Close()
	e.Apply(parse(t, checked(a.addr, late)))
	for range 40 {
		if peerOf(t, e, "api", late).Usable {
			t.Fatal("it is usable while its port is closed")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if ln, err = net.Listen("tcp", late); err != nil {
		t.Skipf("the port was taken meanwhile: %v", err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go func() { _ = srv.Serve(ln) }()
	defer srv.Close()
	within(t, 15*time.Second, "it is usable once it passed", func() bool { return peerOf(t, e, "api", late).Usable })
}

func TestAtTheStartPeersAreUpUntilChecked(t *testing.T) {
	e := still(t, checked("127.0.0.1:1", "127.0.0.1:2"))
	for _, p := range e.State().Pool("api").Peers {
		if !p.Usable || p.State != "up" {
			t.Errorf("%+v", p)
		}
	}
}

// Until then an NGINX that runs goes on with what it heard from the engine before this one. A hung peer does not hold the others up for good.
func TestNGINXHearsOfAPoolWhenItsFirstChecksAreIn(t *testing.T) {
	hangs := make(chan struct{})
	hung := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hangs }))
	defer hung.Close()
	defer close(hangs)
	a, b := newBackend(t), newBackend(t)
	b.status.Store(503)
	text := checked(a.addr, b.addr, hung.Listener.Addr().String())
	e := still(t, text)
	if !e.State().Pool("api").Pending {
		t.Error("it is shown before any check")
	}
	e.Start()
	var first *Snapshot
	within(t, 5*time.Second, "the pool is shown", func() bool { first = e.State().Pool("api"); return !first.Pending })
	for i, want := range []string{"up", "down", "down"} {
		if p := first.Peers[i]; p.State != want {
			t.Errorf("%s is shown as %s, not %s", p.Addr, p.State, want)
		}
	}
	e = live(t, strings.NewReplacer("interval_ms: 100", "interval_ms: 60000", "timeout_ms: 100", "timeout_ms: 60000").Replace(text))
	within(t, 4*time.Second, "the pool is shown though a check has not ended", func() bool { return !e.State().Pool("api").Pending })
	if p := e.State().Pool("api").Peers; p[1].State != "down" || p[2].State != "up" {
		t.Errorf("%+v", p)
	}
}

// First checks take turns, so that they do not overload the engine's host; peers that hang must not keep the others waiting for it.
func TestPeersThatHangHoldNoFirstCheckUpForLong(t *testing.T) {
	ln, err := net.Listen("tcp", "0.0.0.0:0") // accepts in the kernel, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var peers []string
	for i := range 6 * firstAtOnce {
		peers = append(peers, fmt.Sprintf("127.0.1.%d:%d", 1+i, ln.Addr().(*net.TCPAddr).Port))
	}
	e := live(t, `{pools: [{name: api, check: {interval_ms: 1000, timeout_ms: 1000}, peers: ["`+strings.Join(peers, `", "`)+`"]}]}`)
	within(t, 4*time.Second, "all are found out", func() bool {
		for _, p := range e.State().Pool("api").Peers {
			if p.State != "down" {
				return false
			}
		}
		return true
	})
}

// Case 20: gone is gone.
func TestARemovedPeerIsNoLongerProbedNorShownAndDoesNotComeBackWithAnother(t *testing.T) {
	a, b, c := newBackend(t), newBackend(t), newBackend(t)
	e := live(t, checked(a.addr, b.addr))
	within(t, 15*time.Second, "b is probed", func() bool { return b.probes.Load() > 1 })
	e.Apply(parse(t, checked(a.addr)))
	seen := b.probes.Load()
	e.Apply(parse(t, checked(a.addr, c.addr)))
	within(t, 15*time.Second, "c is probed", func() bool { return c.probes.Load() > 3 })
	if n := b.probes.Load(); n > seen+1 { // one may have been on its way
		t.Errorf("%d probes after it was removed", n-seen)
	}
	if strings.Contains(scrape(t, e), b.addr) {
		t.Error("series of the removed peer are left")
	}
	if _, err := e.Peer("api", b.addr); err == nil {
		t.Error("the removed peer still has figures")
	}
	if a.probes.Load() == 0 || !peerOf(t, e, "api", a.addr).Usable {
		t.Error("the peer that stayed is not served")
	}
}

// A hundred TLS handshakes at one moment take longer than one, and the peers are up: there is no haste.
func TestOtherSettingsOfTheChecksDoNotCheckAllPeersAtOnce(t *testing.T) {
	var asked atomic.Int64
	ln, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) })}
	go func() { _ = srv.Serve(ln) }()
	defer srv.Close()
	var peers []string
	for i := range 100 {
		peers = append(peers, fmt.Sprintf("127.0.1.%d:%d", 1+i, ln.Addr().(*net.TCPAddr).Port))
	}
	text := `{pools: [{name: api, check: {interval_ms: %d}, peers: ["` + strings.Join(peers, `", "`) + `"]}]}`
	e := live(t, fmt.Sprintf(text, 60_000))
	within(t, 5*time.Second, "all are checked soon when the engine starts", func() bool { return asked.Load() >= 100 })
	before := asked.Load()
	e.Apply(parse(t, fmt.Sprintf(text, 59_000)))
	time.Sleep(300 * time.Millisecond)
	if checked := asked.Load() - before; checked > 20 {
		t.Errorf("%d of %d peers were checked at once", checked, len(peers))
	}
}

func TestChecksEndWhenTheyAreSwitchedOffOrTheEngineCloses(t *testing.T) {
	a, b := newBackend(t), newBackend(t)
	e := live(t, checked(a.addr, b.addr))
	within(t, 15*time.Second, "a is probed", func() bool { return a.probes.Load() > 1 })
	e.Apply(parse(t, `pools: [{name: api, peers: ["`+a.addr+`", "`+b.addr+`"]}]`))
	seen := a.probes.Load()
	time.Sleep(300 * time.Millisecond)
	if n := a.probes.Load(); n > seen+1 {
		t.Errorf("%d probes after checks were switched off", n-seen)
	}
	e.Apply(parse(t, checked(a.addr, b.addr)))
	within(t, 15*time.Second, "a is probed again", func() bool { return a.probes.Load() > seen+1 })
	if !strings.Contains(scrape(t, e), fmt.Sprintf(`weir_checks_total{pool="api",peer=%q,result="pass"}`, a.addr)) {
		t.Error("its checks are not counted")
	}
	e.Close()
	seen = a.probes.Load()
	time.Sleep(250 * time.Millisecond)
	if n := a.probes.Load(); n > seen+1 {
		t.Errorf("%d probes after the engine was closed", n-seen)
	}
}

func TestAPeerThatIsDownIsUpAgainWhenChecksAreSwitchedOff(t *testing.T) {
	a, b := newBackend(t), newBackend(t)
	b.status.Store(500)
	e := live(t, checked(a.addr, b.addr))
	within(t, 15*time.Second, "b is down", func() bool { return state(t, e, b.addr) == "down" })
	e.Apply(parse(t, `pools: [{name: api, peers: ["`+a.addr+`", "`+b.addr+`"]}]`))
	if f, _ := e.Peer("api", b.addr); !f.Usable || f.State != "slow_start" || f.Check != nil {
		t.Errorf("nobody checks it, and it is %s (%s), its last check %+v", f.State, f.Reason, f.Check)
	}
}

func TestAResultOfACheckThatWasReplacedCountsForNothing(t *testing.T) {
	e := still(t, checked("127.0.0.1:1", "127.0.0.1:2"))
	p, _ := e.pool("api")
	old := &check{pool: p, addr: "127.0.0.1:1", conf: p.conf.Check}
	p.checks[old.addr] = &check{pool: p, addr: old.addr}
	defer delete(p.checks, old.addr)
	for range 5 {
		p.probed(old, &ProbeView{})
	}
	if s := state(t, e, old.addr); s != "up" {
		t.Errorf("the peer is %s by the word of an old check", s)
	}
}

func TestEveryStatusPassesOrFailsByTheRuleAndRedirectsAreNotFollowed(t *testing.T) {
	b := newBackend(t)
	conf := parse(t, checked(b.addr)).Pools[0].Check
	c := &check{addr: b.addr, conf: conf}
	for status, want := range map[int64]bool{200: true, 204: true, 301: true, 399: true, 404: false, 418: false, 429: false, 500: false} {
		b.status.Store(status)
		seen := b.probes.Load()
		pass, detail, _ := c.probe(t.Context(), c.transport())
		if pass != want {
			t.Errorf("status %d: pass %v (%s)", status, pass, detail)
		}
		if n := b.probes.Load() - seen; n != 1 {
			t.Errorf("status %d: %d requests", status, n)
		}
	}
}

func TestAProbeReachesUnixSocketsAndSendsPathHostAndMethodAsConfigured(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	srv := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got <- r.Method + " " + r.RequestURI + " " + r.Host
	})}
	go func() { _ = srv.Serve(ln) }()
	defer srv.Close()
	conf := config.DefaultCheck()
	conf.Path, conf.Host, conf.Method = "/up?deep=%zz", "app.example", "HEAD"
	c := &check{addr: "unix:" + path, conf: conf}
	if pass, detail, _ := c.probe(t.Context(), c.transport()); !pass {
		t.Fatal(detail)
	}
	if r := <-got; r != "HEAD /up?deep=%zz app.example" {
		t.Errorf("the peer saw %q", r)
	}
}

func TestAPeerThatAnswersTooLateOrNothingFails(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conf := config.DefaultCheck()
	conf.TimeoutMS = 50
	c := &check{addr: ln.Addr().String(), conf: conf}
	if pass, detail, _ := c.probe(t.Context(), c.transport()); pass || detail != "no answer within 50 ms" {
		t.Errorf("pass %v: %s", pass, detail)
	}
	c.addr = "127.0.0.1:1"
	if pass, detail, _ := c.probe(t.Context(), c.transport()); pass || !strings.Contains(detail, "refused") {
		t.Errorf("pass %v: %s", pass, detail)
	}
}

// A peer that hangs in the middle of an answer, or dies there, fails users too.
func TestAnAnswerHasToEnd(t *testing.T) {
	end := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hangs", "/fails":
			if r.URL.Path == "/fails" {
				w.WriteHeader(500)
			}
			_, _ = w.Write([]byte("{"))
			_ = http.NewResponseController(w).Flush()
			<-end
		case "/breaks":
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("{"))
		case "/endless":
			for r.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 10_000))
			}
		}
	}))
	defer s.Close()
	defer close(end)
	conf := config.DefaultCheck()
	conf.TimeoutMS = 200
	for path, want := range map[string]string{
		"/hangs":   "false status 200, but the answer does not end within 200 ms",
		"/fails":   "false status 500 is not in 200-399",
		"/breaks":  "false status 200, but the answer breaks off: unexpected EOF",
		"/endless": "true status 200",
		"/":        "true status 200",
	} {
		conf.Path = path
		c := &check{addr: s.Listener.Addr().String(), conf: conf}
		pass, detail, err := c.probe(t.Context(), c.transport())
		if got := fmt.Sprint(pass, " ", detail); got != want || err != nil {
			t.Errorf("%s: %s, %v, want %s", path, got, err, want)
		}
	}
}

// Each of these would else be another cause, and be logged: the probe's own port is part of what the system says.
func TestWhatAPeerThatBreaksConnectionsSaysIsTheSameEachTime(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}))
	defer s.Close()
	addr := s.Listener.Addr().String()
	c := &check{addr: addr, conf: config.DefaultCheck()}
	for range 3 {
		if pass, detail, _ := c.probe(t.Context(), c.transport()); pass || detail != "read tcp "+addr+": read: connection reset by peer" {
			t.Errorf("pass %v: %s", pass, detail)
		}
	}
}

// A peer of another protocol may send what is new each time, as a banner with the time, and as much as it likes.
func TestWhatAPeerSendsInPlaceOfAnAnswerIsLoggedOnceAMinuteAndCut(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var asked atomic.Int64
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1000)) // what comes before the request is another fault, and what is not read would reset the connection
			fmt.Fprintf(conn, "banner-%d-%s\r\n", asked.Add(1), strings.Repeat("x", 3000))
			_ = conn.Close()
		}
	}()
	addr := ln.Addr().String()
	e, log := logged(t, checked(addr, newBackend(t).addr))
	e.Start()
	within(t, 10*time.Second, "some checks", func() bool { return asked.Load() > 5 && state(t, e, addr) == "down" })
	f, _ := e.Peer("api", addr)
	e.Close()
	if n := strings.Count(log.String(), "active check failed"); n != 1 || !strings.Contains(log.String(), "banner-1-xxx") {
		t.Errorf("%d lines:\n%.3000s", n, log)
	}
	if d := f.Check.Detail; !strings.Contains(d, "malformed HTTP") || len(d) > 310 {
		t.Errorf("%d bytes: %s", len(d), d)
	}
}

// A hundred peers would be down at a time for the file descriptors that the engine lacks.
func TestAPeerIsNotToBlameForWhatTheEngineLacks(t *testing.T) {
	for _, protocol := range []config.Protocol{config.CheckHTTP, config.CheckGRPC} {
		conf := config.DefaultCheck()
		conf.Protocol = protocol
		c := &check{addr: "127.0.0.1:1", conf: conf}
		for lack, own := range map[syscall.Errno]bool{syscall.EMFILE: true, syscall.ENFILE: true, syscall.ENOBUFS: true, syscall.ECONNREFUSED: false, syscall.EHOSTUNREACH: false} {
			via := c.transport()
			via.DialContext = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", lack)}
			}
			if pass, detail, err := c.probe(t.Context(), via); pass || (err != nil) != own || (detail == "") != own {
				t.Errorf("%s, %v: pass %v, %q, error %v", protocol, lack, pass, detail, err)
			}
		}
	}
}

func TestUsersFailuresAndChecksWorkTogether(t *testing.T) {
	a, b := newBackend(t), newBackend(t)
	e := live(t, checked(a.addr, b.addr))
	within(t, 15*time.Second, "both passed a check", func() bool {
		f, _ := e.Peer("api", b.addr)
		return f.Check != nil && f.Check.Pass
	})
	e.Observe(outcomes(t, "api", "*", b.addr, observe.Status, 10, 1))
	if state(t, e, b.addr) != "ejected" {
		t.Errorf("b passes its checks and fails its users: it is %s, want ejected", state(t, e, b.addr))
	}
}
