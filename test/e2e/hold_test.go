package e2e

import (
	"fmt"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

// A backend that stands still keeps every request it has until it goes on.
const (
	standStill = `{"slots":0,"speed":0,"default":{"mean_ms":1}}`
	goOn       = `{"speed":1}`
)

// slots: 0 lets a backend serve any number side by side, so that its answers take their service time and no queueing.
func answersIn(ms int) string {
	return fmt.Sprintf(`{"slots":0,"default":{"mean_ms":%d}}`, ms)
}

// wantInFlight waits until NGINX counts just so many requests on the backends of a pool together, and no others anywhere but on the
// pools named in elsewhere.
func wantInFlight(r *rig.Rig, pool string, want int, backends ...string) {
	r.T.Helper()
	r.Eventually(fmt.Sprintf("%d requests are counted on %v of pool %s", want, backends, pool), func() error {
		s := r.NGINX.Status()
		got := 0
		for _, b := range backends {
			if p := s.Pools[pool].Peer(r.Addr(b)); p != nil {
				got += p.InFlight
			}
		}
		if got != want {
			return fmt.Errorf("%d are: %+v", got, s.Pools[pool].Peers)
		}
		return nil
	})
}

// wantTotal waits until NGINX counts just so many requests over all pools.
func wantTotal(r *rig.Rig, want int) {
	r.T.Helper()
	r.Eventually(fmt.Sprintf("%d requests are counted in all", want), func() error {
		if s := r.NGINX.Status(); s.InFlight() != want {
			return fmt.Errorf("%d are: %+v", s.InFlight(), s.Workers)
		}
		return nil
	})
}

// traffic for so long: `parallel` clients, each waiting for its answer.
func traffic(r *rig.Rig, d time.Duration, parallel int, q rig.Request) []rig.Answer {
	l := r.StartLoad(parallel, 0, q)
	time.Sleep(d)
	return l.Stop()
}

// wantFrom sends a few requests and is satisfied when one was answered by the backend.
func wantFrom(r *rig.Rig, path, backend string) error {
	by := map[string]int{}
	for _, a := range r.Send(20, 4, rig.Request{Path: path}) {
		by[a.Peer]++
	}
	if by[backend] == 0 {
		return fmt.Errorf("the answers came from %v", by)
	}
	return nil
}
