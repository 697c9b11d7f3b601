package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

// wantDistinct fails the test when a request lists an address twice or more addresses than it may.
func wantDistinct(r *rig.Rig, entries []rig.Entry, most int) {
	r.T.Helper()
	for _, e := range entries {
		seen := map[string]bool{}
		for _, a := range e.Addrs() {
			if seen[a] {
				r.T.Errorf("request %s tried %s twice: %s", e.ID, r.Name(a), e.Addr)
			}
			seen[a] = true
		}
		if len(e.Addrs()) > most {
			r.T.Errorf("request %s made %d attempts: %s", e.ID, len(e.Addrs()), e.Addr)
		}
	}
}

// Case 7.
func TestARetryGoesToAnotherPeer(t *testing.T) {
	t.Parallel()
	for name, noEngine := range map[string]bool{"with the engine": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			r := start(t, rig.Options{NoEngine: noEngine, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b", "c"}}}})
			r.Backend("c").Set(`{"refuse":true}`)
			answers := r.Send(200, 200, rig.Request{Path: "/api/x"})
			r.WantAll(answers, 200)
			entries := r.NGINX.Logged(answers)
			wantDistinct(r, entries, 3)
			if firstShare(r, entries, "c") == 0 {
				t.Error("no request met the refusing peer: the test proved nothing")
			}
		})
	}
}

// Case 8.
func TestRetriesEndWhenEveryPeerRefuses(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b", "c", "d"}}}})
	for _, b := range []string{"a", "b", "c", "d"} {
		r.Backend(b).Set(`{"refuse":true}`)
	}
	answers := r.Send(40, 8, rig.Request{Path: "/api/x"})
	for _, a := range answers {
		if a.Err != nil || (a.Status != 502 && a.Status != 503) || a.Took > 5*time.Second {
			t.Errorf("with nobody to answer: status %d, error %v after %v", a.Status, a.Err, a.Took)
		}
	}
	wantDistinct(r, r.NGINX.Logged(answers), 3)
	for _, b := range []string{"a", "b", "c", "d"} {
		r.Backend(b).Set(`{"refuse":false}`)
	}
	r.Eventually("the pool serves again", func() error {
		if a := r.Do(rig.Request{Path: "/api/x"}); a.Status != 200 {
			return fmt.Errorf("status %d", a.Status)
		}
		return nil
	})
}

// Case 8, second part: each connection that is used again is closed without an answer.
func TestRetriesEndWhenPooledConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b", "c"}}}})
	r.WantAll(r.Send(60, 20, rig.Request{Path: "/api/x"}), 200) // fills the pools of connections
	for _, b := range []string{"a", "b", "c"} {
		r.Backend(b).Set(`{"close_reused":true}`)
	}
	answers := r.Send(100, 4, rig.Request{Path: "/api/x"})
	for _, a := range answers {
		if a.Err != nil || (a.Status != 200 && a.Status != 502 && a.Status != 503) || a.Took > 5*time.Second {
			t.Errorf("status %d, error %v after %v", a.Status, a.Err, a.Took)
		}
	}
	for _, e := range r.NGINX.Logged(answers) {
		// NGINX takes a closed connection from its pool for no attempt and asks for one more peer; when there is none left it lists the last
		// one again.
		n, told := len(e.Addrs()), 0
		_, _ = fmt.Sscan(e.Attempts, &told)
		if n > 8 || told < 1 || (n != told && n != told+1) {
			t.Errorf("%d attempts, %s told: %s", n, e.Attempts, e.Addr)
		}
	}
}

// Retries are a share of the requests and a few a second, so that a pool in trouble does not get a multiple of its load.
func TestRetriesStayWithinTheirBudget(t *testing.T) {
	t.Parallel()
	const workers, share, perS = 2, 0.2, 10
	r := start(t, rig.Options{Workers: workers, Pools: []rig.Pool{{
		Name: "api", Peers: []string{"a", "b", "c"}, Location: "proxy_read_timeout 50ms;",
		Settings: fmt.Sprintf("retry: {share: %v, min_per_s: %d}", share, perS),
	}}})
	for _, b := range []string{"a", "b", "c"} {
		r.Backend(b).Set(`{"hang":1}`)
	}
	begin := time.Now()
	answers := r.Send(600, 20, rig.Request{Path: "/api/x"})
	took := time.Since(begin)
	attempts := 0
	for i, e := range r.NGINX.Logged(answers) {
		attempts += len(e.Addrs())
		if answers[i].Status != 504 && answers[i].Status != 502 {
			t.Errorf("status %d, %v", answers[i].Status, answers[i].Err)
		}
	}
	// Each worker has a budget of its own and may have saved up ten seconds of it.
	most := share*600 + workers*(perS*(took.Seconds()+10)+10*share) + 5
	if retries := attempts - 600; float64(retries) > most || retries == 0 {
		t.Errorf("600 requests made %d retries in %v, want some and at most %.0f", retries, took, most)
	}
}

// A peer that breaks every connection gives no answers, which is not the pause after which a kept connection may break without a fault.
func TestRetriesStayWithinTheirBudgetWhenBusyPeersBreakEveryConnection(t *testing.T) {
	t.Parallel()
	const share, perS = 0.2, 10
	r := start(t, rig.Options{Workers: 1, Pools: []rig.Pool{{
		Name: "api", Peers: []string{"a", "b", "c"}, // each is used all the time: what the policy finds too dear has a pause
		Settings: fmt.Sprintf("slow_start_ms: 0\nexplore: 0.2\nspread: 1\nretry: {share: %v, min_per_s: %d}", share, perS),
	}}})
	load := r.StartLoad(8, 20*time.Millisecond, rig.Request{Path: "/api/x"}) // over the change: a machine that is busy would make a pause of it
	time.Sleep(1200 * time.Millisecond)
	r.WantAll(load.Answers(), 200)
	begin := time.Now()
	for _, b := range []string{"a", "b", "c"} {
		r.Backend(b).Set(`{"reset":{"share":1,"after_bytes":-1}}`)
	}
	time.Sleep(2500 * time.Millisecond)
	all, took := load.Stop(), time.Since(begin)
	var answers []rig.Answer
	for _, a := range all {
		if a.Began.After(begin) {
			answers = append(answers, a)
		}
	}
	attempts := 0
	for _, e := range r.NGINX.Logged(answers) {
		attempts += len(e.Addrs())
	}
	const kept = 64 // connections that were open before: NGINX itself goes on when one of them breaks
	most := share*float64(len(answers)) + perS*(took.Seconds()+10) + 10*share + kept
	if retries := attempts - len(answers); float64(retries) > most || retries == 0 {
		t.Errorf("%d requests made %d retries in %v, want some and at most %.0f", len(answers), retries, took, most)
	}
}

// Case 9.
func TestTheApplicationsOwnErrorsReachTheClientUnchanged(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Location: "proxy_read_timeout 300ms;"}}})
	for _, status := range []int{400, 404, 500, 502, 503, 504} {
		for _, body := range []string{"", "an order"} {
			a := r.Do(rig.Request{Path: fmt.Sprintf("/api/status/%d", status), Body: body})
			if want := fmt.Sprintf("application page %d of %s\n", status, a.Peer); a.Status != status || a.Body != want {
				t.Errorf("the application answered %d %q, the client got %d %q", status, want, a.Status, a.Body)
			}
			if n := r.SeenAnywhere(a.ID); n != 1 {
				t.Errorf("a request answered %d arrived %d times", status, n)
			}
		}
	}
}

// Case 9, second part.
func TestAPostIsSentOnceThatTimesOutOrBreaks(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b", "c"}, Location: "proxy_read_timeout 300ms;"}}})
	for fault, want := range map[string]int{`{"hang":1}`: 504, `{"reset":{"share":1,"after_bytes":-1}}`: 502} {
		for _, b := range []string{"a", "b", "c"} {
			r.Backend(b).Set(fault)
		}
		for range 3 {
			a := r.Do(rig.Request{Path: "/api/x", Body: "an order"})
			if a.Status != want || a.Took > 5*time.Second {
				t.Errorf("%s: status %d after %v, error %v", fault, a.Status, a.Took, a.Err)
			}
			if n := r.SeenAnywhere(a.ID); n != 1 {
				t.Errorf("%s: the POST arrived %d times", fault, n)
			}
		}
		for _, b := range []string{"a", "b", "c"} {
			r.Backend(b).Set(`{"hang":0,"reset":null}`)
		}
	}
}

// A POST that never left NGINX may go to another peer.
func TestAPostToARefusingPeerIsServedByAnother(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{NoEngine: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}}})
	r.Backend("a").Set(`{"refuse":true}`)
	answers := r.Send(40, 4, rig.Request{Path: "/api/x", Body: "an order"})
	r.WantAll(answers, 200)
	for _, a := range answers {
		if n := r.Backend("b").Seen(a.ID); n != 1 {
			t.Errorf("the POST arrived %d times", n)
		}
	}
}

// Case 12.
func TestABlackHoleCostsOneConnectTimeoutUnderTheDefaults(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}}})
	r.Backend("a").Set(`{"blackhole":true}`)
	answers := r.Send(20, 20, rig.Request{Path: "/api/x"})
	r.WantAll(answers, 200)
	failovers := 0
	for i, e := range r.NGINX.Logged(answers) {
		if len(e.Addrs()) > 1 {
			failovers++
		}
		if answers[i].Took > 5*time.Second {
			t.Errorf("a request took %v: %s", answers[i].Took, e.Addr)
		}
	}
	if failovers == 0 {
		t.Fatal("no request met the black hole: the test proved nothing")
	}
	wantDistinct(r, r.NGINX.Logged(answers), 2)
	r.WaitRecords(failovers, func(rec rig.Record) bool { return rec.Peer == r.Addr("a") && rec.Kind == rig.KindConnectTimeout })
	next := r.Send(20, 20, rig.Request{Path: "/api/x"})
	r.WantAll(next, 200)
	again := 0
	for _, e := range r.NGINX.Logged(next) {
		if slices.Contains(e.Addrs(), r.Addr("a")) {
			again++
		}
	}
	if again > 2 {
		t.Errorf("%d of 20 requests waited for the black hole again", again)
	}
}

// Case 12, second part.
func TestARetryBudgetShorterThanOneConnectIsRefusedAtStart(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{NoEngine: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}, Location: "proxy_next_upstream_timeout 500ms;"}}})
	pool := "pools: [{name: api, peers: [%q], connect_timeout_ms: %d, retry: {timeout_ms: %d}}]\n"
	if ok, said := r.Check(fmt.Sprintf(pool, r.Addr("a"), 1000, 500)); ok || !strings.Contains(said, "timeout_ms") {
		t.Errorf("a retry budget of 500 ms with connects of 1000 ms passed: %s", said)
	}
	good := fmt.Sprintf(pool, r.Addr("a"), 1000, 5000)
	if ok, said := r.Check(good); !ok {
		t.Errorf("a good configuration was refused: %s", said)
	}
	if ok, said := r.Check(good, "--nginx", r.NGINX.File()); ok || !strings.Contains(said, "proxy_next_upstream_timeout") {
		t.Errorf("proxy_next_upstream_timeout below the connect time-out passed: %s", said)
	}
}

// NGINX drops an answer that proxy_next_upstream names when it asks for the next peer: it must be given one.
func TestLimitsOfRetriesTakeNoAnswerFromTheClient(t *testing.T) {
	t.Parallel()
	const settings = "eject: {consecutive: 0, failure_share: 0}\nconnect_timeout_ms: 200\n"
	again := "proxy_next_upstream error timeout http_503;"
	r := start(t, rig.Options{Workers: 1, Pools: []rig.Pool{
		{Name: "slow", Peers: []string{"a", "b", "c"}, Location: again, Settings: settings + "retry: {timeout_ms: 300}"},
		{Name: "many", Peers: strings.Split("d e f g h i j k l", " "), Location: again, Settings: settings + "retry: {tries: 10, min_per_s: 1000000}"},
		{Name: "hung", Peers: []string{"m", "n"}, Location: "proxy_read_timeout 400ms;", Settings: settings + "retry: {timeout_ms: 300}"},
	}})
	for b := range strings.SplitSeq("a b c d e f g h i j k l", " ") {
		fail := `{"fail":{"status":503,"share":1}}`
		if b < "d" {
			fail = `{"fail":{"status":503,"share":1,"after_ms":400}}`
		}
		r.Backend(b).Set(fail)
	}
	r.Backend("m").Set(`{"hang":1}`)
	r.Backend("n").Set(`{"hang":1}`)
	for range 5 { // to have a budget for retries
		r.Do(rig.Request{Path: "/many/x"})
	}
	for pool, want := range map[string]struct{ status, attempts int }{"slow": {503, 2}, "many": {503, 7}, "hung": {504, 1}} {
		a := r.Do(rig.Request{Path: "/" + pool + "/x"})
		if n := r.SeenAnywhere(a.ID); a.Status != want.status || n != want.attempts || want.status == 503 && a.Peer == "" {
			t.Errorf("%s: status %d of %q after %d attempts, want %d after %d", pool, a.Status, a.Peer, n, want.status, want.attempts)
		}
	}
}

// Requests are on a peer that fails; before they time out it is taken out of the pool.
func TestRequestsOnAPeerThatIsRemovedAndFailsAreServedByAnother(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Workers: 1, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Location: "proxy_read_timeout 1500ms;"}}})
	r.Backend("a").Set(`{"slots":40,"default":{"mean_ms":500}}`) // one that answers at once would get nearly all
	r.Backend("b").Set(`{"hang":1}`)
	p := r.Begin(40, rig.Request{Path: "/api/x"})
	r.Eventually("some are on b", func() error {
		if n := r.Backend("b").Stats().InFlight; n < 6 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	r.SetPeers("api", "a")
	r.WantAll(p.Wait(), 200)
	if log := r.NGINX.ErrorLog(); strings.Contains(log, "failed to run balancer_by_lua") {
		t.Error("the balancer failed")
	}
}
