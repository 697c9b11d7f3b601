// Package gate decides what becomes of a model: whether a candidate may serve, and whether one that serves may stay.
//
//	idle -> offline -> shadow -> live (watched) -> kept
//	          |          |          |
//	       refused    refused   rolled back, then a pause
//
// It is a pure state machine, driven by calls with the time; it holds no models and does nothing itself: calls return what is to
// be done. Every transition is an Event with its reason and figures.
package gate

import (
	"fmt"
	"math"

	"github.com/weirlb/weir/engine/learn/blocks"
	"github.com/weirlb/weir/engine/learn/ope"
)

// Options of a gate. The zero value of a field means its default. Differences are in parts of the mean return or response time.
type Options struct {
	Margin        float64 // how much worse than its predecessor nobody minds; default 0.01
	LeastWeighted float64 // decisions a judgement must be worth; default 500
	MostCut       float64 // share of the decisions whose weight may be cut; default 0.05

	Looks     int     // refreshes in the shadow; default 50
	MostMoved float64 // share of requests a candidate may send elsewhere in the shadow; default 0.5
	MostTimes float64 // how much dearer its tables may be than those served; default 2
	SpareMS   float64 // and so much more is always allowed; default 2

	Unwatched     bool    // without a control slice (the simulator): a candidate that goes live is kept at once
	WatchMS       float64 // how long a new model is watched at least; default 600000
	WatchMostMS   float64 // and at most; default 6 hours
	LeastControls float64 // requests of the control slice it takes; default 300

	PauseMS     float64 // without candidates after a roll-back, doubled by each further one; default 30 minutes
	MostPauseMS float64 // default 24 hours
}

func (o Options) sane() Options {
	set := func(v *float64, def float64) {
		if !(*v > 0) {
			*v = def
		}
	}
	set(&o.Margin, 0.01)
	set(&o.LeastWeighted, 500)
	set(&o.MostCut, 0.05)
	set(&o.MostMoved, 0.5)
	set(&o.MostTimes, 2)
	set(&o.SpareMS, 2)
	set(&o.WatchMS, 600_000)
	set(&o.WatchMostMS, 6*3_600_000)
	set(&o.LeastControls, 300)
	set(&o.PauseMS, 1_800_000)
	set(&o.MostPauseMS, 24*3_600_000)
	if o.Looks <= 0 {
		o.Looks = 50
	}
	return o
}

// Phase is where a candidate, or the model that went live last, stands.
type Phase string

// The phases.
const (
	Idle    Phase = "idle"    // nothing is being tried
	Offline Phase = "offline" // a candidate is judged on recorded decisions
	Shadow  Phase = "shadow"  // its tables are computed beside those served
	Watched Phase = "watched" // it serves, and is compared with the control slice
)

// Step is what happened.
type Step string

// The steps.
const (
	Trained    Step = "trained"
	Refused    Step = "refused"
	Shadowing  Step = "shadow"
	Promoted   Step = "promoted"
	Kept       Step = "kept"
	RolledBack Step = "rolled_back"
	Withdrawn  Step = "withdrawn" // something else came before it was decided
)

// Event is one step of a model.
type Event struct {
	AtMS    float64
	Step    Step
	Model   string
	From    string // the model it was to replace, or did; "" = analytic
	Reason  string // for people
	Figures map[string]float64
}

// Action is what is to be done.
type Action uint8

// The actions.
const (
	None        Action = iota
	StartShadow        // compute the candidate's tables beside those served
	Promote            // make the candidate serve
	Drop               // forget the candidate
	RollBack           // make the predecessor serve again
)

// Gate is the state machine. Not safe for concurrent use.
type Gate struct {
	opt       Options
	phase     Phase
	candidate string // the model that is tried, or watched
	from      string // its predecessor
	since     float64
	resting   float64 // no candidate before
	pause     float64 // the length of the last pause
	look      shadow
	lookAt    float64         // controls at which the comparison is looked at next
	base      blocks.Estimate // served less control, of the predecessor
	followed  bool            // another engine promoted what is watched, and watches it too
	events    []Event
}

type shadow struct {
	n                  int
	moved, took, plain float64
}

// New makes a gate.
func New(opt Options) *Gate { return &Gate{opt: opt.sane(), phase: Idle, resting: math.Inf(-1)} }

// View is where things stand.
type View struct {
	Phase   Phase
	Model   string
	From    string
	SinceMS float64
	Resting float64 // no candidate before this time
	Looks   int
}

// View returns where things stand.
func (g *Gate) View() View { return View{g.phase, g.candidate, g.from, g.since, g.resting, g.look.n} }

// Ready tells whether a candidate may be made.
func (g *Gate) Ready(now float64) bool { return g.phase == Idle && now >= g.resting }

// Events returns what happened since the last call.
func (g *Gate) Events() []Event {
	e := g.events
	g.events = nil
	return e
}

func (g *Gate) enter(now float64, p Phase) {
	g.phase, g.since, g.lookAt = p, now, firstLook
}

// A comparison is first looked at with firstLook requests of the control slice, and then each time there are a quarter more. One that
// was looked at every second would find a difference by chance one day: of 120 models no worse than the slice 9 were rolled back within
// ten minutes then, 5 with this (TestAModelLikeTheControlSliceIsSeldomRolledBack).
const (
	firstLook = 30
	moreLook  = 1.25
)

// Due tells whether Watch may decide something now.
func (g *Gate) Due(now, controls float64) bool {
	return g.phase == Watched && (controls >= g.lookAt || now-g.since >= g.opt.WatchMostMS || now-g.since >= g.opt.WatchMS && controls >= g.opt.LeastControls)
}

func (g *Gate) note(now float64, s Step, figures map[string]float64, reason string, args ...any) {
	g.events = append(g.events, Event{now, s, g.candidate, g.from, fmt.Sprintf(reason, args...), figures})
}

// Candidate says that a model was trained, to replace from.
func (g *Gate) Candidate(now float64, id, from string, figures map[string]float64) {
	if g.phase != Idle {
		return
	}
	g.candidate, g.from = id, from
	g.enter(now, Offline)
	g.note(now, Trained, figures, "fitted to %.0f decisions", figures["rows"])
}

// Refuse drops the candidate for a reason of the caller's.
func (g *Gate) Refuse(now float64, reason string, figures map[string]float64) Action {
	if g.phase != Offline && g.phase != Shadow {
		return None
	}
	g.note(now, Refused, figures, "%s", reason)
	g.enter(now, Idle)
	return Drop
}

// least is the share of requests a candidate must send elsewhere to be worth anybody's time.
const least = 0.001

// Judged says what the offline evaluation found. The candidate goes on when it is better by the estimate and, with the confidence of
// the interval, not worse than the margin.
func (g *Gate) Judged(now float64, r ope.Result, err error) Action {
	if g.phase != Offline {
		return None
	}
	f := map[string]float64{
		"decisions": float64(r.Decisions), "difference": r.Difference.Value, "low": r.Difference.Low, "high": r.Difference.High,
		"effective": r.Effective, "cut": r.Cut, "moved": r.Moved,
	}
	d := r.Difference
	refuse := func(reason string, args ...any) Action { return g.Refuse(now, fmt.Sprintf(reason, args...), f) }
	switch {
	case err != nil:
		return refuse("it could not be judged: %v", err)
	case !d.Known():
		return refuse("%d decisions are too few to judge by", r.Decisions)
	case r.Moved < least:
		return refuse("it decides as the current model does")
	case r.Effective < g.opt.LeastWeighted:
		return refuse("what is recorded is worth %.0f decisions of its own; %.0f are needed", r.Effective, g.opt.LeastWeighted)
	case r.Cut > g.opt.MostCut:
		return refuse("it differs too much from what served: %.1f %% of the weights were cut, at most %.1f %% may be", 100*r.Cut, 100*g.opt.MostCut)
	case d.Value > 0:
		return refuse("it would be %.2f %% worse on what is recorded", 100*d.Value)
	case d.High > g.opt.Margin:
		return refuse("it would be %s on what is recorded, but may be %s; at most %.2f %% is allowed", change(d.Value), change(d.High), 100*g.opt.Margin)
	}
	g.look = shadow{}
	g.enter(now, Shadow)
	g.note(now, Shadowing, f, "%s on %d recorded decisions, at worst %s", change(d.Value), r.Decisions, change(d.High))
	return StartShadow
}

// change says a difference in words.
func change(x float64) string {
	if x < 0 {
		return fmt.Sprintf("%.2f %% better", -100*x)
	}
	return fmt.Sprintf("%.2f %% worse", 100*x)
}

// Look is one table computed in the shadow.
type Look struct {
	Fault  string  // why it could not be; "" = it could
	Moved  float64 // share of requests it would send elsewhere, over classes and in-flight counts alike
	TookMS float64 // to compute it
	SoleMS float64 // to compute the one served
}

// Shadowed says how one refresh in the shadow went.
func (g *Gate) Shadowed(now float64, l Look) Action {
	if g.phase != Shadow {
		return None
	}
	if l.Fault != "" {
		return g.Refuse(now, "its table could not be computed: "+l.Fault, nil)
	}
	s := &g.look
	s.n++
	s.moved += l.Moved
	s.took += l.TookMS
	s.plain += l.SoleMS
	if s.n < g.opt.Looks {
		return None
	}
	n := float64(s.n)
	f := map[string]float64{"tables": n, "moved": s.moved / n, "took_ms": s.took / n, "served_took_ms": s.plain / n}
	switch {
	case !(s.moved/n <= g.opt.MostMoved):
		return g.Refuse(now, fmt.Sprintf("it would send %.0f %% of the requests elsewhere; at most %.0f %% is allowed at once",
			100*s.moved/n, 100*g.opt.MostMoved), f)
	case s.took/n > g.opt.MostTimes*s.plain/n+g.opt.SpareMS:
		return g.Refuse(now, fmt.Sprintf("its tables take %.2f ms, those served %.2f ms", s.took/n, s.plain/n), f)
	}
	g.note(now, Promoted, f, "%d tables beside those served were sound; %.1f %% of the requests would have gone elsewhere", s.n, 100*s.moved/n)
	if g.opt.Unwatched {
		g.note(now, Kept, nil, "there is no control slice to watch it against")
		g.enter(now, Idle)
		return Promote
	}
	g.followed = false
	g.enter(now, Watched)
	return Promote
}

// Base says how the model that serves compares with the control slice (served less control), before another takes its place.
func (g *Gate) Base(e blocks.Estimate) { g.base = e }

// Served says that somebody else made a model serve in place of from. It is watched as one that passed the gates.
func (g *Gate) Served(now float64, id, from, by string) {
	if g.phase == Offline || g.phase == Shadow {
		g.note(now, Withdrawn, nil, "%s made another model serve", by)
	}
	g.candidate, g.from, g.followed = id, from, false
	g.note(now, Promoted, nil, "by %s", by)
	if g.opt.Unwatched {
		g.enter(now, Idle)
		return
	}
	g.enter(now, Watched)
}

// Followed is Served by the word of another engine. It is watched too; but where there is too little traffic to tell, that is no reason
// to leave it, which would make all other engines leave it as well.
func (g *Gate) Followed(now float64, id, from, by string) {
	g.Served(now, id, from, by)
	g.followed = true
}

// Starved tells that what serves is watched for longer than it should take, since too few requests come.
func (g *Gate) Starved(now float64) bool { return g.phase == Watched && now-g.since >= g.opt.WatchMS }

// Returned says that somebody else made the predecessor, or the analytic policy, serve again.
func (g *Gate) Returned(now float64, by string) {
	if g.phase == Idle {
		return
	}
	g.note(now, Withdrawn, nil, "%s rolled back", by)
	g.rest(now)
}

// Failed says that what was to be done could not be, as a model that could not be stored.
func (g *Gate) Failed(now float64, err error) {
	if g.phase == Idle {
		return
	}
	g.note(now, Withdrawn, nil, "%v", err)
	g.rest(now)
}

// Watch says how what is served compares with the control slice since the model is live: e is served less control, controls the
// number of the slice's requests. Worse means, with the confidence of e: slower than the control slice by more than the margin, or
// farther from it than the predecessor was.
func (g *Gate) Watch(now float64, e blocks.Estimate, controls float64) Action {
	if !g.Due(now, controls) {
		return None
	}
	g.lookAt = max(g.lookAt, moreLook*controls)
	f := map[string]float64{"served_less_control": e.Value, "controls": controls, "before": g.base.Value}
	if e.Known() {
		f["low"], f["high"] = e.Low, e.High
		// Where the predecessor was worse than the control slice itself, going back to it would mend nothing.
		line := g.opt.Margin
		if g.base.Known() {
			line += max(g.base.Value, 0)
		}
		if e.Low > line {
			return g.rollBack(now, f, "requests it places cost %.1f %% more than those of the control slice (at least %.1f %%)", 100*e.Value, 100*e.Low)
		}
		if g.base.Known() {
			// Two independent estimates: the standard error of their difference, at the 0.5 % of a normal one-sided.
			change, dev := e.Value-g.base.Value, math.Hypot(e.Dev, g.base.Dev)
			if change-2.58*dev > g.opt.Margin {
				return g.rollBack(now, f, "against the control slice it does %.1f %% worse than its predecessor did", 100*change)
			}
		}
	}
	lived := now - g.since
	switch {
	case lived >= g.opt.WatchMS && controls >= g.opt.LeastControls && e.Known():
		g.note(now, Kept, f, "against %.0f requests of the control slice it is not worse", controls)
		g.pause = 0
		g.enter(now, Idle)
	case lived >= g.opt.WatchMostMS && g.followed:
		g.note(now, Kept, f, "after %.0f minutes there were %.0f requests of the control slice, too few to tell; the engine that promoted it has watched it",
			lived/60_000, controls)
		g.enter(now, Idle)
	case lived >= g.opt.WatchMostMS:
		return g.rollBack(now, f, "after %.0f minutes there were %.0f requests of the control slice, too few to tell that it is no worse",
			lived/60_000, controls)
	}
	return None
}

func (g *Gate) rollBack(now float64, f map[string]float64, reason string, args ...any) Action {
	g.note(now, RolledBack, f, reason, args...)
	g.rest(now)
	return RollBack
}

// rest keeps candidates away for a while, each time longer.
func (g *Gate) rest(now float64) {
	g.pause = min(max(2*g.pause, g.opt.PauseMS), g.opt.MostPauseMS)
	g.resting = now + g.pause
	g.enter(now, Idle)
}
