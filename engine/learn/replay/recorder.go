package replay

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/returns"
	"github.com/weirlb/weir/engine/pool"
)

// Options of a Recorder. The zero value of a field means its default.
type Options struct {
	Pool       int32
	FrameBytes int     // of all frames; default 16 MiB
	Open       int     // attempts that wait to be settled, or are needed for those; default 131072 (7 MB)
	PerS       float64 // decisions kept a second, about; default 40
	Imposed    float64 // how much of the delay imposed counts; default returns.DefaultImposed, negative = none
}

// DefaultPerS keeps the decisions of about 8 minutes in a store of the default size, however busy the pool is.
const DefaultPerS = 40

func (o Options) sane() Options {
	if o.FrameBytes <= 0 {
		o.FrameBytes = 16 << 20
	}
	if o.Open <= 0 {
		o.Open = 1 << 17
	}
	if !(o.PerS > 0) {
		o.PerS = DefaultPerS
	}
	if o.Imposed == 0 {
		o.Imposed = returns.DefaultImposed
	}
	return o
}

// Recorder makes decisions of a pool's attempts. Not safe for concurrent use.
type Recorder struct {
	opt    Options
	frames []*Frame // oldest first
	bytes  int
	open   []attempt
	full   bool // no room: nothing is taken in until the open ones are settled
	fullAt float64
	opened float64 // attempts that began earlier may be missing, the short ones first
	counts Counts
	peers  map[string]int32
	settle float64 // time of the last Settle
}

type attempt struct {
	Attempt
	peer int32
	done bool
}

// NewRecorder makes one.
func NewRecorder(opt Options) *Recorder {
	return &Recorder{opt: opt.sane(), peers: map[string]int32{}, settle: math.Inf(-1), opened: math.Inf(-1)}
}

// Limit changes the bounds, as when pools come and go that share them.
func (r *Recorder) Limit(frameBytes, open int, perS float64) {
	r.opt.FrameBytes, r.opt.Open, r.opt.PerS = frameBytes, open, perS
	r.opt = r.opt.sane()
}

// Counts tells what became of the attempts so far.
func (r *Recorder) Counts() Counts { return r.counts }

// lag is how long an attempt waits for those behind it, given the pool's slow answers: an imposed delay ends with the queue it is in.
func lag(slowMS float64) float64 { return min(max(10*slowMS, 1000), 120_000) }

// Lag is that of this pool, ms.
func (r *Recorder) Lag() float64 {
	if len(r.frames) == 0 {
		return lag(0)
	}
	return lag(r.frames[len(r.frames)-1].Penalty)
}

// SpacingMS is how far apart frames should be, so that the ring reaches back for as long as attempts wait. Frames more than a second
// apart would tell too little; an attempt whose frame is gone is counted and not replayed.
func (r *Recorder) SpacingMS() float64 {
	if len(r.frames) == 0 {
		return 0
	}
	size := r.frames[len(r.frames)-1].bytes()
	return min(2*r.Lag()*float64(size)/float64(r.opt.FrameBytes), 1000)
}

// Frame takes in what the policy saw at a refresh; frames come in the order of time.
func (r *Recorder) Frame(f *Frame) {
	if f == nil {
		return
	}
	f.Pack()
	r.frames = append(r.frames, f)
	r.bytes += f.bytes()
	drop := 0
	for r.bytes > r.opt.FrameBytes && drop < len(r.frames)-1 {
		r.bytes -= r.frames[drop].bytes()
		drop++
	}
	if drop > 0 {
		r.frames = slices.Delete(r.frames, 0, drop)
	}
}

// Ended takes in an attempt.
func (r *Recorder) Ended(a Attempt) {
	r.counts.Attempts++
	if r.full || !(a.End >= a.Start) {
		r.counts.Overflow++
		return
	}
	id, ok := r.peers[a.Peer]
	if !ok {
		id = int32(len(r.peers))
		r.peers[a.Peer] = id
	}
	r.open = append(r.open, attempt{Attempt: a, peer: id})
	// At a rate that fills the room before those behind have ended, time is recorded in windows: one is filled, settled, and
	// the next is begun. Only attempts from the window's first part count, which had the time to end whatever they took: otherwise
	// the short ones alone would be seen.
	if len(r.open) >= r.opt.Open {
		r.full, r.fullAt = true, a.End
	}
}

// Gap tells that attempts which ended before now were lost on the way here. Those that began before it are not replayed: of them only
// the long ones are left.
func (r *Recorder) Gap(now float64, lost uint64) {
	r.opened = max(r.opened, now)
	r.counts.Attempts += lost
	r.counts.Overflow += lost
}

// Due tells whether Settle is worth calling.
func (r *Recorder) Due(now float64) bool { return r.full || now-r.settle >= max(1000, r.Lag()/4) }

// Settle makes decisions of the attempts that can be, into the store. pause, when not nil, is called between parts of the work.
func (r *Recorder) Settle(now float64, rnd *rand.Rand, to *Store, pause func()) {
	span := min(now-r.settle, 4*r.Lag())
	r.settle = now
	if len(r.open) == 0 || len(r.frames) == 0 { // without frames there is nothing to replay
		r.forget(now)
		return
	}
	slices.SortStableFunc(r.open, func(a, b attempt) int { return cmp.Compare(a.Start, b.Start) })
	ready := r.ready(now, span, rnd)
	if len(ready) > 0 {
		imposed := r.imposed(ready, pause)
		held := r.held()
		for i, at := range ready {
			if pause != nil && i%256 == 255 {
				pause()
			}
			r.replay(&r.open[at], held, imposed[at], to)
		}
	}
	r.forget(now)
}

// ready lists the attempts to replay now, and marks all that waited as done.
func (r *Recorder) ready(now, span float64, rnd *rand.Rand) []int {
	var list []int
	until := now - r.Lag()
	if r.full {
		until = r.fullAt - min(r.Lag(), (r.fullAt-r.open[0].Start)/2)
	}
	for i := range r.open {
		a := &r.open[i]
		if a.done || a.Start > until && !r.full {
			continue
		}
		a.done = true
		switch {
		case a.Start > until || a.Start < r.opened:
			r.counts.Overflow++
		case a.Number > 1 || a.Flags&Other != 0:
			r.counts.Foreign++
		case a.Flags&Stream != 0 || a.Kind == pool.Abort || a.Kind == pool.IdleRace:
			r.counts.NoReturn++
		default:
			list = append(list, i)
		}
	}
	// Each alike: a sample that depended on how an attempt went would bend what is learned.
	keep := r.opt.PerS * span / 1000 / float64(max(len(list), 1))
	if keep >= 1 {
		return list
	}
	n := 0
	for _, i := range list {
		if rnd.Float64() < keep {
			list[n] = i
			n++
		}
	}
	r.counts.Thinned += uint64(len(list) - n)
	return list[:n]
}

// imposed is the delay each ready attempt imposed on others at its peer, by index into open.
func (r *Recorder) imposed(ready []int, pause func()) map[int]float64 {
	out := make(map[int]float64, len(ready))
	if r.opt.Imposed < 0 {
		return out
	}
	wanted := make(map[int]bool, len(ready))
	for _, i := range ready {
		wanted[i] = true
	}
	byPeer := make([][]int, len(r.peers))
	for i := range r.open {
		if a := &r.open[i]; a.Kind == pool.OK && a.Flags&Stream == 0 {
			byPeer[a.peer] = append(byPeer[a.peer], i)
		}
	}
	last := r.frames[len(r.frames)-1]
	slots := make(map[string]int, len(last.Peers))
	for p, addr := range last.Peers {
		slots[addr] = max(int(math.Round(last.Slots[p])), 1)
	}
	var ended []float64
	for _, list := range byPeer {
		if len(list) == 0 {
			continue
		}
		l := returns.Log{Slots: max(slots[r.open[list[0]].Peer], 1)}
		ended = ended[:0]
		for _, i := range list {
			l.Arrived = append(l.Arrived, r.open[i].Start)
			ended = append(ended, r.open[i].End)
		}
		l.Serve(ended)
		for i, ms := range l.All(func(i int) bool { return wanted[list[i]] }) {
			if ms > 0 {
				out[list[i]] = ms
			}
		}
		if pause != nil {
			pause()
		}
	}
	return out
}

// timeline is when a peer's attempts began and ended, each in order.
type timeline struct{ began, ended []float64 }

// at is how many were there at t, those that began at t left out.
func (l *timeline) at(t float64) float64 {
	began, _ := slices.BinarySearch(l.began, t)
	ended, _ := slices.BinarySearch(l.ended, math.Nextafter(t, math.Inf(1)))
	return float64(max(began-ended, 0))
}

func (r *Recorder) held() []timeline {
	out := make([]timeline, len(r.peers))
	for i := range r.open {
		a := &r.open[i]
		l := &out[a.peer]
		l.began = append(l.began, a.Start) // open is in this order
		l.ended = append(l.ended, a.End)
	}
	for i := range out {
		slices.Sort(out[i].ended)
	}
	return out
}

// mostConsidered: in larger pools NGINX looks at a random sample of the peers, which nobody else knows.
const mostConsidered = 256

func (r *Recorder) replay(a *attempt, held []timeline, imposed float64, to *Store) {
	at, found := slices.BinarySearchFunc(r.frames, a.Start, func(f *Frame, t float64) int { return cmp.Compare(f.At, t) })
	if !found {
		at--
	}
	if at < 0 {
		r.counts.NoFrame++
		return
	}
	f := r.frames[at]
	// The delay that requests impose on shared peers falls on others nobody here knows of, and a model that learns by the rest learns to crowd
	// the fast peers.
	if f.Load > 1 {
		r.counts.Shared++
		return
	}
	if f.Sized {
		r.counts.Sized++
		return
	}
	chosen := slices.Index(f.Peers, a.Peer)
	confined := a.Flags&Confined != 0
	considered := func(p int) bool {
		return f.Usable[p] && (!confined || f.Group == nil || chosen < 0 || f.Group[p] == f.Group[chosen])
	}
	usable := 0
	for p := range f.Usable {
		if considered(p) {
			usable++
		}
	}
	if chosen < 0 || (!f.Usable[chosen] && usable > 0) {
		r.counts.NoPeer++
		return
	}
	d := Decision{
		At: a.Start, Pool: r.opt.Pool, Flags: a.Flags, Propensity: float64(a.Propensity), Own: a.End - a.Start, Imposed: imposed,
		Scale: f.MeanMS, Rule: f.Rule, Failed: a.Kind.Failed(), Exact: !f.Bounded && confined == (f.Group != nil) && usable > 0 && usable <= mostConsidered,
	}
	add := func(p int, n float64) {
		from := len(d.X)
		d.X = append(d.X, make([]float32, decide.Inputs)...)
		d.Cost = append(d.Cost, float32(f.Row(int(a.Class), p, n, d.X[from:])))
	}
	if !d.Exact {
		d.X, d.Cost = make([]float32, 0, decide.Inputs), make([]float32, 0, 1)
		add(chosen, float64(a.Inflight))
	} else {
		d.X, d.Cost = make([]float32, 0, usable*decide.Inputs), make([]float32, 0, usable)
		for p, addr := range f.Peers {
			if !considered(p) {
				continue
			}
			n := 0.0
			if p == chosen {
				d.Chosen = len(d.Cost)
				n = float64(a.Inflight)
			} else if id, ok := r.peers[addr]; ok {
				n = held[id].at(a.Start)
			}
			add(p, n)
		}
	}
	d.Time = f.Time(int(a.Class), chosen, float64(a.Inflight))
	d.Return = d.Own + max(r.opt.Imposed, 0)*imposed
	weight := 1.0
	if chosen < len(f.Weight) && f.Weight[chosen] > 0 {
		weight = f.Weight[chosen]
	}
	d.Return /= weight
	if d.Failed {
		// As in decide: its time, the penalty, and the request has to be served all the same.
		d.Own += f.Penalty
		d.Return += f.Penalty/weight + float64(d.Cost[d.Chosen])
	}
	r.counts.Decisions++
	to.Add(d)
}

// forget drops attempts that no decision to come overlaps, and opens the next window when this one is settled.
func (r *Recorder) forget(now float64) {
	keep := now - 2*r.Lag()
	n := 0
	for i := range r.open {
		a := &r.open[i]
		if !a.done || a.End >= keep {
			r.open[n] = *a
			n++
		}
	}
	clear(r.open[n:])
	r.open = r.open[:n]
	if r.full {
		r.open, r.full, r.opened = r.open[:0], false, now
	}
	if len(r.peers) > 4*1024 && len(r.open) == 0 { // addresses of peers long gone
		clear(r.peers)
	}
}
