package check

import (
	"strings"
	"testing"
)

func TestSubrequestsThatNobodyHearsOfAreTold(t *testing.T) {
	const heard = "gets subrequests (by %, nginx.conf:"
	for _, c := range []struct{ name, server, by string }{
		{"asked by auth_request", "location /a/ { auth_request /ask; proxy_pass http://plain; } location = /ask { proxy_pass http://api; }", "auth_request"},
		{"logged", "location /a/ { auth_request /ask; proxy_pass http://plain; } location = /ask { proxy_pass http://api; log_subrequest on; }", ""},
		{"logged in the server", "log_subrequest on; location /a/ { auth_request /ask; proxy_pass http://plain; } location = /ask { proxy_pass http://api; }", ""},
		{"logged by proxy.conf", "location /a/ { auth_request /ask; proxy_pass http://plain; } location = /ask { proxy_pass http://api; include weir/proxy.conf; }", ""},
		{"not logged any more", "log_subrequest on; location /a/ { mirror /ask; } location = /ask { proxy_pass http://api; log_subrequest off; }", "mirror"},
		{"asked by the server", "auth_request /ask?x=1; location = /ask { proxy_pass http://api; }", "auth_request"},
		{"asked in a location under a prefix", "location /a/ { mirror /a/ask/b; location /a/ask { proxy_pass http://api; } }", "mirror"},
		{"a location of another pool", "location /a/ { auth_request /ask; proxy_pass http://api; } location = /ask { proxy_pass http://plain; }", ""},
		{"a location around the one that is asked", "location /a/ { auth_request /a/ask; proxy_pass http://api; location /a/ask { return 204; } }", ""},
		{"a regular expression may come first", "location /a/ { auth_request /ask/it; } location /ask { proxy_pass http://api; } location ~ /it$ { return 204; }", ""},
		{"nobody asks", "auth_request off; location /a/ { proxy_pass http://api; }", ""},
		{"another server asks", "location = /ask { proxy_pass http://api; } } server { location / { auth_request /ask; proxy_pass http://plain; }", ""},
		{"an update in the background", "location /a/ { proxy_cache c; proxy_cache_background_update on; proxy_pass http://api; }", "proxy_cache_background_update"},
		{"slices", "location /a/ { slice 1m; proxy_cache c; proxy_pass http://api; }", "slice"},
		{"no slices", "slice 0; location /a/ { proxy_cache_background_update off; proxy_pass http://api; }", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			errs, warns := run(t, goodYAML, strings.Replace(goodNginx, "        listen 80;\n", "        listen 80; "+c.server+"\n", 1), map[string]string{"weir/proxy.conf": "log_subrequest on;"})
			found := strings.Join(append(errs, warns...), "\n")
			if c.by == "" && found != "" || c.by != "" && (len(warns) != 1 || !strings.Contains(found, strings.Replace(heard, "%", c.by, 1))) {
				t.Errorf("found %q, want one by %q", found, c.by)
			}
		})
	}
}
