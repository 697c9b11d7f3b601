package serve

import (
	"sync"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/replay"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/pool"
)

// feed is what a pool leaves for the learner between two of its rounds. Its mutex is taken with the pool's held, for an append.
type feed struct {
	mu       sync.Mutex // guards all below
	attempts []replay.Attempt
	frames   []*replay.Frame
	lost     uint64
	spacing  float64 // ms between frames, as the learner wants them
	framed   float64 // time of the last one

	spare       []replay.Attempt // the memory the learner is done with
	spareFrames []*replay.Frame
}

// Bounds of a feed: 64,000 attempts of 72 bytes, as of three seconds at 20,000 a second; frames as many as 30 seconds bring.
const (
	feedAttempts = 1 << 16
	feedFrames   = 300
)

func newFeed() *feed { return &feed{} }

func (f *feed) attempt(a replay.Attempt) {
	f.mu.Lock()
	if len(f.attempts) < feedAttempts {
		f.attempts = append(f.attempts, a)
	} else {
		f.lost++
	}
	f.mu.Unlock()
}

// due tells whether a frame is wanted now.
func (f *feed) due(now float64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.frames) < feedFrames && (now-f.framed >= f.spacing || f.framed == 0)
}

func (f *feed) frame(fr *replay.Frame) {
	if fr == nil {
		return
	}
	f.mu.Lock()
	f.frames, f.framed = append(f.frames, fr), fr.At
	f.mu.Unlock()
}

// take hands over what came.
func (f *feed) take() (attempts []replay.Attempt, frames []*replay.Frame, lost uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	attempts, frames, lost = f.attempts, f.frames, f.lost
	f.attempts, f.frames, f.lost = f.spare[:0], f.spareFrames[:0], 0
	f.spare, f.spareFrames = nil, nil
	return attempts, frames, lost
}

// give gives the memory of what was taken back.
func (f *feed) give(attempts []replay.Attempt, frames []*replay.Frame, spacing float64) {
	clear(frames)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spare, f.spareFrames, f.spacing = attempts, frames, spacing
}

// feedAttempt leaves an attempt for the learner. The pool's mutex is held. Without frames of its time it would be taken for one decided on by the
// last frame there was.
func (p *livePool) feedAttempt(ended float64, at, class int, r *observe.Record) {
	if p.feed == nil || !p.shown {
		return
	}
	a := replay.Attempt{
		Start: ended - float64(r.TotalMS), End: ended, Peer: p.members[at].addr, Class: int32(class), Inflight: float32(r.Inflight),
		Propensity: r.Propensity, Number: r.Attempt, Kind: pool.Kind(r.Kind),
		Flags: replay.FlagsOf(r.Flags),
	}
	p.feed.attempt(a)
}

// learns tells whether the pool is one to learn from: what is fitted is a mean, so not one that wants its 99th percentile low, and the
// model must have its say.
func (p *livePool) learns() bool { return p.learned != nil && p.conf.Objective != config.P99 }

// feedFrame leaves what the policy saw for the learner, after a table was filled. The pool's mutex is held. Where requests tell their size that goes on,
// though the model has no say: the learner counts those decisions, and leaves them out.
func (p *livePool) feedFrame(now float64) {
	if p.feed == nil || !p.shown || !p.feed.due(now) {
		return
	}
	s := replay.Shown{Weight: p.weights, Rule: decide.Rule{Explore: p.conf.Explore, Spread: p.conf.Spread}, Control: p.conf.Control, Sized: p.table.Sized()}
	for i := range p.members {
		v := p.health.View(i)
		s.Usable, s.Admit = append(s.Usable, v.Usable), append(s.Admit, v.Admit)
		if p.conf.Split.On() {
			s.Group = append(s.Group, p.members[i].group == p.conf.Split.Group)
		}
	}
	p.feed.frame(replay.NewFrame(now, p.est, p.learned, s))
}
