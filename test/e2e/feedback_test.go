package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

// What NGINX and the engine learn from answers, and what must not mislead them.

// firstShare is the part of the requests whose first attempt went to the backend.
func firstShare(r *rig.Rig, entries []rig.Entry, backend string) float64 {
	n := 0
	for _, e := range entries {
		if a := e.Addrs(); len(a) > 0 && a[0] == r.Addr(backend) {
			n++
		}
	}
	return float64(n) / float64(max(1, len(entries)))
}

// Case 1.
func TestFastFailuresDoNotAttractTraffic(t *testing.T) {
	faults := map[string]string{
		"s500":    `{"fail":{"status":500,"after_ms":1,"share":1}}`,
		"s429":    `{"fail":{"status":429,"share":1}}`,
		"s503":    `{"fail":{"status":503,"share":1}}`,
		"refused": `{"refuse":true}`,
	}
	var opt rig.Options
	for pool := range faults {
		opt.Pools = append(opt.Pools, rig.Pool{Name: pool, Peers: []string{"a-" + pool, "b-" + pool}, Settings: "slow_start_ms: 0"})
	}
	r := start(t, opt)
	const well = 50 // ms
	for pool := range faults {
		r.Backend("a-" + pool).Set(answersIn(well))
		r.Backend("b-" + pool).Set(answersIn(well))
	}
	costs := func(pool string) (a, b float64) {
		class := "GET /" + pool + "/x"
		table := r.Engine.Decide(pool, class)
		a, known := table.Cost(r.Addr("a-" + pool))
		b, ok := table.Cost(r.Addr("b-" + pool))
		if !ok || !known || table.Class != class {
			t.Fatalf("no costs of %s: %+v", class, table)
		}
		return a, b
	}
	before := map[string]float64{}
	loads := map[string]*rig.Load{}
	for pool := range faults {
		r.Send(40, 8, rig.Request{Path: "/" + pool + "/x"})
		r.Engine.WaitAttempts(pool, "b-"+pool, 5)
	}
	time.Sleep(300 * time.Millisecond) // a few refreshes of the tables
	for pool, fault := range faults {
		_, before[pool] = costs(pool)
		r.Backend("b-" + pool).Set(fault)
		loads[pool] = r.StartLoad(4, 0, rig.Request{Path: "/" + pool + "/x"})
	}
	aside := map[string]bool{}
	for until := time.Now().Add(3 * time.Second); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		s := r.NGINX.Status()
		for pool := range faults {
			// Both may be dear after a start, and get cheaper as it passes, the one that is left alone sooner: the failing one must not become cheaper than it was when it was well.
			if a, b := costs(pool); b < 0.7*min(a, before[pool], well) {
				t.Errorf("pool %s: failures took the failing peer's cost from %.1f to %.1f, where the other has %.1f", pool, before[pool], b, a)
			}
			b := s.Pools[pool].Peer(r.Addr("b-" + pool))
			if b != nil && (b.SetAsideMS > 0 || b.State == "ejected") {
				aside[pool] = true
			}
		}
	}
	for pool := range faults {
		entries := r.NGINX.Logged(loads[pool].Stop())
		if share := firstShare(r, entries, "b-"+pool); share >= 0.4 {
			t.Errorf("pool %s: the failing peer got %.0f %% of %d requests, want well below an even share", pool, 100*share, len(entries))
		}
		if !aside[pool] {
			t.Errorf("pool %s: the failing peer was never set aside", pool)
		}
	}
}

// A peer that breaks off its answers half-way fails as fast as one that answers 500.
func TestBrokenAnswersDoNotAttractTraffic(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: "slow_start_ms: 0"}}})
	r.Backend("a").Set(answersIn(50))
	r.Backend("b").Set(`{"reset":{"share":1,"after_bytes":20000}}`)
	answers := traffic(r, 3*time.Second, 4, rig.Request{Path: "/api/x"})
	broken := 0
	for _, a := range answers {
		if a.Err != nil {
			broken++
		}
	}
	t.Logf("%d of %d answers were broken", broken, len(answers))
	if share := float64(broken) / float64(len(answers)); share > 0.4 {
		t.Errorf("%.0f %% of %d requests went to the peer that breaks its answers, want well below an even share", 100*share, len(answers))
	}
	if f := r.Engine.WaitAttempts("api", "b", 1); f.Failed() == 0 {
		t.Errorf("no failure is charged: %v, others %v", f.Failures, f.Others)
	}
}

// Another service has the port of the peer: what it sends at once NGINX takes for HTTP/0.9, with status 200.
func TestAnswersThatAreNoHTTPDoNotAttractTraffic(t *testing.T) {
	t.Parallel()
	sent := map[string]string{"redis": `-ERR unknown command\r\n`, "ssh": `SSH-2.0-OpenSSH_9.2\r\n`}
	var opt rig.Options
	for pool := range sent {
		opt.Pools = append(opt.Pools, rig.Pool{Name: pool, Peers: []string{"a-" + pool, "b-" + pool}, Settings: "slow_start_ms: 0"})
	}
	r := start(t, opt)
	for pool, raw := range sent {
		r.Backend("a-" + pool).Set(answersIn(30))
		r.Backend("b-" + pool).Set(`{"raw":"` + raw + `"}`)
	}
	loads := map[string]*rig.Load{}
	for pool := range sent {
		loads[pool] = r.StartLoad(4, 0, rig.Request{Path: "/" + pool + "/x"})
	}
	time.Sleep(2 * time.Second)
	for pool, l := range loads {
		answers, lost := l.Stop(), 0
		for _, a := range answers {
			if a.Err != nil || a.Status != 200 {
				lost++
			}
		}
		if share := float64(lost) / float64(len(answers)); share > 0.3 {
			t.Errorf("pool %s: %.0f %% of %d requests went to the peer that speaks no HTTP, want few", pool, 100*share, len(answers))
		}
		if f := r.Engine.WaitAttempts(pool, "b-"+pool, 1); f.Failed() == 0 {
			t.Errorf("pool %s: no failure is charged: %v, others %v", pool, f.Failures, f.Others)
		}
	}
}

// After a pause a connection that breaks at once may be a kept one that the peer closed. One on which an answer came that NGINX cannot use is none, and excused
// as that it had the peer look idle for the second in which races are believed.
func TestAnswersThatNGINXRefusesAfterAPauseDoNotAttractTraffic(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Workers: 1, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: "slow_start_ms: 0"}}})
	r.Backend("a").Set(answersIn(30))
	r.Backend("b").Set(answersIn(30))
	traffic(r, time.Second, 4, rig.Request{Path: "/api/x"})
	r.Backend("b").Set(`{"default":{"mean_ms":0},"headers":{"Set-Cookie":"` + strings.Repeat("x", 9000) + `"}}`) // too big for proxy_buffer_size
	time.Sleep(400 * time.Millisecond)                                                                           // a pause of 300 and more makes a race
	answers := traffic(r, time.Second, 4, rig.Request{Path: "/api/x"})
	refused := 0
	for _, a := range answers {
		if a.Status == 502 {
			refused++
		}
	}
	t.Logf("%d of %d answers were refused", refused, len(answers))
	if share := float64(refused) / float64(len(answers)); refused == 0 || share > 0.4 {
		t.Errorf("%.0f %% of %d requests went to the peer whose answers NGINX refuses, want some, and well below an even share", 100*share, len(answers))
	}
	if f := r.Engine.WaitAttempts("api", "b", 1); f.Failed() == 0 {
		t.Errorf("no failure is charged: %v, others %v", f.Failures, f.Others)
	}
}

// A peer that was deployed without its routes answers 404 at once. No failure by its status, and yet it must not get what the others would answer.
func TestAPeerThatAnswers404WhereOthersDoNotAttractsNoTraffic(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b", "c"}, Settings: "slow_start_ms: 0"}}})
	for _, name := range []string{"a", "b", "c"} {
		r.Backend(name).Set(answersIn(30))
	}
	traffic(r, time.Second, 4, rig.Request{Path: "/api/x"})
	r.Backend("b").Set(`{"fail":{"status":404,"share":1}}`)
	answers := traffic(r, 4*time.Second, 4, rig.Request{Path: "/api/x"})
	missing := 0
	for _, a := range answers {
		if a.Status == 404 {
			missing++
		}
	}
	if share := float64(missing) / float64(len(answers)); share > 0.8 { // 0.98 when its speed attracts; 0.43 was seen on a busy machine
		t.Errorf("%.0f %% of %d requests went to the peer that answers 404", 100*share, len(answers))
	}
	late := answers[len(answers)*3/4:]
	t.Logf("the peer that answers 404 got %.2f of %d requests, %.2f of the last %d", float64(missing)/float64(len(answers)), len(answers), rig.Share(late, "b"), len(late))
	if share := rig.Share(late, "b"); share > 0.34 {
		t.Errorf("in the end it still gets %.0f %%, more than an even share", 100*share)
	}
	if s := r.Engine.State("api", "b"); s == "ejected" {
		t.Errorf("a peer that answers 404 is %s", s)
	}
	if f := r.Engine.Figures("api", "b"); f.Failed() != 0 {
		t.Errorf("404s are charged as failures: %v", f.Failures)
	}
}

// Case 2. NGINX's lists, one element an attempt, are taken apart: each attempt is charged to its own peer.
func TestEachAttemptOfARetriedRequestIsChargedToItsOwnPeer(t *testing.T) {
	t.Parallel()
	proxy := "include " + programs.Repo + "/nginx/proxy.conf;"
	r := start(t, rig.Options{
		Tap: true,
		Pools: []rig.Pool{
			// By its cost alone a would get nothing after the failure below: b has answered since.
			{Name: "api", Peers: []string{"a", "b"}, Settings: "explore: 0.2\ncontrol: 0", Location: "proxy_read_timeout 300ms;"},
			{Name: "second", Peers: []string{"c"}, Settings: "explore: 0\ncontrol: 0"},
		},
		Server: "location /caught/ { proxy_pass http://api/; " + proxy + " proxy_intercept_errors on; error_page 500 = /second/x; }",
	})
	r.Backend("b").Set(answersIn(5))
	r.Backend("c").Set(answersIn(200))
	on := func(name string, kind int) func(rig.Record) bool {
		return func(rec rig.Record) bool { return rec.Peer == r.Addr(name) && rec.Kind == kind }
	}

	// an internal redirect: "a : c"
	r.WantAll(r.Send(6, 1, rig.Request{Path: "/api/accel?to=/second/x"}), 200)
	for _, rec := range r.WaitRecords(6, on("c", rig.KindOK)) {
		if rec.TotalMS < 190 || rec.Pool != "second" {
			t.Errorf("the second peer of a redirect took 200 ms, but %+v", rec)
		}
	}
	// quick fails the test when not even the quickest was quick: a busy machine may hold up one, the other's time is in all.
	quick := func(what string, records []rig.Record) {
		t.Helper()
		if !slices.ContainsFunc(records, func(rec rig.Record) bool { return rec.TotalMS < 150 }) {
			t.Errorf("%s, but %+v", what, records)
		}
	}
	first := r.WaitRecords(6, func(rec rig.Record) bool { return rec.Pool == "api" })
	if n := rig.Count(first, func(rec rig.Record) bool { return rec.Kind == rig.KindOK }); n != len(first) {
		t.Errorf("the first peers of redirects: %+v", first)
	}
	quick("the first peer of a redirect answered at once", first)

	// an error page on another pool: "a : c", the first one a failure
	r.Backend("b").Set(`{"fail":{"status":500,"share":1}}`)
	r.Backend("a").Set(`{"fail":{"status":500,"share":1}}`)
	r.WantAll(r.Send(2, 1, rig.Request{Path: "/caught/x"}), 200)
	failed := func(rec rig.Record) bool { return rec.Pool == "api" && rec.Kind == rig.KindStatus && rec.Status == 500 }
	r.WaitRecords(2, failed)
	r.WaitRecords(8, on("c", rig.KindOK))
	r.Backend("b").Set(`{"fail":null}`)

	// a time-out and a retry: "a, b" with "504, 200" and "-, 0.005"
	r.Backend("a").Set(`{"fail":null,"hang":1}`)
	var retried []rig.Entry
	for range 200 {
		e := r.NGINX.Logged([]rig.Answer{r.Do(rig.Request{Path: "/api/x"})})[0]
		if len(e.Addrs()) == 2 {
			if retried = append(retried, e); len(retried) == 2 {
				break
			}
		}
	}
	if len(retried) == 0 {
		t.Fatal("no request was retried")
	}
	if e := retried[0]; e.Status != 200 || e.Attempts != "2" || e.Peer != r.Addr("b") {
		t.Errorf("the log tells of the retried request: %+v", e)
	}
	timeouts := r.WaitRecords(len(retried), on("a", rig.KindTimeout))
	if len(timeouts) != len(retried) {
		t.Errorf("%d requests timed out on a, %d failures are charged: %+v", len(retried), len(timeouts), timeouts)
	}
	for _, rec := range timeouts {
		if rec.Attempt != 1 || rec.TotalMS < 250 || rec.HeaderMS != -1 {
			t.Errorf("the attempt that timed out: %+v", rec)
		}
	}
	quick("the attempts that answered in 5 ms", r.WaitRecords(len(retried), func(rec rig.Record) bool { return on("b", rig.KindOK)(rec) && rec.Attempt == 2 }))
	r.Eventually("the engine charges a with them", func() error { // the tap has a batch before the engine
		if f := r.Engine.Figures("api", "a"); f.Failures["timeout"] != uint64(len(retried)) {
			return fmt.Errorf("with %v", f.Failures)
		}
		return nil
	})
	for _, line := range r.Engine.Samples("weir_attempts_total") {
		if strings.Contains(line, ", ") {
			t.Errorf("a list became a peer: %s", line)
		}
	}
}

// Case 3.
func TestClientsThatLeaveChargeNobody(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}}})
	r.Backend("a").Set(standStill)
	r.Backend("b").Set(standStill)
	var answers []rig.Answer
	for range 5 {
		p := r.Begin(10, rig.Request{Path: "/api/x"})
		wantTotal(r, 10) // or NGINX might never hear of one
		answers = append(answers, p.Abort()...)
		r.WantIdle()
	}
	for _, e := range r.NGINX.Logged(answers) {
		if e.Status != 499 || len(e.Addrs()) != 1 {
			t.Errorf("an aborted request is logged %d with %q", e.Status, e.Addr)
		}
	}
	for _, a := range answers {
		if n := r.SeenAnywhere(a.ID); n > 1 {
			t.Errorf("request %s arrived %d times", a.ID, n)
		}
	}
	r.WaitRecords(50, func(rec rig.Record) bool { return rec.Kind == rig.KindAbort })
	if n := rig.Count(r.Tap.Records(t), func(rec rig.Record) bool { return rec.Kind != rig.KindAbort }); n != 0 {
		t.Errorf("%d records tell of more than aborts", n)
	}
	for _, name := range []string{"a", "b"} {
		f := r.Engine.Figures("api", name)
		p := r.NGINX.Peer("api", name)
		if f.Failed() != 0 || f.Ejections != 0 || !f.Usable || p.Fails != 0 || p.SetAsideMS != 0 {
			t.Errorf("%s is charged: engine %+v, NGINX %+v", name, f, p)
		}
	}
	r.Eventually("the engine has counted the aborts", func() error {
		if n := r.Engine.Figures("api", "a").Others["abort"] + r.Engine.Figures("api", "b").Others["abort"]; n != 50 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
}

// Case 5.
func TestAPeerThatReadsALittleLowerIsNotFlooded(t *testing.T) {
	var peers []string
	for i := range 10 {
		peers = append(peers, fmt.Sprintf("p%d", i))
	}
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: peers, Settings: "slow_start_ms: 0"}}})
	for _, p := range peers {
		r.Backend(p).Set(`{"default":{"mean_ms":20}}`)
	}
	r.Backend("p3").Set(`{"default":{"mean_ms":19}}`)
	answers := traffic(r, 4*time.Second, 10, rig.Request{Path: "/api/x"})
	r.WantAll(answers, 200)
	windows := map[int64]map[string]int{} // of the tables' lifetime, 100 ms
	for _, a := range answers {
		w := a.Began.UnixMilli() / 100
		if windows[w] == nil {
			windows[w] = map[string]int{}
		}
		windows[w][a.Peer]++
	}
	flooded, counted := 0, 0
	for _, by := range windows {
		sum, most := 0, 0
		for _, n := range by {
			sum += n
			most = max(most, n)
		}
		if sum < 16 {
			continue
		}
		counted++
		if most*2 > sum {
			flooded++
			t.Logf("within 100 ms one peer of ten got %d of %d requests: %v", most, sum, by)
		}
	}
	t.Logf("in %d of %d windows one peer of ten got most of the requests; the one that is 1 ms faster got %.2f of all", flooded, counted, rig.Share(answers, "p3"))
	// By chance alone a window of 30 requests has such a peer now and then.
	if counted < 10 || flooded*10 > counted {
		t.Errorf("in %d of %d windows one peer of ten got most of the requests", flooded, counted)
	}
	if share := rig.Share(answers, "p3"); share > 0.4 {
		t.Errorf("the peer that is 1 ms faster got %.0f %% of all requests", 100*share)
	}
}

// Case 6.
func TestAClosedPortWinsOverTheTableAtOnce(t *testing.T) {
	t.Parallel()
	for name, frozen := range map[string]bool{"the engine runs": false, "the engine stands still and its table names the dead peer": true} {
		t.Run(name, func(t *testing.T) {
			r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: "slow_start_ms: 0\neject: {base_ms: 5000}"}}})
			r.Backend("a").Set(answersIn(60))
			r.Backend("b").Set(answersIn(5))
			r.Eventually("b gets most, without which the test would prove nothing", func() error {
				taught := traffic(r, 500*time.Millisecond, 2, rig.Request{Path: "/api/x"})
				if share := rig.Share(taught[len(taught)/2:], "b"); share < 0.6 {
					return fmt.Errorf("%.0f %%", 100*share)
				}
				return nil
			})
			if frozen {
				r.Engine.Freeze()
				t.Cleanup(r.Engine.Thaw)
			}
			r.Backend("b").Set(`{"refuse":true}`)
			answers := r.Send(100, 4, rig.Request{Path: "/api/x"})
			r.WantAll(answers, 200)
			tried := 0
			for _, e := range r.NGINX.Logged(answers) {
				if strings.Contains(e.Addr, r.Addr("b")) {
					tried++
				}
			}
			if tried == 0 || tried > 10 {
				t.Errorf("the closed port was tried by %d of 100 requests, want a few at the start", tried)
			}
		})
	}
}

// A rolling restart of four peers, one second each, at .7 of what they can do had least_conn's mean ten times over: each answer that a closing peer still gave
// brought it back, to be refused again for twice as long, so that it was out for ten seconds after one.
func TestAPeerThatShutsDownInOrderIsMissedNoLongerThanOneThatCrashes(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b", "c"}}}})
	for _, name := range []string{"a", "b", "c"} {
		r.Backend(name).Set(`{"slots":0,"default":{"mean_ms":300,"dist":"exp"}}`)
	}
	load := r.StartLoad(30, 0, rig.Request{Path: "/api/x"})
	r.Eventually("b has requests to finish", func() error {
		if n := r.Backend("b").Stats().InFlight; n < 5 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	r.Backend("b").Set(`{"refuse":true}`)
	time.Sleep(600 * time.Millisecond)
	r.Backend("b").Set(`{"refuse":false}`)
	time.Sleep(900 * time.Millisecond)
	r.WantAll(load.Stop(), 200)
	var aside []string
	for line := range strings.Lines(r.NGINX.ErrorLog()) {
		if _, after, found := strings.Cut(line, r.Addr("b")+` of pool "api" set aside for `); found {
			ms, _, _ := strings.Cut(after, " ")
			aside = append(aside, ms)
		}
	}
	if len(aside) != 1 || aside[0] != "1000" {
		t.Errorf("b was set aside for %v ms, want once for 1000", aside)
	}
}
