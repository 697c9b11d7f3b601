package gate_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/learn/blocks"
	"github.com/weirlb/weir/engine/learn/gate"
	"github.com/weirlb/weir/engine/learn/ope"
)

// better is an evaluation that passes.
func better() ope.Result {
	return ope.Result{Decisions: 5000, Effective: 4000, Moved: 0.1, Difference: blocks.Estimate{Value: -0.03, Low: -0.06, High: 0.001, Dev: 0.015, Blocks: 40}}
}

func sound() gate.Look { return gate.Look{Moved: 0.1, TookMS: 1.2, SoleMS: 1} }

// live brings a candidate to where it serves.
func live(t *testing.T, g *gate.Gate, now float64) {
	t.Helper()
	g.Candidate(now, "new", "old", nil)
	if a := g.Judged(now, better(), nil); a != gate.StartShadow {
		t.Fatalf("after the judgement: %v, %+v", a, g.Events())
	}
	a := gate.None
	for i := 0; a == gate.None && i < 1000; i++ {
		a = g.Shadowed(now, sound())
	}
	if a != gate.Promote {
		t.Fatalf("after the shadow: %v, %+v", a, g.Events())
	}
}

func last(g *gate.Gate) gate.Event {
	e := g.Events()
	if len(e) == 0 {
		return gate.Event{}
	}
	return e[len(e)-1]
}

func TestACandidateGoesOfflineShadowLiveKept(t *testing.T) {
	g := gate.New(gate.Options{})
	live(t, g, 1000)
	if v := g.View(); v.Phase != gate.Watched || v.Model != "new" || v.From != "old" {
		t.Errorf("%+v", v)
	}
	even := blocks.Estimate{Value: -0.2, Low: -0.3, High: -0.1, Dev: 0.05, Blocks: 40}
	if a := g.Watch(2000, even, 5000); a != gate.None || g.View().Phase != gate.Watched {
		t.Errorf("decided after a second: %v", a)
	}
	g.Watch(1000+600_000, even, 5000)
	var steps []string
	for _, e := range g.Events() {
		steps = append(steps, string(e.Step))
		if e.Reason == "" || e.Model != "new" {
			t.Errorf("%+v", e)
		}
	}
	if got := strings.Join(steps, " "); got != "trained shadow promoted kept" {
		t.Errorf("steps: %s", got)
	}
	if !g.Ready(1000 + 600_001) {
		t.Error("not ready for the next")
	}
}

func TestTheOfflineGateRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *ope.Result)
		err    error
		want   string
	}{
		"what is worse":               {func(r *ope.Result) { r.Difference.Value = 0.001 }, nil, "worse"},
		"what may be worse":           {func(r *ope.Result) { r.Difference.High = 0.011 }, nil, "at most 1.00 %"},
		"what was seen too seldom":    {func(r *ope.Result) { r.Effective = 499 }, nil, "worth 499"},
		"what differs too much":       {func(r *ope.Result) { r.Cut = 0.06 }, nil, "6.0 % of the weights"},
		"what changes nothing":        {func(r *ope.Result) { r.Moved = 0 }, nil, "as the current model"},
		"what has no interval":        {func(r *ope.Result) { r.Difference.Blocks = 7 }, nil, "too few"},
		"what could not be evaluated": {func(*ope.Result) {}, errors.New("row 3 is odd"), "row 3 is odd"},
	} {
		g := gate.New(gate.Options{})
		g.Candidate(0, "new", "old", nil)
		r := better()
		c.change(&r)
		if a := g.Judged(1, r, c.err); a != gate.Drop {
			t.Errorf("%s: %v", name, a)
		}
		if e := last(g); e.Step != gate.Refused || !strings.Contains(e.Reason, c.want) {
			t.Errorf("%s: %+v", name, e)
		}
		if !g.Ready(2) {
			t.Errorf("%s: a refusal must not keep the next away", name)
		}
	}
}

func TestTheShadowRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		look gate.Look
		want string
	}{
		"a fault":               {gate.Look{Fault: "NaN in row 7"}, "NaN in row 7"},
		"a mass move":           {gate.Look{Moved: 0.51, TookMS: 1, SoleMS: 1}, "51 %"},
		"a move that is no sum": {gate.Look{Moved: nan(), TookMS: 1, SoleMS: 1}, "elsewhere"},
		"slow tables":           {gate.Look{Moved: 0.1, TookMS: 4.1, SoleMS: 1}, "4.10 ms"},
	} {
		g := gate.New(gate.Options{})
		g.Candidate(0, "new", "old", nil)
		g.Judged(1, better(), nil)
		a := gate.None
		for i := 0; a == gate.None && i < 100; i++ {
			a = g.Shadowed(float64(i), c.look)
		}
		if e := last(g); a != gate.Drop || e.Step != gate.Refused || !strings.Contains(e.Reason, c.want) {
			t.Errorf("%s: %v, %+v", name, a, e)
		}
	}
}

func nan() float64 { z := 0.0; return z / z }

func TestAModelThatIsWorseThanTheControlSliceIsRolledBack(t *testing.T) {
	g := gate.New(gate.Options{})
	live(t, g, 0)
	unsure := blocks.Estimate{Value: 0.3, Low: -0.1, High: 0.7, Dev: 0.2, Blocks: 20}
	if a := g.Watch(10_000, unsure, 30); a != gate.None {
		t.Errorf("rolled back without confidence: %v", a)
	}
	few := blocks.Estimate{Value: 0.3, Low: 0.2, High: 0.4, Dev: 0.02, Blocks: blocks.Least - 1}
	if a := g.Watch(11_000, few, 50); a != gate.None {
		t.Errorf("rolled back without blocks: %v", a)
	}
	sure := blocks.Estimate{Value: 0.3, Low: 0.1, High: 0.5, Dev: 0.1, Blocks: 20}
	if a := g.Watch(20_000, sure, 90); a != gate.RollBack {
		t.Fatalf("not rolled back: %v", a)
	}
	if e := last(g); e.Step != gate.RolledBack || e.From != "old" || !strings.Contains(e.Reason, "30.0 %") {
		t.Errorf("%+v", e)
	}
}

func TestAModelThatLosesWhatItsPredecessorHadGainedIsRolledBack(t *testing.T) {
	g := gate.New(gate.Options{})
	g.Base(blocks.Estimate{Value: -0.4, Low: -0.45, High: -0.35, Dev: 0.02, Blocks: 60})
	live(t, g, 0)
	if a := g.Watch(20_000, blocks.Estimate{Value: -0.1, Low: -0.2, High: -0.01, Dev: 0.04, Blocks: 60}, 500); a != gate.RollBack {
		t.Errorf("%v: 30 %% were lost", a)
	}
	// One whose predecessor was worse than the slice is not held to the slice.
	g = gate.New(gate.Options{})
	g.Base(blocks.Estimate{Value: 0.2, Low: 0.1, High: 0.3, Dev: 0.05, Blocks: 60})
	live(t, g, 0)
	if a := g.Watch(20_000, blocks.Estimate{Value: 0.15, Low: 0.1, High: 0.2, Dev: 0.02, Blocks: 60}, 500); a != gate.None {
		t.Errorf("%v: it is better than what was", a)
	}
}

func TestEachRollBackMakesALongerPause(t *testing.T) {
	g := gate.New(gate.Options{PauseMS: 1000, MostPauseMS: 3000})
	now := 0.0
	for _, want := range []float64{1000, 2000, 3000, 3000} {
		live(t, g, now)
		g.Watch(now, blocks.Estimate{Value: 0.3, Low: 0.1, High: 0.5, Dev: 0.1, Blocks: 20}, 40)
		if g.Ready(now+want-1) || !g.Ready(now+want) {
			t.Errorf("the pause is not %v but %v", want, g.View().Resting-now)
		}
		now += want
	}
}

func TestWhatCannotBeToldInTimeIsRolledBack(t *testing.T) {
	g := gate.New(gate.Options{})
	live(t, g, 0)
	if a := g.Watch(6*3_600_000, blocks.Estimate{Value: -0.1, Low: -0.5, High: 0.5, Dev: 0.2, Blocks: 9}, 10); a != gate.RollBack {
		t.Errorf("%v after six hours with 10 requests", a)
	}
}

func TestTheOperatorsModelIsWatchedToo(t *testing.T) {
	g := gate.New(gate.Options{})
	g.Candidate(0, "new", "old", nil)
	g.Served(5, "mine", "old", "the operator")
	if v := g.View(); v.Phase != gate.Watched || v.Model != "mine" {
		t.Errorf("%+v", v)
	}
	events := g.Events()
	if len(events) != 3 || events[1].Step != gate.Withdrawn || events[1].Model != "new" || events[2].Step != gate.Promoted {
		t.Errorf("%+v", events)
	}
	if a := g.Judged(6, better(), nil); a != gate.None {
		t.Errorf("the candidate of before went on: %v", a)
	}
	g.Returned(7, "the operator")
	if g.View().Phase != gate.Idle || g.Ready(8) {
		t.Errorf("%+v", g.View())
	}
}

func TestTheSliceKeepsItsSizeAndItsSums(t *testing.T) {
	var s gate.Slice
	s.Add(1, true, 1) // before Reset nothing counts
	s.Reset(1000)
	s.Add(999, true, 7)
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := range 200_000 { // 5.5 hours
		at := 1000 + 100*float64(i)
		if i%50 == 0 {
			s.Add(at, true, 1+rnd.Float64()-0.5)
		} else {
			s.Add(at, false, 1.2*(1+rnd.Float64()-0.5))
		}
	}
	e := s.Estimate(0.99)
	if s.Controls() != 4000 || e.Low > 0.2 || e.High < 0.2 || e.High-e.Low > 0.1 || e.Blocks > 64 {
		t.Errorf("%v of the slice, %+v", s.Controls(), e)
	}
}
