package serve

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/learn/exchange"
	"github.com/weirlb/weir/engine/learn/gate"
	"github.com/weirlb/weir/engine/learn/online"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/engine/telemetry"
)

func TestAnEngineWithoutTrafficLetsAnotherJudgeTheAverage(t *testing.T) {
	t.Parallel() // it waits, mostly
	dir := filepath.Join(t.TempDir(), "models")
	base, trained := encoded(t, turned(0), nil), encoded(t, turned(0.1), nil)
	begin := func(name string) *Engine {
		conf := parse(t, learnPool)
		conf.Instance = name
		conf.Model.File = written(t, base)
		conf.Learn.Federated, conf.Learn.Share, conf.Learn.EveryMS = true, config.StoreURL("file:"+dir), 3000
		e := New(conf, telemetry.NewLog(t.Output(), "info"), telemetry.New())
		if err := e.Models().Configure(conf.Model); err != nil {
			t.Fatal(err)
		}
		e.Share(conf.Learn)
		e.Learn(conf.Learn, func(o *online.Options) {
			o.Seed, o.EveryMS, o.PerS, o.Least = 3, 1e12, 500, 500 // it trains nothing of its own: others do
			o.Gate = gate.Options{Looks: 5}
		})
		e.Start()
		t.Cleanup(e.Close)
		return e
	}
	leads := func(e *Engine) bool {
		e.share.mu.Lock()
		defer e.share.mu.Unlock()
		return e.share.leads
	}
	idle := begin("idle")
	within(t, 20*time.Second, "the first is elected", func() bool { return leads(idle) })
	busy := begin("busy")
	var n nginx
	n.run(t, busy)

	x, err := exchange.Open(context.Background(), "file:"+dir)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	var told time.Time
	contribute := func() { // as engines do each round
		if time.Since(told) < 2*time.Second {
			return
		}
		told = time.Now()
		for _, name := range []string{"x", "y"} {
			if err := x.Publish(t.Context(), exchange.Publication{
				Kind: exchange.Trained, Model: name, Base: model.ID(base), Instance: name, Engine: name, Samples: 300, File: trained,
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	within(t, 20*time.Second, "the first averages", func() bool { contribute(); return happened(idle, "averaged", followerName) })
	within(t, 60*time.Second, "the average is judged where there is traffic", func() bool {
		contribute()
		return happened(busy, "averaged", followerName) && (happened(busy, "refused", learnerName) || happened(busy, "shadow", learnerName))
	})
	if leads(idle) || !leads(busy) {
		t.Errorf("the idle one leads: %v, the busy one: %v", leads(idle), leads(busy))
	}
	if happened(idle, "refused", learnerName) || happened(idle, "shadow", learnerName) {
		t.Errorf("the idle one has judged by nothing:\n%s", chronicle(idle))
	}
}
