package e2e

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/weirlb/weir/test/e2e/rig"
)

// wantCleanMetrics fails the test when promtool has anything to say about the engine's metrics, or when there are too many of them.
func wantCleanMetrics(r *rig.Rig, most int) {
	r.T.Helper()
	status, text := r.Engine.Get("/metrics")
	if status != 200 {
		r.T.Fatalf("/metrics: %d %s", status, text)
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		r.T.Fatal("promtool is not installed (Debian: apt-get install prometheus)")
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = bytes.NewReader(text)
	if said, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(said)) > 0 {
		r.T.Errorf("promtool: %v\n%.2000s", err, said)
	}
	if n := len(r.Engine.Samples("weir_")); n > most {
		r.T.Errorf("%d series, want at most %d", n, most)
	}
}

// Case 28.
func TestMetricsStayCleanAndBoundedWhateverThePaths(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}},
		HTTP:  `map $http_x_class $weir_class { default $http_x_class; }`,
	})
	r.Send(100, 4, rig.Request{Path: "/api/x"})
	r.Engine.WaitAttempts("api", "a", 1)
	r.Engine.WaitAttempts("api", "b", 1)
	series := len(r.Engine.Samples("weir_"))

	// 12,000 distinct paths through NGINX, 88,000 told to the engine, which counts 50 classes
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 1500 {
				if a := r.Do(rig.Request{Path: fmt.Sprintf("/api/%s-%s/x", word(i), word(j))}); a.Status != 200 {
					t.Errorf("status %d, %v", a.Status, a.Err)
				}
			}
		})
	}
	all.Wait()
	for batch := range 22 {
		var b bytes.Buffer
		for i := range 4000 {
			fmt.Fprintf(&b, `{"pool":"api","class":"GET /%s/%s/%s","peer":"%s","status":200,"inflight":1,"header_ms":4,"total_ms":5}`+"\n", word(batch), word(i), word(i/100), r.Addr("a"))
		}
		if status, said := r.Engine.Post("/observe", "application/x-ndjson", b.Bytes()); status != 200 {
			t.Fatalf("/observe: %d %s", status, said)
		}
	}
	// names that a strict scraper chokes on
	for _, class := range []string{`a"b`, `a\b`, "tab\tin", `{x="y"}`, strings.Repeat("long", 60)} {
		if a := r.Do(rig.Request{Path: "/api/x", Header: map[string]string{"X-Class": class}}); a.Status != 200 {
			t.Errorf("class %q: status %d, %v", class, a.Status, a.Err)
		}
	}
	for _, peer := range []string{`10.0.0.1:80\"`, `10.0.0.1:80\\`, `10.0.0.1:80\n`} {
		line := fmt.Sprintf(`{"pool":"api","class":"x\"\\\n","peer":"%s","status":200,"inflight":1,"header_ms":4,"total_ms":5}`+"\n", peer)
		if status, said := r.Engine.Post("/observe", "application/x-ndjson", []byte(line)); status >= 500 {
			t.Errorf("/observe with peer %s: %d %s", peer, status, said)
		}
	}
	wantCleanMetrics(r, series+50)
	known := map[int]int{} // classes by worker: one of the two had half of the paths at least
	r.Eventually("both workers told how many classes they know", func() error {
		w := r.NGINX.Status().Worker
		if known[w.PID] = w.Classes; len(known) < 2 {
			return fmt.Errorf("%v", known)
		}
		return nil
	})
	for pid, c := range known {
		if c > 4096 {
			t.Errorf("worker %d knows %d classes", pid, c)
		}
	}
	if n := len(r.NGINX.Status().Pools["api"].Classes); n < 2 || n > 51 {
		t.Errorf("the table has %d classes, want the 50 busiest and the shared one at most", n)
	}
	r.WantAll(r.Send(50, 4, rig.Request{Path: "/api/x"}), 200)
}

// word is a path segment that is a literal of its own, not a number or a hash.
func word(i int) string {
	const letters = "ghijklmnopqrstuvwxyz"
	return string([]byte{letters[i/400%20], letters[i/20%20], letters[i%20]})
}

// Case 28, second part: such a peer is refused with its line, and nothing crashes.
func TestPeerNamesThatAreNoAddressAreRefused(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}}}})
	for _, name := range []string{`10.0.0.1:80\"`, `10.0.0.1:80\\`, `10.0.0.1:8\n0`, `\"}`} {
		ok, said := r.Check(fmt.Sprintf("pools:\n  - name: api\n    peers:\n      - \"%s\"\n", name))
		if ok || !strings.Contains(said, ":4") {
			t.Errorf("peer %s: passed is %v: %s", name, ok, said)
		}
	}
	r.Engine.WriteFile("pools:\n  - name: api\n    peers: [\"10.0.0.1:80\\\"\"]\n")
	r.Engine.Hangup()
	r.Eventually("the bad file is refused and told", func() error {
		if s := r.Engine.Samples(`weir_config_reloads_total{result="failed"`); len(s) != 1 || strings.HasSuffix(s[0], " 0") {
			return fmt.Errorf("%v", s)
		}
		return nil
	})
	r.WantAll(r.Send(20, 2, rig.Request{Path: "/api/x"}), 200)
	wantCleanMetrics(r, 1000)
}
