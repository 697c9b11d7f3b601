package estimate

// sized is the evidence of a peer's present speed in pools whose requests tell their size, for drift.
//
// Elsewhere that is the work finished per busy slot-time. Where sizes differ much it comes in lumps: a request of thirty times the mean reads as a
// stall while it lasts and as thirty completions at once when it ends, and in the Park world the speeds believed were off by half to either side. So
// here each answer speaks for itself: by its response time over what was expected of a request of its size, as far as that was its own service.
// Silence counts until an answer comes, which then tells of that time too.
//
// What is usual is what was seen over the long run, not 1: an error of what was expected would else be taken for a speed, and the long-run speed be
// learned by that.
type sized struct {
	weight, sum float64 // of answers and of their ratios over the long run
	ahead       float64 // silence that was counted, to be taken off the next answers
	done, told  float64 // of the window
}

// sizedPrior is how many answers' worth of ratio 1 is assumed.
const sizedPrior = 20

func (s *sized) answer(a answer) {
	own, x := float64(a.own), float64(a.own)*min(float64(a.ratio), mostLate)
	usual := (s.weight + sizedPrior) / (s.sum + sizedPrior)
	s.weight += own
	s.sum += x
	x *= usual
	counted := min(s.ahead, x)
	s.ahead -= counted
	s.done += own
	s.told += x - counted
}

// mostLate is the largest ratio: a request whose hint said nothing of it is no proof of a stall.
const mostLate = 20

// window ends the window: what was finished and what was expected of the time, in answers. silent is what was expected since the last answer.
func (s *sized) window(silent float64) (done, expected float64) {
	s.ahead += silent
	done, expected = s.done, s.told+silent
	s.done, s.told = 0, 0
	return done, expected
}

func (s *sized) decay(f float64) {
	s.weight *= f
	s.sum *= f
}

// known is how far class and size tell how long a request takes on the peer, in [0, 1]. A coefficient of variation of 0.7 or less is as good as none: part of
// what is measured of it is the error of what was expected. It grows with what was seen of the peer, since as long as its slots and its speed are
// guesses, so is what it has done.
func (pe *peer) known() float64 {
	return min(max(2*(1-pe.mix.within), 0), 1) * pe.curve.n / (pe.curve.n + 100)
}
