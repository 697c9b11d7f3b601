package returns_test

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirlb/weir/engine/learn/returns"
)

func TestServiceTimesAreFoundFromWhenAnswersCame(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		l := &returns.Log{Slots: rapid.IntRange(1, 5).Draw(r, "slots")}
		var want, ended []float64
		free := make([]float64, l.Slots)
		now := 0.0
		for range rapid.IntRange(1, 60).Draw(r, "requests") {
			now += rapid.Float64Range(0, 20).Draw(r, "gap")
			service := rapid.Float64Range(0.1, 60).Draw(r, "service")
			slices.Sort(free)
			free[0] = math.Max(now, free[0]) + service
			l.Arrived, want, ended = append(l.Arrived, now), append(want, service), append(ended, free[0])
		}
		l.Serve(ended)
		for i := range want {
			if math.Abs(l.Service[i]-want[i]) > 1e-3 {
				r.Fatalf("request %d: service %v, truly %v", i, l.Service[i], want[i])
			}
		}
	})
}

func TestAnAnswerBeforeItsSlotWasFreeStillHasAServiceTime(t *testing.T) {
	l := &returns.Log{Slots: 1, Arrived: []float64{0, 1, 2}}
	l.Serve([]float64{50, 10, 51})
	for i, s := range l.Service {
		if !(s > 0) || s > 50 {
			t.Errorf("request %d has a service of %v ms", i, s)
		}
	}
}
