// Package recorded makes decisions of recorded history: it sends outcomes through the estimators in the order of time, as the engine
// did, and so finds what a policy would have seen at each pick. Models are judged by these decisions, and trained with them.
//
// History has no in-flight samples and no list of members. Both are found from the outcomes themselves: an attempt was in flight
// from its start to its end, and a peer is a member from its first attempt until the pool has gone on for long without it. Events of
// health, where they were kept, say who was usable.
//
// Pure: what it is told and in which order is all that counts.
package recorded

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/learn/fit"
	"github.com/weirlb/weir/engine/learn/replay"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/pool"
)

// Options of a replay. The zero value of a field means its default.
type Options struct {
	RefreshMS float64 // of the engine; default 100
	WarmMS    float64 // time in which estimators only learn; default 60000
	FromMS    float64 // and until then, Unix milliseconds
	// LagMS is how old what a table knows is when it begins to serve, default 100, negative = 0: outcomes travel in batches each 100 ms, and a table
	// takes a moment to NGINX. Without it a replayed policy would hear of a peer that turns slow before any real one could: on real
	// traffic the model that had served was said to be 6 to 11 % better than itself; with it 4 to 8 %.
	LagMS     float64
	Decisions int     // kept, the last ones; default 200000
	Bytes     int     // kept; default 512 MiB
	Imposed   float64 // how much of the delay imposed counts; default returns.DefaultImposed, negative = none
	Seed      uint64
	// Pool gives a pool's settings; nil = the defaults for all.
	Pool func(name string) Settings
}

// Settings is what history does not have of a pool.
type Settings struct {
	Rule    decide.Rule
	Classes int                // rows of its tables; 0 = the estimators' default
	Weights map[string]float64 // by peer; missing = 1
	Sizes   bool               // what requests tell of their size was heeded
	// Engines that sent to the peers, this one included; 0 = to be found out, as an engine does that is not told.
	Balancers int
}

// Replay is history on its way into decisions. Not safe for concurrent use.
type Replay struct {
	opt    Options
	pools  map[string]*site
	health map[string][]history.Event // of pools that no outcome was told of yet
	order  []*site
	store  *replay.Store
	rnd    *rand.Rand

	Outcomes uint64 // told
	Sampled  uint64 // of them: kept at a rate below 1. They count for what was in flight, too little, and are not decisions
	Late     uint64 // not in the order of time, by more than is looked ahead
	Early    uint64 // of the time in which estimators only learned
}

// aheadMS is how far ahead outcomes are read, to know what was in flight. Longer attempts are missed for their first part.
const aheadMS = 30_000

// New makes a replay.
func New(opt Options) *Replay {
	if !(opt.RefreshMS > 0) {
		opt.RefreshMS = 100
	}
	if opt.WarmMS == 0 {
		opt.WarmMS = 60_000
	}
	if opt.Decisions <= 0 {
		opt.Decisions = 200_000
	}
	if opt.Bytes <= 0 {
		opt.Bytes = 512 << 20
	}
	switch {
	case opt.LagMS == 0:
		opt.LagMS = 100
	case opt.LagMS < 0:
		opt.LagMS = 0
	}
	if opt.Pool == nil {
		opt.Pool = func(string) Settings { return Settings{Rule: decide.Rule{Spread: 0.1, Explore: 0.01}} }
	}
	return &Replay{opt: opt, pools: map[string]*site{}, health: map[string][]history.Event{}, store: replay.NewStore(opt.Decisions, opt.Bytes), rnd: rand.New(rand.NewPCG(opt.Seed, 0x4ec))}
}

// site is one pool.
type site struct {
	set    Settings
	est    *estimate.Pool
	policy decide.Learned
	table  decide.Table
	rec    *replay.Recorder
	begin  float64 // time of the first start
	now    float64
	newest float64 // latest end told

	peers  []string
	index  map[string]int
	held   []int
	state  []string // by the last event of health; "" = none
	backup []bool   // has stood by: its part is bounded when it is up
	seen   []float64
	events []history.Event // to come
	starts starts
	ends   []outcome // in the order of time; those before done have been taken in
	done   int
	rate   float64 // attempts a ms, decayed
	event  float64 // time of the last start or end
}

type outcome struct {
	start, end float64
	peer       int
	class      string
	o          history.Outcome
}

// start is when an attempt began, and where.
type start struct {
	at   float64
	peer int
}

// starts is a heap of them by time.
type starts []start

func (s starts) Len() int           { return len(s) }
func (s starts) Less(i, j int) bool { return s[i].at < s[j].at }
func (s starts) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *starts) Push(x any)        { *s = append(*s, x.(start)) }

func (s *starts) Pop() any {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
}

func (r *Replay) site(name string, at float64) *site {
	p := r.pools[name]
	if p == nil {
		set := r.opt.Pool(name)
		p = &site{
			set: set, est: estimate.New(estimate.Options{TopClasses: set.Classes}), index: map[string]int{}, begin: at, now: at, events: r.health[name],
			rec: replay.NewRecorder(replay.Options{
				Pool: int32(len(r.order)), FrameBytes: 256 << 20, Open: 1 << 20, PerS: 1e9, Imposed: r.opt.Imposed,
			}),
		}
		p.est.SetBalancers(set.Balancers)
		r.pools[name] = p
		r.order = append(r.order, p)
	}
	return p
}

// Health tells events of health, in the order of time, before any outcome.
func (r *Replay) Health(events []history.Event) {
	for _, e := range events {
		if e.Kind == history.Health {
			r.health[e.Pool] = append(r.health[e.Pool], e)
		}
	}
}

// Add takes in outcomes, in the order of time.
func (r *Replay) Add(series []history.Series, list []history.Outcome) error {
	for i := range list {
		o := &list[i]
		if int(o.Series) >= len(series) {
			return fmt.Errorf("an outcome is of series %d; there are %d", o.Series, len(series))
		}
		s := series[o.Series]
		end := float64(o.AtMS) + float64(o.AtUS)/1000
		start := end - max(float64(o.TotalMS), 0)
		p := r.site(s.Pool, start)
		r.Outcomes++
		if end < p.now {
			r.Late++
			continue
		}
		if o.Rate < 1 {
			r.Sampled++
		}
		p.tell(outcome{start: start, end: end, peer: p.peer(s.Peer), class: s.Class, o: *o})
		r.advance(p, p.newest-aheadMS)
	}
	return nil
}

func (p *site) peer(addr string) int {
	i, ok := p.index[addr]
	if !ok {
		i = len(p.peers)
		p.index[addr] = i
		p.peers = append(p.peers, addr)
		p.held, p.state, p.seen = append(p.held, 0), append(p.state, ""), append(p.seen, math.Inf(-1))
		p.backup = append(p.backup, false)
		p.est.SetPeers(p.now, p.peers)
	}
	return i
}

func (p *site) tell(o outcome) {
	p.newest = max(p.newest, o.end)
	at := len(p.ends)
	for at > p.done && p.ends[at-1].end > o.end {
		at--
	}
	p.ends = slices.Insert(p.ends, at, o)
	if o.start <= p.now {
		p.held[o.peer]++
		p.seen[o.peer] = max(p.seen[o.peer], o.start)
		return
	}
	heap.Push(&p.starts, start{o.start, o.peer})
}

// advance moves a pool's time on, table by table.
func (r *Replay) advance(p *site, until float64) {
	for p.now+r.opt.RefreshMS <= until {
		if next, busy := p.next(); !busy && next > p.now+10*r.opt.RefreshMS {
			p.now = min(next-r.opt.RefreshMS, until) // nothing happens till then
		}
		p.now += r.opt.RefreshMS
		r.tick(p)
	}
}

// next is when something happens next, and whether something is in flight.
func (p *site) next() (at float64, busy bool) {
	at = math.Inf(1)
	if len(p.starts) > 0 {
		at = p.starts[0].at
	}
	if p.done < len(p.ends) {
		at = min(at, p.ends[p.done].end)
	}
	for _, n := range p.held {
		busy = busy || n > 0
	}
	return at, busy
}

// tick is one refresh of the engine.
func (r *Replay) tick(p *site) {
	now := p.now
	for len(p.events) > 0 && float64(p.events[0].AtMS) <= now {
		if i, ok := p.index[p.events[0].Subject]; ok {
			p.state[i] = p.events[0].To
			p.backup[i] = p.backup[i] || p.state[i] == pool.Standby.String()
		}
		p.events = p.events[1:]
	}
	for len(p.starts) > 0 && p.starts[0].at <= now {
		s := heap.Pop(&p.starts).(start)
		p.held[s.peer]++
		p.seen[s.peer] = s.at
		p.event = max(p.event, s.at)
	}
	done := 0
	for p.done < len(p.ends) && p.ends[p.done].end <= now {
		o := &p.ends[p.done]
		p.held[o.peer]--
		r.observe(p, o)
		p.event = max(p.event, o.end)
		p.done++
		done++
	}
	if p.done > len(p.ends)/2 { // at each refresh it would be a copy of all that is read ahead
		p.ends, p.done = slices.Delete(p.ends, 0, p.done), 0
	}
	p.rate += (float64(done)/r.opt.RefreshMS - p.rate) * min(r.opt.RefreshMS/10_000, 1)
	if at := p.sampled(now); at > now-r.opt.RefreshMS {
		for i, n := range p.held {
			p.est.InFlight(at, i, max(n, 0))
		}
	}
	p.est.Refresh(now)
	var params decide.Params
	shown := replay.Shown{Rule: p.set.Rule, Sized: p.set.Sizes && p.est.Hinted()}
	for i, addr := range p.peers {
		w := 1.0
		if x := p.set.Weights[addr]; x > 0 {
			w = x
		}
		params.Weights = append(params.Weights, w)
		usable, admit := p.member(i)
		shown.Usable, shown.Admit, shown.Weight = append(shown.Usable, usable), append(shown.Admit, admit), append(shown.Weight, w)
	}
	p.policy.Fill(now, p.est, params, &p.table)
	if now-p.begin >= r.opt.WarmMS && now >= r.opt.FromMS {
		p.rec.Frame(replay.NewFrame(now+r.opt.LagMS, p.est, &p.policy, shown))
	}
	if p.rec.Due(now) {
		p.rec.Settle(now, r.rnd, r.store, nil)
	}
}

// silence is how many starts and ends must be missing for a pause of NGINX itself: by chance it happens once in e^6.
const silence = 6

// sampled is when NGINX would have said last what is in flight. It does many times a second, but not while it stands still, as when its
// host has no processor for it: then nothing starts or ends anywhere, and to take that for peers that work on would make every
// one of them look slow, those that hold most by tenfold.
func (p *site) sampled(now float64) float64 {
	if (now-p.event)*2*p.rate > silence {
		return p.event
	}
	return now
}

// member tells whether a peer could be picked, and how far. One that got nothing while the pool placed a thousand requests a peer is no
// member any more: exploration alone would have brought it some.
func (p *site) member(i int) (usable bool, admit float64) {
	switch p.state[i] {
	case pool.Ejected.String(), pool.Down.String(), pool.Draining.String(), pool.Standby.String():
		return false, 1
	case pool.SlowStart.String():
		return p.present(i), 0.5 // how far is not known: below 1
	}
	if p.backup[i] {
		return p.present(i), 0.5 // it takes a part; how large is not known
	}
	return p.present(i), 1
}

func (p *site) present(i int) bool {
	return (p.now-p.seen[i])*p.rate < 1000*float64(len(p.peers)) || p.held[i] > 0
}

func (r *Replay) observe(p *site, o *outcome) {
	h := &o.o
	class := p.est.Class(o.end, o.class)
	flags := observe.Flags(h.Flags)
	p.est.Observe(o.end, estimate.Outcome{
		Peer: o.peer, Class: class, InFlight: int(h.Inflight), Kind: pool.Kind(h.Kind), Status: int(h.Status), Stream: flags&observe.Stream != 0,
		HeaderMS: float64(h.HeaderMS), TotalMS: float64(h.TotalMS), Weight: float64(h.Weight), ReportedLoad: float64(h.Load),
		ReportedInFlight: -1,
	})
	a := replay.Attempt{
		Start: o.start, End: o.end, Peer: p.peers[o.peer], Class: int32(class), Inflight: float32(h.Inflight), Propensity: h.Propensity,
		Number: h.Attempt, Kind: pool.Kind(h.Kind), Flags: replay.FlagsOf(flags),
	}
	if h.Rate < 1 {
		a.Flags |= replay.Other
	}
	if o.start < max(p.begin+r.opt.WarmMS, r.opt.FromMS) {
		r.Early++
		return // its frame is not there
	}
	p.rec.Ended(a)
}

// Finish settles what is left.
func (r *Replay) Finish() {
	for _, p := range r.order {
		r.advance(p, p.newest+r.opt.RefreshMS)
		p.rec.Settle(p.now+p.rec.Lag()+1, r.rnd, r.store, nil)
	}
}

// Decisions returns the decisions made so far.
func (r *Replay) Decisions() []replay.Decision { return r.store.All() }

// Dropped is how many decisions made room for later ones.
func (r *Replay) Dropped() uint64 { return r.store.Dropped }

// Counts tells what became of the attempts.
func (r *Replay) Counts() (c replay.Counts) {
	for _, p := range r.order {
		c.Add(p.rec.Counts())
	}
	return c
}

// Rows are the decisions as training data: what they took over what they were expected to take, or with imposed, their returns over their costs.
func Rows(list []replay.Decision, imposed bool) *fit.Rows {
	rows := &fit.Rows{In: decide.Inputs}
	for i := range list {
		d := &list[i]
		ratio := d.Ratio()
		if imposed {
			ratio = float32(max(d.Return/float64(d.Cost[d.Chosen]), 1e-4))
		}
		rows.Add(d.Row(d.Chosen), ratio)
	}
	return rows
}
