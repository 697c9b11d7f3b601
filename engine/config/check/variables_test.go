package check

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// withKeys is goodYAML with affinity by a key and a split by another one.
func withKeys(affinity, split string) string {
	return fmt.Sprintf(`pools:
  - name: api
    affinity: {by: hash, key: %q}
    peers: ["10.0.0.1:8080", "[::1]:9001"]
  - name: web
    connect_timeout_ms: 2000
    retry: {tries: 2}
    split: {group: canary, share: 0.1, key: %q}
    peers: ["10.0.0.2:8080", {address: "10.0.0.3:8080", group: canary}]
`, affinity, split)
}

// defining is goodNginx with a variable of each kind of directive, of known modules and others.
var defining = strings.Replace(goodNginx, "    upstream api {", `    map $http_x_tenant $tenant { default none; ~^(?<shop>[a-z]+) $shop; }
    geo $zone { default 0; }
    split_clients $request_id $side { 50% a; * b; }
    js_set $from_js main.f;
    oddly_named_directive $odd;
    log_format x '$only_logged ${braced}';
    server { listen 81; set $Own 1; location ~ ^/(?<section>\w+)/(?P<page>.*)$ { set_by_lua_block $by_lua { return 1 } auth_request_set $user $upstream_http_x_user; } }
    upstream api {`, 1)

func notesOf(t *testing.T, yaml, nginx string) (notes []string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"weir.yaml": yaml, "nginx.conf": nginx, "weir.conf": weirConf} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(text, "weir/weir.conf", "weir.conf")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := Check(filepath.Join(dir, "weir.yaml"), filepath.Join(dir, "nginx.conf"), none)
	for _, f := range r.Notes {
		notes = append(notes, strings.ReplaceAll(f.String(), dir+"/", ""))
	}
	return notes
}

func TestVariablesThatNginxHasAreNoFinding(t *testing.T) {
	for _, key := range []string{
		"$arg_user", "$cookie_sid2x/${http_x_tenant}v1", "$host$uri", "$Cookie_SID", "$remote_addr-$request_id", "${http_x}-user", "$jwt_claim_sub",
		"$tenant$shop$zone$side$from_js$odd$only_logged$braced$own$section$page$by_lua$user",
	} {
		yaml := withKeys(key, key)
		errs, warns := run(t, yaml, defining, nil)
		if notes := notesOf(t, yaml, defining); len(errs)+len(warns)+len(notes) > 0 {
			t.Errorf("%s: errors %q\nwarnings %q\nnotes %q", key, errs, warns, notes)
		}
	}
}

func TestVariablesThatNginxDoesNotHaveAreTold(t *testing.T) {
	const neither = ", which neither NGINX's own modules have nor the NGINX configuration speaks of: "
	for key, want := range map[string]string{
		"$htpp_x_user":   `W weir.yaml:2: affinity.key: the affinity key of pool "api" reads $htpp_x_user` + neither + `requests are placed as without affinity; did you mean $http_x_user?`,
		"$cokie_sid$uri": `W weir.yaml:2: affinity.key: the affinity key of pool "api" reads $cokie_sid` + neither + `it counts as empty; did you mean $cookie_sid?`,
		"$remote_adr":    `W weir.yaml:2: affinity.key: the affinity key of pool "api" reads $remote_adr` + neither + `requests are placed as without affinity; did you mean $remote_addr?`,
		"$tenent":        `W weir.yaml:2: affinity.key: the affinity key of pool "api" reads $tenent` + neither + `requests are placed as without affinity; did you mean $tenant?`,
		"$acme_customer": `N weir.yaml:2: affinity.key: the affinity key of pool "api" reads $acme_customer, which neither NGINX's own modules have nor the NGINX configuration speaks of: unless another module has it, requests are placed as without affinity`,
		"$proxy_host":    `E weir.yaml:2: affinity.key: the affinity key of pool "api" reads $proxy_host, which NGINX has for its own directives and does not give to Lua: requests are placed as without affinity; ` + "`set` or `map`" + ` a variable of your own from it`,
		"$http_x-user":   `W weir.yaml:2: affinity.key: the affinity key of pool "api" reads $http_x with the text "-user" behind it; write $http_x_user, or ${http_x}-user if this is meant`,
	} {
		yaml := withKeys(key, "$arg_user")
		errs, warns := run(t, yaml, defining, nil)
		var got []string
		for prefix, list := range map[string][]string{"E ": errs, "W ": warns, "N ": notesOf(t, yaml, defining)} {
			for _, f := range list {
				got = append(got, prefix+f)
			}
		}
		if len(got) != 1 || got[0] != want {
			t.Errorf("%s:\ngot  %q\nwant %q", key, got, want)
		}
	}
	_, warns := run(t, withKeys("$arg_user", "$htpp_x_user"), defining, nil)
	if len(warns) != 1 || !strings.Contains(warns[0], `split.key: the split's key of pool "web" reads $htpp_x_user`) {
		t.Errorf("of a split's key: %q", warns)
	}
	limited := strings.Replace(goodNginx, "location / {", `location / { access_by_lua_block { require("resty.weir").rate("api", "rate=5r/s key=$binary_remote_adr") }`, 1)
	limited = strings.Replace(limited, "http {", "http { lua_shared_dict weir_rate 1m;", 1)
	_, warns = run(t, goodYAML, limited, nil)
	if len(warns) != 1 || !strings.Contains(warns[0], "the key of rate() reads $binary_remote_adr") || !strings.Contains(warns[0], "did you mean $binary_remote_addr?") {
		t.Errorf("of a rate limit: %q", warns)
	}
}

func TestAnIncompleteConfigurationOfNginxSaysNothingOfVariables(t *testing.T) {
	_, warns := run(t, withKeys("$htpp_x_user", "$acme"), strings.Replace(defining, "include weir/", "include weir/gone.conf; include weir/", 1), nil)
	for _, w := range warns {
		if strings.Contains(w, "htpp") || strings.Contains(w, "acme") {
			t.Error(w)
		}
	}
}

// Of the names that are taken for NGINX's own, it must have those that its own modules have wherever they are built in.
func TestTheNginxThatIsHereHasTheVariablesThatAreTakenForUnreadable(t *testing.T) {
	nginx, err := exec.LookPath("nginx")
	if err != nil && os.Getenv("TEST_ALL_SERVERS") != "" {
		t.Fatal(err)
	} else if err != nil {
		t.Skip("no NGINX here")
	}
	dir := t.TempDir()
	var all strings.Builder
	for name := range unreadable {
		if !strings.HasPrefix(name, "upstream_cache_") { // since 1.5.9, gone in a build without a cache
			all.WriteString("$" + name + " ")
		}
	}
	for _, name := range []string{"uri", "args", "remote_addr", "request_id", "ssl_server_name", "tcpinfo_rtt", "upstream_addr", "proxy_protocol_addr"} {
		all.WriteString("$" + name + " ")
	}
	conf := fmt.Sprintf("pid %s/pid; error_log %s/log; events {} http { log_format x '%s'; access_log off; }", dir, dir, all.String())
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(nginx, "-t", "-p", dir, "-c", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
