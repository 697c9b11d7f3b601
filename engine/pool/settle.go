package pool

import (
	"cmp"
	"math"
	"slices"
)

// tick moves the pool's time on; an older time than the last changes nothing.
func (h *Health) tick(now float64) {
	if now > h.now && !math.IsInf(now, 0) {
		h.now = now
	}
}

// settle runs the timers and derives state, usability and admit of every peer. why explains a change caused by the event
// itself; changes by timers have their own reasons.
func (h *Health) settle(now float64, why string) {
	h.tick(now)
	short := h.shortage() > quiteShort
	for i := range h.peers {
		h.timers(&h.peers[i], short)
	}
	h.release()
	h.limits()
	h.rank()
	for i := range h.peers {
		p := &h.peers[i]
		if s := p.derive(); s != p.state {
			reason := why
			switch {
			case s == Draining && p.limited && !p.drained:
				reason = p.overWhy
			case s == Standby && p.fresh:
				p.state, p.reason = s, "joined; stands by: "+h.before(p.tier)
				p.fresh = false
				continue
			case s == Standby:
				reason = "stands by: " + h.before(p.tier)
			case p.state == Standby && p.healthy():
				reason = "takes part: " + h.before(p.tier)
			case p.state == Draining && p.spared:
				reason = "its server metrics are below their limits again"
				if p.over > 0 {
					reason = "others have to drain before it"
				}
			case p.state == SlowStart && (s == Up || s == Suspect):
				reason = "slow start ended"
			case p.state == Ejected && (s == SlowStart || s == Up) && p.returned:
				reason = "ejection ended"
			case p.state == Down && p.unchecked:
				reason = "is not checked any more"
			}
			h.note(p, s, reason)
		}
		p.returned, p.spared, p.unchecked, p.fresh = false, false, false, false
	}
	h.usability()
	h.need()
	h.admission()
}

func (h *Health) note(p *peer, to State, reason string) {
	if len(h.log) >= maxTransitions {
		h.log = slices.Delete(h.log, 0, 1)
	}
	h.log = append(h.log, Transition{AtMS: h.now, Addr: p.addr, From: p.state, To: to, Reason: reason})
	p.state, p.since, p.reason = to, h.now, reason
}

func (h *Health) timers(p *peer, short bool) {
	if p.ejectedUntil > 0 && (h.now >= p.ejectedUntil || short && h.now >= p.ejectedUntil-p.lastMS+shortEjection*h.opt.BaseMS) {
		h.readmit(p)
	}
	if p.ramping && h.now >= p.rampFrom+h.opt.SlowStartMS {
		p.ramping = false
	}
	if p.level > 0 && p.ejectedUntil == 0 {
		if quiet := h.opt.WindowMS + 4*p.lastMS; h.now-p.quietFrom >= quiet {
			p.level--
			p.lastMS /= 2
			p.quietFrom = h.now
		}
	}
}

// readmit ends an ejection. The peer is on probation: two failures in a row are enough until a success came.
func (h *Health) readmit(p *peer) {
	p.ejectedUntil = 0
	p.quietFrom = h.now
	p.count = max(0, float64(h.opt.Consecutive-2))
	p.window = window{}
	p.returned = true
	h.ramp(p)
}

// ramp starts slow start.
func (h *Health) ramp(p *peer) {
	p.ramping, p.rampFrom, p.proved = h.opt.SlowStartMS > 0, h.now, false
}

// release keeps the cap when the pool shrank or the rules changed: those whose ejection ends first return early.
func (h *Health) release() {
	for {
		first, out := -1, 0
		for i := range h.peers {
			if u := h.peers[i].ejectedUntil; u > 0 {
				if out++; first < 0 || u < h.peers[first].ejectedUntil {
					first = i
				}
			}
		}
		if out <= h.cap() {
			return
		}
		h.readmit(&h.peers[first])
	}
}

// limits chooses who drains because its server metrics are at their limit: those that are the furthest, within the cap on who may be
// out of traffic by evidence at one time. Ejected peers come first, since they fail now. One that drains keeps its place unless
// another is clearly worse, and the last peer that is healthy never drains.
func (h *Health) limits() {
	room, healthy := h.cap(), 0
	order := h.order[:0]
	for i := range h.peers {
		p := &h.peers[i]
		switch {
		case p.ejectedUntil > 0:
			room--
		case p.present():
			healthy++
			if p.over > 0 {
				order = append(order, i)
			}
		}
	}
	h.order = order
	place := func(i int) float64 {
		if p := &h.peers[i]; p.limited {
			return p.over * keepsPlace
		}
		return h.peers[i].over
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(place(j), place(i)) })
	order = order[:max(min(room, healthy-1, len(order)), 0)]
	for _, i := range order {
		h.peers[i].chosen = true
	}
	for i := range h.peers {
		p := &h.peers[i]
		if p.limited && !p.chosen && p.present() {
			p.spared = true
			h.ramp(p)
		}
		p.limited, p.chosen = p.chosen, false
	}
}

// keepsPlace is how much worse another must be to drain in the place of one that does.
const keepsPlace = 1.05

// healthy reports whether the peer may get traffic by its own facts, before the panic rule.
func (p *peer) healthy() bool { return p.present() && !p.limited }

// present is healthy, but for server metrics at their limit: a peer that drains for them only could take traffic, were it needed.
func (p *peer) present() bool { return !p.drained && !p.down && p.ejectedUntil == 0 }

func (p *peer) derive() State {
	switch {
	case p.drained:
		return Draining
	case p.down:
		return Down
	case p.ejectedUntil > 0:
		return Ejected
	case p.limited:
		return Draining
	case p.standby:
		return Standby
	case p.ramping:
		return SlowStart
	case p.suspect:
		return Suspect
	}
	return Up
}

func (h *Health) usability() {
	healthy, staying := 0, 0
	for i := range h.peers {
		if h.peers[i].healthy() {
			healthy++
		}
		if !h.peers[i].drained {
			staying++
		}
	}
	h.panic = healthy == 0 && staying > 0
	for i := range h.peers {
		p := &h.peers[i]
		switch {
		case healthy > 0:
			p.usable = p.healthy() && !p.standby
		case staying > 0:
			p.usable = !p.drained
		default:
			p.usable = true
		}
	}
}

// admission sets how far each usable peer is considered.
//
// Admit is a probability of being considered at all, so a peer's share can never pass it, whatever its costs say. That is how
// slow start keeps its promise: from 0.1/n to 1/n over the ramp, n being the usable peers. A request draws one number for all peers, so of
// those that ramp at a time it considers all or the warmest: together they get their even shares, m/n for m of them, and the costs say which
// gets how much. It needs somebody to carry the rest: without a usable peer that is not ramping nobody is held back, and what those cannot carry (shortage) is not
// held back either. One that failed last, and so comes back from an ejection, first has to answer a request: until then it is tried twice a second at most. Once it did a failure
// is one: what answers half of its requests was on trial half of the time, and idle, beside queues in which everything timed out. A pool is given peers because it has too few: held to their ramp, several that joined a pool with 1.2 times the load it can carry
// left it with nine times least_conn's mean. A backup is considered no more often than its tier is needed.
func (h *Health) admission() {
	h.shares()
	if !h.tiers.any || h.panic {
		return
	}
	for i := range h.peers {
		if p := &h.peers[i]; p.usable && h.tiers.lack[p.tier] > 0 {
			p.admit = min(p.admit, h.tiers.lack[p.tier])
		}
	}
}

func (h *Health) shares() {
	n, settled := 0, 0
	for i := range h.peers {
		p := &h.peers[i]
		p.admit, p.onTrial = 1, false
		if p.usable {
			n++
			if !p.ramping {
				settled++
			}
		}
	}
	if n < 2 || settled == 0 || h.panic {
		for i := range h.peers {
			h.peers[i].shrinks = false
		}
		return
	}
	even, short, rate := 1/float64(n), h.shortage(), 0.0
	for i := range h.peers {
		rate += h.peers[i].load.Rate
	}
	for i := range h.peers {
		if p := &h.peers[i]; p.usable && p.ramping {
			p.admit = min(even*float64(n-settled)*h.warmth(p), 1)
			if p.row == 0 || p.proved {
				p.admit = min(max(p.admit, short), 1)
			} else if rate > 0 {
				p.admit, p.onTrial = min(p.admit, trialsPerMS/rate), true
			}
		}
	}
	h.shrink(settled, even)
}

// failed reports whether any request failed on p in the window.
func (h *Health) failed(p *peer) bool {
	bad, _ := p.window.sum(h.now, h.opt.WindowMS)
	return bad > 0
}

// shrink is predictive draining. What counts is a peer's risk above the pool's median: trouble that all share is not cured by
// moving traffic. admit = (RiskFloor/n)^excess falls smoothly from 1 and at full risk leaves RiskFloor of an even share. At most
// RiskShare of the usable peers past their ramp are shrunk, the riskiest, never all, and none that is needed and failed in the window: what it
// answers is worth more than nothing. One that already is keeps its place
// against an equal.
func (h *Health) shrink(settled int, even float64) {
	limit := 0
	if h.opt.RiskShare > 0 {
		limit = min(max(1, int(h.opt.RiskShare*float64(settled))), settled-1)
	}
	order := h.order[:0]
	for i := range h.peers {
		if p := &h.peers[i]; p.usable && !p.ramping {
			order = append(order, i)
		} else {
			p.shrinks = false
		}
	}
	h.order = order
	slices.SortStableFunc(order, func(i, j int) int {
		a, b := &h.peers[i], &h.peers[j]
		if a.risk != b.risk {
			return cmp.Compare(b.risk, a.risk)
		}
		if a.shrinks != b.shrinks {
			if a.shrinks {
				return -1
			}
			return 1
		}
		return 0
	})
	// The lower median: with two peers it is the smaller risk.
	median := h.peers[order[len(order)/2]].risk
	for rank, i := range order {
		p := &h.peers[i]
		p.shrinks = rank < limit && p.risk > median && !(p.needed && h.failed(p))
		if p.shrinks {
			p.admit = min(p.admit, math.Pow(h.opt.RiskFloor*even, p.risk-median))
		}
	}
}
