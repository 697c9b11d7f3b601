package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

// Backups and zones.

// shareOf is the part of the requests that the named peers answered.
func shareOf(answers []rig.Answer, names ...string) float64 {
	n := 0
	for _, a := range answers {
		if slices.Contains(names, a.Peer) {
			n++
		}
	}
	return float64(n) / float64(max(1, len(answers)))
}

// risky tells whether the engine holds the last primary back as likely to fail, which a busy machine brings about: what it is kept from goes to
// the backups beyond their part.
func risky(r *rig.Rig) bool { return r.Engine.Figures("api", "d").Admit < 1 }

func TestBackupsTakeOverAsPrimariesDieAndGiveBackWithoutAFailedRequest(t *testing.T) {
	t.Parallel()
	backup := "backup: true"
	r := start(t, rig.Options{Pools: []rig.Pool{{
		Name: "api", Peers: []string{"a", "b", "c", "d", "e", "f"}, PeerSettings: map[string]string{"e": backup, "f": backup},
		Settings: checks + "slow_start_ms: 300\ncontrol: 0.05\n", // the control slice must keep out of standing backups too
	}}})
	get := rig.Request{Path: "/api/x"}
	load := r.StartLoad(2, 5*time.Millisecond, get)
	answers := r.Send(200, 4, get)
	if s := shareOf(answers, "e", "f"); s != 0 {
		t.Errorf("with every primary up the backups got %.0f %%", 100*s)
	}
	r.Engine.WaitState("api", "e", "standby")
	// What the rule admits the backups to: 1 - (4 - n)/4/0.7.
	most := []float64{0, 0.29, 0.65, 1}
	last := 0.0
	for i, name := range []string{"a", "b", "c", "d"} {
		r.Backend(name).Kill()
		r.Engine.WaitState("api", name, "down")
		answers := r.Send(300, 4, get)
		r.WantAll(answers, 200)
		s := shareOf(answers, "e", "f")
		t.Logf("%d of 4 primaries left: backups have %.2f", 3-i, s)
		bounded := func() error { // not at once on a busy machine, where the last primary may be held back for a moment
			if s > most[i]+0.12 && !risky(r) {
				s = shareOf(r.Send(300, 4, get), "e", "f")
				return fmt.Errorf("with %d of 4 primaries left they have %.0f %%, they may have %.0f", 3-i, 100*s, 100*most[i])
			}
			return nil
		}
		first := s
		r.Eventually("the backups keep to their part", bounded)
		if i == 2 && first < 0.15 && !risky(r) { // 0.04 when unknown backups cost what the model takes unknown peers for
			t.Errorf("with one primary left the backups, of which nothing is known, got %.0f %% at first", 100*first)
		}
		if i == 2 { // soon they are known to be as fast, and get about what they may
			r.Eventually("the backups take their part beside the last primary", func() error {
				if s = shareOf(r.Send(300, 6, get), "e", "f"); s < 0.15 {
					return fmt.Errorf("they have %.2f", s)
				}
				return nil
			})
			t.Logf("and soon %.2f", s)
			r.Eventually("the backups keep to their part", bounded)
		}
		if i == 3 && s != 1 {
			t.Errorf("with no primary left the backups got %.0f %%", 100*s)
		}
		if s < last-0.2 {
			t.Errorf("with %d of 4 primaries left the backups got %.0f %%, before %.0f", 3-i, 100*s, 100*last)
		}
		last = s
	}
	if status, body := r.Engine.Get("/api/health"); status != 200 || !strings.Contains(string(body), `"backups"`) {
		t.Errorf("the health does not tell: %s", body)
	}
	if s := r.Engine.Samples(`weir_pool_backups{pool="api"} 1`); len(s) != 1 {
		t.Errorf("the metrics say %q", r.Engine.Samples("weir_pool_backups"))
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		r.Backend(name).Start()
	}
	r.Engine.WaitState("api", "e", "standby")
	r.Eventually("the primaries have all requests again", func() error {
		if s := shareOf(r.Send(60, 4, get), "e", "f"); s > 0 {
			return fmt.Errorf("the backups have %.2f", s)
		}
		return nil
	})
	r.WantAll(load.Stop(), 200)
}

// Peers that are out for long are tried now and then, by a request of a client. It must not spend all its tries on them.
func TestNoRequestFailsForTryingPrimariesThatAreStillDown(t *testing.T) {
	t.Parallel()
	for _, pool := range []rig.Pool{
		{Name: "backups", Peers: []string{"a", "b", "c", "e"}, PeerSettings: map[string]string{"e": "backup: true"}},
		{Name: "plain", Peers: []string{"a", "b", "c", "e"}},
	} {
		pool.Settings = "retry: {tries: 3, share: 1}\neject: {base_ms: 30, max_ms: 60}"
		t.Run(pool.Name, func(t *testing.T) {
			r := start(t, rig.Options{Pools: []rig.Pool{pool}})
			get := rig.Request{Path: "/" + pool.Name + "/x"}
			r.WantAll(r.Send(20, 2, get), 200)
			for _, name := range []string{"a", "b", "c"} {
				r.Backend(name).Kill()
			}
			r.Send(4, 1, get) // these learn it
			var answers []rig.Answer
			for range 25 { // each time some of them are due
				answers = append(answers, r.Send(4, 2, get)...)
				time.Sleep(40 * time.Millisecond)
			}
			r.WantAll(answers, 200)
		})
	}
}

// The engine neither knows nor can say: what NGINX sees itself must do.
func TestBackupsAreThereAtOnceWhenTheEngineIsFrozen(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b", "c"}, PeerSettings: map[string]string{"c": "tier: 3"}}}})
	r.Engine.Freeze()
	get := rig.Request{Path: "/api/x"}
	if s := rig.Share(r.Send(50, 4, get), "c"); s != 0 {
		t.Errorf("the backup got %.0f %%", 100*s)
	}
	r.Backend("a").Kill()
	r.Backend("b").Kill()
	answers := r.Send(200, 8, get)
	r.WantAll(answers, 200)
	if s := rig.Share(answers, "c"); s != 1 {
		t.Errorf("the backup got %.0f %%", 100*s)
	}
	r.Backend("a").Start()
	r.Eventually("the primary is tried again", func() error {
		if s := rig.Share(r.Send(20, 2, get), "a"); s < 0.5 { // one of two: the backup may have 29 %
			return fmt.Errorf("it has %.2f", s)
		}
		return nil
	})
	r.Engine.Thaw()
}

// No check and no failure tells of a peer that hangs; what it holds does. The other primary is held back by slow start, which must not send
// everything to the one that hangs, nor keep the backup out.
func TestAPrimaryThatHangsIsLeftThoughTheOtherOneIsInSlowStart(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Config: "model: {file: none}", Pools: []rig.Pool{{ // a model may foresee that it fails
		Name: "api", Peers: []string{"a", "b", "c"}, PeerSettings: map[string]string{"c": "backup: true"}, Settings: "slow_start_ms: 4000\n",
	}}})
	get := rig.Request{Path: "/api/x"}
	r.WantAll(r.Send(200, 4, get), 200)
	r.Engine.Patch(r.Engine.PeerPath("api", "b"), `{"drain":true}`)
	r.Engine.WaitState("api", "b", "draining")
	r.Engine.Patch(r.Engine.PeerPath("api", "b"), `{"drain":false}`)
	r.Engine.WaitState("api", "b", "slow_start")
	r.Eventually("b has so much of its share that with a the primaries suffice", func() error {
		if admit := r.Engine.Figures("api", "b").Admit; admit < 0.45 {
			return fmt.Errorf("it has %.2f", admit)
		}
		return nil
	})
	r.Backend("a").Freeze()
	ctx, cancel := context.WithCancel(t.Context())
	answers := make([]rig.Answer, 250)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = r.DoContext(ctx, get) })
		time.Sleep(4 * time.Millisecond) // the pace of the requests
	}
	held := r.NGINX.InFlight("api", "a")
	cancel()
	wg.Wait()
	t.Logf("the peer that hangs holds %d of %d requests, the backup had %.2f", held, len(answers), rig.Share(answers, "c"))
	if held > len(answers)*2/5 {
		t.Errorf("the peer that hangs holds %d of %d requests", held, len(answers))
	}
	if s := rig.Share(answers, "c"); s < 0.01 { // it had none at all
		t.Errorf("the backup got %.0f %%", 100*s)
	}
	r.WantIdle()
}

func TestBackupsWorkWithoutAnEngine(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{NoEngine: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Static: []string{"a", "b backup"}}}})
	get := rig.Request{Path: "/api/x"}
	answers := r.Send(50, 4, get)
	r.WantAll(answers, 200)
	if s := rig.Share(answers, "a"); s != 1 {
		t.Errorf("the primary got %.0f %%", 100*s)
	}
	if p := r.NGINX.Peer("api", "b"); p.State != "standby" || p.Usable {
		t.Errorf("/weir-status says of the backup: %+v", p)
	}
	r.Backend("a").Kill()
	answers = r.Send(100, 8, get)
	r.WantAll(answers, 200)
	if s := rig.Share(answers, "b"); s != 1 {
		t.Errorf("the backup got %.0f %%", 100*s)
	}
}

// Near and far are equal but for the zone. One request at a time stays near; the more the near peers are loaded, the more goes far.
func TestTrafficSpillsToTheOtherZoneLittleByLittleAsLoadGrows(t *testing.T) {
	t.Parallel()
	slow := " --slots 2 --class *:10"
	r := start(t, rig.Options{
		Config: "zone: east\nmodel: {file: none}",
		Pools: []rig.Pool{{
			Name: "api", Peers: []string{"n1" + slow, "n2" + slow, "f1" + slow, "f2" + slow},
			PeerSettings: map[string]string{"n1": "zone: east", "n2": "zone: east", "f1": "zone: west", "f2": "zone: west"},
			Settings:     "zone_cost: 0.5\nslow_start_ms: 0\ncontrol: 0\n",
		}},
	})
	get := rig.Request{Path: "/api/x"}
	traffic(r, 700*time.Millisecond, 3, get) // so that the engine knows the peers
	var shares []float64
	for _, parallel := range []int{1, 6, 24} {
		s := 0.0
		for range 3 { // a machine that is busy for a moment makes the near ones dear at any load
			s = shareOf(traffic(r, 700*time.Millisecond, parallel, get), "f1", "f2")
			t.Logf("%d at a time: %.2f go to the other zone", parallel, s)
			if parallel == 1 && s < 0.05 || parallel == 6 && s < 0.4 || parallel == 24 {
				break
			}
		}
		shares = append(shares, s)
	}
	if shares[0] > 0.1 {
		t.Errorf("at light load %.0f %% went to the other zone", 100*shares[0])
	}
	if shares[2] < 0.25 || shares[2] > 0.65 {
		t.Errorf("at overload %.0f %% went to the other zone, want about half", 100*shares[2])
	}
	if shares[1] < shares[0]-0.1 || shares[2] < shares[1]-0.1 {
		t.Errorf("the shares are not rising: %.2f", shares)
	}
}

// A pool is given peers because it has too few: a slow start that holds them back then makes those that are there, and the clients, wait on.
func TestPeersThatJoinAnOverloadedPoolAreNotHeldBack(t *testing.T) {
	t.Parallel()
	const serves = " --class *:10 --slots 2"
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a" + serves, "b" + serves}, Settings: "slow_start_ms: 600000\ncontrol: 0"}}})
	get := rig.Request{Path: "/api/x"}
	for _, clients := range []int{1, 2, 4, 8, 16} { // what the peers can serve at a time shows
		r.WantAll(r.Send(40*clients, clients, get), 200)
	}
	load := r.StartLoad(24, 0, get)
	for _, name := range []string{"c", "d"} {
		r.StartBackend(name+serves, false)
	}
	r.SetPeers("api", "a", "b", "c", "d")
	r.WaitConnected()
	r.Engine.WaitState("api", "d", "slow_start")
	r.Eventually("the newcomers have a fair part, long before their slow start ends", func() error {
		if s := shareOf(r.Send(100, 4, get), "c", "d"); s < 0.3 {
			return fmt.Errorf("they have %.2f", s)
		}
		return nil
	})
	r.WantAll(load.Stop(), 200)
	// With less to do the others can carry it, and the newcomers warm up slowly.
	r.Eventually("they are held back again", func() error {
		if s := shareOf(r.Send(100, 1, get), "c", "d"); s > 0.1 {
			return fmt.Errorf("they have %.2f", s)
		}
		return nil
	})
}
