package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

// Rule 1 of the contract: no request fails or waits because of the engine.

func TestWithoutAnEngineSinceBootTheStaticPeersServe(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{NoEngine: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b", "c"}, Static: []string{"a", "b"}}}})
	r.Backend("a").Set(answersIn(20))
	r.Backend("b").Set(answersIn(20))
	answers := traffic(r, time.Second, 6, rig.Request{Path: "/api/x"})
	r.WantAll(answers, 200)
	if share := rig.Share(answers, "a"); share < 0.3 || share > 0.7 {
		t.Errorf("a got %.0f %% of the requests, want about half", 100*share)
	}
	for _, e := range r.NGINX.Logged(answers) {
		if e.Policy != "static" || e.Peer == "-" || e.Attempts != "1" {
			t.Fatalf("logged as %+v", e)
		}
	}
	// least in flight: a peer that stands still keeps few
	r.Backend("b").Set(standStill)
	p := r.StartLoad(8, 0, rig.Request{Path: "/api/x", Timeout: rig.Patience})
	time.Sleep(time.Second)
	if n := r.Backend("b").Stats().InFlight; n > 7 {
		t.Errorf("all %d clients hang on the peer that stands still", n)
	}
	r.Backend("b").Set(goOn)
	p.Stop()

	// the engine comes at last, with another list of peers
	r.Engine.Start()
	r.WaitConnected()
	r.Eventually("the peer of the engine's list is used", func() error { return wantFrom(r, "/api/x", "c") })
	r.WantAll(r.Send(30, 3, rig.Request{Path: "/api/x"}), 200)
}

// Case 25, under load.
func TestTheEngineComesAndGoesAndNoRequestFails(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}}})
	r.Backend("a").Set(answersIn(5))
	r.Backend("b").Set(answersIn(5))
	load := r.StartLoad(4, 2*time.Millisecond, rig.Request{Path: "/api/x"})
	time.Sleep(300 * time.Millisecond)
	// away lets a time pass without the engine. Whoever waited for it would be answered after that; of the last half second 250 are, and 10 on
	// the busiest machine.
	away := func(why string) {
		t.Helper()
		time.Sleep(500 * time.Millisecond)
		from := time.Now()
		time.Sleep(500 * time.Millisecond)
		to, n := time.Now(), 0
		for _, a := range load.Answers() {
			if a.Began.After(from) && a.Began.Add(a.Took).Before(to) {
				n++
			}
		}
		if n < 10 {
			t.Errorf("%d requests were answered in %v without the engine, %s", n, to.Sub(from), why)
		}
	}
	heard := func(what string) {
		t.Helper()
		before := r.Engine.Figures("api", "a").Attempts + r.Engine.Figures("api", "b").Attempts
		r.Eventually("outcomes reach the engine "+what, func() error {
			if now := r.Engine.Figures("api", "a").Attempts + r.Engine.Figures("api", "b").Attempts; now <= before {
				return fmt.Errorf("%d attempts as before", now)
			}
			return nil
		})
	}
	r.Engine.Stop() // SIGTERM, while NGINX keeps connections to it
	away("which was stopped")
	r.Engine.Start()
	r.WaitConnected()
	heard("after an orderly stop")

	r.Engine.Kill() // leaves the socket file behind
	away("which crashed")
	r.Engine.Start()
	r.WaitConnected()
	heard("after a crash")

	r.Engine.Freeze() // accepts, never answers
	away("which stands still")
	r.Engine.Thaw()
	heard("after a standstill")

	r.WantAll(load.Stop(), 200)
	for _, b := range []string{"a", "b"} {
		if f := r.Engine.Figures("api", b); f.Failed() != 0 {
			t.Errorf("%s is charged with %v", b, f.Failures)
		}
	}
}

// An engine that crashed leaves its socket file, and NGINX writes a line for each connection to it that is refused. Four workers wrote five a second.
func TestACrashedEngineFillsNoLogAndIsSentToSoonAfterItIsBack(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Workers: 4, Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}}}})
	load := r.StartLoad(8, 5*time.Millisecond, rig.Request{Path: "/api/x"})
	time.Sleep(300 * time.Millisecond)
	lines := func() int { return strings.Count(r.NGINX.ErrorLog(), "connect() to unix:") }
	r.Engine.Kill()
	time.Sleep(3 * time.Second) // in which each worker has failed
	before := lines()
	time.Sleep(5 * time.Second)
	if n := lines() - before; n > 12 { // the elected one, and once or twice each of the others
		t.Errorf("%d lines in 5 s", n)
	}
	r.Engine.Start()
	began := time.Now()
	r.Engine.WaitAttempts("api", "a", 1)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("outcomes reached the engine after %v", took)
	}
	r.WantAll(load.Stop(), 200)
}

// The table stays in use while the engine is away, with live counts; older than max_stale_ms, the local rule decides.
func TestAStaleTableServesUntilMaxStale(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: "slow_start_ms: 0\nmax_stale_ms: 3000\nexplore: 0.05\ncontrol: 0"}}})
	r.Backend("a").Set(answersIn(40))
	r.Backend("b").Set(answersIn(5))
	// Without exploration a peer whose first answers a busy machine held up would never be tried again.
	r.Eventually("the fast peer gets nearly all", func() error {
		if share := rig.Share(r.Send(100, 2, rig.Request{Path: "/api/x"}), "b"); share < 0.85 {
			return fmt.Errorf("%.0f %%", 100*share)
		}
		return nil
	})
	r.Engine.Kill()
	killed := time.Now()
	var stale []rig.Answer
	for len(stale) < 100 && time.Since(killed) < 1500*time.Millisecond {
		stale = append(stale, r.Do(rig.Request{Path: "/api/x"}))
	}
	r.WantAll(stale, 200)
	if share := rig.Share(stale, "b"); share < 0.7 {
		t.Errorf("with the stale table the fast peer gets %.0f %% of the requests, want nearly all", 100*share)
	}
	for _, e := range r.NGINX.Logged(stale) {
		if (e.Policy == "local" || e.PredictedMS == "-") && e.Ended().Before(killed.Add(2*time.Second)) { // a machine may stand still
			t.Errorf("with the stale table a request was decided as %+v", e)
			break
		}
	}
	r.Eventually("NGINX calls the table stale", func() error {
		if s := r.NGINX.Status().Pools["api"].Engine; s != "stale" {
			return fmt.Errorf("%s", s)
		}
		return nil
	})
	old := r.Send(100, 4, rig.Request{Path: "/api/x"})
	r.WantAll(old, 200)
	for _, e := range r.NGINX.Logged(old) {
		if e.Policy != "local" {
			t.Errorf("after max_stale_ms a request was decided as %+v", e)
			break
		}
	}
	r.Engine.Start()
	r.WaitConnected()
	r.Eventually("the table decides again", func() error {
		e := r.NGINX.Logged(r.Send(1, 1, rig.Request{Path: "/api/x"}))[0]
		if e.Policy == "local" {
			return fmt.Errorf("%+v", e)
		}
		return nil
	})
}

// What NGINX has to tell is kept while the engine is away, within a bound, and what is lost is counted.
func TestOutcomesWaitForTheEngineWithinABound(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Workers: 1, Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}}}})
	r.Engine.Kill()
	const sent = 12000
	r.WantAll(r.Send(sent, 16, rig.Request{Path: "/api/x"}), 200)
	s := r.NGINX.Status().Worker.Records
	if s.Buffered > 10240 || s.Buffered < 8000 || s.Buffered+s.Dropped < sent {
		t.Errorf("after 12000 outcomes without an engine: %+v", s)
	}
	r.Engine.Start()
	f := r.Engine.WaitAttempts("api", "a", s.Buffered)
	if f.Failed() != 0 {
		t.Errorf("%v", f.Failures)
	}
	r.Eventually("the engine knows what was lost", func() error {
		got := r.Engine.Samples("weir_observe_lost_records_total")
		if len(got) != 1 || strings.HasSuffix(got[0], " 0") {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
}

// An engine of another protocol version is not listened to, and that is told once, not at each poll.
func TestAnEngineOfAnotherProtocolVersionIsNotListenedTo(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: "max_stale_ms: 1000"}}})
	r.Tap.SpeakVersion("2")
	r.StartBackend("c", false)
	r.SetPeers("api", "a", "b", "c")
	r.Eventually("NGINX goes by its local rule", func() error {
		if e := r.NGINX.Logged(r.Send(1, 1, rig.Request{Path: "/api/x"}))[0]; e.Policy != "local" {
			return fmt.Errorf("%+v", e)
		}
		return nil
	})
	answers := r.Send(100, 2, rig.Request{Path: "/api/x"})
	r.WantAll(answers, 200)
	if share := rig.Share(answers, "c"); share != 0 {
		t.Errorf("a peer that only the other version named got %.0f %%", 100*share)
	}
	told := 0
	for line := range strings.Lines(r.NGINX.ErrorLog()) {
		if strings.Contains(line, "rotocol") {
			told++
		}
	}
	if most := 2; told < 1 || told > most {
		t.Errorf("the mismatch is logged %d times, want once a worker at most", told)
	}
	r.Tap.SpeakVersion("1")
	r.WaitConnected()
}

// Case 24.
func TestLargeHeadersNeverHurtTheUsersRequest(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		Tap:   true,
		HTTP:  "large_client_header_buffers 8 128k;",
		Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}},
	})
	long := strings.Repeat("0123456789abcdef", 4096) // 64 KiB
	for name, q := range map[string]rig.Request{
		"cookie":         {Path: "/api/x", Header: map[string]string{"Cookie": "c=" + long}},
		"query":          {Path: "/api/x?q=" + long},
		"one segment":    {Path: "/api/" + long},
		"many segments":  {Path: "/api/" + strings.Repeat("ab/", 21845)},
		"cookie and URI": {Path: "/api/" + long, Header: map[string]string{"Cookie": "c=" + long}},
	} {
		answers := r.Send(20, 4, q)
		for _, a := range answers {
			if a.Status != 200 || a.Took > 5*time.Second {
				t.Errorf("%s: status %d, %v, after %v", name, a.Status, a.Err, a.Took)
			}
		}
	}
	for _, rec := range r.WaitRecords(100, func(rec rig.Record) bool { return rec.Kind == rig.KindOK }) {
		if len(rec.Class) > 256 {
			t.Errorf("a class of %d bytes", len(rec.Class))
		}
	}
	if s := r.NGINX.Status(); len(s.Errors) != 0 {
		t.Errorf("NGINX's side has errors: %v", s.Errors)
	}
}

func TestWithoutAnEngineEachWorkersStatusPageListsEveryPoolThatAnyHasServed(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{NoEngine: true, Workers: 3, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}, {Name: "web", Peers: []string{"b"}}}})
	r.WantAll(r.Send(1, 1, rig.Request{Path: "/api/x"}), 200)
	r.WantAll(r.Send(1, 1, rig.Request{Path: "/web/x"}), 200)
	asked := map[int]bool{}
	r.Eventually("all three workers answered /weir-status", func() error {
		s := r.NGINX.Status()
		asked[s.Worker.PID] = true
		if len(s.Pools["api"].Peers) != 2 || len(s.Pools["web"].Peers) != 1 {
			t.Fatalf("worker %d lists %+v", s.Worker.PID, s.Pools)
		}
		if len(asked) < 3 {
			return fmt.Errorf("only %d of 3 workers", len(asked))
		}
		return nil
	})
}
