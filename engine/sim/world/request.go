package world

import "math"

// arrive draws one request and sends it on its way.
func (w *World) arrive() {
	id := w.take()
	r := &w.reqs[id]
	r.class, r.size, r.weight = w.sizes.draw()
	r.arrived = w.now
	r.measured = w.measure != nil
	r.number = 0
	r.gone = false
	r.balancer = 0
	if len(w.balancers) > 1 {
		r.balancer = int32(w.spread.IntN(len(w.balancers)))
	}
	if w.sc.TimeoutMS > 0 {
		w.deadlines.push(deadline{w.now + w.sc.TimeoutMS, id, r.gen})
		w.other = min(w.other, w.deadlines.first())
	}
	w.send(id)
}

// take gives an unused request; its generation tells old deadlines from its own.
func (w *World) take() int32 {
	w.live++
	if id := w.free; id >= 0 {
		w.free = w.reqs[id].next
		return id
	}
	w.reqs = append(w.reqs, request{})
	w.tried = append(w.tried, nil)
	return int32(len(w.reqs) - 1)
}

func (w *World) release(id int32) {
	r := &w.reqs[id]
	r.gen++
	r.next = w.free
	w.free = id
	w.tried[id] = w.tried[id][:0]
	w.live--
}

// send makes one attempt. Without a peer that is left to try, the request has failed.
func (w *World) send(id int32) {
	r := &w.reqs[id]
	if len(w.present) == 0 || (r.number > 0 && !w.untriedLeft(id)) {
		w.lost(id)
		return
	}
	r.number++
	b := &w.balancers[r.balancer]
	a := &w.attempt
	*a = Attempt{
		Now: w.now, Class: r.class, Number: r.number, Weight: r.weight, Present: w.present, Tried: w.tried[id],
		InFlight: b.inFlight,
	}
	w.deciding = id
	to := b.policy.Pick(a)
	w.deciding = -1
	p := &w.peers[to]
	r.peer, r.sent, r.cookie = to, w.now, a.Cookie
	r.atPick, r.atPeer = b.inFlight[to], p.held
	b.inFlight[to]++
	if r.measured {
		w.byPeer[to]++
	}
	if p.failsNow(w) {
		p.held++
		r.status = int32(p.fail.Status)
		at := w.now + p.fail.AfterMS
		w.replies.push(due{at, id})
		w.other = min(w.other, at)
	} else {
		w.enqueue(p, id)
	}
	if b.prober != nil {
		b.prober.Sent(w.now, to)
	}
}

func (w *World) untriedLeft(id int32) bool {
	for _, p := range w.present {
		seen := false
		for _, t := range w.tried[id] {
			seen = seen || t == p
		}
		if !seen {
			return true
		}
	}
	return false
}

// enqueue gives the request to the peer's slots or queue.
func (w *World) enqueue(p *peer, id int32) {
	p.held++
	if w.trackSlots {
		p.project(w.now, &w.reqs[id])
	}
	if p.work != nil {
		p.work[w.reqs[id].class]++
	}
	if p.busy < p.slots {
		p.busy++
		w.service.push(due{w.begin(p, id), id})
		return
	}
	p.queue(w.reqs, id)
}

// begin starts service and tells when it will end.
func (w *World) begin(p *peer, id int32) float64 {
	r := &w.reqs[id]
	r.began = w.now
	return w.now + p.duration(w.now, r)
}

// served: the request at the top of the service heap is done.
func (w *World) served(id int32) {
	r := &w.reqs[id]
	p := &w.peers[r.peer]
	p.held--
	if p.work != nil {
		p.work[r.class]--
	}
	if next := p.head; next >= 0 {
		p.dequeue(w.reqs)
		w.service.replaceFirst(due{w.begin(p, next), next})
	} else {
		p.busy--
		w.service.pop()
	}
	if w.recordRIF {
		p.latencies.add(r.atPeer, w.now-r.sent)
	}
	if r.gone {
		w.release(id)
		return
	}
	o := w.ended(r, OK)
	o.Status = 200
	o.ServiceMS, o.Queue = w.now-r.began, p.held
	if p.orca {
		o.Utilisation, o.PeerInFlight = float64(p.busy)/float64(p.slots), p.held
	}
	w.balancers[r.balancer].policy.Done(o)
	if r = &w.reqs[id]; r.measured {
		w.measure.latencies = append(w.measure.latencies, w.now-r.arrived)
	}
	w.release(id)
}

// failed: the peer has answered with a failure, or refused.
func (w *World) failed(id int32) {
	r := &w.reqs[id]
	p := &w.peers[r.peer]
	p.held--
	if r.gone {
		w.release(id)
		return
	}
	kind := Status
	if r.status == 0 {
		kind = Refused
	}
	o := w.ended(r, kind)
	o.Status = int(r.status)
	w.balancers[r.balancer].policy.Done(o)
	w.tried[id] = append(w.tried[id], r.peer)
	if int(r.number) <= w.sc.Retries {
		w.send(id)
		return
	}
	w.lost(id)
}

// giveUp: the balancer waits no longer. Only the request's balancer forgets it; its peer works it off.
func (w *World) giveUp(id int32) {
	r := &w.reqs[id]
	w.balancers[r.balancer].policy.Done(w.ended(r, Timeout))
	r.gone = true
	if r.measured {
		w.measure.failed++
	}
}

// lost ends a request that nobody holds without an answer.
func (w *World) lost(id int32) {
	if w.reqs[id].measured {
		w.measure.failed++
	}
	w.release(id)
}

// ended fills the outcome of the request's current attempt.
func (w *World) ended(r *request, kind Kind) *Outcome {
	w.balancers[r.balancer].inFlight[r.peer]--
	w.outcome = Outcome{
		Now: w.now, Peer: r.peer, Class: r.class, Number: r.number, Kind: kind, LatencyMS: w.now - r.sent,
		Weight: r.weight, InFlight: r.atPick, Cookie: r.cookie, Utilisation: -1, PeerInFlight: -1,
	}
	return &w.outcome
}

// deadline is when a request is given up.
type deadline struct {
	at  float64
	id  int32
	gen uint32
}

// ring is a queue of deadlines. All requests have the same time-out, so they come due in the order they came.
type ring struct {
	buf  []deadline
	head int
	len  int
}

// first gives the earliest time, +Inf when empty.
func (q *ring) first() float64 {
	if q.len == 0 {
		return math.Inf(1)
	}
	return q.buf[q.head].at
}

func (q *ring) push(d deadline) {
	if q.len == len(q.buf) {
		bigger := make([]deadline, max(64, 2*q.len))
		n := copy(bigger, q.buf[q.head:])
		copy(bigger[n:], q.buf[:q.head])
		q.buf, q.head = bigger, 0
	}
	q.buf[(q.head+q.len)%len(q.buf)] = d
	q.len++
}

func (q *ring) pop() deadline {
	d := q.buf[q.head]
	q.head = (q.head + 1) % len(q.buf)
	q.len--
	return d
}
