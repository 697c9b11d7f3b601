package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/serve"
)

func TestPeersHaveAColumnForGroupsWhereThereAreAny(t *testing.T) {
	canary := "canary"
	f := serve.Figures{Pools: []serve.PoolFigures{{Name: "api", Peers: []serve.PeerFigures{{Addr: "10.0.0.1:80"}, {Addr: "10.0.0.2:80"}}}}}
	shown := func() []string {
		var b bytes.Buffer
		if err := printPeers(&b, &f); err != nil {
			t.Fatal(err)
		}
		return strings.Split(b.String(), "\n")
	}
	if lines := shown(); strings.Contains(lines[0], "GROUP") || len(strings.Fields(lines[1])) < 10 {
		t.Errorf("without groups:\n%s", strings.Join(lines, "\n"))
	}
	f.Pools[0].Peers[1].Group = &canary
	lines := shown()
	at := strings.Index(lines[0], "GROUP")
	if at < 0 || !strings.HasPrefix(lines[1][at:], "- ") || !strings.HasPrefix(lines[2][at:], "canary ") {
		t.Errorf("with groups:\n%s", strings.Join(lines, "\n"))
	}
}

func TestPeersSayWhenAPoolHasNoneToSpare(t *testing.T) {
	f := serve.Figures{Pools: []serve.PoolFigures{{Name: "api", Peers: []serve.PeerFigures{{Addr: "10.0.0.1:80"}, {Addr: "10.0.0.2:80"}}}}}
	shown := func() string {
		var b bytes.Buffer
		if err := printPeers(&b, &f); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	const note = "(needed: "
	if text := shown(); strings.Contains(text, note) {
		t.Errorf("nobody is needed:\n%s", text)
	}
	f.Pools[0].Peers[0].Needed = true
	if text := shown(); !strings.Contains(text, note+"1 of 2, ") {
		t.Errorf("one is needed:\n%s", text)
	}
	f.Pools[0].Peers = f.Pools[0].Peers[:1] // which it always is
	if text := shown(); strings.Contains(text, note) {
		t.Errorf("a pool of one:\n%s", text)
	}
}

func TestPeersSayWhyAPeerFailsItsChecks(t *testing.T) {
	check := serve.ProbeView{Detail: "status 503 is not in 200-399"}
	f := serve.Figures{Pools: []serve.PoolFigures{{Name: "api", Peers: []serve.PeerFigures{{Addr: "10.0.0.1:80", State: "down", Reason: "3 probes in a row failed", Check: &check}}}}}
	for _, c := range []struct {
		pass bool
		why  string
	}{{false, "3 probes in a row failed; its last check: status 503 is not in 200-399\n"}, {true, "3 probes in a row failed\n"}} {
		check.Pass = c.pass
		var b bytes.Buffer
		if err := printPeers(&b, &f); err != nil || !strings.Contains(b.String(), c.why) {
			t.Errorf("%v, pass %v:\n%s", err, c.pass, b.String())
		}
	}
}

// A line that is said of one pool must not take the columns of the next one from below their heads.
func TestWhatIsSaidOfAPoolLeavesTheColumnsOfTheOthersStraight(t *testing.T) {
	one := func(name string) serve.PoolFigures {
		return serve.PoolFigures{Name: name, Peers: []serve.PeerFigures{{Addr: "10.0.0.1:80", State: "up", Needed: true}, {Addr: "10.0.0.2:80", State: "slow_start"}}}
	}
	f := serve.Figures{Pools: []serve.PoolFigures{one("a-pool"), {Name: "empty"}, one("the-last-pool")}}
	f.Pools[0].Panic = true
	var b bytes.Buffer
	if err := printPeers(&b, &f); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	at := strings.Index(lines[0], "STATE")
	want := []string{"POOL", "a-pool         10.0.0.1:80", "a-pool         10.0.0.2:80", "a-pool  (needed: 1 of 2", "a-pool  (no peer is healthy", "empty  (no peers)", "the-last-pool  10.0.0.1:80", "the-last-pool  10.0.0.2:80", "the-last-pool  (needed: 1 of 2"}
	if len(lines) < len(want) {
		t.Fatalf("%d lines:\n%s", len(lines), b.String())
	}
	for i, line := range lines[:len(want)] {
		if !strings.HasPrefix(line, want[i]) {
			t.Errorf("line %d is not that of %q: %s", i, want[i], line)
		}
		if strings.Contains(line, "10.0.0.1") && line[at-1:at+3] != " up " || strings.Contains(line, "10.0.0.2") && !strings.HasPrefix(line[at:], "slow_start ") {
			t.Errorf("the state is not below STATE:\n%s\n%s", lines[0], line)
		}
	}
}

func TestAShareOfASplitThatIsNoneIsRefusedInItsOwnWords(t *testing.T) {
	for _, share := range []string{"nan", "2", "+inf"} {
		if code, _, errs := weir("split", "api", share); code != 1 || !strings.Contains(errs, "is outside 0 to 1") {
			t.Errorf("%s: %d %s", share, code, errs)
		}
	}
}
