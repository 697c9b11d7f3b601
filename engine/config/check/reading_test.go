package check

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/config/nginxconf"
)

func TestStaticPeersAreReadAsTheLuaSideReadsThem(t *testing.T) {
	for _, c := range []struct{ in, peers, problems string }{
		{"", "[]", ""},
		{"10.0.0.1:8080", "[{10.0.0.1:8080 1}]", ""},
		{" 10.0.0.1:8080 weight=2 ,[::1]:9001;unix:/run/a.sock\n10.0.0.2:1 weight=0.5", "[{10.0.0.1:8080 2} {[::1]:9001 1} {unix:/run/a.sock 1} {10.0.0.2:1 0.5}]", ""},
		{"weight=2", "[]", `"weight=2": a weight follows`},
		{"10.0.0.1:1 weight=2 weight=3", "[{10.0.0.1:1 2}]", `"weight=3": a weight follows`},
		{"10.0.0.1:1 weight=0", "[{10.0.0.1:1 1}]", `"weight=0": a weight is a number`},
		{"10.0.0.1:1 weight=x", "[{10.0.0.1:1 1}]", `"weight=x": a weight is a number`},
		{"10.0.0.1:1 weight=NaN", "[{10.0.0.1:1 1}]", `"weight=NaN": a weight is a number`},
		{"10.0.0.1:1 10.0.0.1:1", "[{10.0.0.1:1 1}]", "is there twice"},
		{"::1:9001", "[]", "write [::1]:9001"},
		{"app:80", "[]", "names go under dns"},
		{"10.0.0.1:1 backup weight=2, 10.0.0.2:1 weight=3 tier=4", "[{10.0.0.1:1 2 tier 1} {10.0.0.2:1 3 tier 4}]", ""},
		{"backup", "[]", `"backup": backup or a tier follows`},
		{"10.0.0.1:1 backup tier=2", "[{10.0.0.1:1 1 tier 1}]", `"tier=2": backup or a tier follows`},
		{"10.0.0.1:1 tier=16", "[{10.0.0.1:1 1}]", "whole number from 0 to 15"},
		{"10.0.0.1:1 down", "[{10.0.0.1:1 1}]", `"down"`},
	} {
		peers, problems := StaticPeers(c.in)
		words := []string{}
		for _, p := range peers {
			word := fmt.Sprintf("{%s %v", p.Address, p.Weight)
			if p.Tier > 0 {
				word += fmt.Sprintf(" tier %d", p.Tier)
			}
			words = append(words, word+"}")
		}
		if got := fmt.Sprint(words); got != c.peers || !strings.Contains(strings.Join(problems, "\n"), c.problems) || (c.problems == "") != (len(problems) == 0) {
			t.Errorf("%q: got %s, %q", c.in, got, problems)
		}
	}
}

func TestTheArgumentsOfACallAreFoundInAnyLua(t *testing.T) {
	for code, want := range map[string]string{
		`require("resty.weir").balance("a", "b")`:                 "a b",
		`require "resty.weir".balance "a"`:                        "a -",
		`local w = require('resty.weir') return w.balance([[a]])`: "a -",
		`require("resty.weir").balance("a", {1, 2}, "b")`:         "a expression",
		`require("resty.weir").balance(f("x", "y"), "b")`:         "expression b",
		`require("resty.weir").balance(t["x"], "b")`:              "expression b",
		`require("resty.weir").balance("a" .. x, "b" .. y)`:       "expression expression",
		`require("resty.weir").balance(nil, nil)`:                 "- -",
		`require("resty.weir").balance("", "b")`:                  "- b",
		`require("resty.weir").balance(`:                          "- -",
		`require("resty.weir").status()`:                          "none",
		`require("other").balance("a")`:                           "none",
		`-- require("resty.weir").balance("a")`:                   "none",
		`x = 'require("resty.weir").balance("a")'`:                "none",
	} {
		call, ok := weirCall(nginxconf.LuaTokens(code, 1), "balance")
		word := func(given bool, text string) string {
			switch {
			case !given:
				return "-"
			case text == "":
				return "expression"
			}
			return text
		}
		static := ""
		if call.static != nil {
			static = *call.static
		}
		got := word(call.poolGiven, call.pool) + " " + word(call.staticGiven, static)
		if !ok {
			got = "none"
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", code, got, want)
		}
	}
}

func TestATimeIsReadAsNginxReadsIt(t *testing.T) {
	for in, want := range map[string]int{"0": 0, "10": 10_000, "500ms": 500, "2s": 2000, "1m30s": 90_000, "1h": 3_600_000, "1d": 86_400_000, "1M": 2_592_000_000} {
		if got, ok := milliseconds(in); !ok || got != want {
			t.Errorf("%s: %d, %v", in, got, ok)
		}
	}
	for _, in := range []string{"x", "1x", "-1", "$t", "99999999999999999999s", "1s ", "s"} {
		if got, ok := milliseconds(in); ok {
			t.Errorf("%s: %d", in, got)
		}
	}
}

func FuzzCheckNginx(f *testing.F) {
	f.Add([]byte(goodNginx))
	f.Add([]byte("http { upstream a { balancer_by_lua_block { require('resty.weir').balance('x', '1') } } include weir.conf; }"))
	f.Add([]byte("http { upstream { balancer_by_lua 'require[[resty.weir]].balance(((' ; } map; geo; proxy_pass; server { location { proxy_pass http://; if ( } } }"))
	dir := f.TempDir()
	cfg := filepath.Join(dir, "weir.yaml")
	if err := os.WriteFile(cfg, []byte(goodYAML), 0o600); err != nil {
		f.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "weir.conf"), []byte(weirConf), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if bytes.Contains(text, []byte("include")) && !bytes.Contains(text, []byte("include weir.conf")) {
			return // the fuzzer is not to read the machine's files
		}
		path := filepath.Join(dir, "nginx.conf")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		r := Check(cfg, path, none)
		for _, f := range append(r.Errors, r.Warnings...) {
			if f.File == "" || f.Message == "" {
				t.Fatalf("%+v", f)
			}
		}
	})
}
