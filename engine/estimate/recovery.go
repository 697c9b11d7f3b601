package estimate

import "math"

// recovery is what a pool's slow-downs have shown of how long they last: the chance per request of a typical peer that one ends.
//
// A peer without traffic says nothing, so that chance decides when it is tried again. No number is right for all pools: brown-outs of 6 s
// at a load of .8 had a p99 of .768 of least_conn's with 1/50 and .755 with 1/150, those of 2 s at .7 a mean of 1.00 and 1.09.
//
// It is a belief over a grid of chances, updated by each trial: the requests that a peer gets behind a time without any are as likely under
// the belief of before, if it has not recovered, and under its long-run speed, if it has. Which of the two a chance expects follows from the
// length of that time. Trials that cannot tell the two apart change nothing.
type recovery struct {
	weight [chances]float64 // logarithms, not normalised
	chance float64          // geometric mean of the belief
}

const (
	chances    = 14
	chanceHigh = 1.0 / 10
	chanceLow  = 1.0 / 4000
	// What is believed before any trial, as a logarithm: its mean and standard deviation.
	chanceFirst  = 1.0 / 50
	chanceSpread = 1.0
	// recoveryFade is the part of what was learned that each trial takes away, so that a pool may change.
	recoveryFade = 0.01
)

// chanceLog is the logarithm of the i-th chance.
func chanceLog(i int) float64 {
	return math.Log(chanceHigh) + (math.Log(chanceLow)-math.Log(chanceHigh))*float64(i)/(chances-1)
}

// priorWeight is the weight of the i-th chance before any trial.
func priorWeight(i int) float64 {
	d := (chanceLog(i) - math.Log(chanceFirst)) / chanceSpread
	return -d * d / 2
}

func newRecovery() recovery {
	var r recovery
	for i := range r.weight {
		r.weight[i] = priorWeight(i)
	}
	r.read()
	return r
}

// learn takes a trial: the time before it, in requests of a typical peer, and how likely what it showed is of a peer that is still slow and of
// one that has recovered.
func (r *recovery) learn(idle, slow, recovered float64) {
	for i := range r.weight {
		still := math.Exp(-math.Exp(chanceLog(i)) * idle)
		r.weight[i] += recoveryFade*(priorWeight(i)-r.weight[i]) + math.Log(still*slow+(1-still)*recovered+1e-9)
	}
	r.read()
}

func (r *recovery) read() {
	best := math.Inf(-1)
	for _, w := range r.weight {
		best = max(best, w)
	}
	sum, all := 0.0, 0.0
	for i, w := range r.weight {
		p := math.Exp(w - best)
		sum += p * chanceLog(i)
		all += p
		r.weight[i] = w - best
	}
	r.chance = math.Exp(sum / all)
}

// trial is a peer's way from its last request before a time without any through the first few behind it.
type trial struct {
	before         [factors]float64 // belief when that time began
	idle           float64          // its length, in requests of a typical peer; 0 = none has begun
	done, expected float64          // of the requests behind it, as in drift.update
	counted        bool             // among the pool's slow-downs (jumps)
}

const (
	trialRequests = 3    // so many tell
	leastSlow     = 0.02 // a peer that is hardly suspected of being slow is no trial
)

// follow takes a window before the belief is updated by it. What a trial showed, and how slow a peer is that is left alone, goes to c.
func (d *drift) follow(t *priors, c *changes, done, expected, others float64) {
	try := &d.trial
	if done == 0 && expected == 0 {
		if others == 0 {
			return
		}
		if try.done > 0 {
			d.conclude(t, &c.recovery)
		}
		if try.idle == 0 {
			try.before = d.belief
			if d.slow > isSlow && !try.counted {
				try.counted = true
				c.jumps.add(t, &d.belief)
			}
		}
		try.idle += others
		return
	}
	if d.slow < isWell {
		try.counted = false
	}
	if try.idle == 0 {
		return
	}
	try.done += done
	try.expected += expected
	if try.done >= trialRequests {
		d.conclude(t, &c.recovery)
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
		r.learn(try.idle, slow, recovered)
	}
	try.idle, try.done, try.expected = 0, 0, 0
}
