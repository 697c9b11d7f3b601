package config

import (
	"fmt"
	"strings"
	"testing"
)

// Each case is one mistake and all that is said about it.
func TestAMistakeIsToldWithLineKeyAndWhatWouldBeRight(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{
			"a typing error in a key", "\nrefresh_m: 5",
			`weir.yaml:2: refresh_m: unknown key; did you mean "refresh_ms"?`,
		},
		{
			"a backup that is a primary", "pools:\n- {name: a, peers: [{address: \"10.0.0.1:1\", backup: true, tier: 0}]}\n",
			"weir.yaml:2: pools[0].peers[0].backup: backup: true contradicts tier: 0: remove one",
		},
		{
			"a primary that is a backup", "pools:\n- {name: a, peers: [{address: \"10.0.0.1:1\", backup: false, tier: 2}]}\n",
			"weir.yaml:2: pools[0].peers[0].backup: backup: false contradicts tier: 2: remove one",
		},
		{
			"a tier out of range", "pools:\n- {name: a, peers: [{address: \"10.0.0.1:1\", tier: 16}]}\n",
			`weir.yaml:2: pools[0].peers[0].tier: must be a whole number from 0 to 15, is "16"`,
		},
		{
			"a zone with a space", "zone: x\npools:\n- {name: a, peers: [{address: \"10.0.0.1:1\", zone: a b}]}\n",
			`weir.yaml:3: pools[0].peers[0].zone: must be at most 64 of A-Z a-z 0-9 . _ -, is "a b"`,
		},
		{
			"affinity by hash without a key", "defaults:\n  affinity: {by: hash}\n",
			"weir.yaml:2: defaults.affinity.by: affinity by hash needs a key: add `key: \"$arg_user\"` with a variable of NGINX",
		},
		{
			"a key without a variable", "defaults:\n  affinity: {by: hash, key: user}\n",
			`weir.yaml:2: defaults.affinity.key: must have a variable of NGINX in it, as "$arg_user", is "user"`,
		},
		{
			"a key with a capture", "defaults:\n  affinity: {by: hash, key: $1}\n",
			"weir.yaml:2: defaults.affinity.key: must not have captures as $1: `set` a variable of your own from them, is \"$1\"",
		},
		{
			"a key with a lone dollar", "defaults:\n  affinity: {by: hash, key: $uri$}\n",
			`weir.yaml:2: defaults.affinity.key: has a $ without the name of a variable after it; a $ itself cannot be in a key, is "$uri$"`,
		},
		{
			"affinity that breaks for a dearer peer", "defaults:\n  affinity: {by: cookie, break_at: 0.5}\n",
			"weir.yaml:2: defaults.affinity.break_at: must be 0, or from 1 on: below 1 a peer would be left for a dearer one, is 0.5",
		},
		{
			"a bound below the fair part", "defaults:\n  affinity: {by: hash, key: $uri, balance_factor: 0.9}\n",
			"weir.yaml:2: defaults.affinity.balance_factor: must be 0, or from 1.01 on: no peer can have less than its fair part, is 0.9",
		},
		{
			"a cookie for all sites that is not secure", "defaults:\n  affinity: {by: cookie, cookie: {samesite: None}}\n",
			"weir.yaml:2: defaults.affinity.cookie.samesite: None needs `secure: true`: browsers drop such a cookie otherwise",
		},
		{
			"a cookie whose name is none", "defaults:\n  affinity: {by: cookie, cookie: {name: \"a;b\"}}\n",
			`weir.yaml:2: defaults.affinity.cookie.name: must be 1 to 64 of the letters, digits and signs that a cookie's name may have, is "a;b"`,
		},
		{
			"a cookie's path that ends the header", "defaults:\n  affinity: {by: cookie, cookie: {path: \"/; Domain=x\"}}\n",
			`weir.yaml:2: defaults.affinity.cookie.path: must begin with / and have neither spaces nor semicolons, is "/; Domain=x"`,
		},
		{
			"affinity as a word", "defaults: {affinity: cookie}\n",
			`weir.yaml:1: defaults.affinity: must be a mapping as {by: cookie}, or "off", is a text`,
		},
		{
			"swapped letters", "pools:\n- {name: a, preers: []}\n",
			`weir.yaml:2: pools[0].preers: unknown key; did you mean "peers"?`,
		},
		{
			"a key at the wrong level", "defaults:\n  tries: 3\n",
			"weir.yaml:2: defaults.tries: unknown key here; it belongs at pools[].retry.tries",
		},
		{
			"a mapping at the wrong level", "eject: {max_share: 0.3}\n",
			"weir.yaml:1: eject: unknown key here; it belongs at pools[].eject",
		},
		{
			"a list at the wrong level", "peers: [\"10.0.0.1:80\"]\n",
			"weir.yaml:1: peers: unknown key here; it belongs at pools[].peers",
		},
		{
			"a key that is like nothing", "log: {colour: red}",
			"weir.yaml:1: log.colour: unknown key; known here: level",
		},
		{
			"a dash for an underscore", "refresh-ms: 5",
			`weir.yaml:1: refresh-ms: unknown key; did you mean "refresh_ms"?`,
		},
		{
			"a number out of range", "defaults: {explore: 0.3}",
			`weir.yaml:1: defaults.explore: must be a number from 0 to 0.2, is "0.3"`,
		},
		{
			"no number", "refresh_ms: 100ms",
			`weir.yaml:1: refresh_ms: must be a whole number from 10 to 60000, is "100ms"`,
		},
		{
			"a fraction for a whole number", "refresh_ms: 100.5",
			`weir.yaml:1: refresh_ms: must be a whole number from 10 to 60000, is "100.5"`,
		},
		{
			"NaN", "defaults: {explore: .nan}",
			`weir.yaml:1: defaults.explore: must be a number from 0 to 0.2, is ".nan"`,
		},
		{
			"a number that overflows", "refresh_ms: 99999999999999999999999999",
			`weir.yaml:1: refresh_ms: must be a whole number from 10 to 60000, is "99999999999999999999999999"`,
		},
		{
			"a list for a number", "refresh_ms: [1]",
			"weir.yaml:1: refresh_ms: must be a whole number from 10 to 60000, is a list",
		},
		{
			"a mapping for a list", "pools: {api: {}}",
			"weir.yaml:1: pools: must be a list: begin each pool with `- name: NAME`",
		},
		{
			"a text for a mapping", "log: debug",
			"weir.yaml:1: log: must be a mapping of keys (level), is a text",
		},
		{
			"a key twice", "refresh_ms: 50\n\nrefresh_ms: 60",
			"weir.yaml:3: refresh_ms: is set twice, first on line 1: remove one",
		},
		{
			"an objective that is none", "defaults: {objective: p95}",
			`weir.yaml:1: defaults.objective: must be one of mean, p99, is "p95"`,
		},
		{
			"a mode in words", "socket: {mode: rw}",
			`weir.yaml:1: socket.mode: must be an octal file mode as "0660", at most "0777", is "rw"`,
		},
		{
			"a mode that is not octal", "socket: {mode: 0680}",
			`weir.yaml:1: socket.mode: must be an octal file mode as "0660", at most "0777", is "0680"`,
		},
		{
			"a relative socket", "socket: engine.sock",
			`weir.yaml:1: socket: must be an absolute path, as /run/weir/engine.sock, is "engine.sock"`,
		},
		{
			"a socket's path too long", "socket: /" + strings.Repeat("x", 200),
			"weir.yaml:1: socket: may have 107 bytes, which is what a Unix socket's name holds, has 201",
		},
		{
			"a socket's path with a NUL", `socket: "/run/a\0b"`,
			`weir.yaml:1: socket: must have no control characters, is "/run/a\x00b"`,
		},
		{
			"an admin listener for everyone without a token", "admin: {listen: \"0.0.0.0:9180\"}",
			`weir.yaml:1: admin.listen: "0.0.0.0:9180" can be reached from other hosts: set admin.token or admin.token_file, or listen on 127.0.0.1`,
		},
		{
			"an admin listener on every address by its short form", "admin: {listen: \":9180\"}",
			`weir.yaml:1: admin.listen: ":9180" can be reached from other hosts: set admin.token or admin.token_file, or listen on 127.0.0.1`,
		},
		{
			"an admin listener on every IPv6 address", "admin: {listen: \"[::]:9180\"}",
			`weir.yaml:1: admin.listen: "[::]:9180" can be reached from other hosts: set admin.token or admin.token_file, or listen on 127.0.0.1`,
		},
		{
			"a listener without a port", "admin: {listen: 127.0.0.1}",
			`weir.yaml:1: admin.listen: must be an address and a port, as "127.0.0.1:9180" or "[::1]:9180", is "127.0.0.1"`,
		},
		{
			"two tokens", "admin: {token: abc,\n token_file: /x}",
			"weir.yaml:2: admin.token_file: token and token_file are both set: keep one",
		},
		{
			"a token that no header carries", "admin: {token: \"a b\"}",
			"weir.yaml:1: admin.token: must be printable ASCII without spaces: it travels in a header",
		},
		{
			"a URL of another kind", "prometheus_url: ftp://x",
			`weir.yaml:1: prometheus_url: must be an http or https URL, as "http://127.0.0.1:9090", is something else`,
		},
		{
			"a pool without a name", "pools:\n- peers: [\"10.0.0.1:80\"]",
			"weir.yaml:2: pools[0]: has no name: add `name: NAME`",
		},
		{
			"a pool's name with a slash", "pools:\n- {name: a/b, peers: [\"10.0.0.1:80\"]}",
			`weir.yaml:2: pools[0].name: must be 1 to 64 of A-Z a-z 0-9 . _ -, is "a/b"`,
		},
		{
			"two pools of one name", "pools:\n- {name: a, peers: [\"10.0.0.1:80\"]}\n- {name: a, peers: [\"10.0.0.1:80\"]}",
			`weir.yaml:3: pools[1].name: there is a pool "a" already, on line 2: names must differ`,
		},
		{
			"a pool that is a word", "pools: [api]",
			"weir.yaml:1: pools[0]: must be a mapping as {name: api, peers: [...]}, is a text",
		},
		{
			"a peer twice, written in two ways", "pools:\n- name: a\n  peers:\n  - \"[::1]:80\"\n  - {address: \"[0:0::1]:80\"}",
			"weir.yaml:5: pools[0].peers[1].address: peer [::1]:80 is in this pool already, on line 4: remove one, or give the first a higher weight",
		},
		{
			"a peer without an address", "pools:\n- {name: a, peers: [{weight: 2}]}",
			`weir.yaml:2: pools[0].peers[0]: has no address: write {address: "10.0.0.1:8080"}`,
		},
		{
			"a peer of weight 0", "pools:\n- {name: a, peers: [{address: '10.0.0.1:80', weight: 0}]}",
			`weir.yaml:2: pools[0].peers[0].weight: must be a number from 0.01 to 1000, is "0"`,
		},
		{
			"one peer where a list should be", "pools:\n- {name: a, peers: \"10.0.0.1:80\"}",
			"weir.yaml:2: pools[0].peers: must be a list of peers, is a text",
		},
		{
			"a peer that is IPv6 without brackets", "pools:\n- {name: a, peers: [\"::1:9001\"]}",
			`weir.yaml:2: pools[0].peers[0]: "::1:9001": an IPv6 address needs brackets: write [::1]:9001`,
		},
		{
			"a peer by host name", "pools:\n- {name: a, peers: [\"app.internal:80\"]}",
			`weir.yaml:2: pools[0].peers[0]: "app.internal:80": is a host name; give the IP address and port, as 10.0.0.1:8080 (names go under dns)`,
		},
		{
			// Field case 12: a peer that swallows packets would use up the whole budget.
			"a retry budget shorter than one connect", "pools:\n- name: a\n  retry: {timeout_ms: 1000}\n",
			"weir.yaml:3: pools[0].retry.timeout_ms: retry.timeout_ms (1000) must be greater than connect_timeout_ms (1000) when retry.tries is 3: one connect that times out would use up all the time for another try",
		},
		{
			"a retry budget shorter than one connect, by the connect", "pools:\n- name: a\n  connect_timeout_ms: 10000\n",
			"weir.yaml:3: pools[0].connect_timeout_ms: retry.timeout_ms (10000) must be greater than connect_timeout_ms (10000) when retry.tries is 3: one connect that times out would use up all the time for another try",
		},
		{
			"a mistake in the defaults that two pools inherit", "defaults: {retry: {timeout_ms: 9}}\npools:\n- name: a\n- name: b\n",
			"weir.yaml:1: defaults.retry.timeout_ms: retry.timeout_ms (9) must be greater than connect_timeout_ms (1000) when retry.tries is 3: one connect that times out would use up all the time for another try",
		},
		{
			"a check slower than its interval", "defaults:\n  check:\n    interval_ms: 500\n",
			"weir.yaml:3: defaults.check.interval_ms: check.timeout_ms (1000) must not exceed check.interval_ms (500): checks of one peer would pile up",
		},
		{
			"an ejection longer at first than at most", "defaults: {eject: {base_ms: 100000}}",
			"weir.yaml:1: defaults.eject.base_ms: eject.base_ms (100000) must not exceed eject.max_ms (60000)",
		},
		{
			"a check of nothing", "defaults:\n  check:\n",
			`weir.yaml:2: defaults.check: must be a mapping as {path: /healthz}, or "off", is empty`,
		},
		{
			"a check's path without a slash", "defaults: {check: {path: healthz}}",
			`weir.yaml:1: defaults.check.path: must begin with / and be printable ASCII without spaces, as /healthz, is "healthz"`,
		},
		{
			"a check's path that would end the request line", "defaults: {check: {path: \"/a\\r\\nX: y\"}}",
			`weir.yaml:1: defaults.check.path: must begin with / and be printable ASCII without spaces, as /healthz, is "/a\r\nX: y"`,
		},
		{
			"a check's host that would end the header", "defaults: {check: {host: \"a\\r\\nX: y\"}}",
			`weir.yaml:1: defaults.check.host: must be a host name or address, with a port if need be, as app.example, is "a\r\nX: y"`,
		},
		{
			"statuses that are none", "defaults: {check: {pass: 2xx}}",
			`weir.yaml:1: defaults.check.pass: must be statuses from 100 to 599, as "200-399" or "200-299,401", is "2xx"`,
		},
		{
			"a check that changes its peer", "defaults: {check: {method: DELETE}}",
			`weir.yaml:1: defaults.check.method: must be one of GET, HEAD, OPTIONS, is "DELETE"`,
		},
		{
			"two documents", "refresh_ms: 50\n---\nrefresh_ms: 60\n",
			"weir.yaml: holds more than one document (a line with ---): keep one",
		},
		{
			"a list for the whole", "- a\n- b\n",
			"weir.yaml:1: must be a mapping of keys (socket, admin, log, refresh_ms, state_file, model, learn, prometheus_url, database, history, zone, instance, defaults, pools), is a list",
		},
		{
			"a key that is a list", "[a, b]: 1",
			"weir.yaml:1: a key must be a plain word, is a list",
		},
		{
			"a tab for indentation", "log:\n\tlevel: info\n",
			"weir.yaml:2: is not valid YAML: this line is indented with a tab, use spaces",
		},
		{
			"a zone that is no label", "zone: \"a b\"",
			`weir.yaml:1: zone: must be at most 64 of A-Z a-z 0-9 . _ -, is "a b"`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := strings.Join(refused(t, c.text, none), "\n"); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestAllMistakesAreToldAtOnceInFileOrder(t *testing.T) {
	got := refused(t, `refresh_ms: fast
pools:
  - name: a
    explore: 2
    peers: ["10.0.0.1", "host:80"]
    retry: {timeout_ms: 5}
  - name: a
    spead: 1
log: {level: loud}
`, none)
	want := []string{
		"weir.yaml:1: refresh_ms:", "weir.yaml:4: pools[0].explore:", "weir.yaml:5: pools[0].peers[0]:",
		"weir.yaml:5: pools[0].peers[1]:", "weir.yaml:6: pools[0].retry.timeout_ms:", "weir.yaml:7: pools[1].name:",
		"weir.yaml:8: pools[1].spead:", "weir.yaml:9: log.level:",
	}
	if len(got) != len(want) {
		t.Fatalf("want %d findings, got:\n%s", len(want), strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("finding %d is %q, want %s", i, got[i], want[i])
		}
	}
}

func TestAThousandMistakesDoNotMakeAThousandLines(t *testing.T) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "bad%d: 1\n", i)
	}
	got := refused(t, text.String(), none)
	if len(got) != maxFindings+1 || got[maxFindings] != "weir.yaml: and 800 more" {
		t.Errorf("%d lines, the last: %s", len(got), got[len(got)-1])
	}
}

func TestAPoolWithoutPeersIsAWarning(t *testing.T) {
	for _, text := range []string{"pools:\n- name: a\n", "pools:\n- {name: a, peers: []}\n", "pools:\n- name: a\n  peers:\n"} {
		c, ws, err := Parse("weir.yaml", []byte(text), none)
		if err != nil || len(c.Pools) != 1 || len(ws) != 1 || ws[0].String() != `weir.yaml:2: pools[0]: pool "a" has no peers: every request for it is answered 503` {
			t.Errorf("%q: %v, warnings %v", text, err, ws)
		}
	}
}

func TestAStateFileIsAWarning(t *testing.T) {
	_, ws, err := Parse("weir.yaml", []byte("state_file: /var/lib/weir/state\npools: [{name: a, peers: ['10.0.0.1:80']}]"), none)
	if err != nil || len(ws) != 1 || ws[0].String() != "weir.yaml:1: state_file: is not used yet: what is learned ends with the engine" {
		t.Errorf("%v, warnings %v", err, ws)
	}
}

func TestAShortTokenOnAnOpenListenerIsAWarning(t *testing.T) {
	_, ws, err := Parse("weir.yaml", []byte("admin: {listen: '10.0.0.1:9180', token: hunter2}\npools: [{name: a, peers: ['10.0.0.1:80']}]"), none)
	if err != nil || len(ws) != 1 || ws[0].Key != "admin.token" {
		t.Errorf("%v, warnings %v", err, ws)
	}
}

func TestARefusedValueCausesNoSecondError(t *testing.T) {
	if got := refused(t, "defaults: {connect_timeout_ms: 99999999}", none); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}

func TestAliasesThatStandForAnEndlessFileAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"a mapping merged into itself": "defaults: &a\n  <<: [" + strings.Repeat("*a,", 30) + "*a]\n",
		"lists of lists of aliases":    "x: &x [1,1,1,1,1,1,1,1,1]\ny: &y [*x,*x,*x,*x,*x,*x,*x]\npools: [*y,*y,*y]\n",
		"a thousand pools of a thousand shared peers": "zone: &z '1'\npools: [" + strings.Repeat("*p,", 1000) + "&p {name: a, peers: [" +
			strings.Repeat("'x',", 1000) + "]}]\n",
	} {
		t.Run(name, func(t *testing.T) {
			if got := refused(t, text, none); len(got) == 0 || len(got) > maxFindings+1 {
				t.Errorf("%d findings", len(got))
			}
		})
	}
}

func TestSharedMappingsMayBeMerged(t *testing.T) {
	c := mustParse(t, `
pools:
  - &api {name: api, explore: 0.1, control: 0, peers: ["10.0.0.1:80"]}
  - {<<: *api, name: web, control: 0.3}
`)
	if w := c.Pools[1]; w.Name != "web" || w.Explore != 0.1 || w.Control != 0.3 || len(w.Peers) != 1 {
		t.Errorf("got %+v", w)
	}
}

// The parser names the line before the list or mapping that is wrong somewhere, or none: in a file of many pools that is nowhere near.
func TestASyntaxErrorHasTheLineItIsOn(t *testing.T) {
	before := "socket: /run/x.sock\n\npools:\n"
	for range 5 {
		before += "  - name: a\n    peers: [\"10.0.0.1:80\"]\n"
	}
	for text, want := range map[string]string{ // the first line is 14
		"   - name: b\n    peers: []\n":                      "14: is not valid YAML: did not find expected '-' indicator: see how this line, or the one before, is indented",
		"  - name: b\n   peers: []\n  - name: c\n":           "15: is not valid YAML: did not find expected '-'",
		"  - name: b\n\n    # c\n    peers: []\n  name: c\n": "18: is not valid YAML: did not find expected '-'",
		"  - name: b\n      peers: []\n  - name: c\n":        "15: is not valid YAML: mapping values are not allowed",
		"  - name: b\n    peers: [a, b\n  - name: c\n":       "15: is not valid YAML: did not find expected ',' or ']'",
		"  - {name: b, peers: [}\n  - name: c\n":             "14: is not valid YAML: did not find expected node content",
		"  - name: \"b\n    peers: []\n":                     "14: is not valid YAML: found unexpected end of stream",
		"  - name: b\n\tpeers: []\n":                         "15: is not valid YAML: this line is indented with a tab",
		"  - name: b\n    peers:\n    \t- a\n":               "16: is not valid YAML: this line is indented with a tab",
		"  - name: b\n    zone: *eu\n    peers: []\n":        "15: a value that begins with * or &",
		"  - name: b # gr\xfc\xdfe\n    peers: []\n":         "14: is not valid YAML: invalid",
		"  - name: b\n    peers: [] # \x01\n  - name: c\n":   "15: is not valid YAML: control characters",
		"  - name: b\n    objective: @x\n    peers: []\n":    "15: is not valid YAML: found character that cannot start",
		"  - name: b\n    retry:\n      tries: 2\n     x: 1": "17: is not valid YAML: did not find expected key",
	} {
		if got := strings.Join(refused(t, before+text, none), "\n"); !strings.HasPrefix(got, "weir.yaml:"+want) {
			t.Errorf("%q: %s, want line %s", text, got, want)
		}
	}
	if got := strings.Join(refused(t, "pools: [", none), "\n"); !strings.HasPrefix(got, "weir.yaml:1: is not valid YAML") {
		t.Error(got)
	}
}
