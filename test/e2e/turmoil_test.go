package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/weirlb/weir/test/e2e/rig"
)

// wellAgain takes every fault of a backend away.
const wellAgain = `{"refuse":false,"blackhole":false,"hang":0,"fail":null,"reset":null,"close_reused":false,"no_keep_alive":false,"speed":1,"health":200}`

// turmoil is what may go wrong with a backend.
var turmoil = []string{
	`{"refuse":true}`, `{"blackhole":true}`, `{"hang":0.5}`, `{"fail":{"status":503,"share":0.7}}`, `{"reset":{"share":0.5,"after_bytes":10}}`,
	`{"reset":{"share":0.5,"after_bytes":-1}}`, `{"speed":0.1}`, `{"close_reused":true}`, `{"no_keep_alive":true}`, `{"health":500}`,
}

// Everything that each has a test of its own, at once and in any order: peers fail, come and go, are drained and weighed, workers and the engine are
// killed, NGINX is reloaded, clients leave. WEIR_HEAVY=1 has it last a minute. What must hold after any test must hold here (see rig.finish), and the pools serve in the end.
func TestTurmoilLeavesCountsExactAndNoErrorBehind(t *testing.T) {
	t.Parallel()
	location := fmt.Sprintf("include %[1]s/nginx/affinity.conf; include %[1]s/nginx/whole.conf;", programs.Repo)
	proxy := "include " + programs.Repo + "/nginx/proxy.conf;"
	r := start(t, rig.Options{
		Workers: 3,
		HTTP:    "lua_shared_dict weir_rate 1m; map $http_x_weight $weir_weight { default $http_x_weight; }",
		Pools: []rig.Pool{
			{
				Name: "api", Peers: []string{"a", "b", "c", "d"}, Static: []string{"a"}, Location: location + " error_page 502 504 = @second;",
				PeerSettings: map[string]string{"d": "group: canary", "c": "backup: true"},
				Settings: "affinity: {by: cookie}\nsplit: {group: canary, share: 0.3}\nmax_inflight: 6\nqueue_ms: 50\nslow_start_ms: 500\n" +
					"check: {path: /healthz, interval_ms: 300, timeout_ms: 200}",
			},
			{Name: "hash", Peers: []string{"a", "b", "c"}, Static: []string{}, Location: location, Settings: "affinity: {by: hash, key: $arg_k}\nlimit: {adaptive: true}"},
			{Name: "rate", Peers: []string{"a", "e"}, Static: []string{}, Location: location + " auth_request /auth; access_by_lua_block {" +
				` require("resty.weir").rate("rate", "rate=300r/s burst=50") require("resty.weir").admit("rate") }`},
		},
		Server: "proxy_read_timeout 300ms; location @second { proxy_pass http://hash; " + proxy + " }" +
			" location = /auth { internal; proxy_pass http://hash/auth; " + proxy + " proxy_pass_request_body off; proxy_set_header Content-Length ''; }",
	})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	ctx, stop := context.WithTimeout(context.Background(), full(time.Minute, 5*time.Second))
	defer stop()
	var clients sync.WaitGroup
	for c := range 10 {
		clients.Go(func() { anyClient(ctx, r, rand.New(rand.NewPCG(seed, uint64(c)))) })
	}
	upset(ctx, r, rand.New(rand.NewPCG(seed, 99)))
	clients.Wait()
	r.WantIdle()
	for _, pool := range []string{"api", "hash", "rate"} {
		r.Eventually("pool "+pool+" serves", func() error {
			for range 10 {
				if a := r.Do(rig.Request{Path: "/" + pool + "/x?k=1"}); a.Status != 200 {
					return fmt.Errorf("status %d, %v", a.Status, a.Err)
				}
			}
			return nil
		})
	}
}

// anyClient sends requests of all sorts; what becomes of them does not matter here.
func anyClient(ctx context.Context, r *rig.Rig, rnd *rand.Rand) {
	for ctx.Err() == nil {
		path := fmt.Sprintf("/%s/x%d?k=%d&bytes=%d", []string{"api", "hash", "rate"}[rnd.IntN(3)], rnd.IntN(5), rnd.IntN(50), rnd.IntN(20000))
		q := rig.Request{Path: path, Fresh: rnd.IntN(3) == 0, Header: map[string]string{"X-Weight": fmt.Sprint(rnd.IntN(3))}}
		switch rnd.IntN(12) {
		case 0:
			q.Timeout = time.Duration(1+rnd.IntN(30)) * time.Millisecond // leaves
		case 1, 2:
			q.Body = strings.Repeat("z", rnd.IntN(100000))
		case 3:
			wait, done := context.WithTimeout(ctx, time.Duration(5+rnd.IntN(400))*time.Millisecond)
			if ws, _, err := websocket.Dial(wait, "ws://"+r.NGINX.Addr+path[:strings.LastIndex(path, "/")]+"/ws", nil); err == nil {
				time.Sleep(time.Duration(rnd.IntN(200)) * time.Millisecond)
				_ = ws.CloseNow()
			}
			done()
			continue
		}
		r.Do(q)
	}
}

// upset does any of it until ctx ends, and puts things right then.
func upset(ctx context.Context, r *rig.Rig, rnd *rand.Rand) {
	names := []string{"a", "b", "c", "d", "e"}
	members := []string{"a", "b", "c", "d"} // of pool api
	running := true
	for ctx.Err() == nil {
		time.Sleep(time.Duration(rnd.IntN(300)) * time.Millisecond)
		b := names[rnd.IntN(len(names))]
		switch rnd.IntN(11) {
		case 0, 1, 2:
			r.Backend(b).Set(wellAgain)
			r.Backend(b).Set(turmoil[rnd.IntN(len(turmoil))])
		case 3, 4:
			r.Backend(b).Set(wellAgain)
		case 5:
			if rnd.IntN(3) == 0 {
				r.NGINX.Reload()
			}
		case 6:
			if running = !running; running {
				r.Engine.Start()
			} else {
				r.Engine.Kill()
			}
		case 7:
			sets := [][]string{{"a", "b", "c", "d"}, {"a", "b"}, {"b", "c", "d"}, {"d", "e", "a"}, {"c", "d"}}
			members = sets[rnd.IntN(len(sets))]
			r.SetPeers("api", members...)
			r.SetPeers("hash", sets[rnd.IntN(len(sets))][:2]...)
		case 8:
			if workers := r.NGINX.Workers(); rnd.IntN(3) == 0 && len(workers) > 0 {
				r.NGINX.Kill(workers[rnd.IntN(len(workers))])
			}
		case 9:
			if m := members[rnd.IntN(len(members))]; running && r.Engine.Has("api", m) {
				r.Engine.Patch(r.Engine.PeerPath("api", m), fmt.Sprintf(`{"drain":%v,"weight":%.2f,"force":true}`, rnd.IntN(2) == 0, 0.1+3*rnd.Float64()))
			}
		case 10:
			if running && rnd.IntN(2) == 0 {
				_ = os.Remove(r.File("engine.sock"))
			} else if running {
				r.Engine.Freeze()
				time.Sleep(time.Duration(rnd.IntN(1000)) * time.Millisecond)
				r.Engine.Thaw()
			}
		}
	}
	if !running {
		r.Engine.Start()
	}
	for _, b := range names {
		r.Backend(b).Set(wellAgain)
	}
}
