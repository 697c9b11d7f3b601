package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/learn/exchange"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/test/dbserver"
	"github.com/weirlb/weir/test/e2e/rig"
)

// Several engines with a database between them are in engine/cmd/weir; here one learns from real traffic beside another.
func TestWhatIsTrainedOnTrafficIsPublishedAveragedWithAnothersAndJudged(t *testing.T) {
	t.Parallel()
	db, err := dbserver.Postgres()
	if errors.Is(err, dbserver.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Remove)
	_, url, err := db.Database()
	if err != nil {
		t.Fatal(err)
	}
	x, err := exchange.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	file := modelFile(t, "first", 0, map[string]float32{"log_drift": 0.01})
	r := start(t, rig.Options{
		Config: withModel(file) + strings.Replace(learningConfig, "enabled: true", "enabled: true, federated: true, share: \""+url+"\"", 1),
		Pools:  []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: "slow_start_ms: 0\ncontrol: 0.2\nexplore: 0.1\nspread: 0.3"}},
	})
	r.Backend("a").Set(`{"slots":16,"default":{"mean_ms":4}}`)
	r.Backend("b").Set(`{"slots":16,"default":{"mean_ms":8}}`)
	waitPolicy(r, "api", "learned")
	load := r.StartLoad(4, 2*time.Millisecond, rig.Request{Path: "/api/x"})

	var trained exchange.Publication
	eventually(t, 90*time.Second, "what was trained is published", func() error {
		all, err := x.After(t.Context(), 0, true)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			if trained = p; p.Kind == exchange.Trained {
				return nil
			}
		}
		return fmt.Errorf("%+v", atModels(r).Learning)
	})
	base, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	net, _, err := model.Decode(trained.File)
	if err != nil || trained.Base != model.ID(base) || trained.Samples < 300 || trained.Instance == "" {
		t.Fatalf("%v, base %s, %d decisions of %q", err, trained.Base, trained.Samples, trained.Instance)
	}
	// Another engine trained from the same model, elsewhere.
	other, err := os.ReadFile(modelFile(t, "other", 0, map[string]float32{"log_drift": 0.03}))
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Publish(t.Context(), exchange.Publication{
		Kind: exchange.Trained, Model: model.ID(other), Base: trained.Base, Instance: "other", Engine: "other", Samples: trained.Samples, File: other,
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, "the average is judged", func() error {
		m := atModels(r)
		averaged := false
		for _, e := range m.Events {
			averaged = averaged || e.Event == "averaged" && strings.Contains(e.Detail, "engine other")
		}
		e, judged := said(&m, "refused", "promoted", "shadow")
		if !averaged || !judged {
			return fmt.Errorf("averaged %v: %+v", averaged, m.Events)
		}
		t.Logf("%s: %s", e.Event, e.Detail)
		return nil
	})
	if n, err := x.After(t.Context(), 0, true); err != nil || len(n) < 2 || net.In() == 0 {
		t.Errorf("%d publications, %v", len(n), err)
	}
	r.WantAll(load.Stop(), 200)
}
