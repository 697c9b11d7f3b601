package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/test/dnsserver"
	"github.com/weirlb/weir/test/e2e/rig"
)

// named starts a rig whose pool api is app.internal on a DNS server, with backends of these names on 127.0.0.2 and so on, all on one
// port. zone makes the first n of them the answer.
func named(t *testing.T, opt rig.Options, settings string, backends ...string) (r *rig.Rig, server *dnsserver.Server, zone func(names ...string)) {
	t.Helper()
	server = dnsserver.Start(t)
	server.Rotate()
	port := 0
	zone = func(names ...string) {
		t.Helper()
		var lines []string
		for _, n := range names {
			lines = append(lines, fmt.Sprintf("app.internal. 0 IN A 127.0.0.%d", 2+slices.Index(backends, n)))
		}
		server.Set(t, "app.internal", lines...)
	}
	opt.Pools = append(opt.Pools, rig.Pool{Name: "api"})
	opt.NoEngine = true
	r = start(t, opt)
	port = r.FreePort()
	for i, b := range backends {
		r.StartBackendOn(b, fmt.Sprintf("127.0.0.%d:%d", 2+i, port))
	}
	r.SetSettings("api", fmt.Sprintf("%s\ndns: {name: app.internal, port: %d, type: a, resolvers: [%q], min_ttl_ms: 200, max_ttl_ms: 400, timeout_ms: 200}", settings, port, server.Addr))
	return r, server, zone
}

// waitMembers waits until NGINX and the engine have just these backends in the pool.
func waitMembers(r *rig.Rig, pool string, backends ...string) {
	r.T.Helper()
	want := make([]string, len(backends))
	for i, b := range backends {
		want[i] = r.Addr(b)
	}
	slices.Sort(want)
	r.Eventually(fmt.Sprintf("pool %s is %v", pool, backends), func() error {
		var got []string
		p := r.NGINX.Status().Pools[pool]
		for _, peer := range p.Peers {
			got = append(got, peer.Addr)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) || p.Engine != "connected" {
			return fmt.Errorf("NGINX (%s) has %v", p.Engine, got)
		}
		return nil
	})
}

// reasons are the messages of the engine's health with a code.
func reasons(r *rig.Rig, code string) (found []string) {
	r.T.Helper()
	var h struct {
		Reasons []struct{ Code, Message string }
	}
	_, body := r.Engine.Get("/api/health")
	if err := json.Unmarshal(body, &h); err != nil {
		r.T.Fatal(err)
	}
	for _, x := range h.Reasons {
		if x.Code == code {
			found = append(found, x.Message)
		}
	}
	return found
}

func waitReason(r *rig.Rig, code, text string) {
	r.T.Helper()
	r.Eventually(fmt.Sprintf("the health tells of %s: %q", code, text), func() error {
		got := reasons(r, code)
		if text == "" && len(got) > 0 || text != "" && !strings.Contains(strings.Join(got, "\n"), text) {
			return fmt.Errorf("it says %q", got)
		}
		return nil
	})
}

// Case 23: TTLs of 0 and 30 in turn and an order that rotates, then every way in which DNS fails, all under load.
func TestPeersFromDNSStayThroughRotationAndEveryFailure(t *testing.T) {
	t.Parallel()
	r, server, zone := named(t, rig.Options{}, "slow_start_ms: 0", "a", "b", "c")
	zone("a", "b")
	server.TTLs(0, 30)
	r.Engine.Start()
	began := time.Now()
	waitMembers(r, "api", "a", "b")
	load := r.StartLoad(4, 2*time.Millisecond, rig.Request{Path: "/api/x"})
	attempts := map[string]int{}
	steady := func(d time.Duration) {
		t.Helper()
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			for _, b := range []string{"a", "b"} {
				f := r.Engine.Figures("api", b)
				// A peer that came anew would begin at nothing. (Samples alone may fall: where times drift, the old count less.)
				if f.Attempts < attempts[b] || attempts[b] > 20 && f.Samples < 3 || f.State != "up" {
					t.Fatalf("%s went from %d attempts to %d, with %.0f samples, %s", b, attempts[b], f.Attempts, f.Samples, f.State)
				}
				attempts[b] = f.Attempts
			}
		}
	}
	steady(1500 * time.Millisecond)
	server.TTLs(0)
	for how, says := range map[dnsserver.Fault]string{
		dnsserver.ServFail: "SERVFAIL", dnsserver.Silent: "no answer within", dnsserver.CutEverywhere: "cut off",
		dnsserver.Empty: "has no such records", dnsserver.NXDomain: "NXDOMAIN",
	} {
		server.Fail(0, how)
		waitReason(r, "discovery", says)
		waitReason(r, "discovery", "2 peers stay")
		steady(200 * time.Millisecond)
		server.Fail(0, dnsserver.None)
		waitReason(r, "discovery", "")
	}
	waitMembers(r, "api", "a", "b")
	// The floor is 200 ms, a failing look is one query to one server, and TCP doubles it.
	if udp, tcp := server.Queries(); udp+tcp > 2*int(time.Since(began)/(200*time.Millisecond)+2) {
		t.Errorf("%d queries over UDP and %d over TCP in %v", udp, tcp, time.Since(began))
	}
	zone("c") // fresh addresses at once, and only they
	waitMembers(r, "api", "c")
	moment := time.Now()
	for time.Since(moment) < 300*time.Millisecond {
		if a := r.Do(rig.Request{Path: "/api/x"}); a.Peer != "c" {
			t.Fatalf("%v after it was gone %s answered", time.Since(moment), a.Peer)
		}
	}
	r.WantAll(load.Stop(), 200)
	if n := strings.Count(r.Engine.Log(), "source of peers fails"); n < 5 || n > 10 {
		t.Errorf("%d log lines tell of 5 outages", n)
	}
	if n := strings.Count(r.Engine.Log(), "members changed"); n != 2 {
		t.Errorf("%d log lines tell of 2 changes", n)
	}
	wantCleanMetrics(r, 1000)
	for _, s := range []string{"weir_discovery_up", "weir_discovery_peers", "weir_discovery_queries_total", "weir_discovery_age_seconds"} {
		if len(r.Engine.Samples(s+`{pool="api",kind="dns",source="dns app.internal:`)) != 1 {
			t.Errorf("no series %s", s)
		}
	}
}

// Case 21, for a newcomer that DNS tells of.
func TestANewcomerFromDNSStartsSlowly(t *testing.T) {
	t.Parallel()
	const ramp = 3 * time.Second
	r, _, zone := named(t, rig.Options{}, fmt.Sprintf("slow_start_ms: %d", ramp.Milliseconds()), "a", "b", "c", "d")
	zone("a", "b", "c")
	r.Engine.Start()
	waitMembers(r, "api", "a", "b", "c")
	for _, b := range []string{"a", "b", "c"} {
		if s := r.Engine.State("api", b); s != "up" {
			t.Errorf("%s, there from the first answer on, is %s", b, s)
		}
	}
	load := r.StartLoad(4, 0, rig.Request{Path: "/api/x"})
	zone("d", "c", "a", "b")
	waitMembers(r, "api", "a", "b", "c", "d")
	last, seen := 0.0, 0
	r.Eventually("the ramp of d is over", func() error {
		f := r.Engine.Figures("api", "d")
		if f.State == "slow_start" {
			if f.Admit < last || f.Admit > 0.26 {
				t.Fatalf("d went from %.3f to %.3f", last, f.Admit)
			}
			last = f.Admit
			seen++
			return fmt.Errorf("it is at %.2f", f.Admit)
		}
		return nil
	})
	if seen < 3 {
		t.Errorf("d was seen %d times in slow start", seen)
	}
	all := load.Stop()
	r.WantAll(all, 200)
	if share := rig.Share(all, "d"); share > 0.27 || share == 0 {
		t.Errorf("in its ramp d got %.0f %%", 100*share)
	}
}

// Case 22 from an AAAA record, and the ports of SRV records.
func TestIPv6PeersAndServiceRecordsFromDNSWorkToTheLastLabel(t *testing.T) {
	t.Parallel()
	server := dnsserver.Start(t)
	r := start(t, rig.Options{NoEngine: true, Tap: true, Pools: []rig.Pool{{Name: "six"}, {Name: "srv"}}})
	r.StartBackend("a", true)
	r.StartBackend("b", true)
	r.StartBackend("c", false)
	r.StartBackend("backup", false)
	port := func(b string) string { return r.Addr(b)[strings.LastIndex(r.Addr(b), ":")+1:] }
	server.Set(t, "six.internal", "six.internal. 1 IN AAAA ::1")
	server.Set(t, "_http._tcp.srv.internal", "_http._tcp.srv.internal. 1 IN SRV 0 10 "+port("b")+" host6.internal.", "_http._tcp.srv.internal. 1 IN SRV 0 30 "+port("c")+" far4.internal.",
		"_http._tcp.srv.internal. 1 IN SRV 5 10 "+port("backup")+" far4.internal.")
	server.Set(t, "host6.internal", "host6.internal. 1 IN AAAA ::1")
	server.Set(t, "far4.internal", "far4.internal. 1 IN A 127.0.0.1")
	r.SetSettings("six", "dns: {name: six.internal., port: "+port("a")+", resolvers: "+server.Addr+"}")
	r.SetSettings("srv", "dns:\n  - {name: _http._tcp.srv.internal, type: srv, resolvers: ["+server.Addr+"]}\n")
	r.Engine.Start()
	waitMembers(r, "six", "a")
	waitMembers(r, "srv", "b", "c", "backup")
	addr := r.Addr("a")
	if !strings.HasPrefix(addr, "[::1]:") {
		t.Fatalf("the peer is on %s", addr)
	}
	answers := r.Send(20, 4, rig.Request{Path: "/six/x"})
	r.WantAll(answers, 200)
	for _, e := range r.NGINX.Logged(answers) {
		if e.Peer != addr || e.Addr != addr {
			t.Errorf("logged as %+v", e)
		}
	}
	r.WaitRecords(1, func(rec rig.Record) bool { return rec.Peer == addr && rec.Kind == rig.KindOK })
	f := r.Engine.WaitAttempts("six", "a", 20)
	if want := "dns six.internal:" + port("a"); len(f.Sources) != 1 || f.Sources[0] != want {
		t.Errorf("it comes from %q", f.Sources)
	}
	if s := r.Engine.Samples(`weir_attempts_total{pool="six",peer="` + addr + `",kind="ok"}`); len(s) != 1 {
		t.Errorf("no series of %s: %v", addr, r.Engine.Samples("weir_attempts_total"))
	}
	r.WantAll(r.Send(20, 4, rig.Request{Path: "/srv/x"}), 200)
	if b, c := r.Engine.Figures("srv", "b"), r.Engine.Figures("srv", "c"); b.Weight != 0.5 || c.Weight != 1.5 {
		t.Errorf("the weights are %g and %g", b.Weight, c.Weight)
	}
	if s := r.Engine.State("srv", "backup"); s != "standby" || r.Backend("backup").Stats().Requests != 0 {
		t.Errorf("the peer of the higher priority number is %s and had %d requests", s, r.Backend("backup").Stats().Requests)
	}
	r.Backend("b").Set(`{"refuse":true}`)
	r.Backend("c").Set(`{"refuse":true}`)
	r.WantAll(r.Send(20, 4, rig.Request{Path: "/srv/x"}), 200)
	if r.Backend("backup").Stats().Requests == 0 {
		t.Error("with the others gone it had none")
	}
	if out := r.Weir("peers", "--admin", r.Engine.Admin()); !strings.Contains(out, "dns _http._tcp.srv.internal srv") || !strings.Contains(out, addr) {
		t.Errorf("weir peers says\n%s", out)
	}
	wantCleanMetrics(r, 1000)
}

// An engine that starts while DNS is down serves what it has, and takes nothing from an NGINX that knows more.
func TestAnEngineThatStartsWithoutDNSTakesNoPeersAway(t *testing.T) {
	t.Parallel()
	r, server, zone := named(t, rig.Options{Pools: []rig.Pool{{Name: "mixed", Peers: []string{"s"}}}}, "", "a", "b")
	_, dnsPart, _ := strings.Cut(r.Settings("api"), "dns:")
	r.SetSettings("mixed", "dns:"+dnsPart)
	server.Fail(0, dnsserver.Silent)
	zone("a", "b")
	r.Engine.Start()
	waitReason(r, "no_peers", "no peers yet")
	waitReason(r, "discovery", "never answered")
	if a := r.Do(rig.Request{Path: "/api/x"}); a.Status != 503 {
		t.Errorf("a pool nobody ever knew a peer of answers %d", a.Status)
	}
	r.WantAll(r.Send(10, 2, rig.Request{Path: "/mixed/x"}), 200) // by the list in NGINX's configuration
	waitMembers(r, "mixed", "s")                                 // and by the engine, when it has waited for DNS long enough
	server.Fail(0, dnsserver.None)
	waitMembers(r, "api", "a", "b")
	waitMembers(r, "mixed", "a", "b", "s")
	waitReason(r, "discovery", "")

	load := r.StartLoad(4, 2*time.Millisecond, rig.Request{Path: "/api/x"})
	server.Fail(0, dnsserver.ServFail)
	r.Engine.Kill()
	r.Engine.Start()
	waitReason(r, "discovery", "never answered")
	polls := r.Engine.Samples("weir_watch_clients")
	r.Eventually("NGINX polls the new engine", func() error {
		if polls = r.Engine.Samples("weir_watch_clients"); len(polls) != 1 || strings.HasSuffix(polls[0], " 0") {
			return fmt.Errorf("%v", polls)
		}
		return nil
	})
	waitMembers(r, "api", "a", "b")
	r.WantAll(r.Send(20, 4, rig.Request{Path: "/api/x"}), 200)
	server.Fail(0, dnsserver.None)
	waitReason(r, "discovery", "")
	waitMembers(r, "api", "a", "b")
	r.WantAll(load.Stop(), 200)
}

// A pool that moves from a list to a name has its peers until the name is answered.
func TestAPoolThatMovesFromAListToANameIsNeverEmpty(t *testing.T) {
	t.Parallel()
	r, server, zone := named(t, rig.Options{Pools: []rig.Pool{{Name: "moves", Peers: []string{"s"}}}}, "slow_start_ms: 0", "a")
	_, dnsPart, _ := strings.Cut(r.Settings("api"), "dns:")
	zone("a")
	r.Engine.Start()
	waitMembers(r, "moves", "s")
	load := r.StartLoad(4, 2*time.Millisecond, rig.Request{Path: "/moves/x"})
	server.Fail(0, dnsserver.ServFail)
	r.SetSettings("moves", "dns:"+dnsPart)
	r.SetPeers("moves")
	waitReason(r, "discovery", `of pool "moves"`)
	if f := r.Engine.Figures("moves", "s"); !slices.Equal(f.Sources, []string{"leaving"}) {
		t.Errorf("it comes from %q", f.Sources)
	}
	r.SetSettings("moves", "explore: 0.02\ndns:"+dnsPart) // a change of something else does not end the wait
	time.Sleep(500 * time.Millisecond)
	waitMembers(r, "moves", "s")
	server.Fail(0, dnsserver.None)
	waitMembers(r, "moves", "a")
	r.WantAll(load.Stop(), 200)
}

func TestAPeersFileIsSwappedUnderLoadAndABadOneIsRefused(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{NoEngine: true, Pools: []rig.Pool{{Name: "api"}}})
	for _, b := range []string{"a", "b", "c"} {
		r.StartBackend(b, b == "c")
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(r.File(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	swap := func(text string) { // by rename
		t.Helper()
		write("peers.new", text)
		if err := os.Rename(r.File("peers.new"), r.File("peers")); err != nil {
			t.Fatal(err)
		}
	}
	swap("# the first\n" + r.Addr("a") + "\n" + r.Addr("b") + " weight=2\n")
	r.SetSettings("api", "peers_file: peers\nslow_start_ms: 0\nexplore: 0.2") // the lighter peer gets little else
	r.Engine.Start()
	waitMembers(r, "api", "a", "b")
	if f := r.Engine.Figures("api", "b"); f.Weight != 2 || len(f.Sources) != 1 || !strings.HasPrefix(f.Sources[0], "file /") {
		t.Errorf("b has weight %g, from %q", f.Weight, f.Sources)
	}
	load := r.StartLoad(4, 2*time.Millisecond, rig.Request{Path: "/api/x"})
	r.Engine.WaitAttempts("api", "a", 20)
	swap(fmt.Sprintf("- %q\n- {address: %q, weight: 3}\n", r.Addr("c"), r.Addr("a")))
	waitMembers(r, "api", "a", "c")
	if f := r.Engine.Figures("api", "a"); f.Attempts < 20 || f.Weight != 3 {
		t.Errorf("a has %d attempts and weight %g after the swap", f.Attempts, f.Weight)
	}
	for text, says := range map[string][2]string{ // what the health says, and weir check
		r.Addr("a") + "\nnonsense\n":      {`peers:2: "nonsense"`, "peers:2"},
		"":                                {"holds no peers", "holds no peers"},
		r.Addr("a") + " weight=0\n":       {`peers:1: "weight=0": a weight is a number`, "a weight is a number"},
		"- " + r.Addr("b") + "\n- {x: 1}": {"peers:2: [1].x: unknown key", "unknown key"},
	} {
		swap(text)
		waitReason(r, "discovery", says[0])
		waitReason(r, "discovery", "2 peers stay")
		if ok, out := r.Check(r.ConfigText()); ok || !strings.Contains(out, says[1]) {
			t.Errorf("weir check: %v\n%s", ok, out)
		}
	}
	waitMembers(r, "api", "a", "c")

	for _, version := range []string{"1", "2"} { // as a Kubernetes ConfigMap: peers -> ..data/peers, ..data -> a folder
		if err := os.Mkdir(r.File("v"+version), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("v1/peers", r.Addr("a")+"\n"+r.Addr("c")+"\n")
	write("v2/peers", r.Addr("b")+"\n"+r.Addr("c")+"\n")
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, r.File(name+".new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(r.File(name+".new"), r.File(name)); err != nil {
			t.Fatal(err)
		}
	}
	link("v1", "data")
	link("data/peers", "peers")
	waitReason(r, "discovery", "")
	link("v2", "data")
	waitMembers(r, "api", "b", "c")
	if err := os.Remove(r.File("peers")); err != nil {
		t.Fatal(err)
	}
	waitReason(r, "discovery", "no such file")
	waitMembers(r, "api", "b", "c")
	r.WantAll(load.Stop(), 200)
	swap("[]\n") // nobody, and meant
	waitMembers(r, "api")
	waitReason(r, "no_peers", "its sources name none")
	if a := r.Do(rig.Request{Path: "/api/x"}); a.Status != 503 {
		t.Errorf("status %d", a.Status)
	}
}

// What shared memory knows of a peer that is gone for half a minute is given to the next one that comes. The workers that knew the old one must
// not send there.
func TestAPeerThatComesAfterOneIsGoneGetsItsOwnRequestsFromEachWorker(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		Workers: 3, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Static: []string{"a"}, Settings: "slow_start_ms: 0\nexplore: 0.2"}},
		// half a minute later
		Server: `location /later { content_by_lua_block { require("resty.weir.slots").collect(require("resty.weir.clock").now_ms() * 0.001 + 31) } }`,
	})
	r.StartBackend("c", false)
	r.WantAll(r.Send(60, 6, rig.Request{Path: "/api/x", Fresh: true}), 200) // each worker knows b
	r.SetPeers("api", "a")
	r.Eventually("NGINX has no b", func() error {
		if r.NGINX.Status().Pools["api"].Peer(r.Addr("b")) != nil {
			return errors.New("it has")
		}
		return nil
	})
	r.Do(rig.Request{Path: "/later"})
	before := r.Backend("b").Stats().Requests
	r.SetPeers("api", "a", "c")
	r.WaitConnected()
	answers := r.Send(200, 6, rig.Request{Path: "/api/x", Fresh: true})
	r.WantAll(answers, 200)
	if n := r.Backend("b").Stats().Requests - before; n != 0 {
		t.Errorf("%d requests went to the peer that is gone", n)
	}
	if rig.Share(answers, "c") == 0 {
		t.Error("none went to the one that came")
	}
}
