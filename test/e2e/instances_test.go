package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

// wantHeld waits until the engine knows of so many requests in flight on a of pool api, and fails the test when it forgets some of them or counts more
// while each NGINX tells it ten times a second.
func wantHeld(r *rig.Rig, want int, when string) {
	r.T.Helper()
	r.Eventually("the engine knows of all requests, "+when, func() error {
		if n := r.Engine.Figures("api", "a").Inflight; n != want {
			return fmt.Errorf("%d in flight, want %d", n, want)
		}
		return nil
	})
	for range 10 {
		time.Sleep(50 * time.Millisecond)
		if n := r.Engine.Figures("api", "a").Inflight; n != want {
			r.T.Fatalf("%d in flight %s, want %d", n, when, want)
		}
	}
}

// Both were known to the engine by the host's name, and each replaced what the other had told of its requests.
func TestTheEngineAddsUpTheRequestsOfTwoNGINXOnOneHost(t *testing.T) {
	t.Parallel()
	pools := []rig.Pool{{Name: "api", Peers: []string{"a --slots 0"}}}
	one := start(t, rig.Options{Pools: pools})
	two := start(t, rig.Options{Pools: pools, Beside: one, Follow: one})
	one.Backend("a").Set(answersIn(20_000))
	held := []*rig.Pending{one.Begin(7, rig.Request{Path: "/api/x"}), two.Begin(4, rig.Request{Path: "/api/x"})}
	wantHeld(one, 11, "at first")
	two.NGINX.Reload() // which must not give it another name
	wantHeld(one, 11, "after a reload")
	for _, h := range held {
		h.Abort()
	}
}

// What begins a generation of workers that know nothing of the requests of those before them, which have a memory of their own: a package's update, which
// starts another NGINX beside the old one, on the same sockets and with the same arguments, and a reload with another size of the shared dict. Each told the
// engine of its requests by the same name, and so replaced what the other had told.
func TestTheEngineAddsUpTheRequestsOfBothGenerations(t *testing.T) {
	t.Parallel()
	for name, renew := range map[string]func(*rig.NGINX){
		"of an upgrade":       func(n *rig.NGINX) { n.Upgrade(); n.LeaveToNew() },
		"of a dict made anew": func(n *rig.NGINX) { n.SetDict("48m"); n.Reload() },
		"of a dict, two times": func(n *rig.NGINX) {
			n.SetDict("48m")
			n.Reload()
			n.SetDict("40m")
			n.Reload()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, rig.Options{Daemon: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a --slots 0"}, Settings: "limit: {adaptive: true}"}}})
			r.Backend("a").Set(answersIn(20_000))
			held := []*rig.Pending{r.Begin(7, rig.Request{Path: "/api/x", Fresh: true})}
			wantHeld(r, 7, "before")
			renew(r.NGINX)
			held = append(held, r.Begin(4, rig.Request{Path: "/api/x", Fresh: true}))
			wantHeld(r, 11, "with both generations")
			for _, h := range held {
				h.Abort()
			}
			wantHeld(r, 0, "after all")
		})
	}
}

// What an NGINX had told last stood for half a minute after it had stopped, as requests that never end: its elected worker gives the election up when it is
// told to exit, and the others had requests yet.
func TestAnNGINXThatStopsLeavesNoRequestsBehind(t *testing.T) {
	t.Parallel()
	pools := []rig.Pool{{Name: "api", Peers: []string{"a --slots 0"}}}
	one := start(t, rig.Options{Pools: pools})
	two := start(t, rig.Options{Pools: pools, Beside: one, Follow: one, Workers: 3})
	one.Backend("a").Set(answersIn(3000))
	held := two.Begin(12, rig.Request{Path: "/api/x", Fresh: true})
	one.Eventually("the engine knows of the requests", func() error {
		if n := one.Engine.Figures("api", "a").Inflight; n != 12 {
			return fmt.Errorf("%d in flight", n)
		}
		return nil
	})
	two.NGINX.Stop() // in order: it ends with its requests
	one.WantAll(held.Wait(), 200)
	one.Within(5*time.Second, "the engine knows that none is left", func() error {
		if n := one.Engine.Figures("api", "a").Inflight; n != 0 {
			return fmt.Errorf("%d in flight", n)
		}
		return nil
	})
}

func TestAnUpgradeOfNGINXLosesNoRequest(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Daemon: true, Workers: 2, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b", "c"}}}})
	load := r.StartLoad(8, 5*time.Millisecond, rig.Request{Path: "/api/x", Fresh: true})
	time.Sleep(300 * time.Millisecond)
	r.NGINX.Upgrade()
	time.Sleep(300 * time.Millisecond)
	r.NGINX.LeaveToNew()
	r.NGINX.QuitOld()
	time.Sleep(300 * time.Millisecond)
	answers := load.Stop()
	r.WantAll(answers, 200)
	for _, e := range r.NGINX.Logged(answers[len(answers)-20:]) {
		if e.Policy == "local" || e.Policy == "none" {
			t.Errorf("after the upgrade a request was decided by %q: the new master does not hear the engine", e.Policy)
		}
	}
	r.WantIdle()
}
