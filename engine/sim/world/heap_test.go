package world

import (
	"math"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestTheHeapGivesTheEarliestFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h heap
		var all []float64
		check := func() {
			want := math.Inf(1)
			if len(all) > 0 {
				want = slices.Min(all)
			}
			if h.first() != want {
				t.Fatalf("first is %v, want %v", h.first(), want)
			}
		}
		drop := func() { all = slices.Delete(all, slices.Index(all, h[0].at), slices.Index(all, h[0].at)+1) }
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			at := rapid.Float64Range(0, 100).Draw(t, "at")
			switch op := rapid.IntRange(0, 2).Draw(t, "op"); {
			case op == 0 || len(h) == 0:
				h.push(due{at, 0})
				all = append(all, at)
			case op == 1:
				drop()
				h.pop()
			default:
				drop()
				h.replaceFirst(due{at, 0})
				all = append(all, at)
			}
			check()
		}
	})
}

func TestDeadlinesComeOutInOrderThroughGrowth(t *testing.T) {
	var q ring
	in, out := 0, 0
	for round := range 400 {
		for range round % 7 {
			q.push(deadline{at: float64(in)})
			in++
		}
		for range round % 5 {
			if q.len == 0 {
				break
			}
			if d := q.pop(); d.at != float64(out) {
				t.Fatalf("got %v, want %d", d.at, out)
			}
			out++
		}
	}
	if q.len != in-out || q.first() != float64(out) {
		t.Errorf("%d left of %d", q.len, in-out)
	}
}

func TestARequestAllocatesNothing(t *testing.T) {
	mallocs := func(requests string) uint64 {
		s := parse(t, "requests: "+requests+`
arrivals: {load: 0.8}
classes: [{service_ms: {mean: 100}}]
peers: [{count: 10, slots: 4}]
timeout_ms: 60000
`)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		run(t, s, &chooser{pick: func(a *Attempt) int32 {
			least := a.Present[0]
			for _, p := range a.Present {
				if a.InFlight[p] < a.InFlight[least] {
					least = p
				}
			}
			return least
		}})
		runtime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs
	}
	mallocs("1000")
	// The arenas grow by doubling, and the run-time itself allocates now and then.
	if few, many := mallocs("20000"), mallocs("220000"); many > few+200 {
		t.Errorf("200000 more requests made %d more allocations", many-few)
	}
}
