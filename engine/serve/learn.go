package serve

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/gate"
	"github.com/weirlb/weir/engine/learn/online"
)

// Learner drives the online loop (engine/learn/online) beside the engine: one goroutine, which owns the loop and takes at most its share
// of a core. Pools leave what they see in their feeds, under locks that are held to append; no decision, no outcome and no table waits
// for learning. When it cannot keep up, outcomes are lost to it, counted, and to nothing else.
type Learner struct {
	eng   *Engine
	conf  config.Learn
	loop  *online.Loop
	pools map[string]*livePool // those the loop knows; the goroutine's own

	hold    *evaluator // use of the candidate's evaluator, for its shadow
	figures map[string]float64
	working time.Time               // when the goroutine last came back from a pause
	worked  atomic.Int64            // ns it has worked
	abandon func()                  // ends long work, when what serves has changed under it
	basis   *Model                  // what served when the work began
	offer   atomic.Pointer[offered] // an average of several engines, to be judged; nil = none
	starved atomic.Bool             // too little traffic to judge anything by

	mu   sync.Mutex // guards view
	view LearningView
}

// learnerName is what the learner calls itself where models are changed.
const learnerName = "learning"

// Learn makes the engine learn while it serves. It is called before Start, after the model was configured; tune may change what the
// configuration has no key for, nil = nothing.
func (e *Engine) Learn(c config.Learn, tune func(*online.Options)) {
	if !bool(c.Enabled) {
		return
	}
	l := &Learner{eng: e, conf: c, pools: map[string]*livePool{}}
	opt := online.Options{
		EveryMS: float64(c.EveryMS), Least: c.MinDecisions, Decisions: c.Decisions, Bytes: c.MaxMB << 20, Seed: uint64(time.Now().UnixNano()),
		Gate: gate.Options{WatchMS: float64(c.WatchMS)}, Pause: l.pause, Clock: e.now, Card: map[string]string{"instance": e.conf.Instance},
	}
	if bool(c.Federated) && e.share != nil {
		opt.Share = e.share.trained
	}
	if tune != nil {
		tune(&opt)
	}
	l.loop = online.New(opt, (*host)(l))
	e.learner = l
	e.tel.Learning(l.gauges)
	for _, p := range e.sorted() {
		p.mu.Lock()
		p.feed = newFeed()
		p.unlock()
	}
}

// tickMS is how often feeds are emptied.
const tickMS = 200

// run is the goroutine.
func (l *Learner) run(life context.Context) {
	l.loop.Start(l.eng.now(), l.serving())
	tick := time.NewTicker(tickMS * time.Millisecond)
	defer tick.Stop()
	for {
		l.publish()
		select {
		case <-life.Done():
			l.hold.release()
			return
		case <-tick.C:
		}
		l.working = time.Now()
		l.round(life)
		l.worked.Add(int64(time.Since(l.working)))
	}
}

// round takes what came and does what is due.
func (l *Learner) round(life context.Context) {
	now := l.eng.now()
	l.follow(now)
	l.drain(now)
	ctx, cancel := context.WithCancel(life)
	defer cancel()
	l.abandon, l.basis = cancel, l.eng.models.Serving()
	l.starved.Store(l.loop.Starved(now))
	l.judgeOffer(ctx, now)
	l.loop.Step(ctx, now)
	l.abandon = nil
}

// pause is called between small parts of work. It sleeps so long that the share of the core is kept, and gives the work up when the
// engine ends or another model was made to serve.
func (l *Learner) pause() {
	took := time.Since(l.working)
	l.worked.Add(int64(took))
	if l.abandon != nil && l.eng.models.Serving() != l.basis {
		l.abandon()
	}
	if rest := time.Duration(float64(took) * (1 - l.conf.CPUShare) / l.conf.CPUShare); rest > 0 {
		t := time.NewTimer(min(rest, time.Second))
		select {
		case <-t.C:
		case <-l.eng.life.Done():
			t.Stop()
		}
	}
	l.working = time.Now()
}

func (l *Learner) serving() online.Model {
	return l.eng.models.Serving().online()
}

// follow tells the loop when somebody else changed what serves.
func (l *Learner) follow(now float64) {
	m := l.serving()
	if m.ID == l.loop.View().Serving {
		return
	}
	by, back := l.eng.models.lastChange()
	if back || m.Net == nil {
		l.loop.Returned(now, m, by)
		return
	}
	if by == followerName {
		l.loop.Followed(now, m, by)
		return
	}
	l.loop.Served(now, m, by)
}

// lastChange tells who changed the current model last, and whether it was by going back.
func (r *Models) lastChange() (by string, back bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range slices.Backward(r.events) {
		switch e.Event {
		case "promoted", "loaded":
			return e.By, false
		case "rolled_back", "unloaded", "failed":
			return e.By, true
		}
	}
	return "somebody", true
}

// drain empties the feeds into the loop.
func (l *Learner) drain(now float64) {
	seen := map[string]*livePool{}
	for _, p := range l.eng.sorted() {
		f := p.feed
		if f == nil {
			continue // configured after Learn, about to get one
		}
		if l.pools[p.name] != p && l.pools[p.name] != nil {
			l.loop.Forget(p.name)
		}
		seen[p.name] = p
		attempts, frames, lost := f.take()
		for _, fr := range frames {
			l.loop.Frame(now, p.name, fr)
		}
		if lost > 0 {
			l.loop.Gap(now, p.name, lost)
		}
		for i := range attempts {
			l.loop.Ended(p.name, attempts[i])
		}
		f.give(attempts, frames, l.loop.SpacingMS(p.name))
	}
	for name := range l.pools {
		if seen[name] == nil {
			l.loop.Forget(name)
		}
	}
	l.pools = seen
}

// host is the learner as the loop sees it. Its calls come from within the loop's.
type host Learner

// Propose implements online.Host.
func (h *host) Propose(c online.Candidate) (decide.Predictor, error) {
	r := h.eng.models
	if _, err := r.Propose(c.File, learnerName); err != nil {
		return nil, err
	}
	r.SetFigures(c.ID, h.figures)
	h.release()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.candidate == nil || r.candidate.ID != c.ID || !r.candidate.eval.retain() {
		return nil, nil
	}
	h.hold = r.candidate.eval
	return h.hold.predictor(), nil
}

func (h *host) release() {
	h.hold.release()
	h.hold = nil
}

// Drop implements online.Host.
func (h *host) Drop(id, reason string) {
	h.release()
	h.eng.models.Drop(id, learnerName, reason)
}

// Promote implements online.Host.
func (h *host) Promote(id, reason string) error {
	h.release()
	return h.eng.models.Promote(id, learnerName, reason)
}

// RollBack implements online.Host.
func (h *host) RollBack(id, reason string) (online.Model, error) {
	if err := h.eng.models.Rollback(id, learnerName, reason); err != nil {
		return online.Model{}, err
	}
	return (*Learner)(h).serving(), nil
}

// Event implements online.Host.
func (h *host) Event(e gate.Event) {
	figures := map[string]float64{}
	for k, v := range e.Figures {
		if !math.IsNaN(v) && !math.IsInf(v, 0) { // JSON has neither
			figures[string(e.Step)+"_"+k] = v
		}
	}
	if e.Step == gate.Trained {
		h.figures = figures // the registry does not know the model yet
	}
	r := h.eng.models
	r.SetFigures(e.Model, figures)
	switch e.Step {
	case gate.Promoted, gate.RolledBack: // the registry notes what it does itself
	default:
		r.Note(string(e.Step), e.Model, learnerName, e.Reason)
	}
	h.eng.log.Info().Str("model", e.Model).Str("before", e.From).Str("step", string(e.Step)).Any("figures", figures).Str("reason", e.Reason).Msg("learning")
}
