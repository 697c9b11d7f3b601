package policy

import (
	"math/rand/v2"
	"strconv"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/learn/replay"
	"github.com/weirlb/weir/engine/pool"
	"github.com/weirlb/weir/engine/sim/world"
)

// weir is the product: the estimators (engine/estimate), health (engine/pool) and tables (engine/decide) that the engine
// runs, with their defaults, and the pick that NGINX makes by the table at its live in-flight counts.
//
// What lies between the two programs is kept too. Outcomes and in-flight counts reach the engine in batches each 100 ms,
// with the time each attempt ended; the table is made anew each 100 ms, halfway between two batches; changes of health and
// membership reach the picks at once. Each balancer has an engine of its own.
//
// Two things differ. There is no control slice: its 2 % of the requests measure another policy by intent. And NGINX's own
// reflex against failing peers is done by aside.go, since its only production form is in Lua.
type weir struct {
	rnd    *rand.Rand
	est    *estimate.Pool
	health *pool.Health
	fill   decide.Policy
	trusts []float64
	watch  Watcher  // nil = none
	learn  *learner // nil = the model stays as it is
	rule   decide.Rule

	noSizes   bool
	objective decide.Objective

	addrs    []string // by peer of the scenario
	members  []int32  // by position in the table: peer of the scenario
	position []int32  // by peer of the scenario; -1 = no member
	classes  []string
	rows     []int // by class of the scenario: row of the table
	kinds    []int // likewise: the estimators' index of that row
	table    decide.Table
	cand     []decide.Candidate // Usable and Admit as of the last news from the engine
	live     []decide.Candidate // scratch of Pick
	aside    aside
	batch    []ended
	inFlight []int32           // live counts of this balancer: the world's own slice
	work     []float64         // by peer of the scenario: the work of those, as lua/resty/weir keeps it
	progress []decide.Progress // likewise; in tables with sizes
	held     []held            // attempts under way, by cookie
	free     []uint32          // unused places of held
	flushing bool              // whether the next tick is a batch's or the table's

	lastResort leastConn // where no member is usable
}

// held is what an attempt adds to the work of its peer, and what that was before.
type held struct {
	load   float64
	found  float64
	cookie uint32 // the attempt's, for others
}

// ended is an outcome on its way to the engine.
type ended struct {
	world.Outcome
	work float64 // at the pick
}

// weirPeriodMS is how often batches are sent, and how often the table is made.
const weirPeriodMS = 100

// Variant is what may differ between instances of Weir that are compared.
type Variant struct {
	Policy    decide.Policy // of this instance alone; nil = analytic
	Objective decide.Objective
	Explore   float64 // share of random picks; negative = the default
	Watch     Watcher // hears of every pick; nil = nobody does
	NoSizes   bool    // take every request for one of the usual size of its class, whatever it tells
	Learn     *Learn  // learn online, with a policy and a watcher of its own; nil = not
}

// Watcher hears of every pick of one balancer and of how it ended.
type Watcher interface {
	// Picked tells that a request of a class row is sent to the peer at position at in the table, which has n in flight. The number
	// it returns comes back in the outcome's Cookie.
	Picked(a *world.Attempt, row, at int, n float64, c decide.Choice) uint32
	Ended(o *world.Outcome)
}

// Weir makes Weir with a variant for each balancer.
func Weir(variant func(s *world.Setup) Variant) New {
	return func(s *world.Setup) world.Balancer { return makeWeir(s, variant(s)) }
}

func newWeir(s *world.Setup) world.Balancer { return makeWeir(s, Variant{Explore: -1}) }

func makeWeir(s *world.Setup, v Variant) world.Balancer {
	set := config.DefaultSettings()
	var learned *decide.Learned
	if v.Learn != nil {
		learned = &decide.Learned{}
		v.Policy, v.Watch = learned, nil
	}
	if v.Policy == nil {
		v.Policy = &decide.Analytic{}
	}
	if v.Explore >= 0 {
		set.Explore = v.Explore
	}
	w := &weir{
		noSizes: v.NoSizes, objective: v.Objective,
		rnd: s.Rand, est: estimate.New(estimate.Options{TopClasses: set.Classes.Top}), health: pool.New(pool.Defaults()),
		fill: v.Policy, watch: v.Watch, rule: decide.Rule{Explore: set.Explore, Spread: set.Spread}, position: make([]int32, len(s.Scenario.Peers)),
		work: make([]float64, len(s.Scenario.Peers)), progress: make([]decide.Progress, len(s.Scenario.Peers)),
		aside: newAside(len(s.Scenario.Peers), set.Eject), flushing: true, inFlight: s.InFlight,
		lastResort: leastConn{choices: newChoices(s.Rand)},
	}
	for i := range s.Scenario.Peers {
		w.addrs = append(w.addrs, "10.0."+strconv.Itoa(i/250)+"."+strconv.Itoa(1+i%250)+":8080")
	}
	for _, c := range s.Scenario.Classes {
		w.classes = append(w.classes, c.Name)
	}
	w.rows, w.kinds = make([]int, len(w.classes)), make([]int, len(w.classes))
	if v.Learn != nil {
		w.learn = newLearner(s, v.Learn, learned)
	}
	w.setMembers(0, s.Present)
	return w
}

// setMembers is what the engine does when its configuration or discovery changes: the rest of the state stays.
func (w *weir) setMembers(now float64, present []int32) {
	w.members = append(w.members[:0], present...)
	for i := range w.position {
		w.position[i] = -1
	}
	addrs := make([]string, len(present))
	specs := make([]pool.PeerSpec, len(present))
	for i, p := range present {
		w.position[p] = int32(i)
		addrs[i] = w.addrs[p]
		specs[i].Addr = w.addrs[p]
	}
	w.est.SetPeers(now, addrs)
	w.health.SetPeers(now, specs)
	w.refresh(now)
}

// Joined implements world.Member.
func (w *weir) Joined(now float64, peer int32) {
	members := make([]int32, 0, len(w.members)+1)
	for p := range w.position {
		if w.position[p] >= 0 || int32(p) == peer {
			members = append(members, int32(p))
		}
	}
	w.aside.forget(peer)
	w.setMembers(now, members)
}

// Left implements world.Member.
func (w *weir) Left(now float64, peer int32) {
	members := make([]int32, 0, len(w.members))
	for _, p := range w.members {
		if p != peer {
			members = append(members, p)
		}
	}
	w.setMembers(now, members)
}

// PeriodMS implements world.Ticker: batches and tables take turns.
func (w *weir) PeriodMS() float64 { return weirPeriodMS / 2 }

// Tick implements world.Ticker.
func (w *weir) Tick(now float64) {
	if w.flushing {
		w.observe(now)
	} else {
		w.refresh(now)
	}
	w.flushing = !w.flushing
}

// observe is the arrival of a batch at the engine.
func (w *weir) observe(now float64) {
	for i := range w.batch {
		o := &w.batch[i]
		at := int(w.position[o.Peer])
		if at < 0 {
			w.learn.forget(&o.Outcome)
			continue // no member any more: counted and skipped
		}
		class := w.est.Class(o.Now, w.classes[o.Class])
		if w.learn != nil {
			w.learn.ended(w, &o.Outcome, class)
		}
		kind := kindOf(o.Kind)
		overload := w.health.Excuses(at, kind)
		w.health.Result(o.Now, at, kind)
		header := o.LatencyMS
		if kind != pool.OK && kind != pool.Status {
			header = -1
		}
		w.est.Observe(o.Now, estimate.Outcome{
			Peer: at, Class: class, InFlight: int(o.InFlight), Work: o.work, Kind: kind, Overload: overload,
			HeaderMS: header, TotalMS: o.LatencyMS, Weight: o.Weight, ReportedLoad: o.Utilisation, ReportedInFlight: float64(o.PeerInFlight),
		})
	}
	w.batch = w.batch[:0]
	for i, p := range w.members {
		w.est.InFlight(now, i, int(w.inFlight[p]))
	}
	w.judge(now)
}

func kindOf(k world.Kind) pool.Kind {
	switch k {
	case world.Refused:
		return pool.Refused
	case world.Timeout:
		return pool.Timeout
	case world.Status:
		return pool.Status
	default:
		return pool.OK
	}
}

// refresh makes a new table, and publishes it.
func (w *weir) refresh(now float64) {
	w.est.Refresh(now)
	for i := range w.members {
		w.health.Predict(now, i, w.est.Peer(i).Risk)
	}
	w.health.Loads(func(i int) pool.Load {
		v := w.est.Peer(i)
		return v.Load()
	})
	params := decide.Params{Objective: w.objective, Sizes: !w.noSizes}
	w.fill.Fill(now, w.est, params, &w.table)
	w.trusts = w.trusts[:0]
	for i := range w.members {
		w.trusts = append(w.trusts, decide.TrustIn(w.known(i)))
	}
	w.table.Trust(params, w.trusts)
	for c, name := range w.classes {
		w.rows[c] = w.table.Class(name)
		w.kinds[c] = w.est.Listed()[w.rows[c]]
	}
	w.judge(now)
	if w.learn != nil {
		w.learn.refreshed(w, now)
	}
}

// known is what is known of the peer at position i.
func (w *weir) known(i int) (pool.View, estimate.PeerView) { return w.health.View(i), w.est.Peer(i) }

// judge publishes who is usable, and how far.
func (w *weir) judge(now float64) {
	w.health.Advance(now)
	w.cand = w.cand[:0]
	for i := range w.members {
		v := w.health.View(i)
		w.cand = append(w.cand, decide.Candidate{Usable: v.Usable, Admit: v.Admit})
	}
}

// Pick implements world.Balancer, as lua/resty/weir/pick.lua does.
func (w *weir) Pick(a *world.Attempt) int32 {
	w.live = w.live[:0]
	for i, p := range w.members {
		c := w.cand[i]
		c.InFlight, c.Work = float64(a.InFlight[p]), w.left(p, a.Now, float64(a.InFlight[p]))
		c.Usable = c.Usable && w.aside.free(p, a.Now) && a.Untried(p)
		w.live = append(w.live, c)
	}
	if w.learn != nil {
		if to := w.learn.controlled(w, a); to >= 0 {
			w.aside.picked(to, a.Now)
			w.hold(a, to, 1)
			return to
		}
	}
	rule := w.rule
	if a.Number > 1 {
		rule.Explore = 0 // a request that failed once is no subject for trials
	}
	to := int32(-1)
	row := w.rows[a.Class]
	size := 1.0
	if w.table.Sized() {
		size = w.est.Size(w.kinds[a.Class], a.Weight)
	}
	if c := decide.PickSized(&w.table, row, size, w.live, rule, w.rnd); c.Peer >= 0 {
		to = w.members[c.Peer]
		if w.learn != nil {
			flags := replay.Flags(0)
			if c.Explored {
				flags = replay.Explored
			}
			a.Cookie = w.learn.picked(c.Propensity, flags)
		}
		if w.watch != nil {
			a.Cookie = w.watch.Picked(a, w.rows[a.Class], c.Peer, w.live[c.Peer].InFlight, c)
		}
	} else {
		to = w.lastResort.Pick(a)
	}
	w.aside.picked(to, a.Now)
	w.hold(a, to, size)
	return to
}

// hold adds the work of an attempt of a size to its peer's. The attempt's cookie, which is a watcher's or the learner's until then, becomes
// its place in held + 1, so that 0 is none.
func (w *weir) hold(a *world.Attempt, peer int32, size float64) {
	h := held{load: w.table.Load(w.rows[a.Class], int(w.position[peer]), size), cookie: a.Cookie}
	if w.table.Sized() { // before, each counts as one
		n := float64(a.InFlight[peer])
		h.found = w.left(peer, a.Now, n)
		w.advance(peer, a.Now, n)
	}
	w.work[peer] += h.load
	if n := len(w.free); n > 0 {
		at := w.free[n-1]
		w.free = w.free[:n-1]
		w.held[at] = h
		a.Cookie = at + 1
		return
	}
	w.held = append(w.held, h)
	a.Cookie = uint32(len(w.held))
}

// left is the work left to do on a peer that holds n requests.
func (w *weir) left(peer int32, now, n float64) float64 {
	if at := w.position[peer]; at >= 0 && w.table.Sized() {
		return w.progress[peer].Left(&w.table, int(at), now, n, w.work[peer])
	}
	return w.work[peer]
}

// advance brings a peer's progress to now; false where there is none.
func (w *weir) advance(peer int32, now, n float64) bool {
	at := w.position[peer]
	if at < 0 || !w.table.Sized() {
		return false
	}
	w.progress[peer].Advance(&w.table, int(at), now, n, w.work[peer])
	return true
}

// release takes it off again: the very number that was added, so that the sums stay exact.
func (w *weir) release(now float64, peer int32, cookie uint32) held {
	if cookie == 0 {
		return held{} // no pick was made for it
	}
	at := cookie - 1
	h := w.held[at]
	w.free = append(w.free, at)
	if n := float64(w.inFlight[peer]) + 1; w.advance(peer, now, n) {
		w.progress[peer].End(&w.table, int(w.position[peer]), h.load, n)
	}
	w.work[peer] -= h.load
	if w.inFlight[peer] == 0 {
		w.work[peer] = 0 // what rounding left
	}
	return h
}

// Done implements world.Balancer. The reflex hears at once, the engine with the next batch.
func (w *weir) Done(o *world.Outcome) {
	at := w.position[o.Peer]
	w.aside.ended(w.members, o, at >= 0 && w.health.View(int(at)).Needed, o.Kind != world.OK && w.health.Needed())
	h := w.release(o.Now, o.Peer, o.Cookie)
	e := ended{*o, h.found}
	e.Cookie = h.cookie
	if w.watch != nil {
		w.watch.Ended(&e.Outcome)
	}
	w.batch = append(w.batch, e)
}
