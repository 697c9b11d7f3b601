package e2e

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/engine/model/ort"
	"github.com/weirlb/weir/models"
	"github.com/weirlb/weir/test/e2e/rig"
)

// modelFile writes a model of one layer: z is bias and weight x feature summed up.
func modelFile(t *testing.T, name string, bias float32, weights map[string]float32) string {
	t.Helper()
	net := model.New([]int{decide.Inputs, 1}, rand.New(rand.NewPCG(1, 1)))
	net.B[0][0] = bias
	for feature, w := range weights {
		at := slices.Index(decide.InputNames(), feature)
		if at < 0 {
			t.Fatalf("there is no feature %q", feature)
		}
		net.W[0][at] = w
	}
	file, err := model.Encode(net, model.Meta{Features: decide.InputNames(), Heads: []string{decide.Head}, Card: map[string]string{"name": name}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// withModel is the part of weir.yaml that has the engine decide by a model: by ONNX Runtime where this machine has it.
func withModel(file string) string {
	library := "builtin"
	if path, err := ort.Find(""); err == nil {
		library = path
	}
	return fmt.Sprintf("model: {file: %q, library: %q}\n", file, library)
}

// shipped is the model that the program has inside.
func shipped(t *testing.T) string {
	t.Helper()
	if _, err := models.Default(); err != nil {
		t.Log("this tree has no models/default.onnx: a model that corrects nothing stands in for it")
		return modelFile(t, "nothing", 0, nil)
	}
	return "default"
}

// waitPolicy waits until the tables of a pool are made by a policy.
func waitPolicy(r *rig.Rig, pool, policy string) {
	r.T.Helper()
	r.Eventually("the tables are the "+policy+" policy's", func() error {
		if got := r.Engine.Decide(pool, "*").Settings.Policy; got != policy {
			_, health := r.Engine.Get("/api/health")
			return fmt.Errorf("they are the %s policy's: %s", got, health)
		}
		return nil
	})
}

// Case 5. The engine is frozen, so that one table serves all the time.
func TestOnePeerThatReadsALittleLowerIsNotFloodedByALearnedTable(t *testing.T) {
	peers := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}
	r := start(t, rig.Options{Config: withModel(shipped(t)), Pools: []rig.Pool{{Name: "api", Peers: peers, Settings: "slow_start_ms: 0"}}})
	waitPolicy(r, "api", "learned")
	for _, p := range peers {
		r.Backend(p).Set(`{"slots":4,"default":{"mean_ms":10,"dist":"fixed"}}`)
	}
	r.Backend("a").Set(`{"slots":4,"default":{"mean_ms":9,"dist":"fixed"}}`)
	load := r.StartLoad(8, 0, rig.Request{Path: "/api/x"})
	time.Sleep(2500 * time.Millisecond)
	table := r.Engine.Decide("api", "*")
	if table.Settings.Policy != "learned" {
		t.Errorf("the table is the %s policy's", table.Settings.Policy)
	}
	r.Engine.Freeze()
	time.Sleep(200 * time.Millisecond)
	before := len(load.Answers())
	time.Sleep(1500 * time.Millisecond)
	all := load.Stop()
	r.Engine.Thaw()
	r.WantAll(all, 200)
	frozen := all[before:]
	for _, p := range peers {
		if share := rig.Share(frozen, p); share > 0.4 {
			t.Errorf("while one table served, %s got %.0f %% of %d requests; costs %v", p, 100*share, len(frozen), table.Costs)
		}
	}
	t.Logf("the fastest got %.2f of %d requests while tables came, %.2f of %d while one served", rig.Share(all[:before], "a"), before, rig.Share(frozen, "a"), len(frozen))
	// Over many tables: within one, equal peers get from nothing to a quarter, as their estimates stood at that moment.
	if share := rig.Share(all[:before], "a"); share < 0.05 {
		t.Errorf("while tables came, the fastest got %.1f %% of %d requests", 100*share, before)
	}
}

// Case 21, for the model that is shipped and for two that are wrong about peers they have never seen, one each way. The bound must
// hold whatever a model says. A peer that a model shuns lives by exploration, which is 5 % here so that two seconds are enough to see it.
func TestANewcomersShareRisesSmoothlyAndNeverAboveAnEvenOne(t *testing.T) {
	t.Parallel()
	const ramp = 3 * time.Second
	for name, file := range map[string]string{
		"the model shipped": shipped(t),
		"a model that takes new peers for four times cheaper": modelFile(t, "greedy", -1.5, map[string]float32{"samples_peer": 3}),
		"a model that takes new peers for four times dearer":  modelFile(t, "shy", 1.5, map[string]float32{"samples_peer": -3}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, rig.Options{
				Config: withModel(file),
				Pools:  []rig.Pool{{Name: "api", Peers: []string{"a", "b", "c"}, Settings: fmt.Sprintf("explore: 0.1\nslow_start_ms: %d", ramp.Milliseconds())}},
			})
			for _, p := range []string{"d", "e", "f", "g"} {
				r.StartBackend(p, false)
			}
			for _, p := range []string{"a", "b", "c", "d", "e", "f", "g"} {
				r.Backend(p).Set(`{"slots":4,"default":{"mean_ms":10}}`)
			}
			waitPolicy(r, "api", "learned")
			load := r.StartLoad(6, 0, rig.Request{Path: "/api/x"})
			time.Sleep(time.Second)
			// A ramp begins at some time between asked and known; on a busy machine they are a second apart.
			type joined struct{ asked, known time.Time }
			join := func(peers ...string) joined {
				asked := time.Now()
				r.SetPeers("api", peers...)
				r.WaitConnected()
				return joined{asked, time.Now()}
			}
			d := join("a", "b", "c", "d")
			time.Sleep(ramp / 2)
			e := join("a", "b", "c", "d", "e") // amid the ramp of d
			time.Sleep(ramp + 2*time.Second)
			r.Eventually("there are requests enough for each peer to be drawn by chance", func() error { // 2 % of them for each of five peers
				n := 0
				for _, a := range load.Answers() {
					if a.Began.After(e.known.Add(ramp)) {
						n++
					}
				}
				if n < 600 {
					return fmt.Errorf("%d", n)
				}
				return nil
			})
			allNew := join("f", "g") // nobody is left who could carry the rest
			time.Sleep(time.Second)
			all := load.Stop()
			r.WantAll(all, 200)

			between := func(from, to time.Time) (some []rig.Answer) {
				for _, a := range all {
					if a.Began.After(from) && a.Began.Before(to) {
						some = append(some, a)
					}
				}
				return some
			}
			// A bound that a share of n requests passes by chance in one run of a million at most.
			above := func(share float64, n int) float64 {
				return share + 5*math.Sqrt(share*(1-share)/float64(n+1)) + 2/float64(n+1)
			}
			// bounded fails when a peer got clearly more than an even share of n peers.
			bounded := func(what, peer string, n float64, some []rig.Answer) {
				t.Helper()
				even := 1 / n
				if rig.Share(some, peer) > above(even, len(some)) {
					t.Errorf("%s: %s got %.0f %% of %d requests, an even share is %.0f %%", what, peer, 100*rig.Share(some, peer), len(some), 100*even)
				}
			}
			// Thirds of what is surely in the ramp.
			third := func(j joined, part int) []rig.Answer {
				length := j.asked.Add(ramp).Sub(j.known) / 3
				from := j.known.Add(time.Duration(part) * length)
				return between(from, from.Add(length))
			}
			for part := range 3 {
				bounded(fmt.Sprintf("part %d of its ramp", part+1), "d", 4, third(d, part))
				bounded(fmt.Sprintf("part %d of its ramp", part+1), "e", 5, third(e, part))
			}
			early, late := third(e, 0), third(e, 2)
			t.Logf("e got %.1f %% of %d requests in the first third of its ramp, %.1f %% of %d in the last", 100*rig.Share(early, "e"), len(early), 100*rig.Share(late, "e"), len(late))
			// What the ramp allows at the end of that part, were it begun when it was asked for.
			warm := 0.1 + 0.9*(1.0/3+2.0/3*float64(e.known.Sub(e.asked))/float64(ramp))
			if rig.Share(early, "e") > above(warm/5, len(early)) {
				t.Errorf("in the first third of its ramp e got %.0f %% of %d already", 100*rig.Share(early, "e"), len(early))
			}
			ramped := between(e.known, e.asked.Add(ramp))
			switch {
			case strings.Contains(name, "cheaper") && min(len(early), len(late)) >= 400 && rig.Share(late, "e") <= rig.Share(early, "e"): // of fewer it is by chance
				t.Errorf("the share of e went from %.1f %% to %.1f %%", 100*rig.Share(early, "e"), 100*rig.Share(late, "e"))
			case strings.Contains(name, "shipped") && len(ramped) >= 300 && rig.Share(ramped, "e") < 0.03: // 0.002 on a busy machine when a newcomer cost what the model says
				t.Errorf("with the model shipped e got %.1f %% of %d in its ramp: no more than exploration brings", 100*rig.Share(ramped, "e"), len(ramped))
			}
			after := between(e.known.Add(ramp), allNew.asked)
			for _, p := range []string{"d", "e"} {
				if share := rig.Share(after, p); share == 0 {
					t.Errorf("after its ramp %s got none of %d requests", p, len(after))
				}
			}
			alone := between(allNew.known.Add(100*time.Millisecond), time.Now())
			t.Logf("e got %.1f %% of %d in its ramp; of two that are both new f got %.0f %% of %d", 100*rig.Share(ramped, "e"), len(ramped), 100*rig.Share(alone, "f"), len(alone))
			for _, p := range []string{"f", "g"} {
				if share := rig.Share(alone, p); share < 0.1 {
					t.Errorf("of two peers that are both new %s got %.0f %% of %d requests", p, 100*share, len(alone))
				}
			}
		})
	}
}

// Case 27, and a change of models: requests go on whatever becomes of them.
func TestModelsComeGoAndBreakAndNoRequestNotices(t *testing.T) {
	t.Parallel()
	file := modelFile(t, "first", 0, map[string]float32{"log_drift": 0.1})
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, rig.Options{Config: withModel(file), Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: "explore: 0\ncontrol: 0"}}})
	load := r.StartLoad(4, time.Millisecond, rig.Request{Path: "/api/x"})
	logged := func(policy string) {
		t.Helper()
		waitPolicy(r, "api", policy)
		r.Eventually("the access log says "+policy, func() error {
			if got := r.NGINX.Logged(r.Send(1, 1, rig.Request{Path: "/api/y"}))[0].Policy; got != policy {
				return fmt.Errorf("it says %q", got)
			}
			return nil
		})
	}
	health := func() (h struct {
		Status  string
		Reasons []struct{ Code, Message string }
		Model   struct{ Serves string }
	},
	) {
		_, body := r.Engine.Get("/api/health")
		if err := json.Unmarshal(body, &h); err != nil {
			t.Fatal(err)
		}
		return h
	}
	logged("learned")
	first := health().Model.Serves
	if first != model.ID(good) {
		t.Errorf("%s serves, want %s", first, model.ID(good))
	}

	replace := func(data []byte) {
		t.Helper()
		if err := os.WriteFile(file+".new", data, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
		r.Engine.Hangup()
	}
	replace(good[:len(good)/2])
	r.Eventually("the truncated file is refused", func() error {
		if h := health(); h.Status != "degraded" || !strings.Contains(h.Reasons[0].Message, "model file") {
			return fmt.Errorf("%+v", h)
		}
		return nil
	})
	logged("learned") // the one before goes on

	other, err := os.ReadFile(modelFile(t, "second", 0.2, nil))
	if err != nil {
		t.Fatal(err)
	}
	replace(other)
	second := model.ID(other)
	r.Eventually("the second model serves", func() error {
		if h := health(); h.Status != "ok" || h.Model.Serves != second {
			return fmt.Errorf("%+v", h)
		}
		return nil
	})
	for range 10 {
		r.Engine.Command("/api/models/"+first+"/promote", `{}`)
		r.Engine.Command("/api/models/"+second+"/promote", `{}`)
	}
	r.Engine.Command("/api/models/"+second+"/rollback", `{"why":"test"}`)
	if h := health(); h.Model.Serves != first {
		t.Errorf("after the rollback %+v", h)
	}
	logged("learned")

	r.Engine.Stop()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	r.Engine.Start()
	logged("analytic")
	if h := health(); h.Status != "degraded" || h.Reasons[0].Code != "model" || !strings.Contains(h.Reasons[0].Message, file) {
		t.Errorf("without the file: %+v", h)
	}
	if s := r.Engine.Samples("weir_model_up"); len(s) != 1 || s[0] != "weir_model_up 0" {
		t.Errorf("%v", s)
	}
	if ok, said := r.Check(r.ConfigText()); ok || !strings.Contains(said, "model.file") || !strings.Contains(said, file) {
		t.Errorf("weir check: %s", said)
	}
	r.WantAll(load.Stop(), 200)
}
