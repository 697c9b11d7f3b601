package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

// Rule 5 of the contract.
func TestStateFollowsTheAddressWhenPeersAreReordered(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b", "c"}, Settings: "explore: 0\ncontrol: 0"}}})
	r.Backend("a").Set(standStill)
	r.Backend("b").Set(answersIn(5))
	r.Backend("c").Set(`{"refuse":true}`)
	p := r.Begin(9, rig.Request{Path: "/api/x", Fresh: true})
	r.Eventually("a holds requests", func() error {
		if r.Backend("a").Stats().InFlight == 0 {
			return fmt.Errorf("none")
		}
		return nil
	})
	r.Send(30, 3, rig.Request{Path: "/api/x", Timeout: 200 * time.Millisecond})
	held := 0
	r.Eventually("NGINX counts on a just the requests that are not answered", func() error { // those whose clients left may take a moment
		if held = r.NGINX.InFlight("api", "a"); held != p.Open() || held == 0 {
			return fmt.Errorf("%d, and %d are not answered", held, p.Open())
		}
		return nil
	})
	check := func(when string, order ...string) {
		t.Helper()
		r.Eventually("NGINX lists the peers anew "+when, func() error {
			var got []string
			for _, p := range r.NGINX.Status().Pools["api"].Peers {
				got = append(got, r.Name(p.Addr))
			}
			if !slices.Equal(got, order) {
				return fmt.Errorf("%v", got)
			}
			return nil
		})
		if n := r.NGINX.InFlight("api", "a"); n != held {
			t.Errorf("%s NGINX counts %d on a, which holds %d requests", when, n, held)
		}
		if c := r.NGINX.Peer("api", "c"); c.Usable && c.SetAsideMS == 0 && c.Fails == 0 {
			t.Errorf("%s nothing is known of the refusing peer any more: %+v", when, c)
		}
		for _, other := range order {
			if p := r.NGINX.Peer("api", other); other != "a" && other != "c" && (p.Fails != 0 || p.SetAsideMS != 0 || p.InFlight != 0) {
				t.Errorf("%s a good peer carries another's state: %+v", when, p)
			}
		}
	}
	r.StartBackend("d", false)
	r.SetPeers("api", "d", "c", "a")
	check("after one has left and one has come", "d", "c", "a")
	r.NGINX.Reload()
	check("after a reload of NGINX", "d", "c", "a")
	r.Engine.Stop()
	r.Engine.Start()
	check("after a restart of the engine", "d", "c", "a")
	r.Backend("a").Set(goOn)
	p.Wait()
	r.WantIdle()
}

// Rule 5 for an NGINX without an engine, whose peers are those of its own configuration.
func TestStateFollowsTheAddressOverAReloadWithoutAnEngine(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{NoEngine: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b", "c"}}}})
	r.Backend("a").Set(standStill)
	p := r.Begin(12, rig.Request{Path: "/api/x", Fresh: true})
	r.Eventually("a holds requests and the others none", func() error {
		if s := r.NGINX.Status(); s.InFlight() == 0 || int64(s.InFlight()) != r.Backend("a").Stats().InFlight {
			return fmt.Errorf("%+v", s.Workers)
		}
		return nil
	})
	held := r.NGINX.InFlight("api", "a")
	r.NGINX.SetStatic("api", "c", "b", "a")
	r.NGINX.Reload()
	r.Send(10, 2, rig.Request{Path: "/api/x", Timeout: 200 * time.Millisecond})
	wantInFlight(r, "api", 0, "b", "c")
	if n := r.NGINX.InFlight("api", "a"); n < held {
		t.Errorf("after the reordering NGINX counts %d on a, which holds %d requests", n, held)
	}
	r.Backend("a").Set(goOn)
	p.Wait()
	r.WantIdle()
}
