package serve

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weirlb/weir/engine/config"
)

func TestModelsArePromotedAndRolledBack(t *testing.T) {
	e, _ := logged(t, threePeers)
	r := e.Models()
	conf := config.Model{File: written(t, encoded(t, network(1), nil)), Library: config.LibraryBuiltin}
	if err := r.Configure(conf); err != nil {
		t.Fatal(err)
	}
	first := r.Serving().ID
	second, err := r.Propose(encoded(t, network(2), nil), "test")
	if err != nil {
		t.Fatal(err)
	}
	roles := func(current, previous, candidate string) {
		t.Helper()
		for role, want := range map[Role]string{Current: current, Previous: previous, Candidate: candidate} {
			m, _ := r.Get(role)
			if got := ""; m != nil && m.ID != want || m == nil && want != got {
				t.Errorf("%s is %+v, want %s", role, m, want)
			}
		}
	}
	roles(first, "", second.ID)
	if _, err := r.Propose(encoded(t, network(1), nil), "test"); err == nil {
		t.Error("the current model became a candidate")
	}
	if _, err := r.Propose([]byte("x"), "test"); err == nil {
		t.Error("nonsense became a candidate")
	}
	roles(first, "", second.ID)
	if err := r.Promote(second.ID, "test", "better"); err != nil {
		t.Fatal(err)
	}
	roles(second.ID, first, "")
	if err := r.Promote(second.ID, "test", ""); err == nil {
		t.Error("promoted twice")
	}
	if err := r.Rollback(first, "test", ""); err == nil {
		t.Error("a model that is not current was rolled back")
	}
	if err := r.Configure(conf); err != nil || r.Serving().ID != second.ID {
		t.Errorf("a reload of the same file took the promoted model away: %v", err)
	}
	if err := r.Rollback(second.ID, "test", "worse"); err != nil {
		t.Fatal(err)
	}
	roles(first, "", "")
	if err := r.Rollback(first, "test", "worse"); err != nil {
		t.Fatal(err)
	}
	roles("", "", "")
	if s := taught(t, e); s.Policy != "analytic" || e.Report().Status != OK {
		t.Errorf("policy %s, %+v", s.Policy, e.Report())
	}
	if err := r.Configure(conf); err != nil || r.Serving() != nil {
		t.Error("a reload brought back what was rolled back")
	}
	if err := r.Promote(second.ID, "test", "again"); err != nil {
		t.Errorf("a remembered model cannot be promoted: %v", err)
	}
	if err := r.Promote("nonsense", "test", ""); err == nil || !strings.Contains(err.Error(), `no model "nonsense"`) {
		t.Errorf("%v", err)
	}
	third, err := r.Propose(encoded(t, network(3), nil), "test")
	if err != nil {
		t.Fatal(err)
	}
	r.Drop(third.ID, "test", "worse")
	roles(second.ID, "", "")
	for seed := range uint64(20) {
		m, err := r.Propose(encoded(t, network(10+seed), nil), "test")
		if err != nil {
			t.Fatal(err)
		}
		if seed%2 == 0 {
			if err := r.Promote(m.ID, "test", ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(r.known) > maxModels || len(r.events) > maxModelEvents {
		t.Errorf("%d models and %d events are remembered", len(r.known), len(r.events))
	}
	open := 0
	for _, k := range r.known {
		if k.eval != nil {
			open++
		}
	}
	if open > 3 {
		t.Errorf("%d models are open", open)
	}
}

func TestSwapsAmidRefreshesLoseNoTableAndLeaveNoSessionOpen(t *testing.T) {
	evaluators(t, func(t *testing.T, library string) {
		e, _ := logged(t, threePeers)
		r := e.Models()
		if err := r.Configure(config.Model{File: written(t, encoded(t, network(1), nil)), Library: library}); err != nil {
			t.Fatal(err)
		}
		first := r.Serving().ID
		second, err := r.Propose(encoded(t, network(2), nil), "test")
		if err != nil {
			t.Fatal(err)
		}
		taught(t, e)
		seen := map[*evaluator]bool{}
		var fillers, swapper sync.WaitGroup
		stop := make(chan struct{})
		for _, name := range []string{"api", "other"} {
			p, _ := e.pool(name)
			fillers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					p.mu.Lock()
					p.dirty, p.fillCost = true, 0
					p.mu.Unlock()
					p.refresh(e.now())
					if s := e.State().Pool(name); s.Policy != "learned" {
						t.Errorf("a table was made by the %s policy", s.Policy)
						return
					}
				}
			})
		}
		swapper.Go(func() {
			for range 100 {
				seen[r.running.Load()] = true
				if err := r.Promote(second.ID, "test", ""); err != nil {
					t.Error(err)
				}
				seen[r.running.Load()] = true
				third, err := r.Propose(encoded(t, network(3), nil), "test")
				if err == nil {
					err = r.Promote(third.ID, "test", "") // first is no longer the previous one: it is closed
				}
				if err == nil {
					seen[r.running.Load()] = true
					err = r.Promote(first, "test", "")
				}
				if err == nil { // so that it may be proposed again
					r.mu.Lock()
					r.past = slices.DeleteFunc(r.past, func(k *known) bool { return k.ID == third.ID })
					r.forget()
					r.mu.Unlock()
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
		swapper.Wait()
		close(stop)
		fillers.Wait()
		if len(seen) < 100 {
			t.Errorf("only %d evaluators were made", len(seen))
		}
		e.Close()
		for v := range seen {
			if n := v.uses.Load(); n != 0 {
				t.Fatalf("an evaluator has %d uses left", n)
			}
		}
	})
}
