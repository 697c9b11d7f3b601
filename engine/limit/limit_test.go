package limit

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// world is a pool of equal workers with one queue, in front of which the limit is enforced with the delay of its way to NGINX.
type world struct {
	slots                  int
	mean                   float64 // ms
	varied                 bool    // exponential instead of fixed
	rand                   *rand.Rand
	l                      Limiter
	now                    float64
	free                   times // when each worker is free
	inside                 times // when each request in flight ends
	began                  map[float64]float64
	applied                [3]float64 // limits on their way, 100 ms each
	offered, refused, done int
	slowest                float64
}

type times []float64

func (t times) Len() int           { return len(t) }
func (t times) Less(i, j int) bool { return t[i] < t[j] }
func (t times) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *times) Push(x any)        { *t = append(*t, x.(float64)) }
func (t *times) Pop() any {
	old := *t
	x := old[len(old)-1]
	*t = old[:len(old)-1]
	return x
}

func newWorld(slots int, mean float64, varied bool, seed uint64) *world {
	w := &world{slots: slots, mean: mean, varied: varied, rand: rand.New(rand.NewPCG(seed, 1)), began: map[float64]float64{}}
	w.l.Options = Options{Min: 4, Tolerance: 1.5}
	for range slots {
		heap.Push(&w.free, 0.0)
	}
	return w
}

// run offers load times what the pool can do for so many seconds.
func (w *world) run(seconds, load float64) {
	w.offered, w.refused, w.done, w.slowest = 0, 0, 0, 0
	rate := load * float64(w.slots) / w.mean // a ms
	end, tick := w.now+seconds*1000, math.Ceil(w.now/100)*100
	for next := w.now; next < end; next += w.rand.ExpFloat64() / rate {
		for ; tick <= next; tick += 100 {
			w.finish(tick)
			w.l.InFlight(tick, len(w.inside))
			w.l.Advance(tick)
			w.applied = [3]float64{w.l.Now(), w.applied[0], w.applied[1]}
		}
		w.finish(next)
		w.now = next
		w.offered++
		if limit := w.applied[1]; limit > 0 && float64(len(w.inside)) >= math.Floor(limit) {
			w.refused++
			continue
		}
		work := w.mean
		if w.varied {
			work *= w.rand.ExpFloat64()
		}
		at := max(heap.Pop(&w.free).(float64), next) + work + 1e-9*w.rand.Float64()
		heap.Push(&w.free, at)
		heap.Push(&w.inside, at)
		w.began[at] = next
	}
	w.now = end
}

func (w *world) finish(until float64) {
	for len(w.inside) > 0 && w.inside[0] <= until {
		at := heap.Pop(&w.inside).(float64)
		took := at - w.began[at]
		delete(w.began, at)
		w.l.Sample(at, took)
		w.done++
		w.slowest = max(w.slowest, took)
	}
}

// inWorlds runs a test in pools of all sorts, each with its load between the two.
func inWorlds(t *testing.T, low, high float64, f func(t *testing.T, w *world, load float64)) {
	t.Helper()
	r := rand.New(rand.NewPCG(7, 7))
	for i := range 24 {
		slots, mean, varied, load := 4+r.IntN(29), 5*math.Pow(20, r.Float64()), i%2 == 0, low+(high-low)*r.Float64()
		t.Run(fmt.Sprintf("%d workers of %.0f ms, varied %v, load %.2f", slots, mean, varied, load), func(t *testing.T) {
			t.Parallel()
			f(t, newWorld(slots, mean, varied, uint64(i)), load)
		})
	}
}

// busy is the share of what the pool can do that it did.
func (w *world) busy(seconds float64) float64 {
	return float64(w.done) * w.mean / (float64(w.slots) * seconds * 1000)
}

func TestTheLimitComesToASmallMultipleOfWhatThePoolWorksOn(t *testing.T) {
	inWorlds(t, 1.5, 3, func(t *testing.T, w *world, load float64) {
		w.run(10, 0.5)
		w.run(60, load)
		w.run(30, 2)
		if limit, c := w.l.limit, float64(w.slots); limit < c || limit > 3*c+8 {
			t.Errorf("limit %.1f for %d workers of %.1f ms; base %.1f", limit, w.slots, w.mean, w.l.base)
		}
		if b := w.busy(30); b < 0.85 {
			t.Errorf("the pool was busy to %.2f", b)
		}
	})
}

func TestWithoutAnyLatencyFromBeforeTheOverloadTheBaseIsFound(t *testing.T) {
	inWorlds(t, 2, 2, func(t *testing.T, w *world, load float64) {
		w.run(60, load)
		if limit, c := w.l.limit, float64(w.slots); limit < 0.9*c || limit > 3*c+8 {
			t.Errorf("limit %.1f for %d workers of %.1f ms; base %.1f", limit, w.slots, w.mean, w.l.base)
		}
	})
}

func TestAPoolThatIsNotOverloadedIsRefusedNothing(t *testing.T) {
	inWorlds(t, 0.05, 0.6, func(t *testing.T, w *world, load float64) {
		w.run(60, load)
		if w.refused > w.offered/1000 {
			t.Errorf("%d of %d refused at limit %.1f for %d workers of %.1f ms", w.refused, w.offered, w.l.limit, w.slots, w.mean)
		}
	})
}

func TestAPoolThatBecameSlowIsNotStrangledAndRecovers(t *testing.T) {
	inWorlds(t, 2, 2, func(t *testing.T, w *world, load float64) {
		w.run(10, 0.7)
		w.run(20, load)
		fast := w.mean
		w.mean = fast * 4
		w.run(20, 2)
		w.run(20, 2)
		if b := w.busy(20); b < 0.8 || w.l.limit < 0.9*float64(w.slots) {
			t.Errorf("slow: busy to %.2f, limit %.1f for %d workers; base %.1f of %.1f", b, w.l.limit, w.slots, w.l.base, w.mean)
		}
		w.mean = fast
		w.run(40, 2)
		w.run(20, 2)
		if limit, c := w.l.limit, float64(w.slots); w.busy(20) < 0.85 || limit > 4*c+8 {
			t.Errorf("fast again: busy to %.2f, limit %.1f for %d workers; base %.1f of %.1f", w.busy(20), limit, w.slots, w.l.base, w.mean)
		}
	})
}

func TestNothingThatIsToldMakesANumberThatIsNone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Limiter{Options: Options{Min: 4, Max: rapid.SampledFrom([]float64{0, 50}).Draw(t, "max"), Tolerance: 1.5}}
		now := 0.0
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			now += rapid.SampledFrom([]float64{0, 1, 10, 300, -5, 20_000}).Draw(t, "dt")
			ms := rapid.SampledFrom([]float64{0, 1, 10, 1e9, -1, math.NaN(), math.Inf(1), 500}).Draw(t, "ms")
			for range rapid.IntRange(0, 40).Draw(t, "n") {
				l.Sample(now, ms)
			}
			l.InFlight(now, rapid.IntRange(-1, 1000).Draw(t, "in flight"))
			l.Advance(now)
			switch x := l.Now(); {
			case x > l.Limit():
				t.Fatalf("%v is above the limit of %v", x, l.Limit())
			case x == 0:
			case !(x >= 4 && x < 1e12), l.Options.Max > 0 && x > l.Options.Max:
				t.Fatalf("limit %v", x)
			}
		}
	})
}

func TestAnotherLimitersFindingsAreTakenOnlyWithoutOwn(t *testing.T) {
	l := Limiter{Options: Options{Min: 4, Tolerance: 1.5}}
	if l.Adopt(0, math.NaN(), 1) || l.Adopt(0, 20, math.Inf(1)) || l.Limit() != 0 {
		t.Error("nonsense was taken")
	}
	if !l.Adopt(0, 20, 5) || l.Limit() != 20 || l.Base() != 5 {
		t.Errorf("limit %v, base %v", l.Limit(), l.Base())
	}
	if l.Adopt(0, 30, 5) {
		t.Error("an own limit gave way")
	}
	l.Scale(1.5)
	if l.Limit() != 30 {
		t.Errorf("limit %v for half as many peers again", l.Limit())
	}
}
