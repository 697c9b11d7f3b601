package world

import (
	"math"
	"math/rand/v2"

	"github.com/weirlb/weir/engine/sim/scenario"
)

// The streams of random numbers. Each has its own generator, so that what one draws never shifts another: with one seed
// every policy meets the same arrivals and the same sizes, however often it draws itself.
const (
	streamArrivals = iota + 1
	streamSizes
	streamSpread // which balancer gets a request
	streamFaults // which attempts fail, where only a share does
	streamPolicy // + index of the balancer
)

// newStream seeds one stream. The words go through a mixer (the finaliser of splitmix64, Steele et al. 2014), since
// seeds 1, 2, 3 and streams 1, 2, 3 would start a PCG in neighbouring states.
func newStream(seed uint64, stream int) *rand.Rand {
	return rand.New(rand.NewPCG(mix(seed), mix(seed^mix(uint64(stream)))))
}

func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// sizer draws classes and service times.
type sizer struct {
	rnd     *rand.Rand
	upTo    []float64 // cumulative shares
	classes []drawn
}

// drawn is a class with its distribution's constants worked out.
type drawn struct {
	dist scenario.Dist
	a, b float64 // Fixed, Exp: mean, -. Lognormal: mu, sigma. Pareto: smallest, 1/shape
	hint bool
}

func newSizer(s *scenario.Scenario, rnd *rand.Rand) *sizer {
	z := &sizer{rnd: rnd}
	sum := 0.0
	for _, c := range s.Classes {
		sum += c.Share
		d := drawn{dist: c.Dist, a: c.MeanMS, hint: c.WeightHint}
		switch c.Dist {
		case scenario.Lognormal:
			variance := math.Log1p(c.CV * c.CV)
			d.a, d.b = math.Log(c.MeanMS)-variance/2, math.Sqrt(variance)
		case scenario.Pareto:
			d.a, d.b = c.MeanMS*(c.Shape-1)/c.Shape, 1/c.Shape
		}
		z.upTo = append(z.upTo, sum)
		z.classes = append(z.classes, d)
	}
	z.upTo[len(z.upTo)-1] = math.Inf(1) // shares may sum to a hair under 1
	return z
}

// draw gives a class, a size in ms at speed 1, and the weight a balancer is told.
func (z *sizer) draw() (class int32, size, weight float64) {
	if len(z.classes) > 1 {
		u := z.rnd.Float64()
		for u >= z.upTo[class] {
			class++
		}
	}
	d := &z.classes[class]
	switch d.dist {
	case scenario.Exp:
		size = d.a * z.rnd.ExpFloat64()
	case scenario.Lognormal:
		size = math.Exp(d.a + d.b*z.rnd.NormFloat64())
	case scenario.Pareto:
		// The logarithm of a Pareto variable over its smallest value is exponential.
		size = d.a * math.Exp(d.b*z.rnd.ExpFloat64())
	default:
		size = d.a
	}
	if d.hint {
		weight = size
	}
	return class, size, weight
}

// arrivals draws a Poisson process whose rate follows the scenario's steps, in the clock of arrivals (ms).
type arrivals struct {
	rnd   *rand.Rand
	steps []scenario.Step
	step  int
	left  float64 // of the step, ms; +Inf for a constant rate
	clock float64
}

func newArrivals(steps []scenario.Step, rnd *rand.Rand) *arrivals {
	a := &arrivals{rnd: rnd, steps: steps}
	a.left = stepMS(steps[0])
	return a
}

func stepMS(s scenario.Step) float64 {
	if s.ForS == 0 {
		return math.Inf(1)
	}
	return s.ForS * 1000
}

// next gives the time of the next arrival: the unit-rate exponential is spent along the steps, which is exact for a
// piecewise constant rate.
func (a *arrivals) next() float64 {
	need := a.rnd.ExpFloat64()
	for {
		perMS := a.steps[a.step].RatePerS / 1000
		if have := perMS * a.left; have > need || math.IsInf(a.left, 1) {
			d := need / perMS
			a.left -= d
			a.clock += d
			return a.clock
		}
		need -= perMS * a.left
		a.clock += a.left
		a.step = (a.step + 1) % len(a.steps)
		a.left = stepMS(a.steps[a.step])
	}
}
