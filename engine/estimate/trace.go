package estimate

import (
	"cmp"
	"math"
	"slices"
)

// trace reconstructs how many requests a peer held at each moment of the time between two in-flight samples.
//
// The outcomes of that time tell when each finished request came and went; the samples tell how many more came that are still
// there. What remains unknown (arrivals that did not end yet, departures that are reported late) is spread evenly. This matters:
// completions per busy slot-time need the busy slot-time, and a sample each 100 ms of requests that take 2 ms is too coarse
// on its own.
type trace struct {
	start   float64 // of the window
	n       float64 // in flight at start
	events  []event
	sampled float64 // time of the last in-flight sample
	held    sample  // the last sample, while its window waits for late outcomes
	silent  float64 // busy slot-time since the last success, as far as it counts

	cohorts   [cohortN]cohort // by arrival, newest at head
	head      int
	old       float64 // requests older than all cohorts
	oldFrom   float64 // start of the oldest cohort
	residents float64 // of the window now
}

// answer is what a success is evidence of: the work that it finished, in mean requests of the pool, and its response time over what was
// expected of it at the peer's long-run speed (ratio), of which own was its own service and the rest the wait. work < 0: none was finished
// (failure, abort, stream).
type answer struct {
	work       float64
	own, ratio float32
}

// event is a departure.
type event struct {
	answer
	at, arrived float64
	held        float64 // requests the peer said it still held; negative = not told
}

const maxEvents = 1024

// sample is an in-flight count and its time; time 0 = none.
type sample struct {
	at float64
	n  int
}

// add notes a departure; true when the window is full and must be closed.
func (t *trace) add(at, total float64, said answer, held float64) bool {
	t.events = append(t.events, event{answer: said, at: at, arrived: at - total, held: held})
	return len(t.events) >= maxEvents
}

// cohort is the requests that arrived in one stretch of time. A request that stays while many later ones come and go does not
// compete with them: a WebSocket, a long poll, or a very long one. It is a resident, and not counted as busy time that should
// have brought completions, until it ends. If it then turns out to have been work after all, its time is settled.
type cohort struct {
	from  float64 // time of its first arrival
	n     float64 // not finished yet
	done  float64 // finished
	since float64 // when its rest became resident; 0 = not
}

const (
	cohortN = 16
	// patience is how many mean services per slot without any completion count as evidence of a slow-down. Beyond it, one very
	// long request explains the silence as well, and more of it says nothing.
	patience  = 4
	overtaken = 10 // times (K + 2) later requests must have ended first
)

// nothing is the answer of an arrival.
var nothing = answer{work: -1}

// replay is the scratch of close and what it found.
type replay struct {
	steps []step
}

type step struct {
	answer // work >= 0: a success departs
	at     float64
	delta  float64
	held   float64 // as in event
}

// sampled takes an in-flight sample. Workers report on timers of their own, so a sample often precedes the outcomes of the time before
// it. A window closed at once would then have no busy time for them, and a peer with few requests would seem to finish work in no
// time, and not to a little later, as the phases of the timers move. So where outcomes are late, a window is closed with the next sample.
func (p *Pool) sampled(pe *peer, now float64, n int) {
	t := &pe.trace
	t.sampled = now
	if p.late < lateShare {
		p.release(pe)
		p.close(pe, now, n)
		return
	}
	p.release(pe)
	t.held = sample{at: now, n: n}
}

// release closes the window that waited.
func (p *Pool) release(pe *peer) {
	if h := pe.trace.held; h.at > 0 {
		pe.trace.held = sample{}
		p.close(pe, h.at, h.n)
	}
}

// scaleKnown is how many answers of the pool tell how long a request takes. Before that silence says nothing, and what peers did neither: the first answers
// are those of short requests, beside which all peers look slow, and those with a window more or less look slower than others by a factor of five. All requests
// of the next 100 ms then went to one peer: ten even peers at a load of 0.4, 0.7 and 0.85 had 1.12, 1.51 and 1.86 of least_conn's mean within their first 1,000 requests.
const scaleKnown = 100

// levelPrior is how many requests at a level count as much as all others.
const levelPrior = 100

// lateShare is the share of outcomes that come after a sample of a later time from which on windows wait.
const lateShare = 0.02

// close ends the window at time now with n in flight (-1 = not known) and learns from it.
func (p *Pool) close(pe *peer, now float64, n int) {
	t := &pe.trace
	if now <= t.start && len(t.events) == 0 {
		if n >= 0 {
			t.n = float64(n)
		}
		return
	}
	now = max(now, t.start)
	length := now - t.start
	steps := p.scratch.steps[:0]
	k := pe.curve.k

	came, gone := 0.0, 0.0
	for i := range t.events {
		if e := &t.events[i]; e.at > t.start && e.at <= now {
			gone++
			if e.arrived > t.start {
				came++
			}
		}
	}
	end := max(t.n-gone+came, 0)
	if n >= 0 {
		end = float64(n)
	}
	arrived := max(end-t.n+gone, came)
	t.arrive(arrived)

	settled, finished, balance := 0.0, 0.0, 0.0
	kept := 0
	for i := range t.events {
		e := &t.events[i]
		if e.at > now { // belongs to the next window
			t.events[kept] = *e
			kept++
			continue
		}
		settled += t.depart(e)
		if e.work < 0 {
			continue // left out of the replay: what it did to the count is in the next sample
		}
		finished++
		if e.at <= t.start { // reported late: the last sample knows it is gone
			steps = append(steps, step{answer: e.answer, at: t.start, held: e.held})
			continue
		}
		steps = append(steps, step{answer: e.answer, at: e.at, delta: -1, held: e.held})
		balance--
		if e.arrived > t.start {
			steps = append(steps, step{answer: nothing, at: e.arrived, delta: 1, held: -1})
			balance++
		}
	}
	unknown, sign := end-t.n-balance, 1.0
	if unknown < 0 {
		unknown, sign = -unknown, -1
	}
	// Requests that came and are still there came lately, and those that left without a word yet left soon: within about two mean
	// latencies.
	span := length
	if pe.latN > 0 {
		span = min(span, 2*pe.latency)
	}
	for i, m := 0, int(min(unknown, maxEvents)); i < m; i++ {
		from := now
		if sign < 0 {
			from = t.start + span
		}
		steps = append(steps, step{answer: nothing, at: from - span*(float64(i)+0.5)/float64(m), delta: sign, held: -1})
	}
	p.scratch.steps = steps
	slices.SortFunc(steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })

	c := &pe.curve
	mean := pe.mix.request()
	c.seen += finished
	c.decay(math.Exp(-finished / min(max(c.seen/2, 100), max(p.opt.Tau, pe.rate*tauMS))))
	// What is to be expected of busy slot-time: the long-run throughput, with a prior of a few requests at what the service
	// times tell. Comparing with itself makes the drift indifferent to an error of K.
	prior := 20 * mean
	usual := (c.work + prior) / (c.busy(k) + prior*p.work*pe.slowness())
	at, count := t.start, t.n
	elsewhere, _ := pe.others.at(t.start, pe.latency)
	done := 0.0 // in mean requests of the peer
	rates := c.usual(k, usual, levelPrior*mean)
	due := 0.0 // what the busy time brings as a rule; that of residents is not of now
	// Time that says nothing: without a request, or with some that have not ended for so long that nothing more follows from it. Until 29 November
	// 2026 the latter was none. A peer that had been slow for 1 s kept a request or two that it had begun then, for some seconds, and as
	// long was not tried: ten peers, each slow for 1 s in turn at a load of .7 had 1.42 of least_conn's mean, and 1.11 with it.
	blank := 0.0
	sized, known := p.weighed(), now >= pe.givenUp
	hold := func(to float64) {
		active := max(count-t.residents, 0)
		if d := to - at; d > 0 && known {
			if active > 0 {
				// Of the slots these requests have their share of what the peer holds.
				total := active + elsewhere
				slots := min(total, k) * active / total
				c.hold(total, d*active/total)
				counts := min(d*slots, max(patience*slots*mean/usual-t.silent, 0))
				due += counts * rates[level(total)]
				t.silent += counts
				blank += d - counts/slots
			} else {
				blank += d
			}
		}
		at = max(at, to)
	}
	for i := range steps {
		s := &steps[i]
		hold(s.at)
		if s.work >= 0 {
			done += s.work / mean
			t.silent = 0
			if sized {
				c.sized.answer(s.answer)
				due = 0 // the answer tells of that time itself
			}
			c.work += s.work
			c.done[level(max(count-t.residents, 0)+elsewhere)] += s.work
		}
		count = max(count+s.delta, 0)
		if s.held >= 0 {
			pe.others.forget(pe.lean)
			pe.others.add(s.at, s.held-count)
			elsewhere, _ = pe.others.at(s.at, pe.latency)
		}
	}
	hold(now)
	c.late += settled

	expected := due / mean
	if sized {
		// A silent slot works on a larger request than the mean: the larger it is, the longer it is worked on.
		done, expected = c.sized.window(expected / max(pe.mix.square/(mean*mean), 1))
	} else {
		burst := pe.mix.burst()
		done, expected = done/burst, expected/burst
	}
	if p.seen < scaleKnown || !known {
		done, expected = 0, 0
	}
	pe.drift.update(p.priors, &p.changes, done, expected, blank*p.rate, length*p.rate, p.opt.Hazard)

	if length > 0 {
		pe.drift.settle(length)
		// Rates are means over the time seen, at most over about 100 arrivals of a typical peer.
		memory := 1e12
		if p.rate > 0 {
			memory = max(1000, 100/p.rate)
		}
		pe.rateMS = min(pe.rateMS+length, memory)
		pe.rate += (arrived/length - pe.rate) * min(length/pe.rateMS, 1)
		p.rateMS = min(p.rateMS+length/float64(len(p.peers)), memory)
		p.rate += (finished/length - p.rate) * min(length/float64(len(p.peers))/p.rateMS, 1)
	}
	t.rotate(now, max(20*p.slow.value(), 200)/cohortN)
	t.reside(now, end, k)
	t.events = t.events[:kept]
	t.start, t.n = now, end
}

// arrive puts the window's arrivals in the newest cohort.
func (t *trace) arrive(arrived float64) {
	h := &t.cohorts[t.head]
	if h.from == 0 {
		h.from = max(t.start, minMS)
	}
	h.n += arrived
}

// depart takes a request that ended out of its cohort. For a success that was a resident it returns the slot-time that was not
// counted while it stayed.
func (t *trace) depart(e *event) float64 {
	success := e.work >= 0
	for i := range cohortN {
		c := t.cohort(i)
		if c.from == 0 || e.arrived < c.from {
			continue
		}
		if success {
			c.done++
		}
		if c.n > 0 {
			c.n--
			if c.since > 0 && success {
				return max(e.at-c.since, 0)
			}
		}
		return 0
	}
	if t.old > 0 {
		t.old--
		if success {
			return max(e.at-t.oldFrom, 0)
		}
	}
	return 0
}

// cohort returns the i-th newest.
func (t *trace) cohort(i int) *cohort { return &t.cohorts[(t.head+cohortN-i)%cohortN] }

// rotate starts a new cohort when the newest covers a span of time. What is left of the oldest has stayed for cohortN spans
// (20 times the pool's slow answers): it is resident.
func (t *trace) rotate(now, span float64) {
	if now-t.cohorts[t.head].from < span {
		return
	}
	t.head = (t.head + 1) % cohortN
	h := &t.cohorts[t.head]
	if h.n > 0 {
		t.old += h.n
		t.oldFrom = now
		if h.since > 0 {
			t.oldFrom = h.since
		}
	}
	*h = cohort{from: max(now, minMS)}
}

// reside counts the residents among the end requests in flight at now.
func (t *trace) reside(now, end, k float64) {
	total := t.old
	for i := range t.cohorts {
		total += t.cohorts[i].n
	}
	// Track is lost when outcomes were dropped or come from a balancer whose counts do not: forget the oldest first.
	over := max(total-end, 0)
	cut := min(over, t.old)
	t.old -= cut
	over -= cut
	for i := cohortN - 1; i >= 0 && over > 0; i-- {
		c := t.cohort(i)
		cut = min(over, c.n)
		c.n -= cut
		over -= cut
	}
	later, residents := 0.0, t.old
	for i := range cohortN {
		c := t.cohort(i)
		if c.since == 0 && c.n > 0 && later > overtaken*(k+2) {
			c.since = now
		}
		if c.since > 0 {
			residents += c.n
		}
		later += c.done
	}
	t.residents = min(residents, end)
}
