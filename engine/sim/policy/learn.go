package policy

import (
	"context"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/gate"
	"github.com/weirlb/weir/engine/learn/online"
	"github.com/weirlb/weir/engine/learn/replay"
	"github.com/weirlb/weir/engine/sim/world"
)

// Learn lets a balancer learn online, by the loop that the engine runs, under simulated time. Learning takes no simulated time.
//
// Control is the share of requests of the control slice, by least_conn. Without one, as is usual here since its requests would be
// counted as Weir's, a candidate that passed offline and shadow is kept: nothing could roll it back.
type Learn struct {
	Model   online.Model // to begin with; without a net the analytic policy
	Options online.Options
	Control float64
	Events  func(gate.Event) // nil = nobody hears
}

// learner is the loop of one balancer and its host.
type learner struct {
	conf   *Learn
	loop   *online.Loop
	policy *decide.Learned
	before []online.Model // what served, for roll-backs
	serves online.Model
	made   map[string]online.Model
	stepAt float64

	picks []pickNote // of attempts that are out, by cookie - 1
	free  []uint32
	rule  leastConn
}

// pickNote is what is known of an attempt since its pick.
type pickNote struct {
	propensity float32
	flags      replay.Flags
}

// stepMS is how often the loop is given the time to do something.
const stepMS = 1000

func newLearner(s *world.Setup, conf *Learn, policy *decide.Learned) *learner {
	l := &learner{conf: conf, policy: policy, serves: conf.Model, made: map[string]online.Model{}, rule: leastConn{choices: newChoices(s.Rand)}}
	opt := conf.Options
	opt.Seed = s.Rand.Uint64()
	opt.Gate.Unwatched = !(conf.Control > 0)
	l.loop = online.New(opt, l)
	l.loop.Start(0, conf.Model)
	l.use(conf.Model)
	return l
}

func (l *learner) use(m online.Model) {
	l.serves = m
	l.policy.Model, l.policy.Analytic.Price = nil, m.Price
	if m.Net != nil {
		l.policy.Model = m.Net.Predictor()
	}
}

// Propose implements online.Host.
func (l *learner) Propose(c online.Candidate) (decide.Predictor, error) {
	l.made[c.ID] = c.Model
	return nil, nil
}

// Drop implements online.Host.
func (l *learner) Drop(id, _ string) { delete(l.made, id) }

// Promote implements online.Host.
func (l *learner) Promote(id, _ string) error {
	l.before = append(l.before, l.serves)
	l.use(l.made[id])
	delete(l.made, id)
	return nil
}

// RollBack implements online.Host.
func (l *learner) RollBack(string, string) (online.Model, error) {
	n := len(l.before) - 1
	l.use(l.before[n])
	l.before = l.before[:n]
	return l.serves, nil
}

// Event implements online.Host.
func (l *learner) Event(e gate.Event) {
	if l.conf.Events != nil {
		l.conf.Events(e)
	}
}

// picked remembers a pick until its attempt ends.
func (l *learner) picked(propensity float64, flags replay.Flags) uint32 {
	n := pickNote{float32(propensity), flags}
	if k := len(l.free); k > 0 {
		at := l.free[k-1]
		l.free = l.free[:k-1]
		l.picks[at] = n
		return at + 1
	}
	l.picks = append(l.picks, n)
	return uint32(len(l.picks))
}

// controlled picks for the control slice; negative: this request is not of it.
func (l *learner) controlled(w *weir, a *world.Attempt) int32 {
	if a.Number > 1 || !(l.conf.Control > 0) || w.rnd.Float64() >= l.conf.Control {
		return -1
	}
	to := l.rule.Pick(a)
	a.Cookie = l.picked(1, replay.Control)
	return to
}

// forget frees what is remembered of an attempt that nobody learns from.
func (l *learner) forget(o *world.Outcome) {
	if l != nil && o.Cookie > 0 {
		l.free = append(l.free, o.Cookie-1)
	}
}

// ended takes in an outcome as it reaches the engine.
func (l *learner) ended(w *weir, o *world.Outcome, class int) {
	if o.Cookie == 0 {
		return
	}
	n := l.picks[o.Cookie-1]
	l.free = append(l.free, o.Cookie-1)
	l.loop.Ended("", replay.Attempt{
		Start: o.Now - o.LatencyMS, End: o.Now, Peer: w.addrs[o.Peer], Class: int32(class), Inflight: float32(o.InFlight),
		Propensity: n.propensity, Number: uint8(min(o.Number, 255)), Kind: kindOf(o.Kind), Flags: n.flags,
	})
}

// refreshed hands over what the policy saw, and lets the loop do what is due.
func (l *learner) refreshed(w *weir, now float64) {
	s := replay.Shown{Rule: w.rule, Control: l.conf.Control, Sized: w.table.Sized()}
	for _, c := range w.cand {
		s.Usable, s.Admit, s.Weight = append(s.Usable, c.Usable), append(s.Admit, c.Admit), append(s.Weight, 1)
	}
	l.loop.Frame(now, "", replay.NewFrame(now, w.est, l.policy, s))
	if now-l.stepAt >= stepMS {
		l.stepAt = now
		l.loop.Step(context.Background(), now)
	}
}
