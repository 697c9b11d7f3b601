package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

const admit = `access_by_lua_block { require("resty.weir").admit("api") }`

// after are the answers to requests sent after an instant.
func after(answers []rig.Answer, from time.Time) (found []rig.Answer) {
	for _, a := range answers {
		if a.Began.After(from) {
			found = append(found, a)
		}
	}
	return found
}

// took is a quantile of the times of the requests that were served.
func took(answers []rig.Answer, q float64) time.Duration {
	var times []time.Duration
	for _, a := range answers {
		if a.Status == 200 {
			times = append(times, a.Took)
		}
	}
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[int(q*float64(len(times)-1))]
}

// wantServedOrShed fails the test when an answer is neither 200 nor 503 with Retry-After; it returns how many were served.
func wantServedOrShed(r *rig.Rig, answers []rig.Answer) (served int) {
	r.T.Helper()
	for _, a := range answers {
		switch {
		case a.Status == 200:
			served++
		case a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") != "1":
			r.T.Errorf("status %d, Retry-After %q, error %v", a.Status, a.Header.Get("Retry-After"), a.Err)
		}
	}
	return served
}

// limited reads what the engine says of the pool's limit; 0 = none.
func limited(r *rig.Rig) (limit float64, shed int) {
	r.T.Helper()
	_, body := r.Engine.Get("/api/pools/api")
	var f struct {
		Limit *float64
		Shed  int
	}
	if err := json.Unmarshal(body, &f); err != nil {
		r.T.Fatalf("%v: %s", err, body)
	}
	if f.Limit != nil {
		limit = *f.Limit
	}
	return limit, f.Shed
}

// The peers can do 160 requests a second, 50 ms each. 150 clients that come back after 300 ms would wait half a second.
func TestAnOverloadedPoolShedsAndStaysQuick(t *testing.T) {
	t.Parallel()
	work := `{"default":{"mean_ms":50}}`
	r := start(t, rig.Options{HTTP: "map $http_x_priority $weir_priority { default $http_x_priority; }", Server: "location = /nothing { return 204; }", Pools: []rig.Pool{{
		Name: "api", Peers: []string{"a", "b"}, Settings: "slow_start_ms: 0\nlimit: {adaptive: true}", Location: admit,
	}}})
	r.Backend("a").Set(work)
	r.Backend("b").Set(work)
	calm := r.StartLoad(4, 0, rig.Request{Path: "/api/x"})
	time.Sleep(1500 * time.Millisecond)
	if answers := calm.Stop(); wantServedOrShed(r, answers) != len(answers) {
		t.Error("requests were refused without an overload")
	}

	crowd := r.StartLoad(150, 300*time.Millisecond, rig.Request{Path: "/api/x"})
	urgent := r.StartLoad(6, 200*time.Millisecond, rig.Request{Path: "/api/x", Header: map[string]string{"X-Priority": "high"}})
	r.Eventually("the engine finds a limit", func() error {
		if limit, _ := limited(r); limit == 0 {
			return fmt.Errorf("none")
		}
		return nil
	})
	time.Sleep(2 * time.Second)
	from := time.Now()
	nothing := r.StartLoad(1, 10*time.Millisecond, rig.Request{Path: "/nothing", Fresh: true}) // what a busy machine makes of no work at all
	time.Sleep(2500 * time.Millisecond)
	idle := nothing.Stop()
	normal, high := after(crowd.Answers(), from), after(urgent.Answers(), from)
	limit, _ := limited(r)
	served, servedHigh := wantServedOrShed(r, normal), wantServedOrShed(r, high)
	t.Logf("limit %.1f; normal %d of %d served, p50 %v p99 %v; high %d of %d, p50 %v p99 %v", limit, served, len(normal), took(normal, 0.5), took(normal, 0.99),
		servedHigh, len(high), took(high, 0.5), took(high, 0.99))
	if served == len(normal) || served == 0 {
		t.Errorf("%d of %d requests served at more than twice what the pool can do", served, len(normal))
	}
	if all := served + servedHigh; all < 100 { // of the 400 that the peers could do; an idle machine comes to 230 and more this soon
		t.Errorf("the limit strangles the pool: %d served in 2.5 s", all)
	}
	if share := float64(servedHigh) / float64(len(high)); share < 0.75 { // a fifth of the others
		t.Errorf("%.0f %% of the requests of high priority served", 100*share)
	}
	for i := range idle {
		idle[i].Status = 200 // took is of those that were served
	}
	if p, of := took(normal, 0.9), took(idle, 0.9); p > 350*time.Millisecond+2*of {
		t.Errorf("the slowest tenth of what was served took %v and more, and of requests without any work %v", p, of)
	}

	// A new engine and new workers go on from the limit that was found.
	r.Engine.Stop()
	r.Engine.Start()
	r.NGINX.Reload()
	r.Eventually("the new engine knows the limit", func() error {
		if now, _ := limited(r); now < limit/3 || now > 3*limit {
			return fmt.Errorf("it was %.1f and is %.1f", limit, now)
		}
		return nil
	})
	if now := r.NGINX.Status().Pools["api"].Limit; now < limit/3 || now > 3*limit {
		t.Errorf("NGINX holds %.1f after a restart of the engine and a reload, it was %.1f", now, limit)
	}
	answers := crowd.Stop()
	urgent.Stop()
	wantServedOrShed(r, after(answers, from))

	s := r.NGINX.Status().Pools["api"].Shed
	if s.Normal == 0 || s.High > s.Normal/2 || s.Full != 0 {
		t.Errorf("NGINX counts %+v", s)
	}
	r.Eventually("the engine knows of what was refused", func() error {
		_, shed := limited(r)
		for _, line := range r.Engine.Samples("weir_shed_requests_total") {
			if strings.Contains(line, `priority="normal"`) && !strings.HasSuffix(line, " 0") && shed > 0 {
				return nil
			}
		}
		return fmt.Errorf("%d; %v", shed, r.Engine.Samples("weir_shed"))
	})
	for i, e := range r.NGINX.Logged(normal[:min(len(normal), 200)]) {
		if (e.Policy == "limit") != (normal[i].Status == 503) || e.Policy == "limit" && e.Addr != "" {
			t.Errorf("status %d is logged as %+v", normal[i].Status, e)
			break
		}
	}
	for _, name := range []string{"a", "b"} {
		if f := r.Engine.Figures("api", name); f.Failed() != 0 || f.Ejections != 0 {
			t.Errorf("%s is charged: %+v", name, f)
		}
	}
}

// Each worker sees what the others count, but for the one request that each of them may be placing at that instant.
func TestNoPeerHoldsMoreThanItsCap(t *testing.T) {
	t.Parallel()
	const workers, most = 4, 5
	r := start(t, rig.Options{Workers: workers, Pools: []rig.Pool{
		{Name: "api", Peers: []string{"a --slots 0"}, Settings: fmt.Sprintf("max_inflight: %d\nqueue_ms: 5000\nqueue_max: 200", most), Location: admit},
		{Name: "bare", Peers: []string{"b --slots 0"}, PeerSettings: map[string]string{"b": fmt.Sprintf("max_inflight: %d", most)}},
	}})
	for _, name := range []string{"a", "b"} {
		r.Backend(name).Set(`{"default":{"mean_ms":60}}`)
	}
	wantCap := func(name string) {
		t.Helper()
		if n := int(r.Backend(name).Stats().MaxInFlight); n > most+workers-1 || n < most-1 {
			t.Errorf("%s held %d requests at a time, with a cap of %d and %d workers", name, n, most, workers)
		}
	}
	// With the access phase requests wait for room, and all are served.
	r.WantAll(r.Send(60, 30, rig.Request{Path: "/api/x", Fresh: true}), 200)
	wantCap("a")
	// Without it they are refused at once.
	answers := r.Send(60, 30, rig.Request{Path: "/bare/x", Fresh: true})
	if served := wantServedOrShed(r, answers); served == 0 || served == len(answers) {
		t.Errorf("%d of %d served", served, len(answers))
	}
	wantCap("b")
	for i, e := range r.NGINX.Logged(answers) {
		if answers[i].Status == 503 && e.Policy != "full" {
			t.Errorf("a refused request is logged as %+v", e)
			break
		}
	}
	if s := r.NGINX.Status().Pools["bare"].Shed; s.Full == 0 || s.Normal+s.High+s.Low != 0 {
		t.Errorf("NGINX counts %+v", s)
	}
	if f := r.Engine.Figures("bare", "b"); f.Failed() != 0 {
		t.Errorf("b is charged: %+v", f)
	}
}

func TestWhoWaitsForRoomIsBoundedInNumberAndTime(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Workers: 1, Pools: []rig.Pool{{
		Name: "api", Peers: []string{"a --slots 0"}, Settings: "max_inflight: 2\nqueue_ms: 300\nqueue_max: 3", Location: admit,
	}}})
	r.Backend("a").Set(standStill)
	held := r.Begin(2, rig.Request{Path: "/api/x"})
	r.Eventually("the peer is full", func() error {
		if n := r.NGINX.InFlight("api", "a"); n != 2 {
			return fmt.Errorf("%d in flight", n)
		}
		return nil
	})
	answers := r.Send(10, 10, rig.Request{Path: "/api/x"})
	if served := wantServedOrShed(r, answers); served != 0 {
		t.Errorf("%d served by a peer that is full", served)
	}
	waited := 0
	for _, a := range answers {
		if a.Took >= 300*time.Millisecond {
			waited++
		}
	}
	if waited < 3 {
		t.Errorf("%d requests waited for their time", waited)
	}
	// Clients that leave while they wait give their place back.
	r.Begin(3, rig.Request{Path: "/api/x"}).Abort()
	r.Backend("a").Set(`{"speed":1,"default":{"mean_ms":10}}`)
	r.WantAll(held.Wait(), 200)
	r.WantAll(r.Send(10, 3, rig.Request{Path: "/api/x"}), 200)
}

// What holds a connection and no place in the peer's queue fills no cap: WebSockets, and clients that are slow to read.
func TestStreamsAndSlowReadersFillNoCap(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Workers: 1, Pools: []rig.Pool{{Name: "api", Peers: []string{"a --slots 0"}, Settings: "max_inflight: 2\nqueue_ms: 0", Location: admit}}})
	free := func(what string) {
		t.Helper()
		r.Eventually(what+" fills no cap", func() error {
			for range 3 {
				if a := r.Do(rig.Request{Path: "/api/x"}); a.Status != 200 {
					return fmt.Errorf("status %d", a.Status)
				}
			}
			return nil
		})
	}
	const sockets = 5
	for range sockets {
		r.WebSocket("/api/ws")
		free("a WebSocket")
	}
	// The peer has sent all of the answer; the client has read none of it.
	for i := range 5 {
		c := r.NGINX.Dial()
		_ = c.SetDeadline(time.Now().Add(2 * rig.Patience))
		_, _ = fmt.Fprint(c, "GET /api/bytes?n=20000000 HTTP/1.1\r\nHost: x\r\n\r\n")
		_, _ = io.ReadFull(c, make([]byte, 1000))
		r.Eventually("the peer has sent its answer", func() error {
			if n := r.Backend("a").Stats().InFlight; n != sockets {
				return fmt.Errorf("%d are under way besides the WebSockets", n-sockets)
			}
			return nil
		})
		free(fmt.Sprintf("slow reader %d", i+1))
	}
}

// Where NGINX may not take an answer off the peer's hands, the peer is busy for as long as the client reads, and that counts.
func TestASlowReaderFillsTheCapWhileThePeerSendsToIt(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Workers: 1, Pools: []rig.Pool{{
		Name: "api", Peers: []string{"a --slots 0"}, Settings: "max_inflight: 1\nqueue_ms: 0", Location: admit + " proxy_max_temp_file_size 0;",
	}}})
	c := r.NGINX.Dial()
	_ = c.SetDeadline(time.Now().Add(2 * rig.Patience))
	_, _ = fmt.Fprint(c, "GET /api/bytes?n=20000000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	_, _ = io.ReadFull(c, make([]byte, 1000))
	time.Sleep(500 * time.Millisecond) // it is looked at after 200 ms
	if n := r.Backend("a").Stats().InFlight; n != 1 {
		t.Fatalf("the peer has %d requests under way: the test proves nothing", n)
	}
	if a := r.Do(rig.Request{Path: "/api/x"}); a.Status != 503 {
		t.Errorf("status %d while the only place is taken", a.Status)
	}
	_, _ = io.Copy(io.Discard, c)
	r.Eventually("the place is free", func() error {
		if a := r.Do(rig.Request{Path: "/api/x"}); a.Status != 200 {
			return fmt.Errorf("status %d", a.Status)
		}
		return nil
	})
}

// What the page on limits says of several NGINX: a limit is divided among those that have requests, a cap is each one's own.
func TestTwoNGINXOfOneEngineDivideTheLimitAndEachHaveTheCap(t *testing.T) {
	t.Parallel()
	const whole, most = 10, 4
	pools := []rig.Pool{
		{Name: "api", Peers: []string{"a --slots 0"}, Settings: fmt.Sprintf("limit: {adaptive: true, min: %d, max: %d, normal: 1, low: 1}", whole, whole), Location: admit},
		{Name: "capped", Peers: []string{"b --slots 0"}, Settings: fmt.Sprintf("max_inflight: %d\nqueue_ms: 10000\nqueue_max: 200", most), Location: strings.Replace(admit, "api", "capped", 1)},
	}
	named := func(name string, first *rig.Rig) *rig.Rig {
		return start(t, rig.Options{
			Workers: 1, Main: "env WEIR_INSTANCE;", NGINXEnv: []string{"WEIR_INSTANCE=" + name},
			Pools: pools, Beside: first, Follow: first,
		})
	}
	one := named("one", nil)
	two := named("two", one)
	for _, name := range []string{"a", "b"} {
		one.Backend(name).Set(`{"default":{"mean_ms":50}}`)
	}

	// As an NGINX tells a new engine which limit it knows.
	if status, body := one.Engine.Post("/observe", "application/x-weir-observe",
		[]byte(fmt.Sprintf(`{"v":1,"instance":"zero","worker":0,"records":0,"limits":[["api",%d,50]]}`+"\n", whole))); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	limits := func(want float64, rigs ...*rig.Rig) {
		t.Helper()
		for _, r := range rigs {
			r.Eventually("NGINX knows its part of the limit", func() error {
				if got := r.NGINX.Status().Pools["api"].Limit; got != want {
					return fmt.Errorf("%v, want %v", got, want)
				}
				return nil
			})
		}
	}
	limits(whole, one, two) // nobody has requests yet
	crowds := []*rig.Load{one.StartLoad(20, 0, rig.Request{Path: "/api/x"}), two.StartLoad(20, 0, rig.Request{Path: "/api/x"})}
	limits(whole/2, one, two)
	one.Eventually("what each let in before is answered", func() error {
		for _, r := range []*rig.Rig{one, two} {
			if n := r.NGINX.InFlight("api", "a"); n > whole/2 {
				return fmt.Errorf("%d are under way", n)
			}
		}
		return nil
	})
	high := int64(0)
	for range 40 {
		n := one.Backend("a").Stats().InFlight
		if n > whole {
			t.Errorf("the pool held %d requests, its limit is %d", n, whole)
		}
		high = max(high, n)
		time.Sleep(10 * time.Millisecond)
	}
	for _, load := range crowds {
		if answers := load.Stop(); wantServedOrShed(one, answers) == len(answers) {
			t.Error("nothing was refused: the test proved nothing")
		}
	}
	if high <= whole/2 {
		t.Errorf("the pool held %d requests at most: the two NGINX did not each have a part", high)
	}

	held := []*rig.Pending{one.Begin(20, rig.Request{Path: "/capped/x"}), two.Begin(20, rig.Request{Path: "/capped/x"})}
	for _, h := range held {
		one.WantAll(h.Wait(), 200)
	}
	if n := one.Backend("b").Stats().MaxInFlight; n > 2*most || n <= most {
		t.Errorf("a peer with a cap of %d held %d requests of two NGINX", most, n)
	}
}

// 800 clients that come at once and again after 4 s each: 2.5 s of work at first, and then some 190 requests a second for peers that can do 320. Whoever is given
// up after 500 ms is worked off all the same. To eject half of the peers for their time-outs would leave the others with more than they can do for good.
func TestAPoolComesBackFromAMomentOfOverload(t *testing.T) {
	t.Parallel()
	peers := []string{"a", "b", "c", "d"}
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: peers, Settings: "retry: {tries: 1}", Location: "proxy_read_timeout 500ms;"}}})
	for _, name := range peers {
		r.Backend(name).Set(`{"slots":4,"default":{"mean_ms":50}}`)
	}
	crowd := r.StartLoad(800, 4*time.Second, rig.Request{Path: "/api/x"})
	time.Sleep(16 * time.Second) // the load goes on meanwhile; what is asked is how it stands after that time
	from := time.Now()
	time.Sleep(4 * time.Second)
	answers := crowd.Stop()
	failed := func(answers []rig.Answer) (n int) {
		for _, a := range answers {
			if a.Status != 200 {
				n++
			}
		}
		return n
	}
	late := after(answers, from)
	t.Logf("%d of %d requests failed, %d of the last %d", failed(answers), len(answers), failed(late), len(late))
	if failed(answers) < 200 || failed(late) > len(late)/4 || len(late) == 0 {
		t.Errorf("%d of %d requests failed, %d of the last %d", failed(answers), len(answers), failed(late), len(late))
	}
}

// What admit refuses is an error of NGINX's like any other: who has a page, or another server, for 503 has it for these too.
func TestAnErrorPageStandsInForWhatAdmitRefuses(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		Workers: 1,
		Pools: []rig.Pool{{
			Name: "api", Peers: []string{"a"}, Settings: "max_inflight: 1\nqueue_ms: 100\nqueue_max: 1", Location: admit + "error_page 503 = @busy;",
		}},
		Server: `location @busy { return 200 "come again"; }
			location /plain/ { ` + admit + ` proxy_pass http://api/; }`,
	})
	r.Backend("a").Set(standStill)
	held := r.Begin(1, rig.Request{Path: "/api/x", Fresh: true})
	wantInFlight(r, "api", 1, "a")
	for _, a := range r.Send(2, 2, rig.Request{Path: "/api/x"}) { // one waits, the other may not
		if a.Status != 200 || a.Body != "come again" || a.Header.Get("Retry-After") != "1" {
			t.Errorf("status %d, %q, Retry-After %q", a.Status, a.Body, a.Header.Get("Retry-After"))
		}
	}
	for _, a := range r.Send(2, 2, rig.Request{Path: "/plain/x"}) {
		if a.Status != 503 || a.Header.Get("Retry-After") != "1" || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("without an error page: status %d, header %v", a.Status, a.Header)
		}
	}
	r.Backend("a").Set(goOn)
	r.WantAll(held.Wait(), 200)
}
