package check

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAPoolWithStickyCookiesNeedsSomebodyToSetThem(t *testing.T) {
	sticky := strings.Replace(goodYAML, "  - name: web\n", "  - name: web\n    affinity: {by: cookie}\n", 1)
	more := map[string]string{"weir/affinity.conf": "header_filter_by_lua_block { require(\"resty.weir\").affinity() }\n"}
	for _, c := range []struct{ name, filter, want string }{
		{"nobody does", "", `proxy_pass: pool "web" has affinity by cookie and nothing here sets the cookie: add ` + "`include /etc/nginx/weir/affinity.conf;`"},
		{"the snippet does", "include weir/affinity.conf;", ""},
		{"by hand", "header_filter_by_lua_block { require('resty.weir').affinity() }", ""},
		{"another filter is in its place", "header_filter_by_lua_block { ngx.header.x = 1 }", `header_filter_by_lua_block: takes the place of Weir's header filter for pool "web"`},
	} {
		errs, warns := run(t, sticky, strings.Replace(goodNginx, "proxy_next_upstream_timeout 2s;", "proxy_next_upstream_timeout 2s; "+c.filter, 1), more)
		if got := strings.Join(warns, "\n"); len(errs) > 0 || !strings.Contains(got, c.want) || (c.want == "") != (got == "") {
			t.Errorf("%s: errors %q\nwarnings %q", c.name, errs, warns)
		}
	}
}

func TestTheSecretsOfStickyCookiesAreCheckedAndNotShown(t *testing.T) {
	sticky := strings.Replace(goodYAML, "  - name: web\n", "  - name: web\n    affinity: {by: cookie}\n", 1)
	filter := strings.Replace(goodNginx, "proxy_next_upstream_timeout 2s;", "proxy_next_upstream_timeout 2s; header_filter_by_lua_block { require('resty.weir').affinity() }", 1)
	for text, want := range map[string]string{
		"":                                 "there is no secret in it",
		"# one\n\nhunter2\n":               "line 3: a secret has at least 16 characters",
		strings.Repeat(hunter+"\n", 9):     "there are 9 secrets in it",
		"# two\n" + hunter + "\n" + hunter: "",
		"gone":                             "which is not there",
	} {
		path := filepath.Join(t.TempDir(), "secret")
		if text != "gone" {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		told := strings.Replace(filter, "    include weir/weir.conf;\n", "    include weir/weir.conf;\n    init_by_lua_block { require('resty.weir').init({ affinity_secret_file = '"+path+"' }) }\n", 1)
		errs, _ := run(t, sticky, told, nil)
		if got := strings.Join(errs, "\n"); !strings.Contains(got, want) || (want == "") != (got == "") || strings.Contains(got, "hunter") {
			t.Errorf("%q: %q", text, got)
		}
		if errs, _ := run(t, goodYAML, told, nil); len(errs) > 0 {
			t.Errorf("without a pool that has sticky cookies: %q", errs)
		}
	}
}

const hunter = "hunter2hunter2hunter2"
