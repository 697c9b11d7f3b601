package online_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/learn/gate"
	"github.com/weirlb/weir/engine/learn/online"
	"github.com/weirlb/weir/engine/learn/replay"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/engine/pool"
)

// site is a pool of two peers whose answers do not wait, and the host of a loop. The estimates say 20 and 22 ms; truly the first
// takes 40 and the second 20.
type site struct {
	t       *testing.T
	ctx     context.Context
	loop    *online.Loop
	est     *estimate.Pool
	policy  decide.Learned
	table   decide.Table
	rnd     *rand.Rand
	now     float64
	steps   []string
	events  []gate.Event
	known   map[string]online.Model
	before  []online.Model
	serves  online.Model
	refuse  error  // of Propose
	broken  bool   // the candidate's evaluator answers NaN
	failing error  // of Promote
	dropped string // reason
}

type nan struct{}

func (nan) Predict(_ []float32, _ int, y []float32) error {
	for i := range y {
		y[i] = float32(math.NaN())
	}
	return nil
}

func (s *site) Propose(c online.Candidate) (decide.Predictor, error) {
	if _, meta, err := model.Decode(c.File); err != nil || model.ID(c.File) != c.ID || meta.Card["parent"] != s.serves.ID {
		s.t.Errorf("the candidate's file: %v, %+v", err, meta)
	}
	s.known[c.ID] = c.Model
	if s.broken {
		return nan{}, s.refuse
	}
	return nil, s.refuse
}
func (s *site) Drop(id, reason string) { delete(s.known, id); s.dropped = reason }

func (s *site) Promote(id, _ string) error {
	if s.failing != nil {
		return s.failing
	}
	s.before = append(s.before, s.serves)
	s.use(s.known[id])
	return nil
}

func (s *site) RollBack(string, string) (online.Model, error) {
	s.use(s.before[len(s.before)-1])
	s.before = s.before[:len(s.before)-1]
	return s.serves, nil
}

func (s *site) Event(e gate.Event) {
	s.events = append(s.events, e)
	s.steps = append(s.steps, string(e.Step))
}

func (s *site) use(m online.Model) {
	s.serves, s.policy.Model = m, nil
	if m.Net != nil {
		s.policy.Model = m.Net.Predictor()
	}
}

func newSite(t *testing.T, opt online.Options) *site {
	s := &site{t: t, ctx: context.Background(), est: estimate.New(estimate.Options{}), rnd: rand.New(rand.NewPCG(1, 1)), known: map[string]online.Model{}}
	s.est.SetPeers(0, []string{"10.0.0.1:80", "10.0.0.2:80"})
	for i := range 400 {
		for p := range 2 {
			s.est.Observe(float64(i), estimate.Outcome{Peer: p, Kind: pool.OK, TotalMS: 20 + 2*float64(p), ReportedLoad: -1, ReportedInFlight: -1})
		}
	}
	s.loop = online.New(opt, s)
	s.now = 1000
	s.loop.Start(s.now, online.Model{})
	return s
}

// run lets requests come, 100 a second, until ms have passed.
func (s *site) run(ms float64) {
	cand := []decide.Candidate{{Usable: true}, {Usable: true}}
	rule := decide.Rule{Explore: 0.1, Spread: 0.3}
	for end := s.now + ms; s.now < end; s.now += 10 {
		if int(s.now)%100 == 0 {
			s.est.Refresh(s.now)
			s.policy.Fill(s.now, s.est, decide.Params{}, &s.table)
			s.loop.Frame(s.now, "api", replay.NewFrame(s.now, s.est, &s.policy, replay.Shown{
				Usable: []bool{true, true}, Admit: []float64{1, 1}, Weight: []float64{1, 1}, Rule: rule,
			}))
			if int(s.now)%1000 == 0 {
				s.loop.Step(s.ctx, s.now)
			}
		}
		a := replay.Attempt{Start: s.now, Number: 1}
		var c decide.Choice
		if s.rnd.Float64() < 0.1 {
			c = decide.Choice{Peer: s.rnd.IntN(2), Propensity: 0.5}
			a.Flags = replay.Control
		} else {
			c = decide.Pick(&s.table, 0, cand, rule, s.rnd)
		}
		a.Peer, a.Propensity = s.table.Peers[c.Peer], float32(c.Propensity)
		a.End = s.now + []float64{40, 20}[c.Peer]*(0.7+0.6*s.rnd.Float64())
		s.loop.Ended("api", a)
	}
}

// quick is what suits a test.
func quick() online.Options {
	return online.Options{
		EveryMS: 60_000, Rate: 3e-3, Decay: 1, MostMoved: 0.3, Seed: 7,
		Gate: gate.Options{WatchMS: 60_000, LeastControls: 100, Looks: 5},
	}
}

func TestALoopFindsWhatTheEstimatesGetWrongAndKeepsIt(t *testing.T) {
	opt := quick()
	opt.MostMoved = 0.22
	s := newSite(t, opt)
	s.run(480_000)
	got := strings.Join(s.steps, " ")
	if !strings.HasPrefix(got, "trained shadow promoted kept") {
		t.Fatalf("%s: %+v", got, s.events)
	}
	s.policy.Fill(s.now, s.est, decide.Params{}, &s.table)
	if r := s.table.At(0, 1, 0) / s.table.At(0, 0, 0); r > 0.8 {
		t.Errorf("the second peer is taken to be %.2f times as dear; a half is right", r)
	}
	if part, moved := s.events[0].Figures["step"], s.events[1].Figures["moved"]; part != 0.5 || moved > 0.22 || moved < 0.05 {
		t.Errorf("%v of the first step moved %v of the requests; 0.22 is allowed", part, moved)
	}
	for _, e := range s.events {
		if e.Step == gate.Trained && (e.Figures["loss"] >= e.Figures["loss_before"] || e.Figures["rows"] < 1000) && e.From == "" {
			t.Errorf("%+v", e)
		}
	}
	if v := s.loop.View(); v.Serving != s.serves.ID || v.Decisions < 5000 || v.Made == 0 || v.Counts.Decisions == 0 {
		t.Errorf("%+v", v)
	}
}

func TestTooLittleNewMakesNoCandidate(t *testing.T) {
	opt := quick()
	opt.Least = 10_000
	s := newSite(t, opt)
	s.run(70_000)
	if len(s.steps) > 0 {
		t.Errorf("%v", s.steps)
	}
}

func TestWhatCannotRunNeverServes(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*site)
		want  string
	}{
		"a candidate that cannot be opened":   {func(s *site) { s.refuse = errors.New("no such library") }, "no such library"},
		"an evaluator that answers no number": {func(s *site) { s.broken = true }, "NaN"},
		"a promotion that fails":              {func(s *site) { s.failing = errors.New("disk full") }, "disk full"},
	} {
		s := newSite(t, quick())
		c.spoil(s)
		s.run(75_000)
		if s.serves.ID != "" || s.loop.View().Serving != "" {
			t.Errorf("%s: %s serves", name, s.serves.ID)
		}
		last := s.events[len(s.events)-1]
		if !strings.Contains(last.Reason, c.want) || !strings.Contains(s.dropped, c.want) || len(s.known) > 0 {
			t.Errorf("%s: %+v, dropped for %q", name, s.events, s.dropped)
		}
	}
}

func TestAModelMadeToServeByHandIsRolledBackWhenItIsBad(t *testing.T) {
	opt := quick()
	opt.Least = 1 << 30
	s := newSite(t, opt)
	s.run(20_000)
	bad := model.New([]int{decide.Inputs, 1}, rand.New(rand.NewPCG(1, 1)))
	m := online.Model{ID: "bad", Net: bad}
	s.before = append(s.before, s.serves)
	s.use(m)
	// Tables are made by what it stands for: the slow peer, always.
	s.policy.Model = prefers(0)
	s.loop.Served(s.now, m, "the operator")
	s.run(60_000)
	if got := strings.Join(s.steps, " "); got != "promoted rolled_back" || s.serves.ID != "" {
		t.Fatalf("%s, %q serves: %+v", got, s.serves.ID, s.events)
	}
	if s.loop.View().Gate.Resting < s.now {
		t.Error("no pause after it")
	}
}

// prefers is a model that finds one of two peers cheap.
type prefers int

func (p prefers) Predict(_ []float32, rows int, y []float32) error {
	for i := range rows {
		y[i] = 1
		if i/decide.GridPoints%2 == int(p) {
			y[i] = -1
		}
	}
	return nil
}

func TestAPoolThatIsForgottenLeavesItsCounts(t *testing.T) {
	s := newSite(t, quick())
	s.run(20_000)
	before := s.loop.View()
	s.loop.Forget("api")
	s.loop.Forget("nobody")
	if after := s.loop.View(); after.Counts != before.Counts || after.Decisions != before.Decisions {
		t.Errorf("%+v became %+v", before, after)
	}
}

func TestWorkThatIsCutShortRefusesTheCandidate(t *testing.T) {
	opt := quick()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	n := 0
	opt.Pause = func() {
		if n++; n > 40 {
			stop()
		}
	}
	s := newSite(t, opt)
	s.run(59_000)
	n, s.ctx = 0, ctx
	s.run(10_000)
	if ctx.Err() == nil || s.serves.ID != "" || len(s.known) > 0 {
		t.Errorf("cut short: %v, %q serves, %v", ctx.Err(), s.serves.ID, s.events)
	}
	if p := s.loop.View().Gate.Phase; p != gate.Idle {
		t.Errorf("the phase is %s", p)
	}
}
