package check

import (
	"slices"
	"strings"
	"testing"
)

// Blue-green and A/B set-ups name the upstream in a variable, which works as a plain name does.
func TestAPassToAVariableIsCheckedForEveryUpstreamThatItMayName(t *testing.T) {
	const bad = " proxy_next_upstream_timeout 300ms; log_by_lua_block { }"
	learnsNothing := func(upstream string) string {
		return "takes the place of Weir's log phase for upstream " + upstream + ","
	}
	for _, c := range []struct {
		name, http, server, location string
		errs, warns                  []string // what each has in it
	}{
		{
			name: "set", server: "set $up api;", location: "proxy_pass http://$up;" + bad,
			errs: []string{`300 ms is shorter than connect_timeout_ms`}, warns: []string{learnsNothing("api")},
		},
		{name: "set in the location", location: "set $up API; proxy_pass http://${up}$request_uri;" + bad, errs: []string{"300 ms"}, warns: []string{learnsNothing("api")}},
		{name: "the whole address", location: "set $up http://api; proxy_pass $up;" + bad, errs: []string{"300 ms"}, warns: []string{learnsNothing("api")}},
		{
			name: "map", http: "map $uri $Up { hostnames; default plain; ~^/w web_backend; ~^/a api; }", location: "proxy_pass http://$up;" + bad,
			errs: []string{`pool "web"`, `pool "api"`}, warns: []string{learnsNothing("web_backend"), learnsNothing("api")},
		},
		{name: "split_clients", http: "split_clients $remote_addr $up { 10% api; * plain; }", location: "proxy_pass http://$up;" + bad, errs: []string{"300 ms"}, warns: []string{learnsNothing("api")}},
		{name: "geo", http: "geo $up { ranges; default plain; 10.0.0.0-10.0.0.9 api; }", location: "proxy_pass http://$up;" + bad, errs: []string{"300 ms"}, warns: []string{learnsNothing("api")}},
		{
			name: "by way of another", http: "map $uri $side { default backend; }", location: "set $up web_$side; proxy_pass http://$up;" + bad,
			errs: []string{`pool "web"`}, warns: []string{learnsNothing("web_backend")},
		},
		{name: "Lua that is not kept", server: "set $up api;", location: "proxy_pass http://$up; lua_code_cache off;", errs: []string{"gives each request a Lua of its own"}},
		{name: "a port", location: "proxy_pass http://api:8080/x;", errs: []string{"names upstream api with port 8080"}},
		{name: "a port behind a variable", server: "set $up api;", location: "proxy_pass http://$up:8080;" + bad, warns: []string{"names upstream api with port 8080: as that comes from a variable"}},
		{name: "a port of a host", location: "proxy_pass http://plain:8080;"},
		{name: "none of Weir's", http: "map $uri $up { default plain; }", location: "proxy_pass http://$up;" + bad},
		{name: "of another server", http: "server { set $up api; }", server: "set $up plain;", location: "proxy_pass http://$up;" + bad},
		{name: "without end", location: "set $up $up$up; proxy_pass http://$up;" + bad},
		{
			name: "limits of one of several", http: "map $uri $up { default api; ~^/w web_backend; }",
			location: `proxy_pass http://$up; access_by_lua_block { require("resty.weir").admit("web") }`,
		},
		{
			name: "limits of none of several", http: "map $uri $up { default api; }",
			location: `proxy_pass http://$up; access_by_lua_block { require("resty.weir").admit("web") }`, errs: []string{`write admit("api")`},
		},
	} {
		text := strings.Replace(goodNginx, "        listen 80;", "        listen 80; "+c.server+" location /v/ { "+c.location+" }", 1)
		text = strings.Replace(text, "    server {", "    "+c.http+"\n    server {", 1)
		errs, warns := run(t, goodYAML, text, nil)
		if !slices.EqualFunc(errs, c.errs, strings.Contains) || !slices.EqualFunc(warns, c.warns, strings.Contains) {
			t.Errorf("%s: errors %q, warnings %q", c.name, errs, warns)
		}
	}
}
