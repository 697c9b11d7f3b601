package estimate

import "math"

// drift follows how far a peer's speed is now from its long-run speed.
//
// It is a Bayesian change-point filter (Adams and MacKay 2007, with the hidden speed on a grid instead of the run length): the belief
// over factors 1/16..4 is updated by the censored likelihood f^done x exp(-f x expected), where expected counts the busy slot-time of
// requests that still run. A stall therefore speaks before any slow answer ends. Between updates the belief leaks, with a small
// chance per completion, to the prior of a fresh jump: back to the long-run speed, to where the pool's peers went before (jumps), or anywhere. A sticky filter
// averages long while nothing changes, which a fixed time constant cannot do without being slow to notice.
//
// A peer that shows nothing, for it has no requests or none that ended for long (patience), leaks by time to its long-run speed, at the pace
// of the rest of the pool, and so is tried again. How fast is learned (recovery).
type drift struct {
	belief [factors]float64
	factor float64 // 1 / E[1/f], so that service times over it are what is to be expected of them, with the chance that the peer just turned slow
	slow   float64 // probability that the peer works at less than half its long-run speed
	steady float64 // mean logarithm of factor over the last settleMS
	trial  trial
}

const (
	factors    = 25
	factorLow  = -2.7725887222397811 // ln 1/16
	factorStep = (1.3862943611198906 - factorLow) / (factors - 1)
	homeWidth  = 0.15 // of the long-run speed, as a standard deviation of the logarithm
)

// changes is what a pool has shown of how the speeds of its peers change.
type changes struct {
	recovery recovery
	jumps    jumps
}

func newChanges(t *priors) changes { return changes{recovery: newRecovery(), jumps: newJumps(t)} }

// priors are the constants of the filter: the grid, and speeds by what is known of nothing. One for a pool, filled once.
type priors struct {
	log    [factors]float64 // logarithm of a factor
	factor [factors]float64
	wide   [factors]float64 // any speed up to twice the long-run speed
	home   [factors]float64 // the long-run speed, where the belief of a peer that shows nothing goes
}

func newPriors() *priors {
	var p priors
	home, wide := 0.0, 0.0
	for i := range factors {
		x := factorLow + factorStep*float64(i)
		p.log[i], p.factor[i] = x, math.Exp(x)
		p.home[i] = math.Exp(-x * x / (2 * homeWidth * homeWidth))
		home += p.home[i]
		if x <= math.Ln2 {
			p.wide[i] = 1
			wide++
		}
	}
	for i := range factors {
		p.home[i] /= home
		p.wide[i] /= wide
	}
	return &p
}

func (d *drift) reset(t *priors) {
	d.belief = t.home
	d.read(t)
}

// update takes what was finished in a window and what was expected at the long-run speed, both in mean requests, and how many the pool's
// mean peer finishes in the window (length), and in the part of it in which this one showed nothing (blank).
func (d *drift) update(t *priors, c *changes, done, expected, blank, length, hazard float64) {
	d.follow(t, c, done, expected, blank, length)
	leak := 1 - math.Exp(-hazard*max(done, expected*0.5))
	idle := (1 - leak) * d.trial.ends(&c.recovery, blank)
	like := t.likelihood(done, expected)
	sum := 0.0
	for i := range d.belief {
		d.belief[i] = ((1-leak-idle)*d.belief[i] + leak*c.jumps.to[i] + idle*t.home[i]) * like[i]
		sum += d.belief[i]
	}
	for i := range d.belief {
		d.belief[i] /= sum
	}
	d.read(t)
}

// settle moves steady on by dt ms.
func (d *drift) settle(dt float64) {
	d.steady += (math.Log(d.factor) - d.steady) * (1 - math.Exp(-dt/settleMS))
}

func (d *drift) read(t *priors) {
	times := 0.0
	for i, p := range d.belief {
		times += p / t.factor[i]
	}
	d.factor, d.slow = 1/times, t.slow(&d.belief)
}

// likelihood is that of each factor, over the best of them.
func (t *priors) likelihood(done, expected float64) (like [factors]float64) {
	best := math.Inf(-1)
	for i := range like {
		like[i] = (done*t.log[i] - t.factor[i]*expected) / dispersion
		best = max(best, like[i])
	}
	for i, l := range like {
		like[i] = math.Exp(max(l-best, -60))
	}
	return like
}

// slow is the probability of less than half the long-run speed.
func (t *priors) slow(belief *[factors]float64) (slow float64) {
	for i, p := range belief {
		if t.log[i] < -math.Ln2 {
			slow += p
		}
	}
	return slow
}
