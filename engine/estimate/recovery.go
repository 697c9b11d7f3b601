package estimate

import "math"

// recovery is what a pool's slow-downs have shown of how long they last, in requests of a typical peer.
//
// A peer without traffic says nothing, so the chance that its slow-down is over decides when it is tried again. No number is right for all pools:
// brown-outs of 6 s at a load of .8 had a p99 of .768 of least_conn's with 1/50 a request and .755 with 1/150, those of 2 s at .7 a mean of 1.00 and 1.09.
// And what slows peers down often takes about as long each time: a backup, a compaction, a pause. Who knows that leaves the peer alone until then
// and tries it often from then on: .941 of the mean and .747 of the p99 there, for .954 and .757 by chances that stay the same.
//
// It is a belief over both kinds, updated by each trial: the requests that a peer gets behind a time without any are as likely under
// the belief of before, if it has not recovered, and under its long-run speed, if it has. Which of the two is to be expected follows from the
// length of that time. Trials that cannot tell the two apart change nothing.
type recovery struct {
	// Logarithms of weights, up to a term that all have in common.
	memoryless [lengths]float64 // slow-downs end with a chance that stays the same; lengthOf is their mean length
	alike      [lengths]float64 // all are about as long: lengthOf

	chance float64          // that one ends with a request, were they memoryless: the geometric mean
	even   float64          // weight of all of memoryless
	about  [lengths]float64 // weights of alike, on the scale of even
}

const (
	lengths      = 14
	longestSlow  = 4000.0
	shortestSlow = 10.0
	typicalSlow  = 50.0 // what is believed before any trial, e times more or less
	alikeShare   = 0.3  // probability before any trial that all are about as long
	// recoveryFade is the part of what was learned that each trial takes away, so that a pool may change.
	recoveryFade = 0.01
)

// lengthOf are the lengths in question, a geometric sequence.
var lengthOf = func() (all [lengths]float64) {
	for i := range all {
		all[i] = shortestSlow * math.Pow(longestSlow/shortestSlow, float64(i)/(lengths-1))
	}
	return all
}()

// lengthPrior is the logarithm of the weight of the i-th before any trial, of a kind with that probability.
func lengthPrior(i int, kind float64) float64 {
	d := math.Log(lengthOf[i] / typicalSlow)
	return math.Log(kind) - d*d/2
}

// lasting is the probability that a slow-down is not over at t where all are about as long as the i-th length: log-logistic, a fifth more or less.
func lasting(i int, t float64) float64 {
	x := t / lengthOf[i]
	x *= x
	x *= x
	return 1 / (1 + x*x)
}

func newRecovery() recovery {
	var r recovery
	for i := range r.memoryless {
		r.memoryless[i] = lengthPrior(i, 1-alikeShare)
		r.alike[i] = lengthPrior(i, alikeShare)
	}
	r.read()
	return r
}

// learn takes a trial: how long the peer had been slow when it was left alone (negative = not known), how long it was, and how likely what it
// showed then is of a peer that is still slow and of one that has recovered.
func (r *recovery) learn(from, idle, slow, recovered float64) {
	const least = 1e-9 // one trial refutes nothing for good
	like := func(still float64) float64 { return still*slow + (1-still)*recovered + least }
	sum := 0.0
	for i := range r.memoryless {
		l := like(math.Exp(-idle / lengthOf[i]))
		sum += l * math.Exp(r.memoryless[i])
		r.memoryless[i] += recoveryFade*(lengthPrior(i, 1-alikeShare)-r.memoryless[i]) + math.Log(l)
	}
	for i := range r.alike {
		l := sum / r.even // not dated: it tells nothing of which kind they are
		if from >= 0 {
			l = like(lasting(i, from+idle) / lasting(i, from))
		}
		r.alike[i] += recoveryFade*(lengthPrior(i, alikeShare)-r.alike[i]) + math.Log(l)
	}
	r.read()
}

func (r *recovery) read() {
	best := math.Inf(-1)
	for i := range r.memoryless {
		best = max(best, r.memoryless[i], r.alike[i])
	}
	sum, all := 0.0, 0.0
	for i := range r.memoryless {
		r.memoryless[i] -= best
		r.alike[i] -= best
		p := math.Exp(r.memoryless[i])
		sum += p * math.Log(lengthOf[i])
		all += p
		r.about[i] = math.Exp(r.alike[i])
	}
	r.chance, r.even = math.Exp(-sum/all), all
}

// ends is the probability that a slow-down ends between t and t + more, of a peer that showed last that it was slow at the time `from`.
func (r *recovery) ends(from, t, more float64) float64 {
	before := r.even * math.Exp(-r.chance*(t-from))
	after := before * math.Exp(-r.chance*more)
	for i, w := range r.about {
		w /= lasting(i, from)
		before += w * lasting(i, t)
		after += w * lasting(i, t+more)
	}
	if before == 0 { // silent for so long that nothing is left of any length
		return 1
	}
	return 1 - after/before
}

// trial is a peer's way from its last request before a time without any through the first few behind it. Times are in requests of a typical peer.
type trial struct {
	before         [factors]float64 // belief when that time began
	slowFor        float64          // how long the peer has been slow; 0 = it is not
	from           float64          // slowFor when that time began; negative = it was not known to be slow
	idle           float64          // its length; 0 = none has begun
	done, expected float64          // of the requests behind it, as in drift.update
	counted        bool             // among the pool's slow-downs (jumps)
}

const (
	trialRequests = 3    // so many tell
	leastSlow     = 0.02 // a peer that is hardly suspected of being slow is no trial
)

// ends is the probability that the peer's slow-down ended in the blank part of the window that follow took last.
func (try *trial) ends(r *recovery, blank float64) float64 {
	switch t := max(try.slowFor-blank, 0); {
	case blank == 0:
		return 0
	case try.slowFor == 0:
		return 1 - math.Exp(-r.chance*blank)
	case try.idle > 0 && try.from >= 0:
		return r.ends(try.from, t, blank)
	default:
		return r.ends(t, t, blank)
	}
}

// follow takes a window before the belief is updated by it, as in drift.update. What a trial showed, and how slow a peer is that is left alone, goes to c.
func (d *drift) follow(t *priors, c *changes, done, expected, blank, length float64) {
	try := &d.trial
	shown := done > 0 || expected > 0
	if !shown && try.done > 0 {
		d.conclude(t, &c.recovery)
	}
	if try.idle == 0 && d.slow < isWell {
		try.slowFor, try.counted = 0, false
	}
	from := try.slowFor
	if from > 0 || d.slow > isSlow {
		try.slowFor += length
	}
	switch {
	case shown && try.idle > 0:
		try.done += done
		try.expected += expected
		if try.done >= trialRequests {
			d.conclude(t, &c.recovery)
		}
	case !shown && blank > 0:
		if try.idle == 0 {
			d.leave(t, &c.jumps, from)
		}
		try.idle += blank
	}
}

// leave begins a time without requests of a peer that has been slow for so long.
func (d *drift) leave(t *priors, j *jumps, slowFor float64) {
	try := &d.trial
	try.before, try.from = d.belief, slowFor
	if try.slowFor == 0 {
		try.from = -1
	}
	if d.slow > isSlow && !try.counted {
		try.counted = true
		j.add(t, &d.belief)
	}
}

func (d *drift) conclude(t *priors, r *recovery) {
	try := &d.trial
	if t.slow(&try.before) > leastSlow {
		like, slow, recovered := t.likelihood(try.done, try.expected), 0.0, 0.0
		for i, l := range like {
			slow += try.before[i] * l
			recovered += t.home[i] * l
		}
		r.learn(try.from, try.idle, slow, recovered)
	}
	try.idle, try.done, try.expected = 0, 0, 0
}
