package returns_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirlb/weir/engine/learn/returns"
)

// waits is the sum of the waits of all requests but the one left out.
func waits(l *returns.Log, leave int) float64 {
	free := make([]float64, l.Slots)
	sum := 0.0
	for i, a := range l.Arrived {
		if i == leave {
			continue
		}
		k := 0
		for j := range free {
			if free[j] < free[k] {
				k = j
			}
		}
		start := math.Max(a, free[k])
		free[k] = start + l.Service[i]
		sum += start - a
	}
	return sum
}

func TestImposedIsTheWaitOfAllOthersWithoutTheRequest(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		l := &returns.Log{Slots: rapid.IntRange(1, 5).Draw(r, "slots")}
		now := 0.0
		for range rapid.IntRange(1, 60).Draw(r, "requests") {
			now += rapid.Float64Range(0, 20).Draw(r, "gap")
			l.Arrived = append(l.Arrived, now)
			l.Service = append(l.Service, rapid.Float64Range(0, 60).Draw(r, "service"))
		}
		got := l.All(func(int) bool { return true })
		for i, x := range got {
			own := 0.0 // the request's own wait is not imposed on anyone
			part := &returns.Log{Slots: l.Slots, Arrived: l.Arrived[:i+1], Service: l.Service[:i+1]}
			own = waits(part, -1) - waits(part, i)
			want := waits(l, -1) - waits(l, i) - own
			if math.Abs(x-want) > 1e-6*(1+math.Abs(want)) {
				r.Fatalf("request %d imposed %v ms, %v by simulating twice", i, x, want)
			}
		}
	})
}

func TestARequestThatNobodyFollowsImposesNothing(t *testing.T) {
	l := &returns.Log{Slots: 1, Arrived: []float64{0, 100}, Service: []float64{10, 10}}
	if got := l.All(func(int) bool { return true }); got[0] != 0 || got[1] != 0 {
		t.Errorf("imposed %v", got)
	}
}

func TestSortKeepsRequestsTogether(t *testing.T) {
	l := &returns.Log{Slots: 1, Arrived: []float64{5, 1, 3}, Service: []float64{50, 10, 30}}
	order := l.Sort()
	for i, a := range l.Arrived {
		if l.Service[i] != 10*a {
			t.Errorf("position %d: came at %v, took %v", i, a, l.Service[i])
		}
	}
	if order[0] != 1 || order[1] != 2 || order[2] != 0 {
		t.Errorf("order %v", order)
	}
}
