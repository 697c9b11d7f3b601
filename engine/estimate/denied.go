package estimate

// A peer that was deployed without its data, its routes or its keys answers 404, 401 or 400, or sends all clients to a page of its own by a 302,
// and does so at once. That is no failure by its status: the client may have asked for nothing better, and nobody is ejected for it. But its
// answers must not make it look quick, or it gets all the traffic, as one that fails at once would. What tells the two apart is what the other
// peers answer to the same class.
const (
	deniedTau  = 30 // answers the share is a mean of
	deniedFew  = 10 // below that many of its own a peer is not judged
	deniedRest = 5  // below that many another peer is not compared with
	// deniedUsual is the share of them at the other peers from which on such are ordinary answers of the class.
	deniedUsual = 0.1
)

// denied: redirects and client errors. A 304 is what the client's own copy makes of an answer.
func denied(status int) bool { return status >= 300 && status < 500 && status != 304 }

// deny notes whether a success was such an answer. told: its response time is evidence. odd: the peer answers so where the others do not, which
// makes it dear like a failing one.
func (p *Pool) deny(pe *peer, o *Outcome) (told, odd bool) {
	c := &pe.cells[o.Class]
	c.denials = min(c.denials+1, deniedTau)
	if !denied(o.Status) {
		c.denied -= c.denied / c.denials
		return true, false
	}
	c.denied += (1 - c.denied) / c.denials
	usual, known := p.deniedElsewhere(pe, o.Class)
	if !known {
		return true, false
	}
	odd = c.denials >= deniedFew && c.denied > 0.5 && c.denied > 2*usual+0.2
	ms, _ := o.latency()
	quick := ms < p.service(pe, o.Class)*p.classes[o.Class].size(o.Weight)
	return !odd && (usual >= deniedUsual || !quick), odd
}

// deniedElsewhere is their mean share in a class at the peers other than pe, each counted once however much traffic it has; false
// where no other has answered enough.
func (p *Pool) deniedElsewhere(pe *peer, class int) (share float32, known bool) {
	n := float32(0)
	for i := range p.peers {
		if other := &p.peers[i]; other != pe && other.cells[class].denials >= deniedRest {
			share += other.cells[class].denied
			n++
		}
	}
	if n == 0 {
		return 0, false
	}
	return share / n, true
}
