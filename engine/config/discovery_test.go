package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func pool(t *testing.T, text string) (*Pool, error) {
	t.Helper()
	c, warnings, err := Parse("weir.yaml", []byte("pools:\n- name: a\n"+text), none)
	if err != nil {
		return nil, err
	}
	if len(warnings) > 0 {
		t.Errorf("warnings: %v", warnings)
	}
	return &c.Pools[0], nil
}

func TestNamesAreReadAsAListAndAlone(t *testing.T) {
	for text, want := range map[string]string{
		"  dns: {name: App.Internal., port: 80}": "[{app.internal 80 both  1000 60000 2000 300000 }]",
		"  dns:\n  - {name: a.b, port: 1, type: aaaa, resolvers: [10.0.0.10, '[fd00::1]:5353', fd00::2], min_ttl_ms: 100, max_ttl_ms: 100, timeout_ms: 50, keep_empty_ms: 0}\n" +
			"  - {name: _http._tcp.a, type: SRV, resolvers: 10.0.0.10:53}": "[{a.b 1 aaaa 10.0.0.10:53, [fd00::1]:5353, [fd00::2]:53 100 100 50 0 } {_http._tcp.a 0 srv 10.0.0.10:53 1000 60000 2000 300000 }]",
		"  dns: []\n  peers: ['10.0.0.1:80']": "[]",
		"  dns:\n  peers: ['10.0.0.1:80']":    "[]",
	} {
		p, err := pool(t, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := fmt.Sprint(p.DNS); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
}

func TestMistakesInSourcesAreTold(t *testing.T) {
	for text, want := range map[string]string{
		"  dns: {port: 80}":                                      "weir.yaml:3: pools[0].dns: has no name: write {name: app.internal, port: 8080}",
		"  dns: {name: a.b}":                                     "weir.yaml:3: pools[0].dns: needs the port that the peers listen on, from 1 to 65535: write {name: a.b, port: 8080}, or type: srv",
		"  dns: {name: a.b, type: srv, port: 80}":                "weir.yaml:3: pools[0].dns.port: SRV records have their own ports: remove it, or choose another type",
		"  dns: {name: a.b, port: 80, type: mx}":                 `weir.yaml:3: pools[0].dns.type: must be one of a, aaaa, both, srv, is "mx"`,
		"  dns:\n  - {name: 10.0.0.1, port: 80}":                 `weir.yaml:4: pools[0].dns[0].name: is an address, not a name: put it under peers, as "10.0.0.1:8080"`,
		"  dns: {name: 'a:80', port: 80}":                        "weir.yaml:3: pools[0].dns.name: must be a name alone, the port stands in `port`, is \"a:80\"",
		"  dns: {name: 'a..b', port: 80}":                        `weir.yaml:3: pools[0].dns.name: must be a domain name as app.internal: labels of at most 63 letters, digits, - and _, is "a..b"`,
		"  dns: {name: a, port: 80, resolvers: [x]}":             `weir.yaml:3: pools[0].dns.resolvers[0]: must be the address of a DNS server as "10.0.0.10", "10.0.0.10:53" or "[fd00::10]:53", is "x"`,
		"  dns: {name: a, port: 80, min_ttl_ms: 99}":             `weir.yaml:3: pools[0].dns.min_ttl_ms: must be a whole number from 100 to 3600000, is "99"`,
		"  dns: {name: a, port: 80, min_ttl_ms: 100000}":         "weir.yaml:3: pools[0].dns.min_ttl_ms: min_ttl_ms (100000) must not exceed max_ttl_ms (60000)",
		"  dns: {name: a, prot: 80}":                             `weir.yaml:3: pools[0].dns.prot: unknown key; did you mean "port"?`,
		"  dns: a.b":                                             "weir.yaml:3: pools[0].dns: must be a list of names, each as {name: app.internal, port: 8080}, is a text",
		"  dns: [a.b]":                                           "weir.yaml:3: pools[0].dns[0]: must be a mapping as {name: app.internal, port: 8080}, is a text",
		"  dns: [{name: a, port: 80},\n   {name: A., port: 80}]": `weir.yaml:4: pools[0].dns[1].name: "a" is in this pool already, on line 3: remove one`,
		"  peers_file: [x]":                                      "weir.yaml:3: pools[0].peers_file: must be a text, is a list",
		"  peers: ['app:80']":                                    `weir.yaml:3: pools[0].peers[0]: "app:80": is a host name; give the IP address and port, as 10.0.0.1:8080 (names go under dns)`,
	} {
		_, err := pool(t, text)
		if err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", text, err, want)
		}
	}
}

func TestAChangeOfASourceIsAChangeOfItsPool(t *testing.T) {
	texts := []string{
		"  peers_file: x", "  peers_file: y", "  dns: {name: a, port: 1}", "  dns: {name: b, port: 1}", "  dns: {name: a, port: 1, timeout_ms: 9999}",
		"  dns: {name: a, port: 1, resolvers: 10.0.0.1}", "  dns: {name: a, port: 1, resolvers: 10.0.0.2}", "  peers_file: x\n  dns: {name: a, port: 1}",
	}
	for i, a := range texts {
		for j, b := range texts {
			p, _ := pool(t, a)
			q, _ := pool(t, b)
			if p.Equal(q) != (i == j) {
				t.Errorf("%q and %q are equal: %v", a, b, i != j)
			}
		}
	}
}

func TestAPeersFileIsFoundBesideTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"weir.yaml": "pools: [{name: a, peers_file: sub/p}]", "sub/p": "10.0.0.1:80\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, warnings, err := Load(filepath.Join(dir, "weir.yaml"), none)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%v %v", err, warnings)
	}
	if f, warnings := c.Pools[0].PeersFileFindings(); f != nil || warnings != nil {
		t.Errorf("%v %v", f, warnings)
	}
	if err := os.Remove(filepath.Join(dir, "sub/p")); err != nil {
		t.Fatal(err)
	}
	f, _ := c.Pools[0].PeersFileFindings()
	if len(f) != 1 || f[0].Line != 1 || f[0].Key != "pools[0].peers_file" || !strings.Contains(f[0].Message, "no such file") {
		t.Errorf("%+v", f)
	}
}

func TestAPeersFileHasLinesOrYAML(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.1:80\n\n # none\n10.0.0.2:80 weight=0.5 # half\r\n[::1]:9001\nunix:/run/a": "[{10.0.0.1:80 1} {10.0.0.2:80 0.5} {[::1]:9001 1} {unix:/run/a 1}]",
		"10.0.0.1:80 zone=eu-1 backup weight=2\n10.0.0.2:80 tier=3":                        "[{10.0.0.1:80 2 tier=1 true zone=eu-1} {10.0.0.2:80 1 tier=3 true zone=}]",
		"- {address: '10.0.0.1:80', backup: true, zone: eu-1}":                             "[{10.0.0.1:80 1 tier=1 true zone=eu-1}]",
		"[::1]:9001\n":                                              "[{[::1]:9001 1}]",
		"\ufeff# a mark of Windows\n10.0.0.1:80":                    "[{10.0.0.1:80 1}]",
		"# YAML\n- 10.0.0.1:80\n- {address: '[::1]:80', weight: 2}": "[{10.0.0.1:80 1} {[::1]:80 2}]",
		"peers:\n- 10.0.0.1:80\n":                                   "[{10.0.0.1:80 1}]",
		`{"peers": ["10.0.0.1:80"]}`:                                "[{10.0.0.1:80 1}]",
		`["10.0.0.1:80", "[::1]:80"]`:                               "[{10.0.0.1:80 1} {[::1]:80 1}]",
		"[10.0.0.1:80]":                                             "[{10.0.0.1:80 1}]",
		"---\n- 10.0.0.1:80\n":                                      "[{10.0.0.1:80 1}]",
		"[]":                                                        "[]",
		"peers: []":                                                 "[]",

		"":                                    "p: holds no peers: write [] if the pool is meant to be empty",
		" \n# nobody\n":                       "p: holds no peers: write [] if the pool is meant to be empty",
		"---\n":                               "p:2: must be a list of peers, is empty; write [] if the pool is meant to be empty",
		"peers:\n":                            "p:1: peers: must be a list of peers, is empty; write [] if the pool is meant to be empty",
		"10.0.0.1:80\x00":                     "p: holds a NUL byte: it is no text",
		"10.0.0.1:80 weight=0":                `p:1: "weight=0": a weight is a number from 0.01 to 1000`,
		"10.0.0.1:80 weight=NaN":              `p:1: "weight=NaN": a weight is a number from 0.01 to 1000`,
		"10.0.0.1:80 2":                       `p:1: "2": after an address may stand weight=N, backup, tier=N, zone=NAME and group=NAME`,
		"10.0.0.1:80 backup=1":                `p:1: "backup=1": after an address may stand weight=N, backup, tier=N, zone=NAME and group=NAME`,
		"10.0.0.1:80 tier=16":                 `p:1: "tier=16": a tier is a whole number from 0 to 15`,
		"10.0.0.1:80 tier=1 backup":           `p:1: "backup": the tier is told already`,
		"10.0.0.1:80 zone=":                   `p:1: "zone=": a zone is 1 to 64 of A-Z a-z 0-9 . _ -`,
		"10.0.0.1:80\napp.internal:80\nx:y:z": "p:2: \"app.internal:80\": is a host name; give the IP address and port, as 10.0.0.1:8080 (names go under dns)\np:3: \"x:y:z\": must be an address and a port, as 10.0.0.1:8080, [::1]:9001 or unix:/path",
		"[::1]:80\n[0:0::1]:80":               "p:2: peer [::1]:80 is in this file already, on line 1: remove one",
		"- 10.0.0.1:80\n- {adress: x}":        "p:2: [1].adress: unknown key; did you mean \"address\"?\np:2: [1]: has no address: write {address: \"10.0.0.1:8080\"}",
		"{peers: [], pool: a}":                "p:1: must be a list of peers, alone or under the one key peers",
		"- [":                                 "p:1: is not valid YAML: did not find expected node content",
	} {
		peers, err := ParsePeers("p", []byte(text))
		words := []string{}
		for _, p := range peers {
			word := fmt.Sprintf("{%s %g", p.Address, p.Weight)
			if p.Tier > 0 || p.Zone != "" || bool(p.Backup) {
				word += fmt.Sprintf(" tier=%d %v zone=%s", p.Tier, p.Backup, p.Zone)
			}
			words = append(words, word+"}")
		}
		got := fmt.Sprint(words)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q:\n got %s\nwant %s", text, got, want)
		}
	}
}

func TestAPeersFileOfTooManyPeersIsRefused(t *testing.T) {
	var b strings.Builder
	for i := range maxPeers + 1 {
		fmt.Fprintf(&b, "10.0.%d.%d:80\n", i/200, i%200+1)
	}
	if _, err := ParsePeers("p", []byte(b.String())); err == nil || err.Error() != "p:4097: a pool may have 4096 peers" {
		t.Errorf("%v", err)
	}
}

// checkPeers holds whatever the text: no crash; an error names its place; peers that are accepted are canonical and each there once.
func checkPeers(t interface{ Fatalf(string, ...any) }, data []byte) {
	peers, err := ParsePeers("p", data)
	var bad *Error
	if err != nil && (!errors.As(err, &bad) || len(bad.Findings) == 0 || bad.Findings[0].File != "p" || peers != nil) {
		t.Fatalf("%v with %v", err, peers)
	}
	seen := map[string]bool{}
	for _, p := range peers {
		if again, err := ParseAddress(p.Address); err != nil || again != p.Address || seen[p.Address] || !(p.Weight >= 0.01 && p.Weight <= 1000) {
			t.Fatalf("accepted %+v", p)
		}
		seen[p.Address] = true
	}
}

func FuzzPeersFile(f *testing.F) {
	for _, s := range []string{"10.0.0.1:80 weight=2\n[::1]:80", "- 10.0.0.1:80", "peers: [{address: 'unix:/a', weight: 3}]", "[&a [*a]]", "---", "{peers: &x [*x]}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkPeers(t, data) })
}

func TestAPeersFileNeverCrashesTheReader(t *testing.T) {
	words := rapid.SampledFrom([]string{"10.0.0.1:80", "[::1]:80", "weight=2", "weight=", "-", "[", "]", "{", "}", "peers:", "address:", ",", "#", "\n", "\n- ", " ", "&a", "*a", "!!null", "~", "\"", "\x00", "unix:/a", "---\n"})
	rapid.Check(t, func(t *rapid.T) {
		checkPeers(t, []byte(strings.Join(rapid.SliceOfN(words, 0, 20).Draw(t, "words"), "")))
	})
}
