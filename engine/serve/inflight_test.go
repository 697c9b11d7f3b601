package serve

import (
	"slices"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/observe"
)

func TestInflightIsTheSumOverNGINXInstancesAndOldReportsAreForgotten(t *testing.T) {
	e := still(t, threePeers)
	report := func(instance string, entries ...observe.Inflight) {
		e.Observe(&observe.Batch{Instance: instance, Inflight: entries})
	}
	report("web1", observe.Inflight{Pool: "api", Peer: "10.0.0.1:80", Count: 4}, observe.Inflight{Pool: "other", Peer: "10.0.1.2:80", Count: 1},
		observe.Inflight{Pool: "api", Peer: "9.9.9.9:1", Count: 100}, observe.Inflight{Pool: "no", Peer: "x", Count: 100})
	report("web2", observe.Inflight{Pool: "api", Peer: "10.0.0.1:80", Count: 3})
	count := func(pool, addr string, want int) {
		t.Helper()
		if got := peerOf(t, e, pool, addr).Inflight(); got != want {
			t.Errorf("%s has %d in flight, want %d", addr, got, want)
		}
	}
	count("api", "10.0.0.1:80", 7)
	count("other", "10.0.1.2:80", 1)
	report("web1", observe.Inflight{Pool: "api", Peer: "10.0.0.2:80", Count: 2}) // all of web1: what is not named has none
	count("api", "10.0.0.1:80", 3)
	count("api", "10.0.0.2:80", 2)
	count("other", "10.0.1.2:80", 0)
	report("web1") // says nothing
	count("api", "10.0.0.2:80", 2)

	later := e.now() + instanceSilentMS + 1
	gone := e.silent(later)
	slices.SortFunc(gone, func(a, b sender) int { return strings.Compare(a.name, b.name) })
	if !slices.Equal(gone, []sender{{"web1", 0}, {"web2", 0}}) {
		t.Fatalf("silent senders %v", gone)
	}
	p, _ := e.pool("api")
	p.forget(later, gone)
	count("api", "10.0.0.1:80", 0)
	count("api", "10.0.0.2:80", 0)
}

func TestBothGenerationsAreOneNGINXWhoseRequestsAreAddedUp(t *testing.T) {
	e := still(t, threePeers)
	p, _ := e.pool("api")
	report := func(instance string, generation, count int) {
		e.Observe(&observe.Batch{Instance: instance, Generation: generation, Inflight: []observe.Inflight{{Pool: "api", Peer: "10.0.0.1:80", Count: count}}})
	}
	for _, step := range []struct {
		instance             string
		generation, count    int
		wantSum, wantSharers int
	}{
		{"web1", 0, 4, 4, 1}, {"web2", 0, 1, 5, 2}, {"web1", 77, 3, 8, 2}, {"web1", 0, 2, 6, 2}, {"web1", 78, 1, 7, 2}, {"web1", 0, 0, 5, 2},
	} {
		report(step.instance, step.generation, step.count)
		if got := peerOf(t, e, "api", "10.0.0.1:80").Inflight(); got != step.wantSum {
			t.Errorf("%d in flight after %v", got, step)
		}
		if got := p.sharers(); got != step.wantSharers {
			t.Errorf("%d share limits after %v", got, step)
		}
	}
}
