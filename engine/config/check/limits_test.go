package check

import (
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"
)

func TestAPoolWithALimitNeedsToBeAskedForRoom(t *testing.T) {
	for _, c := range []struct{ name, yaml, access, want string }{
		{"off", "", "", ""},
		{"nobody asks", "limit: {adaptive: true}", "", `pool "web" has a limit or caps, and requests are refused only after their body was read`},
		{"nobody asks, a cap", "max_inflight: 5", "", `pool "web" has a limit or caps`},
		{"asked", "max_inflight: 5", `access_by_lua_block { require("resty.weir").admit("web") }`, ""},
		{"asked in the rewrite phase", "max_inflight: 5", `rewrite_by_lua_block { require("resty.weir").admit("web") }`, ""},
		{"another pool is asked", "max_inflight: 5", `access_by_lua_block { require("resty.weir").admit("api") }`, `asks whether pool "api" has room, but proxy_pass goes to pool "web"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			yaml := goodYAML
			if c.yaml != "" {
				yaml = strings.Replace(goodYAML, "  - name: web\n", "  - name: web\n    "+c.yaml+"\n", 1)
			}
			errs, warns := run(t, yaml, strings.Replace(goodNginx, "proxy_pass http://web_backend/x;", c.access+" proxy_pass http://web_backend/x;", 1), nil)
			found := strings.Join(append(errs, warns...), "\n")
			if c.want == "" && found != "" || !strings.Contains(found, c.want) {
				t.Errorf("found %q, want %q", found, c.want)
			}
		})
	}
}

func TestRateLimitsThatCannotWorkAreTold(t *testing.T) {
	const zone, call = "lua_shared_dict weir_rate 10m;", `require("resty.weir").rate("web", "rate=500r/s burst=10")`
	for _, c := range []struct{ name, http, access, want string }{
		{"good", zone, call, ""},
		{"two and admit", zone + " lua_shared_dict mine 1m;", `local weir = require "resty.weir"; weir.rate("web", "rate=5r/s zone=mine"); weir.rate("web", "rate=5000r/s key=all"); weir.admit("web")`, ""},
		{"an expression", zone, `require("resty.weir").rate("web", limit)`, ""},
		{"no zone", "", call, "E nginx.conf:22: access_by_lua_block: the rate limit would let everything in: there is no `lua_shared_dict weir_rate 10m;` in the http block"},
		{"another zone", zone, `require("resty.weir").rate("web", "rate=5r/s zone=mine")`, "there is no `lua_shared_dict mine 10m;` in the http block"},
		{"Weir's own memory", zone, `require("resty.weir").rate("web", "rate=5r/s zone=weir")`, "zone=weir, which is Weir's own memory"},
		{"a word of limit_req", zone, `require("resty.weir").rate("web", "rate=5r/s nodelay")`, `the rate limit "rate=5r/s nodelay" would let everything in: "nodelay" is none of`},
		{"no rate", zone, `require("resty.weir").rate("web", "burst=5")`, "there is no rate"},
		{"no limit", zone, `require("resty.weir").rate("web")`, "rate() needs a pool"},
		{"a table", zone, `require("resty.weir").rate{per_s = 5}`, "rate() needs a pool"},
		{"no pool", zone, `require("resty.weir").rate("rate=5r/s")`, "rate() needs a pool"},
		{"an unknown pool", zone, `require("resty.weir").rate("wep", "rate=5r/s")`, `rate() counts for pool "wep", which weir.yaml does not have (it has api, web); did you mean "web"?`},
		{"another pool", zone, `require("resty.weir").rate("api", "rate=5r/s")`, `rate() counts for pool "api", but proxy_pass goes to pool "web"`},
		{"the second of two", zone, `local w = require "resty.weir"; w.rate("web", "rate=5r/s"); w.rate("web", "rate=6")`, `the rate limit "rate=6"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			nginx := strings.NewReplacer("include weir/weir.conf;", "include weir/weir.conf; "+c.http,
				"proxy_pass http://web_backend/x;", "access_by_lua_block { "+c.access+" } proxy_pass http://web_backend/x;").Replace(goodNginx)
			errs, warns := run(t, goodYAML, nginx, nil)
			found := ""
			if len(errs) > 0 {
				found = "E " + strings.Join(errs, "\nE ")
			}
			for _, w := range warns {
				found += "W " + w
			}
			if (c.want == "") != (found == "") || !strings.Contains(found, c.want) || len(errs)+len(warns) > 1 {
				t.Errorf("found %q, want %q", found, c.want)
			}
		})
	}
}

func TestALimitThatLetsInWhoIsKeptOutIsTold(t *testing.T) {
	const told = "access_by_lua_block: under `satisfy any`"
	for _, c := range []struct{ name, http, location, want string }{
		{"nobody else asks", "", `access_by_lua_block { require("resty.weir").admit("web") }`, ""},
		{"all must agree", "", `satisfy all; deny all; access_by_lua_block { require("resty.weir").admit("web") }`, ""},
		{"any", "", `satisfy any; deny all; access_by_lua_block { require("resty.weir").admit("web") }`, "nginx.conf:22: " + told + " (nginx.conf:22)"},
		{"any, by inheritance", "satisfy any;", `access_by_lua_block { require("resty.weir").rate("web", "rate=5r/s") }`, "nginx.conf:22: " + told + " (nginx.conf:3)"},
		{"in another phase", "satisfy any;", `rewrite_by_lua_block { require("resty.weir").admit("web") }`, ""},
		{"in another phase, another pool", "", `rewrite_by_lua_block { require("resty.weir").rate("api", "rate=5r/s") }`, `rate() counts for pool "api"`},
		{"not Weir's", "satisfy any;", `access_by_lua_block { mine() }`, ""},
	} {
		nginx := strings.NewReplacer("include weir/weir.conf;", "include weir/weir.conf; lua_shared_dict weir_rate 1m; "+c.http,
			"proxy_pass http://web_backend/x;", c.location+" proxy_pass http://web_backend/x;").Replace(goodNginx)
		errs, warns := run(t, goodYAML, nginx, nil)
		if found := strings.Join(append(errs, warns...), "\n"); (c.want == "") != (found == "") || !strings.Contains(found, c.want) {
			t.Errorf("%s: found %q, want %q", c.name, found, c.want)
		}
	}
}

func TestARateThatNGINXCannotKeepIsTold(t *testing.T) {
	for _, c := range []struct{ rate, words, want string }{
		{"1000r/s", "", ""},
		{"90000r/m", "", "lets in 1000 requests a second and key at most, not the 1500 of zone one"},
		{"3000r/s", "", "add `burst=30 nodelay`, or use Weir's rate()"},
		{"3000r/s", "burst=0", "not the 3000 of zone one"},
		{"3000r/s", "burst=30 nodelay", ""},
		{"x", "", ""},
	} {
		nginx := strings.NewReplacer("include weir/weir.conf;", "include weir/weir.conf; limit_req_zone $binary_remote_addr zone=one:1m rate="+c.rate+";",
			"proxy_pass http://web_backend/x;", "limit_req zone=one "+c.words+"; proxy_pass http://web_backend/x;").Replace(goodNginx)
		errs, warns := run(t, goodYAML, nginx, nil)
		if found := strings.Join(append(errs, warns...), "\n"); (c.want == "") != (found == "") || !strings.Contains(found, c.want) {
			t.Errorf("%s %s: found %q, want %q", c.rate, c.words, found, c.want)
		}
	}
}

func TestARateLimitIsReadAsTheLuaSideReadsIt(t *testing.T) {
	data, err := os.ReadFile("../../../test/vectors/rate.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Good []struct {
			Text, Key, Zone string
			GapMS           float64 `json:"gap_ms"`
			Burst           int
		}
		Bad []struct{ Text, Says string }
	}
	if err := json.Unmarshal(data, &v); err != nil || len(v.Good) == 0 || len(v.Bad) == 0 {
		t.Fatal(err)
	}
	for _, c := range v.Good {
		l, err := parseRate(c.Text)
		if err != nil || math.Abs(l.GapMS-c.GapMS) > 1e-9*c.GapMS || l.Burst != c.Burst || l.Key != c.Key || l.Zone != c.Zone {
			t.Errorf("%q: %+v, %v", c.Text, l, err)
		}
	}
	for _, c := range v.Bad {
		if _, err := parseRate(c.Text); err == nil || err.Error() != c.Says {
			t.Errorf("%q: %v, want %s", c.Text, err, c.Says)
		}
	}
}
