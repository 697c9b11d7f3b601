package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

// propagation is how long it may take until all workers know, on a machine that is busy with other things. On an idle one it is at once for
// what NGINX sees itself (shared memory) and below 100 ms for what the engine tells.
const propagation = time.Second

// wantNoneAfter fails the test when a request that began after the moment went to the backend, or when not all workers had requests then.
func wantNoneAfter(r *rig.Rig, answers []rig.Answer, moment time.Time, backend string) {
	r.T.Helper()
	workers := map[int]int{}
	late := 0
	for i, e := range r.NGINX.Logged(answers) {
		if answers[i].Began.Before(moment) {
			continue
		}
		workers[e.PID]++
		if slices.Contains(e.Addrs(), r.Addr(backend)) {
			if late++; late <= 5 {
				r.T.Errorf("worker %d sent a request to %s %v after the deadline: %s", e.PID, backend, answers[i].Began.Sub(moment), e.Addr)
			}
		}
	}
	if n := len(r.NGINX.Workers()); len(workers) < n {
		r.T.Errorf("only %v of %d workers had requests: the test proved nothing for the others", workers, n)
	}
}

// Case 14.
func TestAllWorkersStopUsingAPeerThatDies(t *testing.T) {
	t.Parallel()
	for name, noEngine := range map[string]bool{"with the engine": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			r := start(t, rig.Options{NoEngine: noEngine, Workers: 4, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b", "c"}, Settings: "eject: {base_ms: 8000}"}}})
			load := r.StartLoad(16, 5*time.Millisecond, rig.Request{Path: "/api/x", Fresh: true})
			time.Sleep(500 * time.Millisecond)
			r.Backend("a").Kill()
			died := time.Now()
			time.Sleep(propagation)
			if noEngine {
				// Set aside for a second at first, then one request tries it: there must be few.
				time.Sleep(2 * time.Second)
				answers := load.Stop()
				r.WantAll(answers, 200)
				tried := 0
				for i, e := range r.NGINX.Logged(answers) {
					if answers[i].Began.After(died.Add(propagation)) && slices.Contains(e.Addrs(), r.Addr("a")) {
						tried++
					}
				}
				if tried > 4 {
					t.Errorf("%d requests tried the dead peer in 2 s, want one an expiry of its time aside", tried)
				}
				return
			}
			time.Sleep(time.Second)
			answers := load.Stop()
			r.WantAll(answers, 200)
			wantNoneAfter(r, answers, died.Add(propagation), "a")
		})
	}
}

// A peer that active checks find down still answers users: only the engine can tell, and it tells all workers.
func TestADownPeerIsLeftByAllWorkersAtOnce(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Workers: 4, Pools: []rig.Pool{{
		Name: "api", Peers: []string{"a", "b", "c"}, Settings: "check: {path: /healthz, interval_ms: 200, timeout_ms: 200, fall: 2, rise: 1}",
	}}})
	r.Engine.WaitState("api", "a", "up", "slow_start")
	load := r.StartLoad(16, 5*time.Millisecond, rig.Request{Path: "/api/x", Fresh: true})
	time.Sleep(500 * time.Millisecond)
	r.Backend("a").Set(`{"health":503}`)
	r.Engine.WaitState("api", "a", "down")
	known := time.Now()
	time.Sleep(propagation + 700*time.Millisecond)
	answers := load.Stop()
	r.WantAll(answers, 200)
	wantNoneAfter(r, answers, known.Add(propagation), "a")

	r.Backend("a").Set(`{"health":200}`)
	r.Engine.WaitState("api", "a", "up", "slow_start")
	r.Eventually("the peer that recovered is used again", func() error { return wantFrom(r, "/api/x", "a") })
}

// The election survives kills and reloads: some worker follows the engine again, and news reach all.
func TestAnotherWorkerFollowsTheEngineWhenTheLeaderIsKilled(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Workers: 3, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}}})
	for round := range 3 {
		leader := r.NGINX.Status().Leader
		if !slices.Contains(r.NGINX.Workers(), leader) {
			t.Fatalf("the leader %d is no worker: %v", leader, r.NGINX.Workers())
		}
		if round == 2 {
			r.NGINX.Reload()
		} else {
			r.NGINX.KillWorker(leader)
		}
		name := []string{"c", "d", "e"}[round]
		r.StartBackend(name, false)
		r.SetPeers("api", append([]string{"a", "b"}, name)...)
		r.WaitConnected() // the new peer arrives through the new leader
		if now := r.NGINX.Status().Leader; now == leader {
			t.Errorf("the leader is still %d", now)
		}
	}
	r.WantAll(r.Send(60, 6, rig.Request{Path: "/api/x"}), 200)
}

// The one that is elected next finds nothing in flight, and nothing to tell. Until it was told otherwise the engine took what the killed one had told for
// requests that do not end, for half a minute.
func TestWhatAKilledLeaderToldToBeInFlightEndsWithIt(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}}}})
	r.Backend("a").Set(answersIn(300))
	for range 4 {
		leader := r.NGINX.Status().Leader
		sent := make(chan []rig.Answer)
		go func() { sent <- r.Send(8, 8, rig.Request{Path: "/api/x"}) }()
		r.Eventually("the engine hears of requests in flight", func() error {
			if r.Engine.Figures("api", "a").Inflight == 0 {
				return errors.New("none")
			}
			return nil
		})
		r.NGINX.Kill(leader)
		<-sent
		begin := time.Now()
		r.Eventually("nothing is in flight", func() error {
			if n := r.Engine.Figures("api", "a").Inflight; n != 0 {
				return fmt.Errorf("%d are", n)
			}
			return nil
		})
		if took := time.Since(begin); took > 15*time.Second { // past 30 s they are dropped in any case
			t.Fatalf("nothing was in flight only after %v", took)
		}
		r.Eventually("there is another leader", func() error {
			if now := r.NGINX.Status().Leader; now == leader || now == 0 {
				return fmt.Errorf("it is %d", now)
			}
			return nil
		})
	}
}

// NGINX and the engine reload under load, again and again.
func TestReloadsLoseNoRequest(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}}})
	r.Backend("a").Set(answersIn(20))
	r.Backend("b").Set(answersIn(20))
	load := r.StartLoad(8, time.Millisecond, rig.Request{Path: "/api/x"})
	for range 4 {
		time.Sleep(300 * time.Millisecond)
		r.NGINX.Reload()
		r.Engine.Hangup()
	}
	time.Sleep(300 * time.Millisecond)
	r.WantAll(load.Stop(), 200)
	r.Eventually("the old workers have ended and their rows are free", func() error {
		if s := r.NGINX.Status(); len(s.Workers) != 2 {
			return fmt.Errorf("%+v", s.Workers)
		}
		return nil
	})
}

// What an old worker serves last is told as well: outcomes that come while it sends the first of them, too.
func TestOutcomesOfRequestsThatEndAfterAReloadReachTheEngine(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Workers: 1, Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}}}})
	const held = 30
	r.Backend("a").Set(`{"slots":1,"speed":0,"default":{"mean_ms":3}}`) // they end one after the other
	p := r.Begin(held, rig.Request{Path: "/api/x", Fresh: true})
	wantInFlight(r, "api", held, "a")
	r.NGINX.Reload()
	r.Engine.Freeze() // it takes the first batch when the others are there
	r.Backend("a").Set(goOn)
	r.WantAll(p.Wait(), 200)
	time.Sleep(50 * time.Millisecond) // until the old worker has sent what it then waits with; of that nothing shows while the engine is frozen
	r.Engine.Thaw()
	r.Engine.WaitAttempts("api", "a", held)
}

// There are 255 rows of counts, and each old worker that holds a connection since a reload keeps one. A worker without one serves, is heard of
// by the engine, disturbs no other worker's counts, and gets one when it is free.
func TestAWorkerThatFindsNoRowOfCountsServesAllTheSame(t *testing.T) {
	t.Parallel()
	rows := func(do string) string {
		return `content_by_lua_block {
			local dict, id = ngx.shared.weir, require("resty.weir.workers").identity(ngx.var.arg_pid)
			for row = 0, 254 do ` + do + ` end
			ngx.say("done") }`
	}
	r := start(t, rig.Options{
		Workers: 1, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}},
		Server: "location /take { " + rows(`dict:safe_add("row:" .. row, id)`) + " } location /free { " +
			rows(`if dict:get("row:" .. row) == id then dict:delete("row:" .. row) end`) + " }",
	})
	_, closeIt := r.WebSocket("/api/ws") // keeps the old worker, and so its row
	defer closeIt()
	held := func() int { return r.NGINX.InFlight("api", "a") + r.NGINX.InFlight("api", "b") }
	pid := os.Getpid() // somebody who lives
	r.Do(rig.Request{Path: fmt.Sprintf("/take?pid=%d", pid)})
	r.NGINX.Reload()
	if !strings.Contains(r.NGINX.ErrorLog(), "rows of counts are taken") {
		t.Error("the worker does not say that it has no row")
	}
	r.WantAll(r.Send(60, 6, rig.Request{Path: "/api/x", Fresh: true}), 200)
	p := r.Begin(5, rig.Request{Path: "/api/x", Fresh: true})
	r.WantAll(p.Wait(), 200)
	if n := held(); n != 1 {
		t.Errorf("%d requests are counted, one WebSocket is held", n)
	}
	r.Eventually("the engine hears of the outcomes", func() error {
		if n := r.Engine.Figures("api", "a").Attempts + r.Engine.Figures("api", "b").Attempts; n < 60 {
			return fmt.Errorf("of %d", n)
		}
		return nil
	})
	r.Do(rig.Request{Path: fmt.Sprintf("/free?pid=%d", pid)})
	r.Eventually("the worker has a row", func() error {
		if s := r.NGINX.Status(); len(s.Workers) != 2 || s.Underflow != 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	_, closeNew := r.WebSocket("/api/ws")
	r.Eventually("its requests are counted", func() error {
		if n := held(); n != 2 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	closeNew()
}

// Installed with the engine's group forgotten: NGINX says what is wrong, not in each second, and follows the engine as soon as it may.
func TestWorkersThatMayNotUseTheSocketSayWhyAndServeFromTheStaticPeers(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be another user than the engine")
	}
	r := start(t, rig.Options{User: "www-data", NoEngine: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}}})
	r.Engine.Start()
	r.Eventually("NGINX says why", func() error {
		if !strings.Contains(r.NGINX.ErrorLog(), "may not write to it, see socket.group") {
			return errors.New("it does not")
		}
		return nil
	})
	r.WantAll(r.Send(20, 4, rig.Request{Path: "/api/x"}), 200)
	time.Sleep(1500 * time.Millisecond) // a second try of each worker; the rig looks for [crit] in the log
	if err := os.Chmod(r.File("engine.sock"), 0o666); err != nil {
		t.Fatal(err)
	}
	r.WaitConnected()
	r.WantAll(r.Send(20, 4, rig.Request{Path: "/api/x"}), 200)
}

// A worker need not be allowed to read the files that the master has read: they may be in a folder of root's.
func TestWorkersThatMayNotReadTheLuaWork(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be another user than the workers")
	}
	lua := t.TempDir()
	if err := errors.Join(os.CopyFS(lua, os.DirFS(filepath.Join(programs.Repo, "lua"))), os.Chmod(lua, 0o700)); err != nil {
		t.Fatal(err)
	}
	r := start(t, rig.Options{Lua: lua, User: "www-data", Env: []string{"WEIR_SOCKET_MODE=0666"}, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}}})
	r.WantAll(r.Send(40, 4, rig.Request{Path: "/api/x"}), 200)
	r.Engine.WaitAttempts("api", "a", 1)
}

// NGINX frees what a timer's sockets took when the timer ends, so the engine is followed from one timer after another.
func TestTheEngineIsFollowedThroughManyTimers(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		Workers: 1, Tap: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}},
		Server: `location /few { content_by_lua_block { require("resty.weir.watch").MAX_POLLS = 2 } }`,
	})
	r.Do(rig.Request{Path: "/few"})
	l := r.StartLoad(2, 5*time.Millisecond, rig.Request{Path: "/api/x"})
	version := r.NGINX.Status().Pools["api"].Version
	r.Eventually("a dozen tables arrive", func() error {
		if n := r.NGINX.Status().Pools["api"].Version - version; n < 12 {
			return fmt.Errorf("%d did", n)
		}
		return nil
	})
	r.Engine.Patch(r.Engine.PeerPath("api", "b"), `{"drain":true}`)
	r.Eventually("NGINX hears that b is drained", func() error {
		if p := r.NGINX.Peer("api", "b"); p.State != "draining" {
			return fmt.Errorf("it is %s", p.State)
		}
		return nil
	})
	r.Engine.Kill()
	time.Sleep(500 * time.Millisecond)
	r.Engine.Start()
	r.WaitConnected()
	r.WantAll(l.Stop(), 200)
}

// A timer takes one of NGINX's connections, and where none is left NGINX logs that and drops the timer.
func TestTheEngineIsFollowedAfterATimerWasDropped(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		Workers: 1, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}},
		Server: `location /drop { content_by_lua_block {
			local watch, at = require "resty.weir.watch", ngx.timer.at
			local polls = watch.MAX_POLLS
			watch.MAX_POLLS = 2
			ngx.timer.at = function()
				ngx.timer.at, watch.MAX_POLLS = at, polls
				ngx.log(ngx.WARN, "dropped")
				return true
			end
		} }`,
	})
	r.Do(rig.Request{Path: "/drop"})
	r.Eventually("the timer is dropped", func() error {
		if !strings.Contains(r.NGINX.ErrorLog(), "dropped") {
			return errors.New("it is not")
		}
		return nil
	})
	r.Engine.Patch(r.Engine.PeerPath("api", "b"), `{"drain":true}`)
	r.Eventually("NGINX hears that b is drained", func() error {
		if p := r.NGINX.Peer("api", "b"); p.State != "draining" {
			return fmt.Errorf("it is %s", p.State)
		}
		return nil
	})
}

// NGINX takes no names in this place and failed each request that was sent to one; a weight that is no number broke the status page.
func TestMistakesInTheListOfStaticPeersCostTheOthersNothing(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{NoEngine: true, Workers: 1, Pools: []rig.Pool{
		{Name: "api", Peers: []string{"a", "b"}, Static: []string{"a weight=nan", "b weight=inf, localhost:80 weight=9, 999.1.1.1:80, [fe80::1%lo]:80 backup"}},
	}})
	answers := r.Send(60, 4, rig.Request{Path: "/api/x"})
	r.WantAll(answers, 200)
	if s := rig.Share(answers, "a"); s == 0 || s == 1 { // on a busy machine one may stand still for a while
		t.Errorf("a got %.2f, with b as its equal", s)
	}
	status := r.NGINX.Status()
	if n := len(status.Pools["api"].Peers); n != 2 {
		t.Errorf("there are %d peers", n)
	}
	if text := fmt.Sprint(status.Errors); !strings.Contains(text, `"weight=nan": weight=NUMBER from 0.01 to 1000`) {
		t.Errorf("NGINX says %s", text)
	}
}
