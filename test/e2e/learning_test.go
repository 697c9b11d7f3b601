package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/engine/serve"
	"github.com/weirlb/weir/test/e2e/rig"
)

// learningConfig has the engine learn as often as it may.
const learningConfig = "learn: {enabled: true, every_ms: 10000, min_decisions: 500, cpu_share: 0.5}\n"

// atModels reads /api/models.
func atModels(r *rig.Rig) (m serve.ModelsFigures) {
	r.T.Helper()
	_, body := r.Engine.Get("/api/models")
	if err := json.Unmarshal(body, &m); err != nil {
		r.T.Fatal(err)
	}
	return m
}

// said finds an event of the learner.
func said(m *serve.ModelsFigures, events ...string) (found serve.ModelEvent, ok bool) {
	for _, e := range m.Events {
		for _, want := range events {
			if e.Event == want && e.By == "learning" {
				return e, true
			}
		}
	}
	return found, false
}

// startLearning starts two backends, the second five times slower for one of two classes, and requests of both.
func startLearning(t *testing.T, file string) (*rig.Rig, []*rig.Load) {
	t.Helper()
	r := start(t, rig.Options{
		Config: withModel(file) + learningConfig,
		Pools:  []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: "slow_start_ms: 0\ncontrol: 0.2\nexplore: 0.1\nspread: 0.3"}},
	})
	r.Backend("a").Set(`{"slots":16,"default":{"mean_ms":4}}`)
	r.Backend("b").Set(`{"slots":16,"default":{"mean_ms":4},"classes":{"heavy":{"mean_ms":20}}}`)
	waitPolicy(r, "api", "learned")
	return r, []*rig.Load{
		r.StartLoad(2, 2*time.Millisecond, rig.Request{Path: "/api/x"}),
		r.StartLoad(2, 2*time.Millisecond, rig.Request{Path: "/api/heavy"}),
	}
}

// eventually is r.Eventually with more patience.
func eventually(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(250 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("not within %s: %s: %v", limit, what, err)
}

func TestACandidateIsMadeOfTrafficAndJudgedWithAReason(t *testing.T) {
	t.Parallel()
	r, loads := startLearning(t, modelFile(t, "first", 0, map[string]float32{"log_drift": 0.01}))
	eventually(t, 90*time.Second, "a candidate is trained, and promoted or refused", func() error {
		m := atModels(r)
		if _, ok := said(&m, "trained"); !ok {
			return fmt.Errorf("%+v", m.Learning)
		}
		e, ok := said(&m, "refused", "promoted")
		if !ok {
			return fmt.Errorf("%+v", m.Events)
		}
		if e.Detail == "" || e.Model == "" {
			t.Errorf("no reason or model: %+v", e)
		}
		t.Logf("%s %s: %s", e.Model, e.Event, e.Detail)
		return nil
	})
	m := atModels(r)
	if l := m.Learning; !l.Enabled || l.Attempts.Replayed < 500 || l.Attempts.NoFrame > l.Attempts.Heard/10 {
		t.Errorf("%+v", l)
	}
	for _, l := range loads {
		r.WantAll(l.Stop(), 200)
	}
}

func TestABadModelThatIsForcedLiveIsRolledBackByItself(t *testing.T) {
	t.Parallel()
	file := modelFile(t, "turned", 0, map[string]float32{"log_cost": -3})
	bad, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(modelFile(t, "good", 0, map[string]float32{"log_drift": 0.01}))
	if err != nil {
		t.Fatal(err)
	}
	r, loads := startLearning(t, file)
	if err := os.WriteFile(file+".new", good, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	r.Engine.Hangup()
	serves := func(id string) func() error {
		return func() error {
			m := atModels(r)
			if m.Serves == nil || *m.Serves != id {
				return fmt.Errorf("%v serves: %+v", m.Serves, m.Events)
			}
			return nil
		}
	}
	r.Eventually("the good model serves", serves(model.ID(good)))
	time.Sleep(3 * time.Second)
	r.Engine.Command("/api/models/"+model.ID(bad)+"/promote", `{"why": "for the sake of it"}`)
	r.Eventually("the bad model serves", serves(model.ID(bad)))
	began := time.Now()
	eventually(t, 90*time.Second, "the good model serves again", serves(model.ID(good)))
	m := atModels(r)
	e, ok := said(&m, "rolled_back")
	if !ok || !strings.Contains(e.Detail, "control slice") {
		t.Errorf("%+v", m.Events)
	}
	t.Logf("after %s: %s", time.Since(began).Round(time.Second), e.Detail)
	for _, l := range loads {
		r.WantAll(l.Stop(), 200)
	}
}
