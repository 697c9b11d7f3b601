package estimate

import "math"

// jumps is where the speeds of a pool's peers go when they change. What slows one peer down slows others to a like part of their speed: a neighbour, a
// collector, a throttle. Who knows that part needs a few answers less to tell a slow peer from chance: ten peers of 4 slots, each at .1 of its speed for 1 s in
// turn, load .7, 1.01 of least_conn's p99 for 1.06 (five seeds), brownout-80 .760 for .765.
type jumps struct {
	to    [factors]float64 // the speed after a jump, over the long-run speed
	seen  [factors]float64 // slow-downs by how slow, decayed
	count float64          // of them
}

const (
	jumpHome = 0.3  // part of the jumps that go back to the long-run speed
	jumpWide = 2.0  // slow-downs that any speed counts as, before one was seen
	jumpFade = 0.02 // of what was seen, that each slow-down takes away
	isSlow   = 0.5  // probability of being slow from which on a peer left alone counts as one
	isWell   = 0.2  // and below which that one is over
)

func newJumps(t *priors) (j jumps) {
	j.read(t)
	return j
}

// add takes the belief over the speed of a peer that is slow.
func (j *jumps) add(t *priors, belief *[factors]float64) {
	j.count *= 1 - jumpFade
	for i, p := range belief {
		j.seen[i] *= 1 - jumpFade
		if t.log[i] < -math.Ln2 {
			j.seen[i] += p
			j.count += p
		}
	}
	j.read(t)
}

func (j *jumps) read(t *priors) {
	for i := range j.to {
		j.to[i] = jumpHome*t.home[i] + (1-jumpHome)*(jumpWide*t.wide[i]+j.seen[i])/(jumpWide+j.count)
	}
}
