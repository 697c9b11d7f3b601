package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weirlb/weir/test/e2e/rig"
)

// fillable lets a test take what is free of Weir's shared memory, give it back, and see who has a slot there.
const fillable = `
location = /fill { content_by_lua_block {
    local d, n = ngx.shared.weir, 0
    for bytes = 22, 0, -1 do
        while d:safe_set("fill" .. n, ("x"):rep(2 ^ bytes)) do n = n + 1 end
    end
    ngx.say(n)
} }
location = /empty { content_by_lua_block {
    local d = ngx.shared.weir
    for _, key in ipairs(d:get_keys(0)) do if key:find("^fill") then d:delete(key) end end
    d:flush_expired()
} }
location = /slots { content_by_lua_block {
    local d, kept = ngx.shared.weir, {}
    for _, key in ipairs(d:get_keys(0)) do
        if key == "shm" or key == "nslots" or key:find("^[psb]:") then kept[#kept + 1] = key end
    end
    table.sort(kept)
    ngx.say(table.concat(kept, " "))
} }`

// What has no room in NGINX's shared memory is said and tried again, though the engine has told it and nothing changes since; and it pushes
// nothing out: without its slot a peer would get another one beside the requests that are counted on the first.
func TestFullSharedMemoryLosesNothingAndTakesTheNewPeerWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Workers: 1, Server: fillable, Pools: []rig.Pool{
		{Name: "api", Peers: []string{"a", "b"}, Settings: atOnce},
		{Name: "idle", Peers: []string{"a"}, Settings: atOnce},
	}})
	r.WantAll(r.Send(10, 1, rig.Request{Path: "/api/x"}), 200)
	r.StartBackend("c", false)
	before := r.Do(rig.Request{Path: "/slots"}).Body
	r.Do(rig.Request{Path: "/fill"})
	for _, b := range []string{"a", "b"} {
		r.Backend(b).Set(`{"headers":{"endpoint-load-metrics":"JSON {"}}`) // which NGINX counts, or would
	}
	r.WantAll(r.Send(10, 1, rig.Request{Path: "/api/x"}), 200)
	r.SetPeers("idle", "a", "c")
	r.Eventually("NGINX says what it cannot keep", func() error {
		for cause := range r.NGINX.Status().Errors {
			if strings.Contains(cause, "not taken") && strings.Contains(cause, "raise the size of lua_shared_dict weir") {
				return nil
			}
		}
		return fmt.Errorf("%v", r.NGINX.Status().Errors)
	})
	if after := r.Do(rig.Request{Path: "/slots"}).Body; after != before {
		t.Errorf("of Weir's own there was %s, and when memory was full %s", before, after)
	}
	r.Do(rig.Request{Path: "/empty"})
	r.Eventually("NGINX has the new peer", func() error {
		if p := r.NGINX.Status().Pools["idle"]; p.Peer(r.Addr("c")) == nil {
			return fmt.Errorf("%+v", p.Peers)
		}
		return nil
	})
}
