// Package limit finds how many requests a pool should hold at a time: enough to keep its peers busy, not so many that a queue grows.
//
// The rule is the gradient of Netflix's concurrency-limits (Gradient2): limit <- limit x g + sqrt(limit), smoothed, with
// g = tolerance x base / latency in [1/2, 1]. It differs in what base is. Gradient2 takes a long average of the latency, which under a lasting
// overload becomes the overload's; TCP Vegas (Brakmo and Peterson 1994) takes the least latency seen, which a pool whose service times vary
// never has again. Here base is a low expectile of the means of windows, and it is checked by looking, as BBR's ProbeRTT does
// (Cardwell et al. 2016): while the limit binds, from time to time the pool is given less. If the latency falls in proportion, requests had
// been queueing, the throughput stays, and the next step goes further. If it does not, that latency is how long the work takes now.
//
// So a pool that is slow by nature, or became so, keeps its concurrency, and one that queues loses its queue. No limit is told before
// the latency of the pool first rose: what is never overloaded is never refused anything.
//
// It is pure: time is an argument, in ms from any fixed origin of a monotonic clock.
package limit

import "math"

// Options of a limiter.
type Options struct {
	Min, Max  float64 // bounds of the limit; Max 0 = none
	Tolerance float64 // how many times the base latency is borne; above 1
}

// Windows and steps. One window is one look at the pool.
const (
	windowMS   = 250
	minSamples = 50
	sustained  = 3      // windows in a row of a raised latency that make the first limit
	settling   = 4      // windows that a step of a look may take to show
	staleMS    = 20_000 // a window that did not fill by then says nothing
	smoothing  = 0.2
	probeMS    = 15_000 // between looks at the base while the limit binds
	probeStep  = 0.6    // part of the requests that the next step of a look leaves
	fallen     = 0.6    // part of the limit at which a look is due at once
	maxMS      = 86_400_000
)

// Limiter follows one pool. Not safe for concurrent use. The zero value with Options set is ready.
type Limiter struct {
	Options Options

	limit float64 // 0 = none yet
	base  float64 // latency without a queue, ms; 0 = not known
	top   float64 // the highest limit since the last look
	slow  int     // windows in a row of a raised latency
	look  look
	next  float64 // when the next regular look is due

	from  float64 // the window's start
	open  bool
	n     int
	sum   float64 // of latencies
	peak  int     // most requests in flight
	told  int     // last count
	fresh bool    // the count was told in this window
}

// look is a descent of the limit to see what the latency does.
type look struct {
	on     bool
	settle int     // windows since the step; the ones in which the queue drains are not read
	limit  float64 // in force while it lasts
	n, ms  float64 // one step before
}

// Sample takes in an answered attempt: its latency, in ms.
func (l *Limiter) Sample(now, ms float64) {
	if !(ms >= 0 && ms < maxMS) || math.IsNaN(now) || math.IsInf(now, 0) {
		return
	}
	l.begin(now)
	l.n++
	l.sum += ms
}

// InFlight takes in how many requests the pool holds.
func (l *Limiter) InFlight(now float64, n int) {
	if n < 0 || math.IsNaN(now) || math.IsInf(now, 0) {
		return
	}
	l.begin(now)
	l.told, l.fresh = n, true
	l.peak = max(l.peak, n)
}

func (l *Limiter) begin(now float64) {
	if !l.open {
		l.open, l.from, l.n, l.sum, l.peak, l.fresh = true, now, 0, 0, 0, false
	}
}

// Advance closes the window when it is full. Call it each 100 ms or so. It reports whether anything may have changed.
func (l *Limiter) Advance(now float64) bool {
	took := now - l.from
	switch {
	case !l.open || took < windowMS:
		return false
	case l.n < minSamples:
		if took > staleMS {
			l.open, l.look.on = false, false
		}
		return false
	}
	ms := math.Max(l.sum/float64(l.n), 1e-3)
	held := l.sum / took // Little's law
	l.window(now, ms, held, math.Max(held, float64(l.peak)))
	l.open = false
	return true
}

// window is one step: the mean latency, the mean number of requests in flight, and the most.
func (l *Limiter) window(now, ms, held, peak float64) {
	if l.base == 0 {
		l.base = ms
	}
	binds := l.limit > 0 && peak >= l.limit/2
	switch {
	case l.look.on && peak < l.look.limit/2:
		l.look.on = false // the load went away
	case l.look.on:
		l.descend(now, ms, held)
		return
	}
	switch {
	case ms < l.base:
		l.base += 0.3 * (ms - l.base)
	case !binds && ms <= l.tolerated():
		l.base += 0.02 * (ms - l.base)
	}
	if l.limit == 0 {
		if ms > l.tolerated() && held > l.Options.Min {
			l.slow++
		} else {
			l.slow = 0
		}
		if l.slow >= sustained {
			l.set(held * math.Max(l.tolerated()/ms, 0.5))
			l.top, l.next = l.limit, now // look at once: the base is a guess until then
		}
		return
	}
	switch g := math.Min(math.Max(l.tolerated()/ms, 0.5), 1); {
	case !binds:
		return // nothing is learned about more than there is
	case ms <= 1.1*l.base:
		l.set(1.25 * l.limit) // no sign of a queue: a look that went too far is soon made good
	default:
		l.set(l.limit + smoothing*(l.limit*g+math.Sqrt(l.limit)-l.limit))
	}
	l.top = math.Max(l.top, l.limit)
	if now >= l.next || l.limit <= fallen*l.top {
		l.look = look{on: true, limit: l.bound(probeStep * math.Min(held, l.limit)), n: held, ms: ms}
	}
}

func (l *Limiter) tolerated() float64 { return l.Options.Tolerance * l.base }

// descend reads one step of a look and either goes on or ends it.
func (l *Limiter) descend(now, ms, held float64) {
	k := &l.look
	if k.settle++; k.settle == 1 || held > 1.2*k.limit && k.settle < settling {
		return
	}
	// 1: the latency fell as the number did, so all that is missing had been waiting. 0: it did not fall.
	queued := 1.0
	if held < 0.9*k.n {
		queued = math.Log(k.ms/ms) / math.Log(k.n/held)
	} else if k.limit > l.Options.Min {
		queued = 0.5 // the pool holds as much as before: nothing to be seen
	}
	if queued > 0.5 && k.limit > l.bound(0) {
		*k = look{on: true, limit: l.bound(probeStep * math.Min(held, k.limit)), n: held, ms: ms}
		return
	}
	k.on = false
	l.next = now + probeMS
	if held >= 0.9*k.n {
		l.top = l.limit
		return
	}
	// The knee lies between this step and the one before.
	l.base = ms
	if queued > 0.5 { // at the least limit, and still queueing
		l.set(l.bound(0))
	} else {
		l.set(l.Options.Tolerance * k.n)
	}
	l.top = l.limit
}

func (l *Limiter) bound(x float64) float64 {
	x = math.Max(x, math.Max(l.Options.Min, 1))
	if l.Options.Max > 0 {
		x = math.Min(x, l.Options.Max)
	}
	return x
}

func (l *Limiter) set(x float64) { l.limit = l.bound(x) }

// Limit is the most requests that the pool should hold at a time; 0 = none is known.
func (l *Limiter) Limit() float64 {
	if l.limit == 0 {
		return 0
	}
	return l.bound(l.limit)
}

// Now is the same for this moment: less while the limiter looks what the latency does. What matters most may go by Limit all the time.
func (l *Limiter) Now() float64 {
	if l.limit > 0 && l.look.on {
		return l.bound(math.Min(l.look.limit, l.limit))
	}
	return l.Limit()
}

// Base is the latency without a queue, in ms; 0 = not known.
func (l *Limiter) Base() float64 { return l.base }

// Adopt makes a limiter that knows nothing yet go on from what another one had found. It reports whether it did.
func (l *Limiter) Adopt(now, limit, base float64) bool {
	if l.limit > 0 || !(limit >= 1 && limit < 1e9) || !(base > 0 && base < maxMS) {
		return false
	}
	l.base = base
	l.set(limit)
	l.top, l.next = l.limit, now+probeMS
	return true
}

// Scale follows a change of the pool: it can hold factor times as much.
func (l *Limiter) Scale(factor float64) {
	if l.limit > 0 && factor > 0 && !math.IsInf(factor, 0) {
		l.set(l.limit * factor)
		l.top, l.look.on = l.limit, false
	}
}
