package estimate

import "math"

// failures are two decayed failure rates. The fast one reacts within some twenty attempts, the slow one remembers hundreds; the
// cost uses the larger, so that a peer that begins to fail is dear at once and one that fails rarely but steadily stays a bit
// dearer. Both fade with time, or a peer that is avoided would be so for ever.
//
// A peer that failed each of so many requests was out, and what that taught ends with it. Otherwise each peer that was refused some hundred connections is
// dear for minutes: where all peers are back from that, the first few answers of one make it twenty times cheaper than those that have not been asked yet, and it
// is left with everything.
type failures struct {
	fast, slow float64
	at         float64
	row        int     // failures since the last success
	before     float64 // slow before the first of them
}

const (
	fastTau    = 20.
	slowTau    = 400.
	fastFade   = 10_000. // ms in which the fast rate fades to the slow one without news
	slowFade   = 300_000.
	rateMax    = 0.95
	outage     = 20  // failures in a row
	afterwards = 0.5 // fast rate after an outage at most: it may come again
)

func (f *failures) fade(now float64) {
	dt := now - f.at
	if dt <= 0 {
		return
	}
	f.at = now
	f.slow *= math.Exp(-dt / slowFade)
	if f.fast > f.slow {
		f.fast = f.slow + (f.fast-f.slow)*math.Exp(-dt/fastFade)
	}
}

func (f *failures) add(now float64, failed bool) {
	f.fade(now)
	x := 0.0
	if failed {
		x = 1
		if f.row == 0 {
			f.before = f.slow
		}
		f.row++
	} else {
		f.over()
		f.row = 0
	}
	f.fast += (x - f.fast) / fastTau
	f.slow += (x - f.slow) / slowTau
}

// over ends an outage, if it was one.
func (f *failures) over() {
	if f.row >= outage {
		f.slow, f.fast = min(f.slow, f.before), min(f.fast, max(afterwards, f.before))
	}
}

// rate is what the cost uses.
func (f *failures) rate() float64 { return min(max(f.fast, f.slow), rateMax) }

func (p *Pool) fade(float64) {
	for i := range p.peers {
		p.peers[i].fail.fade(p.now)
	}
}

// quantile follows a quantile by stochastic approximation on the logarithm, so that its pace does not depend on the unit.
type quantile struct {
	q    float64
	x    float64 // logarithm of the estimate
	n    float64
	seen bool
}

func (s *quantile) add(v float64) {
	y := math.Log(max(v, minMS))
	if !s.seen {
		s.x, s.seen = y, true
	}
	s.n = min(s.n+1, 400)
	gain := 2 / (s.n + 5) * 5
	gain = max(gain, 0.02)
	if y > s.x {
		s.x += gain * s.q
	} else {
		s.x -= gain * (1 - s.q)
	}
}

func (s *quantile) value() float64 {
	if !s.seen {
		return 0
	}
	return math.Exp(s.x)
}
