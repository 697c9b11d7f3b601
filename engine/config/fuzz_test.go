package config

import (
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// checkParse holds whatever the text: no crash, an error names its place, a configuration that was accepted is usable as
// it is.
func checkParse(t interface{ Fatalf(string, ...any) }, data []byte) {
	c, ws, err := Parse("f.yaml", data, none)
	for _, w := range ws {
		if w.Message == "" || w.File != "f.yaml" {
			t.Fatalf("warning %+v", w)
		}
	}
	if err != nil {
		var e *Error
		if !errors.As(err, &e) || len(e.Findings) == 0 || c != nil {
			t.Fatalf("%v with %v", err, c)
		}
		for _, f := range e.Findings {
			if f.Message == "" || f.File != "f.yaml" {
				t.Fatalf("finding %+v", f)
			}
		}
		return
	}
	names := map[string]bool{}
	for _, p := range c.Pools {
		if names[p.Name] || !validName(p.Name) {
			t.Fatalf("pool name %q accepted", p.Name)
		}
		names[p.Name] = true
		if p.Explore < 0 || p.Explore > 0.2 || p.Control < 0 || p.Control > 0.5 || p.Retry.Tries < 1 || p.Retry.TimeoutMS < 1 ||
			p.Retry.Tries > 1 && p.Retry.TimeoutMS <= p.ConnectTimeoutMS || p.Check.Enabled && p.Check.TimeoutMS > p.Check.IntervalMS ||
			p.Eject.BaseMS > p.Eject.MaxMS || p.Objective == "" {
			t.Fatalf("settings accepted: %+v", p)
		}
		peers := map[string]bool{}
		for _, peer := range p.Peers {
			if a, err := ParseAddress(peer.Address); err != nil || a != peer.Address || peers[a] || !(peer.Weight > 0) {
				t.Fatalf("peer accepted: %+v", peer)
			}
			peers[peer.Address] = true
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "{}", "pools: [{name: a, peers: ['10.0.0.1:80']}]", "defaults: &a\n  <<: [*a, *a]\n", "a: &x [*x]", "- &a *a", "[a, b]: 1", "? {a: b}\n: c",
		"pools:\n- &p {name: a, peers: &q [{address: '[::1]:1', weight: 2}]}\n- <<: *p\n  name: b\n", "socket: /x\nadmin: {token: x, listen: ':1'}",
		"defaults: {check: off, retry: {tries: 1}, eject: {max_share: 1}}", "%YAML 1.1\n---\nlog: {level: info}\n...\n", "\xff\xfe", "\x00", "log: !!binary aGk=", "x: !<tag:a> b",
		"pools: [{name: a, check: {pass: '100-599,,'}}]", "refresh_ms: 0x64", "refresh_ms: 1e2", "? \n: ", "<<: {log: {level: warn}}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkParse(t, data) })
}

// Built from words of the schema in random nesting, so that most texts get past the YAML parser.
func TestNoNestingOfKnownWordsBreaksTheReader(t *testing.T) {
	words := []string{"pools", "name", "peers", "defaults", "check", "retry", "socket", "admin", "listen", "eject", "tries", "timeout_ms", "address", "weight", "pass", "a", "10.0.0.1:80", "5", "0.1", "off", "~", "[::1]:9", "", "<<"}
	var node func(t *rapid.T, depth int) string
	node = func(t *rapid.T, depth int) string {
		word := func() string { return `"` + rapid.SampledFrom(words).Draw(t, "word") + `"` }
		kind := rapid.IntRange(0, 3).Draw(t, "kind")
		if depth > 4 {
			kind = 0
		}
		n := rapid.IntRange(0, 4).Draw(t, "n")
		switch kind {
		case 1:
			s := "["
			for range n {
				s += node(t, depth+1) + ","
			}
			return s + "]"
		case 2, 3:
			s := "{"
			for range n {
				s += word() + ": " + node(t, depth+1) + ","
			}
			return s + "}"
		}
		return word()
	}
	rapid.Check(t, func(t *rapid.T) { checkParse(t, []byte(node(t, 0))) })
}

func TestAStatusSetReadsAsItIsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var set StatusSet
		for range rapid.IntRange(1, 9).Draw(t, "n") {
			from := rapid.IntRange(100, 599).Draw(t, "from")
			for i, bits := range statusRange(from, rapid.IntRange(from, 599).Draw(t, "to")) {
				set[i] |= bits
			}
		}
		var back StatusSet
		if err := back.fromText(set.String()); err != nil || back != set {
			t.Fatalf("%s reads as %s (%v)", set, back, err)
		}
	})
}

func TestAStatusOutsideHTTPIsInNoSet(t *testing.T) {
	all := statusRange(100, 599)
	for status, want := range map[int]bool{-1: false, 0: false, 99: false, 100: true, 418: true, 599: true, 600: false, 612: false, 1 << 40: false} {
		if all.Contains(status) != want {
			t.Errorf("%d: %v", status, !want)
		}
	}
}

func TestAWrongStatusSetIsRefusedAndChangesNothing(t *testing.T) {
	for _, v := range []string{"", ",", "399-200", "99", "600", "200-600", "200-", "-200", "200--300", "2e2", "200;300", "200,,300"} {
		set := statusRange(418, 418)
		if err := set.fromText(v); err == nil || set != statusRange(418, 418) {
			t.Errorf("%q: %v, the set is %s", v, err, set)
		}
	}
}
