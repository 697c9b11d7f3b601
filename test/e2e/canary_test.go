package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/serve"
	"github.com/weirlb/weir/engine/split"
	"github.com/weirlb/weir/test/e2e/rig"
)

// A share of the traffic for a group of peers.

// canaryRig has a pool api of the stable peers a and b and the canary c, with flags for the canary.
func canaryRig(t *testing.T, split, settings, flags string) *rig.Rig {
	t.Helper()
	return start(t, rig.Options{
		Config: "model: {file: none}",
		Pools: []rig.Pool{{
			Name: "api", Peers: []string{"a", "b", "c" + flags}, PeerSettings: map[string]string{"c": "group: canary"},
			Location: "proxy_next_upstream error timeout http_503;",
			Settings: "split: {group: canary, " + split + "}\nslow_start_ms: 0\n" + settings,
		}},
	})
}

// wantShare fails the test when the part that the canary answered is not the share, by six standard deviations of the draw.
// Five are too few: of 300 requests at a tenth, one run in 250,000 has more.
func wantShare(r *rig.Rig, when string, answers []rig.Answer, share float64) {
	r.T.Helper()
	r.WantAll(answers, 200)
	got, slack := shareOf(answers, "c"), 6*math.Sqrt(share*(1-share)/float64(len(answers)))
	r.T.Logf("%s: the canary has %.3f of %d", when, got, len(answers))
	if math.Abs(got-share) > slack {
		r.T.Errorf("%s: the canary got %.3f of the requests, want %.3f within %.3f", when, got, share, slack)
	}
}

func TestTheCanaryGetsItsShareWhateverItsCostAndAHeaderWins(t *testing.T) {
	t.Parallel()
	// The canary is much slower: by cost alone it would get next to nothing. Control slice and exploration keep the split.
	r := canaryRig(t, `share: 0.1, header: "X-Canary: yes"`, "explore: 0.1\ncontrol: 0.2\n", " --class *:8")
	get := rig.Request{Path: "/api/x"}
	wantShare(r, "by share", r.Send(2000, 8, get), 0.1)
	for value, share := range map[string]float64{"yes": 1, "no": 0.1} {
		q := rig.Request{Path: "/api/x", Header: map[string]string{"X-Canary": value}}
		wantShare(r, "with X-Canary: "+value, r.Send(300, 8, q), share)
	}
	r.Engine.Kill()
	r.Eventually("NGINX goes on without the engine", func() error {
		if a := r.Do(get); a.Status != 200 {
			return fmt.Errorf("status %d", a.Status)
		}
		return nil
	})
	wantShare(r, "without an engine", r.Send(500, 8, get), 0.1)
}

func TestAClientStaysOnItsSideAndThoseInTheCanaryRemainInItAsTheShareGrows(t *testing.T) {
	t.Parallel()
	r := canaryRig(t, `share: 0.3, key: "$arg_user"`, "", "")
	const users = 200
	steady := true // the share is not just changing
	side := func() (in map[int]bool) {
		in = map[int]bool{}
		for u := range users {
			n := 0
			for _, a := range r.Send(3, 3, rig.Request{Path: fmt.Sprintf("/api/x?user=u%d", u)}) {
				if a.Status != 200 {
					t.Fatalf("user %d got %d", u, a.Status)
				}
				if a.Peer == "c" {
					n++
				}
			}
			if n != 0 && n != 3 && steady {
				t.Errorf("user %d went to both sides: %d of 3 to the canary", u, n)
			}
			in[u] = n == 3
		}
		return in
	}
	before := side()
	n := 0
	for u, in := range before {
		if in {
			n++
		}
		if at := split.Place("api", fmt.Sprint("u", u)); in != (at < 0.3) {
			t.Errorf("by the rule in Go user %d is at %v, and NGINX has them in the canary: %v", u, at, in)
		}
	}
	where := map[bool]string{true: "goes to group canary", false: "goes to the rest"}
	for u := range 2 {
		if out := r.Weir("split", "api", "--key", fmt.Sprint("u", u), "--admin", r.Engine.Admin()); !strings.Contains(out, where[before[u]]) {
			t.Errorf("weir split says %q of user %d, whom NGINX has in the canary: %v", out, u, before[u])
		}
	}
	if out := r.Weir("peers", "--admin", r.Engine.Admin()); !strings.Contains(out, "GROUP") || strings.Count(out, " canary ") != 1 {
		t.Errorf("weir peers says\n%s", out)
	}
	if share := float64(n) / users; math.Abs(share-0.3) > 0.16 {
		t.Errorf("the canary has %.2f of the clients, want 0.3", share)
	}
	r.Engine.Patch("/api/pools/api/split", `{"share": 0.6}`)
	steady = false
	r.Eventually("the canary has more clients", func() error {
		more := 0
		for u, in := range side() {
			if before[u] && !in {
				return fmt.Errorf("client %d has left the canary", u)
			}
			if in {
				more++
			}
		}
		if more < n+users/10 {
			return fmt.Errorf("%d of %d, before %d", more, users, n)
		}
		return nil
	})
	r.Engine.Patch("/api/pools/api/split", `{"share": 0.3}`)
	r.Eventually("the share is as before", func() error {
		if s := shareOf(r.Send(300, 8, rig.Request{Path: "/api/x"}), "c"); s > 0.45 { // by chance at 0.6: 1e-7
			return fmt.Errorf("%.2f", s)
		}
		return nil
	})
	wantShare(r, "without a key each request is drawn", r.Send(500, 8, rig.Request{Path: "/api/x"}), 0.3)
}

func TestACanaryThatFailsCostsNoRequestAndItsRetriesGoToStable(t *testing.T) {
	t.Parallel()
	r := canaryRig(t, "share: 0.3", "eject: {consecutive: 10000, failure_share: 0}\nretry: {share: 1}\n", "")
	r.Backend("c").Set(`{"fail":{"status":503,"share":1}}`)
	answers := r.Send(400, 8, rig.Request{Path: "/api/x"})
	r.WantAll(answers, 200)
	if s := shareOf(answers, "c"); s != 0 {
		t.Errorf("a failing canary answered %.2f", s)
	}
	r.Eventually("the comparison shows that the canary fails", func() error {
		f := splitOf(r)
		c, rest, failed := f.OfGroup, f.OfRest, 0
		if c.Requests+rest.Requests != 400 {
			return fmt.Errorf("%d and %d requests of 400", c.Requests, rest.Requests)
		}
		if failed = int(c.Failures); failed < 60 || c.Failures != c.Requests || rest.Failures != 0 {
			t.Fatalf("the canary fails %d of %d, the rest %d of %d", failed, c.Requests, rest.Failures, rest.Requests)
		}
		if low := f.Versus.MoreLow; low == nil || *low < 0.5 || !strings.Contains(f.Versus.Says, "fails more") {
			t.Fatalf("the comparison says %+v", f.Versus)
		}
		return nil
	})
	if n := r.Engine.Samples(`weir_group_failures_total{pool="api",group="canary",side="group"}`); len(n) != 1 || strings.HasSuffix(n[0], " 0") {
		t.Errorf("the metrics say %q", n)
	}
}

// splitOf reads the comparison of the pool api.
func splitOf(r *rig.Rig) (f serve.SplitFigures) {
	r.T.Helper()
	status, body := r.Engine.Get("/api/pools/api/split")
	if err := json.Unmarshal(body, &f); err != nil || status != 200 {
		r.T.Fatalf("%d %s %v", status, body, err)
	}
	return f
}

func TestTheShareIsRaisedWhileTrafficRunsAndHeadersDoNotBiasTheComparison(t *testing.T) {
	t.Parallel()
	r := canaryRig(t, `share: 0, header: X-Canary`, "", " --class *:20 --slots 32")
	get, tester := rig.Request{Path: "/api/x"}, rig.Request{Path: "/api/x", Header: map[string]string{"X-Canary": "1"}}
	wantShare(r, "at first", r.Send(200, 4, get), 0)
	wantShare(r, "testers", r.Send(20, 4, tester), 1)
	before, placed := 0, 0 // what the canary answered while the comparison of the share before lasted; since the change, by the old share or the new
	for _, share := range []float64{0.1, 0.5, 0} {
		placed = 0
		if share == 0.1 {
			if out := r.Weir("split", "api", "0.1", "--admin", r.Engine.Admin()); !strings.Contains(out, "10 %") {
				t.Errorf("weir split says\n%s", out)
			}
		} else {
			r.Engine.Patch("/api/pools/api/split", fmt.Sprintf(`{"share": %v}`, share))
		}
		r.Eventually("NGINX has the new share", func() error {
			answers := r.Send(100, 8, get)
			got := shareOf(answers, "c")
			placed += int(got*float64(len(answers)) + 0.5)
			if (got > 0) != (share > 0) || share == 0.5 && got < 0.3 { // by chance at 0.1: 1e-8
				return fmt.Errorf("the canary has %.2f", got)
			}
			return nil
		})
		r.WantAll(r.Send(10, 4, tester), 200)
		answers := r.Send(300, 8, get)
		wantShare(r, fmt.Sprintf("at %v", share), answers, share)
		if share == 0.5 {
			r.Eventually("the comparison has the requests", func() error {
				f := splitOf(r)
				if f.OfGroup.Requests < 100 || f.OfRest.Requests < 100 || f.OfHeader.Requests < 10 {
					return fmt.Errorf("%+v", f)
				}
				if f.OfHeader.Requests > 20 || f.OfGroup.P50MS == nil || *f.OfGroup.P50MS < 19 || f.Versus.Ratio == nil || *f.Versus.Ratio < 1.2 { // 10 and more on an idle machine
					t.Errorf("%+v", f)
				}
				before = int(f.OfGroup.Requests)
				return nil
			})
		}
	}
	// Begun anew, though what was under way, or placed before NGINX heard, still comes in.
	if f := splitOf(r); f.Share != 0 || int(f.OfGroup.Requests) > placed+20 && int(f.OfGroup.Requests) >= before {
		t.Errorf("after another share, with %d of the canary before and %d since: %+v", before, placed, f)
	}
}

func TestRemovingTheCanaryLosesNoRequest(t *testing.T) {
	t.Parallel()
	r := canaryRig(t, "share: 0.5", "", "")
	get := rig.Request{Path: "/api/x"}
	load := r.StartLoad(4, time.Millisecond, get)
	wantShare(r, "with the canary", r.Send(200, 4, get), 0.5)
	r.Backend("c").Kill()
	r.WantAll(r.Send(200, 4, get), 200)
	r.SetPeers("api", "a", "b")
	r.Eventually("NGINX knows that the canary is gone", func() error {
		if r.NGINX.Status().Pools["api"].Peer(r.Addr("c")) != nil {
			return errors.New("it is still listed")
		}
		return nil
	})
	r.WantAll(r.Send(200, 4, get), 200)
	r.WantAll(load.Stop(), 200)
}
