package world

import (
	"math"
	"slices"

	"github.com/weirlb/weir/engine/sim/scenario"
)

// timeline is the events of a scenario under way, in the clock of arrivals (ms).
type timeline struct {
	events []occurrence
	at     float64 // the earliest change
	frozen bool    // between episodes: nothing changes
}

// occurrence is one event and where it stands.
type occurrence struct {
	*scenario.Event
	index  int
	active bool
	starts float64 // the current or next time it starts
	change float64 // when it next starts or ends; +Inf = never
}

func newTimeline(events []scenario.Event) timeline {
	t := timeline{}
	for i := range events {
		at := events[i].FromS * 1000
		t.events = append(t.events, occurrence{Event: &events[i], index: i, starts: at, change: at})
	}
	t.find()
	return t
}

func (t *timeline) find() {
	t.at = math.Inf(1)
	for i := range t.events {
		t.at = min(t.at, t.events[i].change)
	}
}

func (t *timeline) next() float64 {
	if t.frozen {
		return math.Inf(1)
	}
	return t.at
}

// absentAtStart: the earliest join or leave of the peer is a join. Of two at one time the first in the file counts.
func (t *timeline) absentAtStart(peer int) bool {
	first := -1
	for i, e := range t.events {
		if e.Peer == peer && (e.Join || e.Leave) && (first < 0 || e.FromS < t.events[first].FromS) {
			first = i
		}
	}
	return first >= 0 && t.events[first].Join
}

// turn starts or ends the event. It tells whether it is active now.
func (o *occurrence) turn() bool {
	if !o.active {
		o.active = true
		o.change = math.Inf(1)
		if o.ForS > 0 {
			o.change = o.starts + o.ForS*1000
		}
		return true
	}
	o.active = false
	o.change = math.Inf(1)
	if o.EveryS > 0 {
		o.starts += o.EveryS * 1000
		o.change = o.starts
	}
	return false
}

// applyEvents makes every change that is due.
func (w *World) applyEvents() {
	clock := w.timeline.at // not now - offset, which rounding may put before it
	var touched []int
	for i := range w.timeline.events {
		if o := &w.timeline.events[i]; o.change <= clock {
			w.setMembership(o, o.turn())
			touched = append(touched, o.Peer)
		}
	}
	for _, peer := range slices.Compact(slices.Sorted(slices.Values(touched))) {
		w.applyTo(peer)
	}
	w.timeline.find()
}

// applyTo works out a peer's speed and failure from the events that are active: the lowest speed, the last failure.
func (w *World) applyTo(peer int) {
	p := &w.peers[peer]
	speed := math.Inf(1)
	p.fail = nil
	for i := range w.timeline.events {
		o := &w.timeline.events[i]
		if !o.active || o.Peer != peer {
			continue
		}
		if o.Speed > 0 {
			speed = min(speed, o.Speed)
		}
		if o.Fail != nil {
			p.fail = o.Fail
		}
	}
	if math.IsInf(speed, 1) {
		speed = p.base
	}
	w.setSpeed(peer, speed)
}

// setMembership makes o's peer present or absent as o starts or ends. An event that ends changes nothing while another of the peer is
// under way: the one that started last holds, of those at one time the last in the file.
func (w *World) setMembership(o *occurrence, active bool) {
	if !o.Join && !o.Leave {
		return
	}
	p := &w.peers[o.Peer]
	member := o.Join == active
	if !active {
		var last *occurrence
		for i := range w.timeline.events {
			e := &w.timeline.events[i]
			if e.active && e.Peer == o.Peer && (e.Join || e.Leave) && (last == nil || e.starts >= last.starts) {
				last = e
			}
		}
		if last != nil {
			member = last.Join
		}
	}
	if o.Join && active { // cold also where a leave ended at the same time and has brought the peer back already
		p.since, p.warm, p.slow = w.now, o.WarmS*1000, o.ColdFactor
	}
	if p.member == member {
		return
	}
	p.member = member
	w.listPresent()
	for i := range w.balancers {
		if m := w.balancers[i].member; m != nil && member {
			m.Joined(w.now, int32(o.Peer))
		} else if m != nil {
			m.Left(w.now, int32(o.Peer))
		}
	}
}
