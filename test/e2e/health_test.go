package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

// Which peers get traffic, and who decides that.

// checks find a peer down at the second probe that fails: the first may be the fault of a machine that stood still.
const checks = "check: {path: /healthz, interval_ms: 300, timeout_ms: 300, rise: 1, fall: 2}\n"

// Case 16. Every peer answers 500: a fault that no choice of peer mends.
func TestEjectionStopsAtItsCapAndTheLastPeerStays(t *testing.T) {
	t.Parallel()
	opt := rig.Options{Pools: []rig.Pool{
		{Name: "one", Peers: []string{"a1"}}, {Name: "two", Peers: []string{"a2", "b2"}}, {Name: "three", Peers: []string{"a3", "b3", "c3"}},
	}}
	r := start(t, opt)
	cap := map[string]int{"one": 0, "two": 1, "three": 1} // half of the peers, rounded down
	var loads []*rig.Load
	for _, pool := range opt.Pools {
		for _, b := range pool.Peers {
			r.Backend(b).Set(`{"fail":{"status":500,"after_ms":1,"share":1}}`)
		}
		loads = append(loads, r.StartLoad(3, 2*time.Millisecond, rig.Request{Path: "/" + pool.Name + "/x"}))
	}
	out := map[string]int{}
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		for name, pool := range r.NGINX.Status().Pools {
			n := 0
			for _, p := range pool.Peers {
				if !p.Usable || p.SetAsideMS > 0 {
					n++
				}
			}
			out[name] = max(out[name], n)
		}
	}
	for i, l := range loads {
		for _, a := range l.Stop() {
			if a.Status != 500 || !strings.HasPrefix(a.Body, "scripted failure") {
				t.Errorf("pool %s: the client got %d %.80q (%v) instead of the application's 500", opt.Pools[i].Name, a.Status, a.Body, a.Err)
				break
			}
		}
	}
	for name, want := range cap {
		if out[name] > want {
			t.Errorf("pool %s: %d peers were out at one time, the cap is %d", name, out[name], want)
		}
	}
	if out["two"] == 0 || out["three"] == 0 {
		t.Errorf("nobody was ejected: %v", out)
	}
}

// Case 16, the panic rule: when checks find every peer down, all of them are used, rather than none.
func TestWhenAllPeersAreDownAllAreUsed(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: checks}}})
	r.Backend("a").Set(`{"health":503}`)
	r.Backend("b").Set(`{"health":503}`)
	r.Engine.WaitState("api", "a", "down")
	r.Engine.WaitState("api", "b", "down")
	r.Eventually("the panic is told", func() error {
		if s := r.Engine.Samples(`weir_pool_panic{pool="api"} 1`); len(s) != 1 {
			return fmt.Errorf("%v", r.Engine.Samples("weir_pool_panic"))
		}
		return nil
	})
	answers := r.Send(60, 6, rig.Request{Path: "/api/x"})
	r.WantAll(answers, 200)
	if share := rig.Share(answers, "a"); share < 0.1 || share > 0.9 {
		t.Errorf("in panic a got %.0f %% of the requests, want about half", 100*share)
	}
}

// Case 17.
func TestOwnOverloadIsChargedToNoPeer(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		Tap:  true,
		HTTP: "limit_req_zone $binary_remote_addr zone=tight:64k rate=2r/s;",
		Pools: []rig.Pool{
			{Name: "limited", Peers: []string{"a", "b"}, Location: "limit_req zone=tight burst=5 nodelay; limit_req_status 429;"},
			{Name: "free", Peers: []string{"c", "d"}},
		},
	})
	answers := r.Send(300, 4, rig.Request{Path: "/limited/x"})
	passed, refused := 0, 0
	for _, a := range answers {
		switch a.Status {
		case 200:
			passed++
		case 429:
			refused++
		default:
			t.Errorf("status %d, %v", a.Status, a.Err)
		}
	}
	if refused < 9*passed {
		t.Fatalf("%d passed, %d were refused: less than 90 %%", passed, refused)
	}
	records := r.WaitRecords(passed, func(rec rig.Record) bool { return rec.Pool == "limited" })
	if len(records) != passed {
		t.Errorf("%d requests reached a peer, %d outcomes are told", passed, len(records))
	}

	r.Engine.Freeze()
	r.WantAll(r.Send(200, 4, rig.Request{Path: "/free/x"}), 200)
	time.Sleep(500 * time.Millisecond)
	r.Engine.Thaw()
	r.Eventually("the engine has caught up", func() error {
		if n := r.Engine.Figures("free", "c").Attempts + r.Engine.Figures("free", "d").Attempts; n < 200 {
			return fmt.Errorf("%d of 200 outcomes", n)
		}
		return nil
	})
	for _, rec := range r.Tap.Records(t) {
		if rec.Kind != rig.KindOK {
			t.Errorf("charged: %+v", rec)
		}
	}
	for pool, names := range map[string][]string{"limited": {"a", "b"}, "free": {"c", "d"}} {
		for _, b := range names {
			if f := r.Engine.Figures(pool, b); f.Failed() != 0 || f.Ejections != 0 {
				t.Errorf("%s is charged with %v", b, f.Failures)
			}
		}
	}
}

// Case 18.
func TestAnEjectedPeerComesBackWithoutActiveChecks(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: "slow_start_ms: 0\neject: {base_ms: 500, max_ms: 2000}"}}})
	r.Backend("b").Set(`{"fail":{"status":500,"after_ms":1,"share":1}}`)
	load := r.StartLoad(3, 5*time.Millisecond, rig.Request{Path: "/api/x"})
	r.Eventually("b is ejected", func() error {
		if f := r.Engine.Figures("api", "b"); f.Ejections == 0 {
			return fmt.Errorf("%+v", f)
		}
		return nil
	})
	time.Sleep(time.Second) // a few rounds of it
	r.Backend("b").Set(`{"fail":null}`)
	healed := time.Now()
	r.Eventually("b has its share again", func() error {
		var late []rig.Answer
		for _, a := range load.Answers() {
			if a.Began.After(healed) && time.Since(a.Began) < time.Second {
				late = append(late, a)
			}
		}
		if share := rig.Share(late, "b"); share < 0.25 {
			return fmt.Errorf("%.0f %% of the last second", 100*share)
		}
		return nil
	})
	load.Stop()
}

// Case 18, second part: every status of a probe passes or fails by check.pass, by default 200-399.
func TestEveryProbeStatusPassesOrFailsByTheWrittenRule(t *testing.T) {
	t.Parallel()
	statuses := map[int]string{200: "up", 204: "up", 301: "up", 399: "up", 400: "down", 404: "down", 418: "down", 500: "down", 599: "down", 0: "down"}
	var opt rig.Options
	opt.Pools = []rig.Pool{
		{Name: "usual", Settings: checks + "slow_start_ms: 0"},
		{Name: "own", Peers: []string{"x", "y"}, Settings: "slow_start_ms: 0\n" + strings.Replace(checks, "rise", "pass: \"404,418\", rise", 1)},
	}
	for status := range statuses {
		opt.Pools[0].Peers = append(opt.Pools[0].Peers, fmt.Sprintf("s%d", status))
	}
	r := start(t, opt)
	for status := range statuses {
		r.Backend(fmt.Sprintf("s%d", status)).Set(fmt.Sprintf(`{"health":%d}`, status))
	}
	r.Backend("x").Set(`{"health":418}`)
	r.Backend("y").Set(`{"health":200}`)
	for status, want := range statuses {
		r.Engine.WaitState("usual", fmt.Sprintf("s%d", status), want)
	}
	r.Engine.WaitState("own", "x", "up")
	r.Engine.WaitState("own", "y", "down")
	time.Sleep(time.Second) // and they stay so
	for status, want := range statuses {
		if f := r.Engine.Figures("usual", fmt.Sprintf("s%d", status)); f.State != want {
			t.Errorf("a peer whose probes answer %d is %s, want %s", status, f.State, want)
		}
	}
}

// Case 18, third part.
func TestMissingPagesEjectNobody(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}}})
	for _, status := range []int{404, 401, 403, 418} {
		r.WantAll(r.Send(60, 6, rig.Request{Path: fmt.Sprintf("/api/status/%d", status)}), status)
	}
	for _, b := range []string{"a", "b"} {
		f := r.Engine.WaitAttempts("api", b, 20)
		if f.Failed() != 0 || f.Ejections != 0 || !f.Usable {
			t.Errorf("%s after client errors of users: %+v", b, f)
		}
	}
}

// Case 19; in the plain run with 4 s instead of 10.
func TestAPeerThatOpensLateCostsNoRequest(t *testing.T) {
	t.Parallel()
	opens := full(10*time.Second, 4*time.Second)
	r := start(t, rig.Options{Pools: []rig.Pool{
		{Name: "checked", Peers: []string{"a", "b"}, Settings: "check: {path: /healthz, interval_ms: 500, timeout_ms: 400, fall: 3}\nslow_start_ms: 500"},
		{Name: "unchecked", Peers: []string{"c", "d"}, Settings: "slow_start_ms: 1000\neject: {max_ms: 2000}"},
	}})
	loads := map[string]*rig.Load{}
	for _, pool := range []string{"checked", "unchecked"} {
		loads[pool] = r.StartLoad(2, 5*time.Millisecond, rig.Request{Path: "/" + pool + "/x"})
	}
	began := time.Now()
	r.StartBackend(fmt.Sprint("late1 --open-after ", opens), false)
	r.StartBackend(fmt.Sprint("late2 --open-after ", opens), false)
	r.SetPeers("checked", "a", "b", "late1")
	r.SetPeers("unchecked", "c", "d", "late2")
	r.WaitConnected()
	time.Sleep(time.Until(began.Add(opens - 2*time.Second)))
	for pool, late := range map[string]string{"checked": "late1", "unchecked": "late2"} {
		r.Eventually("the late peer of "+pool+" gets traffic", func() error { return wantFrom(r, "/"+pool+"/x", late) })
		r.WantAll(loads[pool].Stop(), 200)
	}
	for _, e := range r.NGINX.Logged(loads["checked"].Answers()) {
		if len(e.Addrs()) > 1 {
			t.Errorf("a request tried a peer that was never checked: %s", e.Addr)
		}
	}
}

// Case 19, second part.
func TestAReloadKeepsWhatIsKnownOfADownPeer(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b", "c"}, Settings: checks}}})
	r.Backend("c").Kill()
	r.Engine.WaitState("api", "c", "down")
	r.Eventually("NGINX knows", func() error {
		if p := r.NGINX.Peer("api", "c"); p.Usable {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	load := r.StartLoad(4, 2*time.Millisecond, rig.Request{Path: "/api/x"})
	r.NGINX.Reload()
	if p := r.NGINX.Peer("api", "c"); p.Usable || p.State != "down" {
		t.Errorf("after a reload of NGINX the down peer is %+v", p)
	}
	r.Engine.Hangup()
	time.Sleep(500 * time.Millisecond)
	if f := r.Engine.Figures("api", "c"); f.State != "down" {
		t.Errorf("after a reload of the engine's configuration the down peer is %s", f.State)
	}
	answers := load.Stop()
	r.WantAll(answers, 200)
	for _, e := range r.NGINX.Logged(answers) {
		if strings.Contains(e.Addr, r.Addr("c")) {
			t.Errorf("a request tried the down peer: %s", e.Addr)
		}
	}
}

// The same over a restart of the engine: a new one knows nothing of its predecessor's peers but what its own checks say.
func TestARestartOfTheEngineSendsNothingToAPeerThatFailsItsChecks(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{
		{Name: "api", Peers: []string{"a", "b", "c"}, Settings: "check: {path: /healthz, interval_ms: 1000, timeout_ms: 500, fall: 3}"},
	}})
	r.Backend("c").Set(`{"health":503,"fail":{"status":500,"share":1}}`)
	r.Engine.WaitState("api", "c", "down")
	down := func() error {
		if p := r.NGINX.Peer("api", "c"); p.Usable || p.State != "down" {
			return fmt.Errorf("%+v", p)
		}
		return nil
	}
	r.Eventually("NGINX knows", down)
	load := r.StartLoad(4, 2*time.Millisecond, rig.Request{Path: "/api/x"})
	time.Sleep(500 * time.Millisecond)
	r.Engine.Kill()
	r.Engine.Start()
	r.WaitConnected()
	r.Engine.WaitState("api", "c", "down")
	r.Eventually("NGINX knows of the new engine", down)
	time.Sleep(500 * time.Millisecond)
	answers := load.Stop()
	r.WantAll(answers, 200)
	for _, e := range r.NGINX.Logged(answers) {
		if strings.Contains(e.Addr, r.Addr("c")) {
			t.Errorf("a request tried the down peer: %s", e.Addr)
		}
	}
}

// Case 20.
func TestARemovedPeerIsGoneEverywhere(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{
		{Name: "p1", Peers: []string{"a1", "b1", "c1"}, Settings: checks + "slow_start_ms: 0"}, {Name: "p2", Peers: []string{"a2", "b2", "c2"}, Settings: checks + "slow_start_ms: 0"},
	}})
	r.Send(30, 3, rig.Request{Path: "/p1/x"})
	r.Send(30, 3, rig.Request{Path: "/p2/x"})
	gone := map[string]string{"p1": "c1", "p2": "c2"}
	for pool, b := range gone {
		r.Eventually(b+" is probed", func() error {
			if r.Backend(b).Stats().Probes == 0 {
				return fmt.Errorf("no probe")
			}
			return nil
		})
		if len(peerSeries(r, b)) == 0 {
			t.Errorf("no series of %s in pool %s", b, pool)
		}
	}
	r.SetPeers("p1", "a1", "b1")
	r.SetPeers("p2", "a2", "b2")
	wantGone := func(pool, b string) {
		t.Helper()
		r.Eventually(b+" is gone", func() error {
			if status, _ := r.Engine.Get(r.Engine.PeerPath(pool, b)); status != 404 {
				return fmt.Errorf("the API answers %d", status)
			}
			if s := peerSeries(r, b); len(s) != 0 {
				return fmt.Errorf("%d series stay: %s", len(s), s[0])
			}
			if r.NGINX.Status().Pools[pool].Peer(r.Addr(b)) != nil {
				return fmt.Errorf("NGINX has it")
			}
			return nil
		})
	}
	probes, requests := map[string]int64{}, map[string]int64{}
	for pool, b := range gone {
		wantGone(pool, b)
		probes[b], requests[b] = r.Backend(b).Stats().Probes, r.Backend(b).Stats().Requests
	}
	r.StartBackend("d1", false)
	r.StartBackend("d2", false)
	r.SetPeers("p1", "a1", "b1", "d1")
	r.SetPeers("p2", "a2", "b2", "d2")
	r.WaitConnected()
	for pool, d := range map[string]string{"p1": "d1", "p2": "d2"} {
		r.Eventually(d+" gets traffic", func() error { return wantFrom(r, "/"+pool+"/x", d) })
	}
	time.Sleep(time.Second)
	for pool, b := range gone {
		wantGone(pool, b)
		// One probe may have been under way; in a second three would come.
		if s := r.Backend(b).Stats(); s.Probes > probes[b]+1 || s.Requests != requests[b] {
			t.Errorf("%s had %d probes and %d requests when it was gone, now %d and %d", b, probes[b], requests[b], s.Probes, s.Requests)
		}
	}
}

// peerSeries are the engine's series with the backend's address as peer.
func peerSeries(r *rig.Rig, backend string) (lines []string) {
	for _, line := range r.Engine.Samples("weir_") {
		if strings.Contains(line, `peer="`+r.Addr(backend)+`"`) {
			lines = append(lines, line)
		}
	}
	return lines
}

// An operator's drain: what runs is finished, nothing new comes.
func TestADrainedPeerFinishesWhatItHasAndGetsNoMore(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: "slow_start_ms: 0"}}})
	r.Backend("a").Set(standStill)
	r.Backend("b").Set(standStill)
	p := r.Begin(20, rig.Request{Path: "/api/x", Fresh: true})
	wantInFlight(r, "api", 20, "a", "b")
	held := r.NGINX.InFlight("api", "a")
	r.Eventually("a has accepted what NGINX counts there", func() error {
		if n := r.Backend("a").Stats().InFlight; n != int64(held) {
			return fmt.Errorf("%d of %d", n, held)
		}
		return nil
	})
	r.Engine.Patch(r.Engine.PeerPath("api", "a"), `{"drain":true}`)
	r.Eventually("NGINX knows", func() error {
		if p := r.NGINX.Peer("api", "a"); p.Usable {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	if n := r.NGINX.InFlight("api", "a"); n != held || n == 0 {
		t.Errorf("the drained peer holds %d requests, it held %d", n, held)
	}
	before := r.Backend("a").Stats().Requests
	r.Backend("b").Set(goOn)
	r.WantAll(r.Send(50, 5, rig.Request{Path: "/api/x"}), 200)
	if after := r.Backend("a").Stats().Requests; after != before {
		t.Errorf("the drained peer got %d requests more", after-before)
	}
	r.Backend("a").Set(goOn)
	r.WantAll(p.Wait(), 200)
	r.Engine.Patch(r.Engine.PeerPath("api", "a"), `{"drain":false}`)
	r.Eventually("the peer is used again", func() error { return wantFrom(r, "/api/x", "a") })
}
