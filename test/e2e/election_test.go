package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

// wantOnePoll waits until the engine has one poll and looks for two seconds whether it keeps one. Between an answer and the next poll there is none for
// as long as the worker takes to ask again; there are never two.
func wantOnePoll(r *rig.Rig, when string) {
	r.T.Helper()
	polls := func() string { return fmt.Sprint(r.Engine.Samples("weir_watch_clients ")) }
	const one = "[weir_watch_clients 1]"
	r.Eventually(when+", one worker polls", func() error {
		if now := polls(); now != one {
			return fmt.Errorf("%s", now)
		}
		return nil
	})
	last := time.Now()
	for end := last.Add(2 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		switch now := polls(); {
		case now == one:
			last = time.Now()
		case now != "[weir_watch_clients 0]" || time.Since(last) > propagation:
			r.T.Fatalf("%s, after there was one poll: %s", when, now)
		}
	}
	if leader, workers := r.NGINX.Status().Leader, r.NGINX.Workers(); !slices.Contains(workers, leader) {
		r.T.Errorf("%s, the leader %d is none of the workers %v", when, leader, workers)
	}
}

// The engine holds one poll for each NGINX, however many workers that has: each news is encoded and sent once for all of them.
func TestOneWorkerOfFourPollsAlsoAfterAReload(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Workers: 4, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}}})
	wantOnePoll(r, "after the start")
	before := r.NGINX.Workers()
	r.NGINX.Reload()
	r.Eventually("the old workers have ended", func() error {
		for _, pid := range r.NGINX.Workers() {
			if slices.Contains(before, pid) {
				return fmt.Errorf("%d has not", pid)
			}
		}
		return nil
	})
	wantOnePoll(r, "after the reload")
	if n := len(r.NGINX.Workers()); n != 4 {
		t.Errorf("there are %d workers", n)
	}
}
