package check

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Field case 11: NGINX keeps connections by upstream and address, whatever name they were opened under.
func TestConnectionsThatWouldCrossAreTold(t *testing.T) {
	const api = "location / { proxy_pass http://api; }"
	const secure = "proxy_ssl_server_name on; proxy_ssl_name a.internal; "
	for _, c := range []struct{ name, locations, want string }{
		{"one name", "location / { " + secure + "proxy_pass https://api; }\nlocation /b/ { " + secure + "proxy_pass https://api; }", ""},
		{
			"two names", "location / { " + secure + "proxy_pass https://api; }\nlocation /b/ { proxy_ssl_server_name on;\nproxy_ssl_name b.internal; proxy_pass https://api; }",
			"nginx.conf:23: proxy_ssl_name: is b.internal for upstream api here and a.internal at nginx.conf:21: connections that are kept would be shared between the two; give each an upstream and a pool of its own",
		},
		{
			"a name that only one inherits", "proxy_ssl_server_name on;\nlocation / { proxy_ssl_name a.internal; proxy_pass https://api; }\nlocation /b/ { proxy_pass https://api; }",
			"nginx.conf:23: proxy_ssl_name: is not set for upstream api here and a.internal at nginx.conf:22: connections that are kept would be shared between the two; give each an upstream and a pool of its own",
		},
		{"names that are neither sent nor verified", "location / { proxy_ssl_name a; proxy_pass https://api; }\nlocation /b/ { proxy_ssl_name b; proxy_pass https://api; }", ""},
		{"two names of two upstreams", "location / { " + secure + "proxy_pass https://api; }\nlocation /b/ { proxy_ssl_server_name on; proxy_ssl_name b; proxy_pass https://web_backend; }", ""},
		{
			"verified in one place", "location / { proxy_pass https://api; }\nlocation /b/ { proxy_ssl_verify on; proxy_pass https://api; }",
			"nginx.conf:22: proxy_ssl_verify: is on for upstream api here and not set at nginx.conf:21",
		},
		{
			"a name of the request", "location / { proxy_ssl_server_name on; proxy_ssl_name $host; proxy_pass https://api; }",
			"nginx.conf:21: proxy_ssl_name: $host is told by the request, but a kept connection of upstream api goes on under the value of the request that opened it",
		},
		{"the default, written out", "location / { proxy_ssl_server_name on; proxy_ssl_name $proxy_host; proxy_pass https://api; }\nlocation /b/ { proxy_ssl_server_name on; proxy_pass https://api; }", ""},
		{
			"plain and TLS", api + "\nlocation /b/ { proxy_pass https://api; }",
			"nginx.conf:22: proxy_pass: speaks https to upstream api, which nginx.conf:21 speaks http to",
		},
		{"a scheme of the request", api + "\nlocation /b/ { proxy_pass $scheme://api; }", ""},
		{"grpcs", "location / { grpc_ssl_server_name on; grpc_ssl_name a; grpc_pass grpcs://api; }\nlocation /b/ { grpc_ssl_server_name on; grpc_ssl_name b; grpc_pass grpcs://api; }", "nginx.conf:22: grpc_ssl_name: is b for upstream api"},
	} {
		t.Run(c.name, func(t *testing.T) {
			nginx := strings.Replace(goodNginx, api, c.locations, 1)
			nginx = strings.Replace(nginx, "location /w/ { proxy_pass http://web_backend/x; proxy_next_upstream_timeout 2s; }", "", 1)
			errs, warns := run(t, goodYAML, nginx, nil)
			if got := strings.Join(warns, "\n"); len(errs) > 0 || !strings.Contains(got, c.want) || (c.want == "") != (got == "") || len(warns) > 1 {
				t.Errorf("errors %q\nwarnings %q\nwant %q", errs, warns, c.want)
			}
			if c.want == "" || strings.Contains(c.want, "speaks") {
				return
			}
			_, warns = run(t, goodYAML, strings.Replace(nginx, "keepalive 64;", "", 1), nil)
			if got := strings.Join(warns, "\n"); strings.Contains(got, "kept") {
				t.Errorf("without keepalive nothing is shared: %q", got)
			}
		})
	}
}

func TestChecksThatSpeakWhatThePeersDoNotAreTold(t *testing.T) {
	for _, c := range []struct{ name, check, pass, want string }{
		{"http", "{}", "proxy_pass http://api;", ""},
		{"no checks", "off", "proxy_pass https://api;", ""},
		{
			"https checked by http", "{}", "proxy_pass https://api;",
			`nginx.conf:21: proxy_pass: speaks https to the peers of pool "api", but its active checks speak http, and peers that do not are down: write ` + "`check: {protocol: https}`" + ` in pool "api" (weir.yaml:2)`,
		},
		{"https checked by https", "{protocol: https}", "proxy_pass https://api;", ""},
		{"http checked by https", "{protocol: https}", "proxy_pass http://api;", "write `check: {protocol: http}` in pool \"api\""},
		{"gRPC checked by http", "{}", "grpc_pass api;", "write `check: {protocol: grpc}` in pool \"api\""},
		{"gRPC over TLS checked in the clear", "{protocol: grpc}", "grpc_pass grpcs://api;", "write `check: {protocol: grpcs}` in pool \"api\""},
		{"gRPC beside HTTP, to one pool by two upstreams", "{}", "grpc_pass grpc://api; } location /h/ { proxy_pass http://second;", ""},
		{"FastCGI", "{}", "fastcgi_pass api;", "no check speaks fastcgi: write `check: off` in pool \"api\""},
		{"memcached", "{}", "memcached_pass api;", "no check speaks memcached: write `check: off` in pool \"api\""},
		{"a scheme of the request", "{}", "proxy_pass $scheme://api;", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			yaml := strings.Replace(goodYAML, "  - name: api\n", "  - name: api\n    check: "+c.check+"\n", 1)
			nginx := strings.Replace(goodNginx, "proxy_pass http://api;", c.pass, 1)
			nginx = strings.Replace(nginx, "location /w/ { proxy_pass http://web_backend/x; proxy_next_upstream_timeout 2s; }", "", 1)
			nginx = strings.Replace(nginx, "upstream plain", "upstream second { server 0.0.0.1; balancer_by_lua_block { require('resty.weir').balance('api', '10.0.0.1:8080') } keepalive 8; } upstream plain", 1)
			errs, warns := run(t, yaml, nginx, nil)
			if got := strings.Join(warns, "\n"); len(errs) > 0 || !strings.Contains(got, c.want) || (c.want == "") != (got == "") {
				t.Errorf("errors %q\nwarnings %q\nwant %q", errs, warns, c.want)
			}
		})
	}
}

func TestACertificateThatOnlyNGINXShowsIsNoted(t *testing.T) {
	for check, want := range map[string]bool{"{protocol: https}": true, "off": false} {
		dir := t.TempDir()
		yaml := strings.Replace(goodYAML, "  - name: api\n", "  - name: api\n    check: "+check+"\n", 1)
		nginx := strings.Replace(goodNginx, "proxy_pass http://api;", "proxy_ssl_certificate a.crt; proxy_ssl_certificate_key a.key; proxy_pass https://api;", 1)
		for name, text := range map[string]string{"weir.yaml": yaml, "nginx.conf": nginx} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		said := ""
		for _, f := range Check(filepath.Join(dir, "weir.yaml"), filepath.Join(dir, "nginx.conf"), none).Notes {
			said += f.String()
		}
		if got := strings.Contains(said, `proxy_ssl_certificate: NGINX shows a certificate to the peers of pool "api", its active checks show none`); got != want {
			t.Errorf("check %s: %q", check, said)
		}
	}
}
