package serve

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirlb/weir/test/dnsserver"
)

// members are the peers of pool api with the sources of each: "10.0.0.1:80 (static)".
func members(t testing.TB, e *Engine) (all []string) {
	t.Helper()
	f, err := e.Pool("api")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range f.Peers {
		all = append(all, fmt.Sprintf("%s (%s)", p.Addr, strings.Join(p.Sources, ", ")))
	}
	return all
}

func waitMembers(t testing.TB, e *Engine, want ...string) {
	t.Helper()
	var got []string
	defer func() {
		if t.Failed() {
			t.Logf("the members are %q", got)
		}
	}()
	within(t, 15*time.Second, fmt.Sprintf("the members are %q", want), func() bool {
		got = members(t, e)
		return slices.Equal(got, want)
	})
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestAPoolIsTheUnionOfItsSourcesAndThePeersOfOneStayWhenAnotherDropsThem(t *testing.T) {
	server, file := dnsserver.Start(t), filepath.Join(t.TempDir(), "peers")
	server.Set(t, "a.b", "a.b. 0 IN A 10.0.0.2", "a.b. 0 IN A 10.0.0.3")
	write(t, file, "10.0.0.1:80 weight=7\n10.0.0.2:80 weight=5\n")
	e := live(t, fmt.Sprintf(`pools: [{name: api, peers: [{address: "10.0.0.1:80", weight: 3}], peers_file: %s, dns: {name: a.b, port: 80, resolvers: %s, min_ttl_ms: 100}}]`, file, server.Addr))
	from, by := "file "+file, "dns a.b:80"
	waitMembers(t, e, "10.0.0.1:80 (static, "+from+")", "10.0.0.2:80 ("+from+", "+by+")", "10.0.0.3:80 ("+by+")")
	for addr, weight := range map[string]float64{"10.0.0.1:80": 3, "10.0.0.2:80": 5, "10.0.0.3:80": 1} {
		if w := peerOf(t, e, "api", addr).Weight; w != weight {
			t.Errorf("%s weighs %g", addr, w)
		}
	}
	write(t, file, "10.0.0.1:80\n")
	waitMembers(t, e, "10.0.0.1:80 (static, "+from+")", "10.0.0.2:80 ("+by+")", "10.0.0.3:80 ("+by+")")
	server.Set(t, "a.b", "a.b. 0 IN A 10.0.0.3")
	waitMembers(t, e, "10.0.0.1:80 (static, "+from+")", "10.0.0.3:80 ("+by+")")
}

func TestANameThatIsAskedInAnotherWayKeepsItsPeersMeanwhile(t *testing.T) {
	server := dnsserver.Start(t)
	server.Set(t, "a.b", "a.b. 0 IN A 10.0.0.2")
	text := "pools: [{name: api, dns: {name: a.b, port: 80, resolvers: " + server.Addr + ", timeout_ms: %d}}]"
	e := live(t, fmt.Sprintf(text, 500))
	waitMembers(t, e, "10.0.0.2:80 (dns a.b:80)")
	server.Fail(0, dnsserver.Silent)
	e.Apply(parse(t, fmt.Sprintf(text, 600)))
	if got := members(t, e); !slices.Equal(got, []string{"10.0.0.2:80 (dns a.b:80)"}) {
		t.Errorf("the members are %q", got)
	}
	e.Apply(parse(t, "pools: [{name: api, peers: ['10.0.0.9:80']}]")) // without the name they go
	waitMembers(t, e, "10.0.0.9:80 (static)")
}

// A misspelt path must not cost more than a misspelt name does.
func TestAPoolThatMovesToAFileThatCannotBeReadKeepsItsPeersUntilItCan(t *testing.T) {
	file := filepath.Join(t.TempDir(), "peers")
	e := live(t, "pools: [{name: api, peers: ['10.0.0.1:80']}]")
	moved := parse(t, "pools: [{name: api, peers_file: "+file+"}]")
	e.Apply(moved)
	if got := members(t, e); !slices.Equal(got, []string{"10.0.0.1:80 (leaving)"}) {
		t.Errorf("without the file the members are %q", got)
	}
	write(t, file, "10.0.0.2:80\n10.0.0.3:x\n")
	e.Apply(moved)
	if got := members(t, e); !slices.Equal(got, []string{"10.0.0.1:80 (leaving)"}) {
		t.Errorf("with a mistake in the file the members are %q", got)
	}
	write(t, file, "10.0.0.2:80\n")
	waitMembers(t, e, "10.0.0.2:80 (file "+file+")")
}

func TestAPoolThatMovesToANameThatThereIsNotKeepsItsPeersForGood(t *testing.T) {
	server := dnsserver.Start(t)
	server.Fail(0, dnsserver.NXDomain)
	e := live(t, "pools: [{name: api, peers: ['10.0.0.1:80']}]")
	e.Apply(parse(t, "pools: [{name: api, dns: {name: a.b, port: 80, resolvers: "+server.Addr+", min_ttl_ms: 100, keep_empty_ms: 0}}]"))
	within(t, 15*time.Second, "the health tells of it", func() bool {
		return strings.Contains(fmt.Sprint(e.Report()), "it has named no peers yet, and those that the pool had before stay")
	})
	within(t, 15*time.Second, "it is asked again", func() bool { udp, _ := server.Queries(); return udp > 4 })
	if got := members(t, e); !slices.Equal(got, []string{"10.0.0.1:80 (leaving)"}) {
		t.Errorf("the members are %q", got)
	}
	server.Set(t, "a.b", "a.b. 0 IN A 10.0.0.2")
	server.Fail(0, dnsserver.None)
	waitMembers(t, e, "10.0.0.2:80 (dns a.b:80)")
	server.Fail(0, dnsserver.NXDomain) // a name that was there and is gone names nobody
	waitMembers(t, e)
}

func TestASourceThatFailsInPartIsNotSaidToKeepItsLastPeers(t *testing.T) {
	server := dnsserver.Start(t)
	server.Set(t, "a.b", "a.b. 0 IN A 10.0.0.1")
	server.Fail(dns.TypeAAAA, dnsserver.ServFail)
	e := live(t, "pools: [{name: api, dns: {name: a.b, port: 80, resolvers: "+server.Addr+", min_ttl_ms: 100, max_ttl_ms: 100}}]")
	waitMembers(t, e, "10.0.0.1:80 (dns a.b:80)")
	server.Set(t, "a.b", "a.b. 0 IN A 10.0.0.2", "a.b. 0 IN A 10.0.0.3")
	waitMembers(t, e, "10.0.0.2:80 (dns a.b:80)", "10.0.0.3:80 (dns a.b:80)")
	if r := fmt.Sprint(e.Report()); !strings.Contains(r, "only in part, the rest of its answer counts: 2 peers: a.b AAAA") {
		t.Errorf("the health says %s", r)
	}
	server.Fail(0, dnsserver.ServFail)
	within(t, 15*time.Second, "all of it fails", func() bool { return strings.Contains(fmt.Sprint(e.Report()), "its last 2 peers stay") })
}

func TestPeersAboveTheMostThatAPoolMayHaveAreLeftOutAndToldOf(t *testing.T) {
	static := make([]string, maxMembers-1)
	for i := range static {
		static[i] = fmt.Sprintf("10.1.%d.%d:80", i/256, i%256)
	}
	file := filepath.Join(t.TempDir(), "peers")
	write(t, file, "10.1.0.0:80\n10.0.0.1:80\n10.0.0.2:80\n10.0.0.3:80\n")
	text := "pools: [{name: api, peers_file: " + file + ", peers: ['" + strings.Join(static, "', '") + "']}]"
	e, log := logged(t, text)
	about := func() (said string) {
		for _, r := range e.Report().Reasons {
			if r.Code == "discovery" {
				said += r.Message
			}
		}
		return said
	}
	if n := len(e.State().Pool("api").Peers); n != maxMembers {
		t.Errorf("%d members", n)
	}
	if want := `the sources of pool "api" name 2 peers more than the 4096 that a pool may have`; !strings.Contains(about(), want) {
		t.Errorf("the health says %q", about())
	}
	if n := strings.Count(log.String(), `"left_out":2`); n != 1 {
		t.Errorf("logged %d times: %.1000s", n, log)
	}
	write(t, file, "10.1.0.0:80\n10.0.0.1:80\n")
	e.Start()
	within(t, 5*time.Second, "the health is well", func() bool { return about() == "" })
	e.Close()
	if n := strings.Count(log.String(), "no more peers than it may have"); n != 1 {
		t.Errorf("logged %d times: %.1000s", n, log)
	}
}

func TestAPoolThatAReloadAddsIsCheckedAndItsSourcesRun(t *testing.T) {
	b, file := newBackend(t), filepath.Join(t.TempDir(), "peers")
	e := live(t, "pools: []")
	write(t, file, b.addr)
	e.Apply(parse(t, "pools: [{name: api, peers_file: "+file+", check: {interval_ms: 100, timeout_ms: 100}}]"))
	within(t, 15*time.Second, "it is probed", func() bool { return b.probes.Load() > 0 })
	write(t, file, "10.0.0.1:80")
	waitMembers(t, e, "10.0.0.1:80 (file "+file+")")
	n := b.probes.Load()
	time.Sleep(400 * time.Millisecond)
	if now := b.probes.Load(); now > n+1 {
		t.Errorf("a peer that left was probed %d times more", now-n)
	}
	e.Apply(parse(t, "pools: []"))
	var text strings.Builder
	if err := e.Metrics().Write(&text); err != nil || strings.Contains(text.String(), "weir_discovery_") {
		t.Errorf("series of a source stay: %v\n%s", err, text.String())
	}
}

func TestAPoolWaitsForItsSourcesAtTheStartButNotForeverWhenItHasPeersOfItsOwn(t *testing.T) {
	server := dnsserver.Start(t)
	server.Fail(0, dnsserver.ServFail)
	dns := "dns: {name: a.b, port: 80, resolvers: " + server.Addr + "}"
	e := live(t, "refresh_ms: 20\npools: [{name: api, peers: ['10.0.0.9:80'], "+dns+"}, {name: empty, "+dns+"}]")
	told := func() string { return string(e.State().AppendWatch(nil, "", 0, true)) }
	if got := told(); !strings.Contains(got, `"pools":[],`) || !strings.HasSuffix(got, `"pending":["api","empty"]}`) {
		t.Errorf("NGINX is told %s", got)
	}
	for _, p := range e.sorted() {
		p.mu.Lock()
		p.bornAt -= graceMS
		p.mu.Unlock()
	}
	within(t, 15*time.Second, "the pool with peers is told", func() bool { return strings.Contains(told(), `"pools":[{"name":"api"`) })
	if got := told(); !strings.HasSuffix(got, `"pending":["empty"]}`) {
		t.Errorf("NGINX is told %s", got)
	}
	server.Set(t, "a.b", "a.b. 30 IN A 10.0.0.2")
	server.Fail(0, dnsserver.None)
	within(t, 15*time.Second, "both are told whole", func() bool {
		got := told()
		return strings.Count(got, "10.0.0.2:80") == 2 && !strings.Contains(got, "pending")
	})
	// Once told, a pool never waits again, whatever becomes of its sources.
	e.Apply(parse(t, "pools: [{name: api, peers: ['10.0.0.9:80'], dns: {name: new.b, port: 80, resolvers: "+server.Addr+"}}, {name: empty, "+dns+"}]"))
	if got := told(); strings.Contains(got, "pending") || strings.Count(got, "10.0.0.2:80") != 2 {
		t.Errorf("NGINX is told %s", got)
	}
}

// The sources of a pool speak while the configuration changes under them; nothing is lost, and nothing speaks after its end.
func TestSourcesComeAndGoWhileTheySpeak(t *testing.T) {
	server, dir := dnsserver.Start(t), t.TempDir()
	server.Set(t, "a.b", "a.b. 0 IN A 10.0.0.1", "a.b. 0 IN A 10.0.0.2")
	server.Rotate()
	e := live(t, "refresh_ms: 10\npools: []")
	for i := range 30 {
		file := filepath.Join(dir, fmt.Sprint("peers", i%2))
		write(t, file, fmt.Sprintf("10.0.1.%d:80\n", 1+i))
		e.Apply(parse(t, fmt.Sprintf("refresh_ms: 10\npools: [{name: api, peers_file: %s, dns: {name: a.b, port: %d, resolvers: %s, min_ttl_ms: 100}}]", file, 80+i%3, server.Addr)))
		time.Sleep(10 * time.Millisecond)
	}
	by := "dns a.b:82"
	waitMembers(t, e, "10.0.1.30:80 (file "+filepath.Join(dir, "peers1")+")", "10.0.0.1:82 ("+by+")", "10.0.0.2:82 ("+by+")")
	e.Apply(parse(t, "pools: []"))
	before, _ := server.Queries()
	time.Sleep(300 * time.Millisecond)
	if after, _ := server.Queries(); after > before+1 { // one may have been on its way
		t.Errorf("%d queries for a pool that is gone", after-before)
	}
}
