package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weirlb/weir/test/e2e/rig"
)

// Keys whose variables NGINX does not have. Lua reads them as empty, so nothing fails.

// everyKind is one variable of each kind that NGINX has and that these requests lack: by prefix, by a directive, by a module that nobody uses
// here, one that Lua must not set, and one whose being set would change the request.
const everyKind = "$cookie_sid$http_x_tenant$arg_user$args$tenant$flag$ssl_server_name$http_range$content_type$remote_user$limit_rate$upstream_cache_status$realip_remote_port$uid_got"

func TestAKeyOfAVariableThatNginxDoesNotHaveIsToldOnceAndOthersAreNot(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		HTTP:   `map $uri $tenant { /none x; } lua_shared_dict weir_rate 1m; log_format kept "$args $tenant";`,
		Server: `set $flag ''; set $own '';`,
		Pools: []rig.Pool{
			{Name: "typo", Peers: []string{"a"}, Settings: "affinity: {by: hash, key: \"$htpp_x_user\"}\n"},
			{Name: "half", Peers: []string{"b"}, Settings: "affinity: {by: hash, key: \"$cookie_sid/${user_id}\"}\n"},
			{Name: "hidden", Peers: []string{"c", "f"}, Settings: "split: {group: canary, share: 0.5, key: \"$proxy_host\"}\n", PeerSettings: map[string]string{"f": "group: canary"}},
			{Name: "rate", Peers: []string{"d"}, Location: `access_by_lua_block { require("resty.weir").rate("rate", "rate=1000r/s key=$binary_remote_adr") }`},
			{Name: "good", Peers: []string{"e"}, Settings: "affinity: {by: hash, key: \"" + everyKind + "\"}\n"},
		},
	})
	for _, pool := range []string{"typo", "half", "hidden", "rate", "good"} {
		r.WantAll(r.Send(100, 4, rig.Request{Path: "/" + pool + "/x", Fresh: true}), 200)
	}
	want := map[string]string{
		"typo":   `pool "typo": the affinity key "$htpp_x_user" reads $htpp_x_user, which NGINX does not have or does not give to Lua: requests are placed as without affinity; did you mean $http_x_user?`,
		"half":   `pool "half": the affinity key "$cookie_sid/${user_id}" reads $user_id, which NGINX does not have or does not give to Lua: it counts as empty; right would be $http_NAME`,
		"hidden": `pool "hidden": the split's key "$proxy_host" reads $proxy_host, which NGINX does not have or does not give to Lua: each request is drawn for itself; right would be`,
		"rate":   `pool "rate": the rate limit's key "$binary_remote_adr" reads $binary_remote_adr, which NGINX does not have or does not give to Lua: the limit lets everything in; right would be`,
	}
	r.Eventually("NGINX has told of four keys", func() error {
		for pool, line := range want {
			if !strings.Contains(r.NGINX.ErrorLog(), line) {
				return fmt.Errorf("nothing of %s", pool)
			}
		}
		return nil
	})
	r.WantAll(r.Send(100, 4, rig.Request{Path: "/typo/x", Fresh: true}), 200)
	if n := strings.Count(r.NGINX.ErrorLog(), "does not have or does not give"); n != len(want) {
		t.Errorf("told %d times of %d keys:\n%s", n, len(want), r.NGINX.ErrorLog())
	}
}
