package world

import (
	"math"
	"slices"
)

// Truth is what no real balancer can see without asking. Oracles read it; a probing policy uses only Probe.
type Truth struct{ w *World }

// Speed is a peer's current speed, a cold start included.
func (t *Truth) Speed(peer int32) float64 {
	p := &t.w.peers[peer]
	return p.speed / p.coldFactor(t.w.now)
}

// Slots is how many requests a peer works on at once.
func (t *Truth) Slots(peer int32) int32 { return t.w.peers[peer].slots }

// Affinity is a peer's factor on the service time of a class.
func (t *Truth) Affinity(peer, class int32) float64 { return t.w.peers[peer].affinity[class] }

// TrackWork makes Work available. To be called by the policy's constructor.
func (t *Truth) TrackWork() {
	for i := range t.w.peers {
		t.w.peers[i].work = make([]int32, len(t.w.sc.Classes))
	}
}

// Work is how many requests of each class a peer has waiting or in its slots, whoever sent them. Not to be changed.
func (t *Truth) Work(peer int32) []int32 { return t.w.peers[peer].work }

// TrackBacklog makes Completion and Backlog available. To be called by the policy's constructor.
func (t *Truth) TrackBacklog() {
	t.w.trackSlots = true
	for i := range t.w.peers {
		p := &t.w.peers[i]
		p.slotFree = make([]float64, p.slots)
	}
}

// Completion is when the request being decided on would be finished by a peer, if no speed changed: its true size and
// the exact backlog are used. Only inside Pick.
func (t *Truth) Completion(peer int32) float64 {
	p := &t.w.peers[peer]
	begin := math.Max(t.w.now, p.slotFree[p.freeFirst()])
	return begin + p.duration(begin, &t.w.reqs[t.w.deciding])
}

// Backlog is how long it takes until a peer has a slot free for a request that comes now, ms, if no speed changed.
func (t *Truth) Backlog(peer int32) float64 {
	p := &t.w.peers[peer]
	return math.Max(p.slotFree[p.freeFirst()]-t.w.now, 0)
}

// RecordLatencies makes Probe available. To be called by the policy's constructor.
func (t *Truth) RecordLatencies() { t.w.recordRIF = true }

// Probe asks a peer for its requests in flight, from all balancers, and for the latency it expects at that number. As in
// Prequal (Wydrowski et al., NSDI 2024, section 4.1), a peer notes with each finished request how many it held when that
// came, and answers with the median of the recent latencies at its present number, or at the nearest number it has any
// for. 0 when it never finished one.
func (t *Truth) Probe(peer int32) (inFlight int32, latencyMS float64) {
	p := &t.w.peers[peer]
	return p.held, p.latencies.at(p.held)
}

// rifLatencies are a peer's recent latencies by the number of requests it held when they came. The paper leaves the
// memory open; here it is the last rifMemory of each number, and numbers above rifMax share a place.
type rifLatencies struct {
	by []rifRing
}

const (
	rifMemory = 16
	rifMax    = 255
)

type rifRing struct {
	ms [rifMemory]float64
	n  int // ever added
}

func (l *rifLatencies) add(rif int32, ms float64) {
	i := int(min(rif, rifMax))
	for len(l.by) <= i {
		l.by = append(l.by, rifRing{})
	}
	r := &l.by[i]
	r.ms[r.n%rifMemory] = ms
	r.n++
}

func (l *rifLatencies) at(rif int32) float64 {
	want := int(min(rif, rifMax))
	for far := 0; far <= rifMax; far++ {
		if i := want - far; i >= 0 && i < len(l.by) && l.by[i].n > 0 {
			return l.by[i].median()
		}
		if i := want + far; i < len(l.by) && l.by[i].n > 0 {
			return l.by[i].median()
		}
		if want-far < 0 && want+far >= len(l.by) {
			break
		}
	}
	return 0
}

func (r *rifRing) median() float64 {
	sorted := r.ms
	n := min(r.n, rifMemory)
	slices.Sort(sorted[:n])
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
