package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weirlb/weir/test/e2e/rig"
)

// wantStateEverywhere waits until a backend's state is the same wherever the engine and NGINX tell it.
func wantStateEverywhere(r *rig.Rig, backend, want string) {
	r.T.Helper()
	addr := r.Addr(backend)
	r.Eventually(fmt.Sprintf("%s is %s everywhere", backend, want), func() error {
		told := map[string]string{"GET of the peer": r.Engine.Figures("api", backend).State, "NGINX": r.NGINX.Peer("api", backend).State, "/decide": r.Engine.State("api", backend)}
		var all struct {
			Pools []struct {
				Peers []struct{ Addr, State string }
			}
		}
		if _, body := r.Engine.Get("/api/metrics"); json.Unmarshal(body, &all) != nil || len(all.Pools) != 1 {
			r.T.Fatalf("/api/metrics: %s", body)
		}
		for _, p := range all.Pools[0].Peers {
			if p.Addr == addr {
				told["/api/metrics"] = p.State
			}
		}
		series := regexp.MustCompile(`state="(\w+)".* 1$`)
		for _, line := range r.Engine.Samples(fmt.Sprintf(`weir_peer_state{pool="api",peer=%q,`, addr)) {
			if m := series.FindStringSubmatch(line); m != nil {
				told["/metrics"] += m[1]
			}
		}
		for line := range strings.Lines(r.Weir("peers", "--admin", r.Engine.Admin())) {
			if words := strings.Fields(line); slices.Contains(words, addr) && slices.Contains(words, want) {
				told["weir peers"] = want
			}
		}
		for _, where := range []string{"GET of the peer", "NGINX", "/decide", "/api/metrics", "/metrics", "weir peers"} {
			if told[where] != want {
				return fmt.Errorf("by %s it is %q", where, told[where])
			}
		}
		return nil
	})
}

// Ejection is off, so that the peer stays suspect for as long as it fails.
func TestAPeerThatFailsInARowIsSuspectAndTriedOnAndUpAgainWhenItAnswers(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: oftenByChance + "eject: {consecutive: 0, failure_share: 0}"}}})
	for _, b := range []string{"a", "b"} {
		r.Backend(b).Set(answersIn(10))
	}
	load := r.StartLoad(4, 0, rig.Request{Path: "/api/x"})
	r.Engine.WaitAttempts("api", "a", 50)
	wantStateEverywhere(r, "a", "up")

	r.Backend("a").Set(`{"fail":{"status":500,"after_ms":10,"share":1}}`)
	wantStateEverywhere(r, "a", "suspect")
	if f := r.Engine.Figures("api", "a"); !strings.HasPrefix(f.Reason, `failures in a row, the last one "status"`) {
		t.Errorf("it is suspect because: %s", f.Reason)
	}
	had, sent := r.Backend("a").Stats().Requests, len(load.Answers())
	r.Eventually("it gets requests although it is suspect", func() error {
		if n := r.Backend("a").Stats().Requests - had; n < 6 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	late := load.Answers()[sent:]
	if share := rig.Share(late, "a"); share > 0.35 {
		t.Errorf("failing all it got %.0f %% of %d requests", 100*share, len(late))
	}
	if f, p := r.Engine.Figures("api", "a"), r.NGINX.Peer("api", "a"); f.State != "suspect" || !f.Usable || f.Ejections != 0 || !p.Usable || p.SetAsideMS != 0 {
		t.Errorf("still failing it is %+v, at NGINX %+v", f, p)
	}
	wantStateEverywhere(r, "b", "up")

	r.Backend("a").Set(`{"fail":null}`)
	wantStateEverywhere(r, "a", "up")
	if f := r.Engine.Figures("api", "a"); !strings.HasPrefix(f.Reason, "answers again") {
		t.Errorf("it is up because: %s", f.Reason)
	}
	r.Eventually("it has its share again", func() error {
		all := load.Answers()
		if share := rig.Share(all[len(all)-min(len(all), 200):], "a"); share < 0.25 {
			return fmt.Errorf("%.0f %% of the last 200", 100*share)
		}
		return nil
	})
	load.Stop()
	for _, change := range []string{`"from":"up","to":"suspect"`, `"from":"suspect","to":"up"`} {
		if n := strings.Count(r.Engine.Log(), change); n != 1 {
			t.Errorf("the log has %d changes %s", n, change)
		}
	}
}
