package check

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/config"
)

// none is an environment without a model, so that nothing here depends on which library this machine has.
func none(name string) (string, bool) { return "none", name == "WEIR_MODEL_FILE" }

const goodYAML = `pools:
  - name: api
    peers: ["10.0.0.1:8080", "[::1]:9001"]
  - name: web
    connect_timeout_ms: 2000
    retry: {tries: 2}
    peers: ["10.0.0.2:8080"]
`

// weirConf is the one that users include.
var weirConf = func() string {
	text, err := os.ReadFile("../../../nginx/weir.conf")
	if err != nil {
		panic(err)
	}
	return string(text)
}()

// declared is the line of weir.conf that has the map of a variable.
func declared(variable string) string {
	before, _, _ := strings.Cut(weirConf, "map $weir_asked "+variable)
	return strconv.Itoa(1 + strings.Count(before, "\n"))
}

const goodNginx = `events {}
http {
    include weir/weir.conf;
    map $uri $weir_class { default ''; ~^/r report; }
    upstream api {
        server 0.0.0.1;
        balancer_by_lua_block { require("resty.weir").balance("api", "10.0.0.1:8080 weight=2, [::1]:9001") }
        keepalive 64;
    }
    upstream web_backend {
        server 0.0.0.1;
        balancer_by_lua_block {
            local weir = require "resty.weir"
            return weir.balance("web", "10.0.0.2:8080")
        }
        keepalive 64;
    }
    upstream plain { server 127.0.0.1:1; } proxy_http_version 1.1; proxy_set_header Connection "";
    server {
        listen 80;
        location / { proxy_pass http://api; }
        location /w/ { proxy_pass http://web_backend/x; proxy_next_upstream_timeout 2s; }
        location /p/ { proxy_pass http://plain; proxy_next_upstream_timeout 1ms; log_by_lua_block { } }
    }
}
`

// run checks a weir.yaml and an nginx.conf, and gives the findings with the folder left out.
func run(t *testing.T, yaml, nginx string, more map[string]string) (errs, warns []string) {
	t.Helper()
	dir := t.TempDir()
	put := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("weir.yaml", yaml)
	put("nginx.conf", nginx)
	put("weir/weir.conf", weirConf)
	for name, text := range more {
		put(name, text)
	}
	r := Check(filepath.Join(dir, "weir.yaml"), filepath.Join(dir, "nginx.conf"), none)
	for _, f := range r.Errors {
		errs = append(errs, strings.ReplaceAll(f.String(), dir+"/", ""))
	}
	for _, f := range r.Warnings {
		warns = append(warns, strings.ReplaceAll(f.String(), dir+"/", ""))
	}
	return errs, warns
}

func TestAGoodPairOfConfigurationsHasNoFindings(t *testing.T) {
	errs, warns := run(t, goodYAML, goodNginx, nil)
	if len(errs)+len(warns) > 0 {
		t.Errorf("errors %q\nwarnings %q", errs, warns)
	}
}

// Each case changes one thing of the good pair, and states every finding that this makes. "E " begins an error, "W " a
// warning.
func TestWhatDoesNotFitIsTold(t *testing.T) {
	const lineA = `        balancer_by_lua_block { require("resty.weir").balance("api", "10.0.0.1:8080 weight=2, [::1]:9001") }`
	for _, c := range []struct{ name, old, new, want string }{
		{
			"a pool that weir.yaml does not have", `balance("api"`, `balance("apj"`,
			`E nginx.conf:7: upstream api: names pool "apj", which weir.yaml does not have (it has api, web); did you mean "api"?
W weir.yaml:2: pools: no NGINX upstream uses pool "api": name it in balancer_by_lua_block { require("resty.weir").balance("api") }`,
		},
		{
			"a pool named by an expression", `balance("api", `, `balance("api" .. ngx.var.x, `,
			`W nginx.conf:7: upstream api: the pool is named by an expression: whether it exists cannot be checked`,
		},
		{
			"no pool at all", lineA, `balancer_by_lua_block { require("resty.weir").balance() }`,
			`E nginx.conf:7: upstream api: balance() needs the pool's name: balance("NAME", "10.0.0.1:8080")
W weir.yaml:2: pools: no NGINX upstream uses pool "api": name it in balancer_by_lua_block { require("resty.weir").balance("api") }`,
		},
		{
			"keepalive before the balancer", "        server 0.0.0.1;\n" + lineA + "\n        keepalive 64;", "keepalive 64;\nserver 0.0.0.1;\n" + lineA,
			"E nginx.conf:6: upstream api: keepalive must come after the balancer block (line 8): before it, NGINX keeps no connections",
		},
		{
			"no keepalive", lineA + "\n        keepalive 64;", lineA,
			"W nginx.conf:5: upstream api: has no keepalive: each request opens a connection; add `keepalive 64;` after the balancer block",
		},
		{
			"HTTP/1.0 to the peers", "location / { proxy_pass http://api; }", "location / { proxy_pass http://api; proxy_http_version 1.0; }",
			"W nginx.conf:21: proxy_pass: NGINX before 1.29.7 speaks HTTP/1.0 to upstream api here, and each request opens a connection: include proxy.conf, or add `proxy_http_version 1.1;` and `proxy_set_header Connection \"\";`",
		},
		{
			"a header that takes the place of all", "location / { proxy_pass http://api; }", "location / { proxy_set_header X-Of Connection; proxy_set_header X-B 1; proxy_pass http://api; }",
			"W nginx.conf:21: proxy_set_header: without one of Connection beside it NGINX before 1.29.7 has upstream api close each connection (those of the blocks around do not count here): add `proxy_set_header Connection \"\";`, or include proxy.conf",
		},
		{
			"the header of a WebSocket", "location / { proxy_pass http://api; }", "location / { proxy_set_header connection $upgrade; proxy_pass http://api; }", "",
		},
		{
			"no placeholder", "        server 0.0.0.1;\n" + lineA, lineA,
			"E nginx.conf:5: upstream api: has no server: NGINX refuses an upstream without one; add `server 0.0.0.1;` as a placeholder, it is never used",
		},
		{
			"servers left beside the balancer", "        server 0.0.0.1;\n" + lineA, "        server 10.0.0.1:8080;\n        server [::1]:9001 backup;\n" + lineA,
			"E nginx.conf:7: upstream api: has 2 servers beside balancer_by_lua: NGINX tries a request once for each of them, whatever the pool's retry says, and failures are taken for connections closed by chance; leave one `server 0.0.0.1;` as a placeholder",
		},
		{
			"a placeholder that is down", "        server 0.0.0.1;\n" + lineA, "        server 0.0.0.1 down;\n" + lineA,
			"E nginx.conf:6: upstream api: its server is down: NGINX then has one try less, and requests are not tried again; write `server 0.0.0.1;`",
		},
		{
			"a placeholder that is a name", "        server 0.0.0.1;\n" + lineA, "        server localhost:8080;\n" + lineA,
			"W nginx.conf:6: upstream api: its server is a name: with several addresses NGINX tries a request once for each, whatever the pool's retry says; write `server 0.0.0.1;`, it is never used",
		},
		{
			"a placeholder of another form", "        server 0.0.0.1;\n" + lineA, "        server [::1]:8080;\n" + lineA, "",
		},
		{
			"another balancer", lineA, lineA + " least_conn;",
			"E nginx.conf:7: upstream api: least_conn beside balancer_by_lua: NGINX uses only the last of them; remove it",
		},
		{
			"no static peers", `, "10.0.0.1:8080 weight=2, [::1]:9001"`, "",
			`W nginx.conf:7: upstream api: has no static peers: until NGINX has heard the engine once, requests are answered 503; write balance("api", "10.0.0.1:8080, [::1]:9001")`,
		},
		{
			"static peers that are nil", `"10.0.0.1:8080 weight=2, [::1]:9001"`, "nil",
			`W nginx.conf:7: upstream api: has no static peers: until NGINX has heard the engine once, requests are answered 503; write balance("api", "10.0.0.1:8080, [::1]:9001")`,
		},
		{
			"static peers by an expression", `"10.0.0.1:8080 weight=2, [::1]:9001"`, "ngx.var.peers", "",
		},
		{
			"a static peer without a port", "10.0.0.1:8080 weight", "10.0.0.1 weight",
			`E nginx.conf:7: upstream api: static peers: "10.0.0.1": the port is missing: write 10.0.0.1:80 or the port it listens on
E nginx.conf:7: upstream api: static peers: "weight=2": a weight follows the address it is for`,
		},
		{
			"a static peer the pool does not have", "10.0.0.1:8080 weight", "10.0.0.9:8080 weight",
			`W nginx.conf:7: upstream api: static peer 10.0.0.9:8080 is not in pool "api" of weir.yaml: it gets traffic until NGINX has heard the engine`,
		},
		{
			"a static peer in another spelling", "[::1]:9001", "[0:0::1]:9001",
			`E nginx.conf:7: upstream api: static peers: "[0:0::1]:9001": write it as the engine does: [::1]:9001`,
		},
		{
			"no set-up", "    include weir/weir.conf;\n", "",
			"E nginx.conf:2: http: Weir is not set up: add `include /etc/nginx/weir/weir.conf;` at the top of this block",
		},
		{
			"a set-up by hand that lacks a part", "    include weir/weir.conf;\n",
			`lua_shared_dict weir 1m; init_by_lua_block { require("foo").init(); require("resty.weir").init() } log_by_lua_block { require("resty.weir").log() }` + "\n",
			"E nginx.conf:2: http: a part of Weir's set-up is missing: add `init_worker_by_lua_block { require(\"resty.weir\").init_worker() }`, or include weir.conf, which has it",
		},
		{
			"a set-up by hand with a dictionary of another name", "    include weir/weir.conf;\n",
			`lua_shared_dict mine 1m; init_by_lua_block { require("resty.weir").init{dict = "mine"} } init_worker_by_lua 'require("resty.weir").init_worker()'; log_by_lua_block { require("resty.weir").log() }` + "\n", "",
		},
		{
			"weir.conf twice", "    include weir/weir.conf;\n", "    include weir/weir.conf; include weir/weir.conf;\n",
			"E nginx.conf:3: include: weir.conf is included a second time; the first is nginx.conf:3",
		},
		{
			"a map before weir.conf", "    include weir/weir.conf;\n    map $uri $weir_class { default ''; ~^/r report; }", "    map $uri $weir_class { default ''; ~^/r report; }\n    include weir/weir.conf;",
			"E nginx.conf:3: map $weir_class: must come after weir.conf (weir/weir.conf:" + declared("$weir_class") + "), which declares $weir_class and would override this",
		},
		{
			"a geo before weir.conf", "    include weir/weir.conf;\n", "    geo $weir_weight { default 1; }\n    include weir/weir.conf;\n",
			"E nginx.conf:3: geo $weir_weight: must come after weir.conf (weir/weir.conf:" + declared("$weir_weight") + "), which declares $weir_weight and would override this",
		},
		{
			"another socket", "    include weir/weir.conf;\n",
			"    include weir/weir.conf;\n init_by_lua_block { require('resty.weir').init({ socket = '/tmp/x' }) }\n",
			"W nginx.conf:4: init_by_lua_block: NGINX looks for the engine at /tmp/x, but the engine listens on /run/weir/engine.sock: write init{socket = \"/run/weir/engine.sock\"}, or set WEIR_SOCKET for NGINX, with `env WEIR_SOCKET;` at the top of nginx.conf",
		},
		{
			// Field case 12, NGINX's half.
			"a limit on tries shorter than one connect", "proxy_next_upstream_timeout 2s", "proxy_next_upstream_timeout 1999ms",
			`E nginx.conf:22: proxy_next_upstream_timeout: 1999 ms is shorter than connect_timeout_ms (2000) of pool "web": one connect that times out would use up all the time for another try`,
		},
		{
			"no code cache", "        listen 80;", "        listen 80; lua_code_cache off;",
			`E nginx.conf:20: lua_code_cache: gives each request a Lua of its own, so that nothing is counted or learned and one peer gets all of them: remove it`,
		},
		{
			"the same, inherited", "        listen 80;", "        proxy_next_upstream_timeout 1;",
			``,
		},
		{
			"the same, inherited and shorter", "        listen 80;", "        proxy_next_upstream_timeout 500ms;",
			`E nginx.conf:20: proxy_next_upstream_timeout: 500 ms is shorter than connect_timeout_ms (1000) of pool "api": one connect that times out would use up all the time for another try`,
		},
		{"no limit on the time of tries", "        listen 80;", "        proxy_next_upstream_timeout 0;", ""},
		{
			"fewer tries", "        listen 80;", "        proxy_next_upstream_tries 2;",
			`W nginx.conf:20: proxy_next_upstream_tries: 2 is fewer than retry.tries (3) of pool "api": NGINX stops there`,
		},
		{
			"a log phase that replaces Weir's", "        listen 80;", "        log_by_lua_block { ngx.log(1) }",
			"W nginx.conf:20: log_by_lua_block: takes the place of Weir's log phase for upstream api, and the engine learns nothing there: call require(\"resty.weir\").log() in it\n" +
				"W nginx.conf:20: log_by_lua_block: takes the place of Weir's log phase for upstream web_backend, and the engine learns nothing there: call require(\"resty.weir\").log() in it",
		},
		{"a log phase that calls Weir's", "        listen 80;", "        log_by_lua_block { ngx.log(1) require('resty.weir').log() }", ""},
		{
			"hidden headers that take the place of weir.conf's", "location / {", "location / { proxy_hide_header X-Mine; proxy_hide_header endpoint-load-metrics;",
			"W nginx.conf:21: proxy_hide_header: takes the place of weir.conf's, and clients see the load reports of peers: add `proxy_hide_header Endpoint-Load-Metrics-Bin;` here, or `proxy_pass_header Endpoint-Load-Metrics-Bin;` if they should",
		},
		{"hidden headers of a location that has no pool", "location /p/ {", "location /p/ { proxy_hide_header X-Mine;", ""},
		{
			"load reports that clients are to see", "location / {",
			"location / { proxy_hide_header X-Mine; proxy_pass_header Endpoint-Load-Metrics; proxy_pass_header Endpoint-Load-Metrics-Bin;", "",
		},
		{
			"a pool no upstream uses", `weir.balance("web", "10.0.0.2:8080")`, `weir.balance("api", "10.0.0.1:8080")`,
			`W weir.yaml:4: pools: no NGINX upstream uses pool "web": name it in balancer_by_lua_block { require("resty.weir").balance("web") }`,
		},
		{
			"a time to connect that the pool's takes the place of", "proxy_next_upstream_timeout 2s;", "proxy_next_upstream_timeout 2s; proxy_connect_timeout 300ms;",
			`W nginx.conf:22: proxy_connect_timeout: 300ms counts for nothing: the time to connect is connect_timeout_ms (2000) of pool "web"; set it there, and remove this`,
		},
		{"the same time to connect", "proxy_next_upstream_timeout 2s;", "proxy_next_upstream_timeout 2s; proxy_connect_timeout 2s;", ""},
		{"that of another upstream", "proxy_next_upstream_timeout 1ms;", "proxy_next_upstream_timeout 1ms; proxy_connect_timeout 300ms;", ""},
		{
			"a clock that is looked at now and then", "events {}", "timer_resolution 100ms; events {}",
			"W nginx.conf:1: timer_resolution: has NGINX look at the clock each 100 ms, and the answers of peers are timed no better than that: remove it",
		},
		{
			"two http blocks", "events {}", "events {} http { }",
			"E nginx.conf:2: http: is the second block of this name (the first is at nginx.conf:1), and NGINX takes only one: move what is in it there",
		},
		{"a clock that is looked at often", "events {}", "timer_resolution 1ms; events {}", ""},
		{
			"an include that is missing", "    server {", "    include gone.conf;\n    server {",
			"E nginx.conf:19: cannot be read: stat gone.conf: no such file or directory",
		},
		{"a syntax error", "listen 80;", "listen '80'0;", `E nginx.conf:20: unexpected "0" after a closing quote`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if strings.Count(goodNginx, c.old) != 1 {
				t.Fatalf("%q is in the good configuration %d times", c.old, strings.Count(goodNginx, c.old))
			}
			errs, warns := run(t, goodYAML, strings.Replace(goodNginx, c.old, c.new, 1), nil)
			var got []string
			for _, e := range errs {
				got = append(got, "E "+e)
			}
			for _, w := range warns {
				got = append(got, "W "+w)
			}
			if s := strings.Join(got, "\n"); s != c.want {
				t.Errorf("got\n%s\nwant\n%s", s, c.want)
			}
		})
	}
}

// The web pool has a connect_timeout_ms of 2 s, so that a pass to it is one to it when 1 s is told to be too short.
func TestAPassIsOneToItsUpstreamHoweverItIsWritten(t *testing.T) {
	for _, c := range []struct {
		to  string
		web bool
	}{
		{"http://web_backend", true},
		{"http://web_backend/x", true},
		{"http://web_backend?x=1", true},
		{"http://web_backend$request_uri", true},
		{"http://web_backend$uri$is_args$args", true},
		{"HTTP://Web_Backend/$1", true},
		{"http://web_backend$x", false},
		{"http://web_backend.example", false},
	} {
		errs, _ := run(t, goodYAML, strings.Replace(goodNginx, "proxy_pass http://web_backend/x; proxy_next_upstream_timeout 2s;", "proxy_pass "+c.to+"; proxy_next_upstream_timeout 1s;", 1), nil)
		if told := len(errs) == 1 && strings.Contains(errs[0], "1000 ms is shorter than connect_timeout_ms (2000)"); told != c.web || len(errs) > 1 {
			t.Errorf("%s: found %q", c.to, errs)
		}
	}
}

// Who has Lua of their own has it in files, and calls Weir there.
func TestLuaInFilesCountsAsLuaInBlocksDoes(t *testing.T) {
	dir := t.TempDir()
	for name, code := range map[string]string{
		"init.lua": `require("resty.weir").init()`, "worker.lua": `require("resty.weir").init_worker()`, "log.lua": `require("resty.weir").log()`,
		"none.lua": `ngx.log(ngx.ERR, "x")`, "code.raw": "\x1bLJ\x02", "own.lua": `require "site.start".run()`, "core.lua": `require("resty.core")`,
		"api.lua": `require("resty.weir").balance("none", "10.0.0.1:8080")`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	setup := "lua_shared_dict weir 64m; init_by_lua_file DIR/init.lua; init_worker_by_lua_file DIR/worker.lua; log_by_lua_file DIR/log.lua;"
	for _, c := range []struct {
		old, new    string
		errs, warns []string // what each begins with
	}{
		{},
		{old: "DIR/init.lua", new: "DIR/none.lua", errs: []string{"nginx.conf:2: http: a part of Weir's set-up is missing: add `init_by_lua_block"}},
		{old: "DIR/init.lua", new: "DIR/gone.lua", errs: []string{"nginx.conf:3: cannot be read"}},
		{old: "DIR/init.lua", new: "init.lua", warns: []string{`nginx.conf:3: init_by_lua_file: its file is not read (one of Lua's text, named from / on, is): see that it calls require("resty.weir").init()`}},
		{
			old: `balancer_by_lua_block { require("resty.weir").balance("api", "10.0.0.1:8080 weight=2, [::1]:9001") }`, new: "balancer_by_lua_file conf/api.lua;",
			warns: []string{"nginx.conf:7: balancer_by_lua_file: its file is not read (one of Lua's text, named from / on, is), and upstream api is taken for none of Weir's"},
		},
		{old: "DIR/init.lua", new: "DIR/own.lua", warns: []string{`nginx.conf:3: init_by_lua_file: does not call Weir itself: see that module "site.start", which it requires, calls require("resty.weir").init()`}},
		{old: "DIR/init.lua", new: "DIR/core.lua", errs: []string{"nginx.conf:2: http: a part of Weir's set-up is missing: add `init_by_lua_block"}},
		{old: "DIR/log.lua", new: "DIR/code.raw", warns: []string{"nginx.conf:3: log_by_lua_file: its file is not read"}},
		{old: "listen 80;", new: "listen 80; log_by_lua_file DIR/none.lua;", warns: []string{"nginx.conf:20: log_by_lua_file: takes the place of Weir's log phase for upstream api", "nginx.conf:20: log_by_lua_file: takes the place of Weir's log phase for upstream web_backend"}},
		{
			old: `balancer_by_lua_block { require("resty.weir").balance("api", "10.0.0.1:8080 weight=2, [::1]:9001") }`, new: "balancer_by_lua_file DIR/api.lua;",
			errs: []string{`nginx.conf:7: upstream api: names pool "none"`}, warns: []string{"weir.yaml:2: pools: no NGINX upstream uses"},
		},
	} {
		text := strings.Replace(goodNginx, "include weir/weir.conf;", setup, 1)
		if c.old != "" {
			text = strings.Replace(text, c.old, c.new, 1)
		}
		errs, warns := run(t, goodYAML, strings.ReplaceAll(text, "DIR", dir), nil)
		begin := func(got, want []string) bool { return slices.EqualFunc(got, want, strings.HasPrefix) }
		if !begin(errs, c.errs) || !begin(warns, c.warns) {
			t.Errorf("%s: errors %q, warnings %q", c.new, errs, warns)
		}
	}
}

func TestOneFileIsCheckedWhenTheOtherIsBroken(t *testing.T) {
	errs, _ := run(t, "refresh_ms: x\n", strings.Replace(goodNginx, "keepalive 64;", "", 1), nil)
	if len(errs) != 1 || !strings.HasPrefix(errs[0], "weir.yaml:1: refresh_ms:") {
		t.Errorf("got %q", errs)
	}
	dir := t.TempDir()
	r := Check(filepath.Join(dir, "none.yaml"), filepath.Join(dir, "none.conf"), none)
	if len(r.Errors) != 2 || r.OK() {
		t.Errorf("got %+v", r)
	}
}

func TestWithoutAnNginxConfigurationOnlyTheFileIsChecked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.yaml")
	if err := os.WriteFile(path, []byte(goodYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := Check(path, "", none); !r.OK() || len(r.Warnings) > 0 {
		t.Errorf("got %+v", r)
	}
}

func TestTheSocketIsNotComparedWhenAVariableSetsItOnBothSides(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"weir.yaml": goodYAML, "nginx.conf": strings.Replace(goodNginx, "weir/weir.conf", "weir.conf", 1), "weir.conf": weirConf} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := func(name string) (string, bool) {
		if name == "WEIR_SOCKET" {
			return "/tmp/s", true
		}
		return none(name)
	}
	if r := Check(filepath.Join(dir, "weir.yaml"), filepath.Join(dir, "nginx.conf"), env); !r.OK() || len(r.Warnings) > 0 {
		t.Errorf("got %+v", r)
	}
}

func TestAReportPrintsAlignedAndAsJSON(t *testing.T) {
	var r Report
	r.errorf("a.yaml", 3, "pools[0].name", "is <bad>")
	r.warnf("environment", 0, "WEIR_X", "is unknown")
	r.tidy()
	var b bytes.Buffer
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	want := "error    a.yaml:3     pools[0].name  is <bad>\n" +
		"warning  environment  WEIR_X         is unknown\n" +
		"1 error, 1 warning\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	if err := r.JSON(&b); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || len(back.Errors) != 1 || back.Errors[0] != r.Errors[0] || !strings.Contains(b.String(), "<bad>") {
		t.Errorf("%v: %s", err, b.String())
	}
	var empty Report
	empty.tidy()
	b.Reset()
	if err := empty.JSON(&b); err != nil || strings.Contains(b.String(), "null") {
		t.Errorf("%v: %s", err, b.String())
	}
}

// The snippets that operators include must satisfy the check that tells operators to include them.
func TestTheShippedSnippetsPass(t *testing.T) {
	nginx, err := filepath.Abs("../../../nginx")
	if err != nil {
		t.Fatal(err)
	}
	errs, warns := run(t, goodYAML, strings.NewReplacer(
		"include weir/weir.conf;", "include "+nginx+"/weir.conf; include "+nginx+"/weir-log.conf;",
		"listen 80;", "listen 80; include "+nginx+"/server.conf; include "+nginx+"/status.conf;",
		"proxy_pass http://api;", "include "+nginx+"/proxy.conf; proxy_pass http://api;",
	).Replace(goodNginx), nil)
	if len(errs)+len(warns) > 0 {
		t.Errorf("errors %q\nwarnings %q", errs, warns)
	}
}

// What is told to be written is copied: a list of one peer of three would send everything there while the engine is not heard.
func TestTheStaticPeersToWriteAreAllThatNGINXMayUseAlone(t *testing.T) {
	p := config.Pool{Split: config.Split{Group: "canary"}, Peers: []config.Peer{
		{Address: "10.0.0.1:8080", Weight: 1}, {Address: "10.0.0.2:8080", Weight: 2.5, Tier: 1}, {Address: "10.0.0.3:8080", Weight: 1, Group: "canary"}, {Address: "10.0.0.4:8080", Weight: 1, Tier: 3},
	}}
	if got := staticList(&p); got != "10.0.0.1:8080, 10.0.0.2:8080 weight=2.5 backup, 10.0.0.4:8080 tier=3" {
		t.Error(got)
	}
	if peers, problems := StaticPeers(staticList(&p)); len(peers) != 3 || len(problems) != 0 {
		t.Errorf("it reads as %v, %v", peers, problems)
	}
	p.Peers = slices.Repeat(p.Peers[:1], 200)
	if got := staticList(&p); strings.Count(got, "10.0.0.1:8080") != 16 || !strings.HasSuffix(got, ", ...") {
		t.Error(got)
	}
}
