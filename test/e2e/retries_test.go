package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
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

// Case 10. The peers close idle connections after half a second, NGINX keeps them for 60 s, and a request comes each half second.
func TestTheIdleRaceIsNoFailure(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a --keep-alive 500ms", "b --keep-alive 500ms"}, Settings: "slow_start_ms: 0"}}})
	var mu sync.Mutex
	var gets, posts []rig.Answer
	var all sync.WaitGroup
	begin := time.Now()
	for client := range 16 {
		all.Go(func() {
			for n := range 7 {
				// The connections were last used half a second before, give or take some milliseconds.
				time.Sleep(time.Until(begin.Add(time.Duration(n)*500*time.Millisecond + time.Duration(rand.IntN(4000))*time.Microsecond)))
				q, list := rig.Request{Path: "/api/x"}, &gets
				if client%4 == 0 {
					q, list = rig.Request{Path: "/api/x", Body: "an order"}, &posts
				}
				a := r.Do(q)
				mu.Lock()
				*list = append(*list, a)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	r.WantAll(gets, 200)
	for _, a := range posts {
		if n := r.SeenAnywhere(a.ID); n > 1 || a.Err != nil || (a.Status == 200) != (n == 1) {
			t.Errorf("a POST was answered %d (%v) and arrived %d times", a.Status, a.Err, n)
		}
	}
	wantNoFailures(r, "a", "b")
}

// Case 10, the race made certain: the peer closes the connection on the second request.
func TestAConnectionClosedOnReuseIsNoFailureOfThePeer(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Workers: 1, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: "slow_start_ms: 0"}}})
	r.Backend("a").Set(`{"close_reused":true}`)
	r.Backend("b").Set(`{"close_reused":true}`)
	var records []rig.Record
	r.Eventually("kept connections are closed on use", func() error {
		r.WantAll([]rig.Answer{r.Do(rig.Request{Path: "/api/x"})}, 200)
		time.Sleep(350 * time.Millisecond) // a pause of 300 and more makes it a race
		records = r.Tap.Records(t)
		if n := rig.Count(records, func(rec rig.Record) bool { return rec.Kind == rig.KindIdleRace }); n < 3 {
			return fmt.Errorf("%d of %d attempts were races", n, len(records))
		}
		return nil
	})
	busy := 0
	for _, rec := range records {
		switch {
		case rec.Kind == rig.KindIdleRace && rec.HeaderMS != -1:
			t.Errorf("a race has no answer, but %+v", rec)
		case rec.Kind == rig.KindReset && rec.TotalMS >= 98: // of idle.lua's 100
			busy++
		}
	}
	if busy > 0 {
		t.Logf("on this machine %d connections broke too late to be told from others", busy)
		return
	}
	wantNoFailures(r, "a", "b")
}

// A peer whose process died behind a proxy takes connections and closes them. After a pause that looks like the idle race, which spares the peer; the request
// must not be spent on it all the same.
func TestAPeerThatBreaksEachConnectionAfterAPauseCostsNoRequest(t *testing.T) {
	t.Parallel()
	for _, settings := range []string{"slow_start_ms: 0\nexplore: 0.2\nspread: 1", "slow_start_ms: 0\naffinity: {by: hash, key: $arg_user}\n"} {
		r := start(t, rig.Options{Workers: 1, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b", "c"}, Settings: settings}}})
		for i := range 60 {
			r.WantAll([]rig.Answer{r.Do(rig.Request{Path: fmt.Sprintf("/api/x?user=%d", i)})}, 200)
		}
		r.Backend("a").Set(`{"reset":{"share":1,"after_bytes":-1}}`)
		before := r.NGINX.Peer("api", "a").Picks
		time.Sleep(350 * time.Millisecond) // a pause of 300 and more makes it a race
		var answers []rig.Answer
		for i := range 300 { // 20 of them by chance, however dear it is
			answers = append(answers, r.Do(rig.Request{Path: fmt.Sprintf("/api/x?user=%d", i)}))
		}
		r.WantAll(answers, 200)
		if r.NGINX.Peer("api", "a").Picks == before {
			t.Error("no request went to the peer that breaks")
		}
	}
}

// A request that may be tried once goes on as long as kept connections turn out to be closed. A peer that has many of them and closes each when it is used
// must not have it for good.
func TestAPeerThatClosesEachKeptConnectionKeepsNoRequestFromTheOthers(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Workers: 1, Pools: []rig.Pool{{
		Name: "api", Peers: []string{"a --slots 0", "b --slots 0"}, Settings: "slow_start_ms: 0\nretry: {tries: 1}\naffinity: {by: hash, key: $arg_user}",
	}}})
	r.Backend("a").Set(`{"default":{"mean_ms":20}}`)
	r.Backend("b").Set(`{"default":{"mean_ms":20}}`)
	var answers []rig.Answer
	for i := range 16 {
		r.WantAll(r.Send(40, 20, rig.Request{Path: fmt.Sprintf("/api/x?user=%d", i)}), 200) // some 20 connections to each are kept
	}
	r.Backend("a").Set(`{"close_reused":true}`)
	for i := range 16 {
		answers = append(answers, r.Do(rig.Request{Path: fmt.Sprintf("/api/x?user=%d", i)}))
	}
	r.WantAll(answers, 200)
	closed := 0
	for _, e := range r.NGINX.Logged(answers) {
		if len(e.Addrs()) > 2 {
			closed++
		}
	}
	if closed == 0 {
		t.Error("no request found two closed connections in a row: the test proved nothing")
	}
}

func wantNoFailures(r *rig.Rig, backends ...string) {
	r.T.Helper()
	time.Sleep(500 * time.Millisecond) // the last batch
	for _, rec := range r.Tap.Records(r.T) {
		if rec.Kind != rig.KindOK && rec.Kind != rig.KindIdleRace && rec.Kind != rig.KindAbort {
			r.T.Errorf("a failure is charged: %+v", rec)
		}
	}
	for _, name := range backends {
		if f, p := r.Engine.Figures("api", name), r.NGINX.Peer("api", name); f.Failed() != 0 || f.Ejections != 0 || p.Fails != 0 || p.SetAsideMS != 0 {
			r.T.Errorf("%s is charged: engine %+v, NGINX %+v", name, f, p)
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

// NGINX counts no try for a kept connection that turns out to be closed.
func TestTheTriesOfALocationHoldAlsoAfterKeptConnectionsThatWereClosed(t *testing.T) {
	t.Parallel()
	peers := []string{"a", "b", "c", "d"}
	r := start(t, rig.Options{Workers: 1, Pools: []rig.Pool{{
		Name: "api", Peers: peers, Settings: "slow_start_ms: 0\nretry: {tries: 7}\nexplore: 0.2\neject: {consecutive: 0}", Location: "proxy_next_upstream_tries 1;",
	}}})
	r.Eventually("each peer has a kept connection", func() error {
		r.WantAll(r.Send(10, 1, rig.Request{Path: "/api/x"}), 200)
		for _, b := range peers {
			if r.NGINX.Peer("api", b).Picks == 0 {
				return fmt.Errorf("%s has none", b)
			}
		}
		return nil
	})
	for _, b := range peers {
		r.Backend(b).Set(`{"reset":{"share":1,"after_bytes":-1}}`)
	}
	answers := r.Send(1, 1, rig.Request{Path: "/api/x"})
	r.WantAll(answers, 502)
	if e := r.NGINX.Logged(answers)[0]; len(e.Addrs()) > len(peers)+1 {
		t.Errorf("after no more than four closed connections there is one try; logged is %+v", e)
	}
}

// Weir keeps eight attempts of a request; where error pages and retries make more, the last is the one that is kept.
func TestTheLastOfManyAttemptsIsMeasuredAsItself(t *testing.T) {
	t.Parallel()
	server := "recursive_error_pages on; proxy_intercept_errors on;\n"
	for i := range 9 {
		server += fmt.Sprintf("location = /p%d { proxy_pass http://api/status/%d; error_page 404 410 = /p%d; }\n", i, 404+i%2*6, i+1)
	}
	r := start(t, rig.Options{
		Workers: 1, Tap: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}}}, Server: server + "location = /p9 { proxy_pass http://api/poll?wait=60ms; }",
	})
	r.WantAll([]rig.Answer{r.Do(rig.Request{Path: "/p0"})}, 200)
	last := r.WaitRecords(1, func(rec rig.Record) bool { return rec.Class == "GET /p9" })[0]
	if last.Kind != rig.KindOK || last.Status != 200 || last.HeaderMS < 50 {
		t.Errorf("the tenth attempt is told as %+v", last)
	}
}

// What became of a request in the pool it was first sent to takes nothing from what the pool has that an error page sends it to.
func TestAPoolBehindAnErrorPageHasTriesOfItsOwn(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		Pools: []rig.Pool{
			{Name: "api", Peers: []string{"a", "b"}, Location: "error_page 502 503 = @second; proxy_intercept_errors on;"},
			{Name: "second", Peers: []string{"c", "d"}, Settings: "retry: {tries: 2}"},
		},
		Server: "location @second { proxy_pass http://second; include " + programs.Repo + "/nginx/proxy.conf; }",
	})
	r.Backend("a").Set(`{"refuse":true}`)
	r.Backend("b").Set(`{"fail":{"status":503,"share":1}}`)
	r.Backend("c").Set(`{"reset":{"share":1,"after_bytes":-1}}`)
	answers := r.Send(30, 1, rig.Request{Path: "/api/x"})
	r.WantAll(answers, 200)
	retried := 0
	for _, e := range r.NGINX.Logged(answers) {
		if _, second, _ := strings.Cut(e.Addr, " : "); strings.Contains(second, ", ") {
			retried++
		}
	}
	if retried == 0 {
		t.Error("no request met the peer that breaks: the test proved nothing")
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
