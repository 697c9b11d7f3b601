package main

import (
	"github.com/weirlb/weir/engine/sim/scenario"
	"github.com/weirlb/weir/engine/sim/world"
)

// returnsOf measures, by peer and in-flight count at the pick, response times and the delay imposed on later requests. In
// a first-come-first-served queue of K slots a request of service time S delays each that comes after it by S/K, until a slot is
// free for the first time. With one slot that is exact.
type returnsOf struct {
	peers []peerReturns
	jobs  []jobReturns // by cookie
	free  []uint32
}

type peerReturns struct {
	slots             int
	held              int
	came              int      // requests since all slots became busy
	busy              []uint32 // those of them that impose on later ones
	response, imposed [counts]float64
	seen              [counts]float64
}

type jobReturns struct {
	peer   int32
	n      int
	came   int // requests before it since all slots became busy
	later  int // requests it delayed; -1 = the slots are still busy
	ended  bool
	took   float64 // response time
	served float64
}

func newReturns(s *scenario.Scenario) *returnsOf {
	r := &returnsOf{}
	for i := range s.Peers {
		r.peers = append(r.peers, peerReturns{slots: s.Peers[i].Slots})
	}
	return r
}

func (r *returnsOf) arrived(peer int32, n int) uint32 {
	p := &r.peers[peer]
	p.held++
	var at uint32
	if k := len(r.free); k > 0 {
		at, r.free = r.free[k-1], r.free[:k-1]
	} else {
		at = uint32(len(r.jobs))
		r.jobs = append(r.jobs, jobReturns{})
	}
	j := jobReturns{peer: peer, n: min(n, counts-1)}
	if p.held >= p.slots { // with it all slots are busy
		p.came++
		j.came, j.later = p.came, -1
		p.busy = append(p.busy, at)
	}
	r.jobs[at] = j
	return at
}

func (r *returnsOf) ended(o *world.Outcome) {
	p := &r.peers[o.Peer]
	j := &r.jobs[o.Cookie]
	j.ended, j.took, j.served = true, o.LatencyMS, o.ServiceMS
	if p.held--; p.held < p.slots {
		for _, at := range p.busy {
			b := &r.jobs[at]
			b.later = p.came - b.came
			if b.ended {
				r.count(at)
			}
		}
		p.busy, p.came = p.busy[:0], 0
	}
	if j.later >= 0 {
		r.count(o.Cookie)
	}
}

// count takes a job into the sums, once, and its place back.
func (r *returnsOf) count(at uint32) {
	j := &r.jobs[at]
	if j.peer < 0 {
		return
	}
	p := &r.peers[j.peer]
	p.response[j.n] += j.took
	p.imposed[j.n] += j.served / float64(p.slots) * float64(j.later)
	p.seen[j.n]++
	j.peer = -1
	r.free = append(r.free, at)
}

// improve moves the costs of a peer a step towards what was measured. Where too little was seen they go on as they rise.
func (r *returnsOf) improve(peer int, part, step float64, cost []float64) {
	p := &r.peers[peer]
	const enough = 30
	for n := range cost {
		switch {
		case p.seen[n] >= enough:
			cost[n] += step * ((p.response[n]+part*p.imposed[n])/p.seen[n] - cost[n])
		case n > perMean:
			cost[n] = max(cost[n-1]+(cost[n-1]-cost[n-1-perMean])/perMean, 1.005*cost[n-1])
		}
		if n > 0 {
			cost[n] = max(cost[n], cost[n-1])
		}
	}
}
