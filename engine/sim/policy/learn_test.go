package policy

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/gate"
	"github.com/weirlb/weir/engine/learn/online"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/engine/sim/world"
)

// crooked is a model that turns the order of costs around: the dearer by the analytic policy, the cheaper.
func crooked(by float32) online.Model {
	n := model.New([]int{decide.Inputs, 1}, rand.New(rand.NewPCG(1, 1)))
	for j, name := range decide.InputNames() {
		if name == "log_cost" {
			n.W[0][j] = -by
		}
	}
	return online.Model{ID: "crooked", Net: n}
}

func learning(l *Learn) New {
	return Weir(func(*world.Setup) Variant { return Variant{Explore: -1, Learn: l} })
}

const uneven = `
requests: 30000
warmup: 30000
arrivals: {load: 0.6}
classes: [{service_ms: {mean: 100}}]
peers: [{slots: 4, speed: 1.2}, {slots: 4, speed: 0.3}, {slots: 4, speed: 0.8}, {slots: 2, speed: 1}]
`

func TestLearningOnlineMendsAModelThatIsWrong(t *testing.T) {
	s := parse(t, uneven)
	var steps []string
	l := &Learn{
		Model: crooked(1.2), Options: online.Options{EveryMS: 30_000, Rate: 5e-3, Decay: 1},
		Events: func(e gate.Event) { steps = append(steps, string(e.Step)+": "+e.Reason) },
	}
	with, without := run(t, s, 3, learning(l)), run(t, s, 3, Weir(func(*world.Setup) Variant {
		return Variant{Explore: -1, Policy: &decide.Learned{Model: l.Model.Net.Predictor()}}
	}))
	if with.MeanMS > 0.9*without.MeanMS || !strings.Contains(strings.Join(steps, " "), "promoted") {
		t.Errorf("mean %.1f ms, without learning %.1f ms\n%s", with.MeanMS, without.MeanMS, strings.Join(steps, "\n"))
	}
}

func TestLearningOnlineIsTheSameEachTime(t *testing.T) {
	s := parse(t, uneven)
	var first, second []gate.Event
	for _, to := range []*[]gate.Event{&first, &second} {
		run(t, s, 4, learning(&Learn{Options: online.Options{EveryMS: 30_000}, Events: func(e gate.Event) { *to = append(*to, e) }}))
	}
	if len(first) == 0 || len(first) != len(second) {
		t.Fatalf("%d events and %d", len(first), len(second))
	}
	for i := range first {
		if first[i].Reason != second[i].Reason || first[i].Model != second[i].Model {
			t.Errorf("%+v and %+v", first[i], second[i])
		}
	}
}

// forced makes a model serve behind the loop's back, as an operator would.
type forced struct {
	world.Balancer
	at   float64
	m    online.Model
	done bool
}

func (f *forced) PeriodMS() float64 { return f.Balancer.(world.Ticker).PeriodMS() }

func (f *forced) Tick(now float64) {
	if l := f.Balancer.(*weir).learn; !f.done && now >= f.at {
		f.done = true
		l.before = append(l.before, l.serves)
		l.use(f.m)
		l.loop.Served(now, f.m, "the operator")
	}
	f.Balancer.(world.Ticker).Tick(now)
}

func TestABadModelIsRolledBackByTheControlSlice(t *testing.T) {
	s := parse(t, uneven)
	var events []gate.Event
	l := &Learn{Control: 0.05, Options: online.Options{EveryMS: 1e9}, Events: func(e gate.Event) { events = append(events, e) }}
	const at = 60_000
	run(t, s, 5, func(set *world.Setup) world.Balancer {
		return &forced{Balancer: learning(l)(set), at: at, m: crooked(2)}
	})
	if len(events) != 2 || events[0].Step != gate.Promoted || events[1].Step != gate.RolledBack {
		t.Fatalf("%+v", events)
	}
	if took := events[1].AtMS - at; took > 300_000 || math.IsNaN(took) {
		t.Errorf("it took %v s", took/1000)
	}
	t.Logf("rolled back after %.0f s: %s", (events[1].AtMS-at)/1000, events[1].Reason)
}

// By chance one in 25 is not.
func TestAGoodModelIsKept(t *testing.T) {
	s := parse(t, uneven)
	kept := 0
	for seed := range uint64(5) {
		var events []gate.Event
		opt := online.Options{EveryMS: 1e9, Gate: gate.Options{WatchMS: 100_000, LeastControls: 100}}
		l := &Learn{Control: 0.05, Options: opt, Events: func(e gate.Event) { events = append(events, e) }}
		run(t, s, 5+seed, func(set *world.Setup) world.Balancer {
			return &forced{Balancer: learning(l)(set), at: 60_000, m: crooked(0.01)} // nearly the analytic policy
		})
		if len(events) == 2 && events[1].Step == gate.Kept {
			kept++
		}
	}
	if kept < 4 {
		t.Errorf("%d of 5 were kept", kept)
	}
}
