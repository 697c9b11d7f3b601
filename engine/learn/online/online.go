// Package online learns while the engine serves: it makes candidates of the current model from what was decided lately, and leads
// them through the gates.
//
//	outcomes -> replay -> a candidate each EveryMS -> offline -> shadow -> live, watched -> kept or rolled back
//
// A candidate is the current network fitted further, for few epochs at a low rate and drawn towards where it was, to how long requests of two
// thirds of the replayed decisions took; it is judged by the returns, the delay imposed on others included, of the last third, of other
// stretches of time.
//
// The loop is pure: time is an argument, randomness comes from a seed, and what has to be done in the world is asked of a Host. The
// engine drives it from one goroutine, the simulator under simulated time.
package online

import (
	"context"
	"math/rand/v2"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/gate"
	"github.com/weirlb/weir/engine/learn/replay"
	"github.com/weirlb/weir/engine/learn/returns"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/engine/pool"
)

// Model is a model by its name. Without a net it is the analytic policy, whose ID is "".
type Model struct {
	ID    string
	Net   *model.Net
	Price decide.Price // what else it brings; candidates have that of the model they are made of
}

func (m Model) predictor() decide.Predictor {
	if m.Net == nil {
		return nil
	}
	return m.Net.Predictor()
}

// Candidate is a new model, with its file.
type Candidate struct {
	Model
	File []byte
}

// Host is where models serve. Its calls come from within Step.
type Host interface {
	// Propose makes a candidate known, and returns what will evaluate it when it serves; nil = its net does.
	Propose(c Candidate) (decide.Predictor, error)
	// Drop gives it up.
	Drop(id, reason string)
	// Promote makes it serve.
	Promote(id, reason string) error
	// RollBack leaves model id, which serves, for the one before, and tells which that is.
	RollBack(id, reason string) (Model, error)
	// Event hears of every step.
	Event(e gate.Event)
}

// Options of a loop. The zero value of a field means its default.
type Options struct {
	EveryMS   float64 // from one candidate to the next; default 600000
	Least     int     // new decisions a candidate takes; default 2000
	Decisions int     // of the store; default replay.DefaultDecisions
	Bytes     int     // of the store; default replay.DefaultBytes
	PerS      float64 // decisions kept a second, over all pools; default: as many as the store holds for EveryMS
	Imposed   float64 // how much of the delay imposed counts where a candidate is judged; default returns.DefaultImposed, negative = none
	Epochs    int     // default 3
	Rate      float64 // of learning; default 5e-4
	Decay     float64 // towards the current model, per step and rate; default 20
	Shrink    float64 // what is taken of the correction that answers call for; default returns.DefaultShrink
	MostMoved float64 // share of requests a candidate may send elsewhere than the current model; default 0.15
	Seed      uint64
	Gate      gate.Options
	// Pause is called between small parts of the work, of some milliseconds. It may sleep. nil = not.
	Pause func()
	// Clock gives ms of any origin, for how long tables take; nil = they take no time.
	Clock func() float64
	// Share, when not nil, gets what was trained, and the number of decisions it was fitted to, in place of the gates: it is averaged with
	// others' elsewhere. What comes of that is for Offer.
	Share func(c Candidate, base string, decisions int)
	// Card adds to a candidate's model card.
	Card map[string]string
}

func (o Options) sane() Options {
	if !(o.EveryMS > 0) {
		o.EveryMS = 600_000
	}
	if o.Least <= 0 {
		o.Least = 2000
	}
	if o.Decisions <= 0 {
		o.Decisions = replay.DefaultDecisions
	}
	if o.Bytes <= 0 {
		o.Bytes = replay.DefaultBytes
	}
	if !(o.PerS > 0) {
		o.PerS = max(float64(o.Decisions)/(o.EveryMS/1000), 1)
	}
	if o.Epochs <= 0 {
		o.Epochs = 3
	}
	if !(o.Rate > 0) {
		o.Rate = 5e-4
	}
	if !(o.Decay > 0) {
		o.Decay = 20
	}
	if !(o.Shrink > 0) {
		o.Shrink = returns.DefaultShrink
	}
	if !(o.MostMoved > 0) {
		o.MostMoved = 0.15
	}
	if o.Clock == nil {
		o.Clock = func() float64 { return 0 }
	}
	return o
}

// Loop learns. Not safe for concurrent use.
type Loop struct {
	opt     Options
	host    Host
	gate    *gate.Gate
	store   *replay.Store
	rnd     *rand.Rand
	pools   map[string]*tracked
	order   []*tracked
	numbers int32 // pools ever
	gone    replay.Counts

	serving   Model
	candidate Model
	predictor decide.Predictor // of the candidate, as it would serve
	slice     gate.Slice       // served against control, since the serving model is live
	sliceFrom float64
	watchedAt float64
	next      float64 // no candidate before
	used      uint64  // store.Added at the last candidate
	made      uint64  // candidates so far
	shadow    shadowTables
}

// tracked is one pool.
type tracked struct {
	name  string
	rec   *replay.Recorder
	frame *replay.Frame // the last
}

// New makes a loop that serves by the analytic policy until Serving tells otherwise.
func New(opt Options, host Host) *Loop {
	opt = opt.sane()
	return &Loop{
		opt: opt, host: host, gate: gate.New(opt.Gate), store: replay.NewStore(opt.Decisions, opt.Bytes),
		rnd: rand.New(rand.NewPCG(opt.Seed, 0x0411e)), pools: map[string]*tracked{}, next: opt.EveryMS,
	}
}

// frameBytes and openAttempts are shared by all pools.
const (
	frameBytes   = 32 << 20
	openAttempts = 1 << 18
)

func (l *Loop) pool(name string) *tracked {
	p := l.pools[name]
	if p == nil {
		p = &tracked{name: name, rec: replay.NewRecorder(replay.Options{Pool: l.numbers, Imposed: l.opt.Imposed})}
		l.numbers++
		l.pools[name] = p
		l.order = append(l.order, p)
		l.share()
	}
	return p
}

func (l *Loop) share() {
	n := max(len(l.order), 1)
	for _, p := range l.order {
		p.rec.Limit(max(frameBytes/n, 64<<10), max(openAttempts/n, 2048), l.opt.PerS/float64(n))
	}
}

// Forget drops a pool that is no more. Its decisions stay in the store until they are old.
func (l *Loop) Forget(name string) {
	p := l.pools[name]
	if p == nil {
		return
	}
	l.gone.Add(p.rec.Counts())
	delete(l.pools, name)
	for i, x := range l.order {
		if x == p {
			l.order = append(l.order[:i], l.order[i+1:]...)
			break
		}
	}
	l.share()
}

// Frame takes in what a pool's policy saw at a refresh. In the shadow the candidate's table is made of it.
func (l *Loop) Frame(now float64, name string, f *replay.Frame) {
	p := l.pool(name)
	p.frame = f
	p.rec.Frame(f)
	if l.gate.View().Phase == gate.Shadow && f != nil {
		l.do(now, l.gate.Shadowed(now, l.shadow.look(f, l.predictor, l.serving.predictor(), l.opt.Clock)))
	}
}

// SpacingMS is how far apart a pool's frames should be.
func (l *Loop) SpacingMS(name string) float64 { return l.pool(name).rec.SpacingMS() }

// Gap tells that attempts of a pool were lost on the way.
func (l *Loop) Gap(now float64, name string, lost uint64) { l.pool(name).rec.Gap(now, lost) }

// Ended takes in an attempt.
func (l *Loop) Ended(name string, a replay.Attempt) {
	p := l.pool(name)
	p.rec.Ended(a)
	f := p.frame
	// What is compared is the rule: not the random draws, which belong to neither, nor retries, whose peers were chosen by exclusion.
	if f == nil || a.Number != 1 || a.Flags&(replay.Stream|replay.Other|replay.Explored) != 0 || a.Kind == pool.Abort || a.Kind == pool.IdleRace {
		return
	}
	ms := a.End - a.Start
	if a.Kind.Failed() {
		ms += f.Penalty + f.MeanMS
	}
	l.slice.Add(a.Start, a.Flags&replay.Control != 0, ms/max(f.MeanMS, 1e-3))
}

// grace is how long after a change picks may still be made by the table of before.
const grace = 1000

// Start tells what serves at the beginning.
func (l *Loop) Start(now float64, m Model) {
	l.next = now + l.opt.EveryMS
	l.live(now, m)
}

func (l *Loop) live(now float64, m Model) {
	l.serving = m
	l.slice.Reset(now + grace)
	l.sliceFrom = now
}

// Served tells that somebody else made a model serve: it is watched like a candidate that passed.
func (l *Loop) Served(now float64, m Model, by string) {
	l.served(now, m, by, l.gate.Served)
}

// Followed tells that a model serves on the word of another engine.
func (l *Loop) Followed(now float64, m Model, by string) {
	l.served(now, m, by, l.gate.Followed)
}

func (l *Loop) served(now float64, m Model, by string, tell func(now float64, id, from, by string)) {
	from := l.serving.ID
	if m.ID == from {
		return
	}
	l.base(now)
	tell(now, m.ID, from, by)
	l.live(now, m)
	l.events()
}

// Returned tells that somebody else went back to the model before, or to the analytic policy.
func (l *Loop) Returned(now float64, m Model, by string) {
	if m.ID == l.serving.ID {
		return
	}
	l.gate.Returned(now, by)
	l.live(now, m)
	l.events()
}

// base remembers how the model that goes compared with the control slice.
func (l *Loop) base(float64) { l.gate.Base(l.slice.Estimate(watchLevel)) }

// watchLevel is the confidence of a comparison with the control slice. It is looked at many times, so it is high.
const watchLevel = 0.995

// watchEveryMS is how often it is looked at; staleMS when the comparison of a model that is kept begins anew.
const (
	watchEveryMS = 2000
	staleMS      = 2 * 3_600_000
)

// Step does what is due. ctx ends long work early.
func (l *Loop) Step(ctx context.Context, now float64) {
	for _, p := range l.order {
		if p.rec.Due(now) {
			p.rec.Settle(now, l.rnd, l.store, l.opt.Pause)
		}
	}
	switch l.gate.View().Phase {
	case gate.Watched:
		if now-l.watchedAt >= watchEveryMS && l.gate.Due(now, l.slice.Controls()) {
			l.watchedAt = now
			l.do(now, l.gate.Watch(now, l.slice.Estimate(watchLevel), l.slice.Controls()))
		}
	case gate.Idle:
		if now-l.sliceFrom > staleMS {
			l.live(now, l.serving)
		}
		if now >= l.next && l.gate.Ready(now) && l.store.Added-l.used >= uint64(l.opt.Least) {
			l.next, l.used = now+l.opt.EveryMS, l.store.Added
			l.train(ctx, now)
		}
	}
	l.events()
}

// do does what the gate asks for.
func (l *Loop) do(now float64, a gate.Action) {
	reason := l.events()
	switch a {
	case gate.Drop:
		l.host.Drop(l.candidate.ID, reason)
		l.candidate, l.predictor = Model{}, nil
	case gate.Promote:
		l.base(now)
		from := l.serving
		m := l.candidate
		l.candidate, l.predictor = Model{}, nil
		l.live(now, m) // before the host is asked: what serves changes with it
		if err := l.host.Promote(m.ID, reason); err != nil {
			l.live(now, from)
			l.gate.Failed(now, err)
			l.host.Drop(m.ID, err.Error())
		}
	case gate.RollBack:
		m, err := l.host.RollBack(l.serving.ID, reason)
		if err != nil {
			l.host.Event(gate.Event{AtMS: now, Step: gate.Withdrawn, Model: l.serving.ID, Reason: "the roll-back failed: " + err.Error()})
			break
		}
		l.live(now, m)
	}
	l.events()
}

// events hands them on and returns the last one's reason.
func (l *Loop) events() (reason string) {
	for _, e := range l.gate.Events() {
		l.host.Event(e)
		reason = e.Reason
	}
	return reason
}

// View is where the loop stands.
type View struct {
	Gate      gate.View
	Serving   string
	Decisions int // in the store
	Bytes     int
	New       uint64 // since the last candidate
	Next      float64
	Made      uint64 // candidates
	Dropped   uint64 // decisions that made room
	Controls  float64
	Counts    replay.Counts
}

// View returns where the loop stands.
func (l *Loop) View() View {
	v := View{
		Gate: l.gate.View(), Serving: l.serving.ID, Decisions: l.store.Len(), Bytes: l.store.Bytes(), New: l.store.Added - l.used, Next: l.next,
		Made: l.made, Dropped: l.store.Dropped, Controls: l.slice.Controls(), Counts: l.gone,
	}
	for _, p := range l.order {
		v.Counts.Add(p.rec.Counts())
	}
	return v
}
