package world

import (
	"math"

	"github.com/weirlb/weir/engine/sim/scenario"
)

// peer is a first-come-first-served queue in front of equal slots.
type peer struct {
	slots int32
	busy  int32
	held  int32 // waiting, being served, or waiting for a failure to be answered
	head  int32 // of the queue, -1 = empty; linked by request.next
	tail  int32
	speed float64 // now
	base  float64 // without events
	slow  float64 // factor of a cold start: cold until warm at 1
	since float64 // of the last join, ms
	warm  float64 // ms
	fail  *scenario.Fail
	orca  bool

	member    bool
	affinity  []float64
	latencies rifLatencies
	slotFree  []float64 // when each slot will have worked off all it has; kept only for Truth.Completion
	work      []int32   // requests waiting or being served, by class; kept only for Truth.Work
}

func newPeer(p *scenario.Peer) peer {
	return peer{
		slots: int32(p.Slots), head: -1, tail: -1, speed: p.Speed, base: p.Speed, slow: 1, orca: p.ORCA,
		affinity: p.Affinity,
	}
}

// duration is how long a slot works on r when it begins at a time.
func (p *peer) duration(at float64, r *request) float64 {
	return r.size * p.affinity[r.class] / p.speed * p.coldFactor(at)
}

func (p *peer) coldFactor(at float64) float64 {
	left := p.since + p.warm - at
	if p.slow == 1 || left <= 0 {
		return 1
	}
	return 1 + (p.slow-1)*math.Min(1, left/p.warm)
}

func (p *peer) queue(reqs []request, id int32) {
	reqs[id].next = -1
	if p.tail >= 0 {
		reqs[p.tail].next = id
	} else {
		p.head = id
	}
	p.tail = id
}

func (p *peer) dequeue(reqs []request) {
	p.head = reqs[p.head].next
	if p.head < 0 {
		p.tail = -1
	}
}

func (p *peer) failsNow(w *World) bool {
	return p.fail != nil && (p.fail.Share >= 1 || w.faults.Float64() < p.fail.Share)
}

// project books r on the slot that is free first, which is where it will be served: slots take from one queue in order.
func (p *peer) project(now float64, r *request) {
	i := p.freeFirst()
	begin := math.Max(now, p.slotFree[i])
	p.slotFree[i] = begin + p.duration(begin, r)
}

func (p *peer) freeFirst() int {
	first := 0
	for i, t := range p.slotFree {
		if t < p.slotFree[first] {
			first = i
		}
	}
	return first
}

// setSpeed changes how long peer i takes for what it begins from now on. What its slots are at keeps its pace.
func (w *World) setSpeed(i int, speed float64) {
	p := &w.peers[i]
	if p.speed == speed {
		return
	}
	p.speed = speed
	if !w.trackSlots {
		return
	}
	slot := 0
	clear(p.slotFree)
	for _, d := range w.service {
		if w.reqs[d.id].peer == int32(i) {
			p.slotFree[slot] = d.at
			slot++
		}
	}
	for id := p.head; id >= 0; id = w.reqs[id].next {
		p.project(w.now, &w.reqs[id])
	}
}

// listPresent makes the list of members anew. A new slice, since policies may have kept the old one.
func (w *World) listPresent() {
	present := make([]int32, 0, len(w.peers))
	for i := range w.peers {
		if w.peers[i].member {
			present = append(present, int32(i))
		}
	}
	w.present = present
}
