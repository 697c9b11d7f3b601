package ope_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/ope"
	"github.com/weirlb/weir/engine/learn/replay"
)

// column is a model that answers what stands in one feature.
type column int

func (c column) Predict(x []float32, rows int, y []float32) error {
	for i := range rows {
		y[i] = x[i*decide.Inputs+int(c)]
	}
	return nil
}

// The features of these worlds: what the candidate and the current model think of a peer, as corrections, and the truth.
const (
	candidate = column(0)
	current   = column(1)
	truth     = column(2)
)

// bandit makes decisions of a world: the current model chose, returns scatter as exponentials around the truth, and the level of
// all returns wanders in time. It returns what the candidate is truly worth more than the current model, in parts of the mean return.
func bandit(rnd *rand.Rand, n int, rule decide.Rule, think func(truth float64) (candidate, current float64)) (list []replay.Decision, difference float64) {
	const peers = 5
	weather, sum, diff := 0.0, 0.0, 0.0
	for t := range n {
		weather = 0.98*weather + 0.05*rnd.NormFloat64()
		d := replay.Decision{At: float64(t), Exact: true, Rule: rule, X: make([]float32, peers*decide.Inputs), Cost: make([]float32, peers)}
		var mean, now, then, p, pc [peers]float64
		for i := range peers {
			real := 0.5 * rnd.NormFloat64()
			a, b := think(real)
			x := d.Row(i)
			x[candidate], x[current], x[truth] = float32(a), float32(b), float32(real)
			d.Cost[i] = 100
			mean[i] = 100 * math.Exp(real+weather)
			now[i], then[i] = 100*math.Exp(a), 100*math.Exp(b)
		}
		rule.Distribution(now[:], pc[:])
		rule.Distribution(then[:], p[:])
		u := rnd.Float64()
		for i := range peers {
			if u -= p[i]; u < 0 || i == peers-1 {
				d.Chosen = i
				break
			}
		}
		d.Propensity = p[d.Chosen]
		d.Return = mean[d.Chosen] * rnd.ExpFloat64()
		for i := range peers {
			diff += (pc[i] - p[i]) * mean[i]
			sum += p[i] * mean[i]
		}
		list = append(list, d)
	}
	return list, diff / sum
}

// well: enough exploration that no weight is cut at the default.
var well = decide.Rule{Explore: 0.3, Spread: 0.1}

func TestTheIntervalHoldsTheTruthAlsoWhenTheModelIsWrong(t *testing.T) {
	for name, think := range map[string]func(rnd *rand.Rand) func(float64) (float64, float64){
		// The candidate knows the truth, the current model is biased threefold and noisy.
		"better candidate": func(rnd *rand.Rand) func(float64) (float64, float64) {
			return func(x float64) (float64, float64) { return x, 0.3*x + 1 + 0.3*rnd.NormFloat64() }
		},
		"worse candidate": func(rnd *rand.Rand) func(float64) (float64, float64) {
			return func(x float64) (float64, float64) { return -x, x - 1 }
		},
	} {
		rnd := rand.New(rand.NewPCG(7, 7))
		held, bias, squares := 0, 0.0, 0.0
		const worlds = 60
		for i := range worlds {
			list, real := bandit(rnd, 3000, well, think(rnd))
			r, err := ope.Evaluate(context.Background(), candidate, current, list, ope.Options{Seed: uint64(i)})
			if err != nil {
				t.Fatal(err)
			}
			if r.Difference.Low <= real && real <= r.Difference.High {
				held++
			}
			bias += (r.Difference.Value - real) / worlds
			squares += (r.Difference.Value - real) * (r.Difference.Value - real) / worlds
			if r.Cut > 0 || math.Abs(real) < 0.1 {
				t.Fatalf("%s: weights cut %v, true difference %v: the world tests nothing", name, r.Cut, real)
			}
		}
		if held < worlds*85/100 {
			t.Errorf("%s: 95 %% intervals held the truth in %d of %d worlds", name, held, worlds)
		}
		if scatter := 3 * math.Sqrt(squares/worlds); math.Abs(bias) > scatter+0.005 || scatter > 0.07 {
			t.Errorf("%s: the estimates are off by %.4f in the mean, %.4f would be chance", name, bias, scatter)
		}
	}
}

func TestTinyPropensitiesDoNotExplodeTheEstimate(t *testing.T) {
	rnd := rand.New(rand.NewPCG(8, 8))
	// The candidate wants what the current model hardly ever picks.
	rare := decide.Rule{Explore: 0.0005, Spread: 0.05}
	list, _ := bandit(rnd, 4000, rare, func(x float64) (float64, float64) { return -x, x })
	cut, err := ope.Evaluate(context.Background(), candidate, current, list, ope.Options{})
	if err != nil {
		t.Fatal(err)
	}
	free, err := ope.Evaluate(context.Background(), candidate, current, list, ope.Options{Most: -1})
	if err != nil {
		t.Fatal(err)
	}
	if cut.Cut == 0 || cut.Difference.Dev > 0.1 || cut.Difference.Dev > free.Difference.Dev/2 {
		t.Errorf("cut in %v of the decisions, standard error %v; %v uncut", cut.Cut, cut.Difference.Dev, free.Difference.Dev)
	}
	if cut.Difference.Low < 0 {
		t.Errorf("a candidate that wants the dearest is said to be %+v", cut.Difference)
	}
}

func TestTheSameModelDiffersByNothing(t *testing.T) {
	list, _ := bandit(rand.New(rand.NewPCG(9, 9)), 2000, well, func(x float64) (float64, float64) { return 0, x })
	r, err := ope.Evaluate(context.Background(), current, current, list, ope.Options{})
	if err != nil || r.Difference.Value != 0 || r.Difference.High != 0 || r.Moved != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if math.Abs(r.Current.Value-1) > 0.15 || math.Abs(r.Effective-2000) > 1 {
		t.Errorf("what was is %+v, effective decisions %v", r.Current, r.Effective)
	}
}

func TestTheControlSliceAndUnknownSetsAreLeftOut(t *testing.T) {
	list, _ := bandit(rand.New(rand.NewPCG(9, 9)), 300, well, func(x float64) (float64, float64) { return 0, x })
	for i := range list {
		switch {
		case i%3 == 0:
			list[i].Flags = replay.Control
		case i%3 == 1:
			list[i].Exact = false
		}
	}
	r, err := ope.Evaluate(context.Background(), candidate, current, list, ope.Options{})
	if err != nil || r.Decisions != 100 || r.Passed != 200 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := ope.Evaluate(context.Background(), candidate, current, list[:30], ope.Options{}); !errors.Is(err, ope.ErrTooFew) {
		t.Errorf("10 decisions: %v", err)
	}
}

func TestResponseTimesAreJudgedApartFromTheDelayImposed(t *testing.T) {
	rnd := rand.New(rand.NewPCG(10, 10))
	list, real := bandit(rnd, 20_000, well, func(x float64) (float64, float64) { return x, 0.3*x + 1 })
	mean := 0.0
	for i := range list { // what it imposed is noise, ten times as large
		d := &list[i]
		d.Own = d.Return
		d.Return += 10 * 100 * rnd.ExpFloat64()
		mean += d.Own / float64(len(list))
	}
	r, err := ope.Evaluate(context.Background(), candidate, current, list, ope.Options{Own: true})
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(r.MeanMS/mean-1) > 0.02 || math.Abs(r.Difference.Value-real) > 0.1 || !(r.Difference.High-r.Difference.Low < 0.3) {
		t.Errorf("%.1f ms, %+v; %.1f and %.3f are true", r.MeanMS, r.Difference, mean, real)
	}
	if e := r.Recorded; math.Abs(e.Value-1) > 1e-9 || !(e.Low < 0.99 && e.Low > 0.8 && e.High > 1.01 && e.High < 1.25) {
		t.Errorf("what was: %+v", e)
	}
}

func TestPropensitiesThatCannotBeShowInTheWeights(t *testing.T) {
	rnd := rand.New(rand.NewPCG(11, 11))
	think := func(x float64) (float64, float64) { return x, -x }
	list, _ := bandit(rnd, 20_000, well, think)
	weigh := func(propensity func(p float64) float64) ope.Result {
		changed := append([]replay.Decision(nil), list...)
		for i := range changed {
			changed[i].Propensity = propensity(changed[i].Propensity)
		}
		r, err := ope.Evaluate(context.Background(), candidate, current, changed, ope.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := weigh(func(p float64) float64 { return p }); !(r.Weight.Low < 1 && r.Weight.High > 1 && r.Weight.High-r.Weight.Low < 0.5) || r.Certain > 0 {
		t.Errorf("right ones: weights %+v, certain %v", r.Weight, r.Certain)
	}
	if r := weigh(func(float64) float64 { return 1 }); r.Weight.High > 0.5 || r.Certain != 1 {
		t.Errorf("left out: weights %+v, certain %v", r.Weight, r.Certain)
	}
	if r := weigh(func(p float64) float64 { return p / 2 }); r.Weight.Low < 1.5 {
		t.Errorf("too small: weights %+v", r.Weight)
	}
}

// Behind a queue the analytic cost, a price index, rises far faster than the return.
func TestPricesThatAreNoReturnsWidenNoInterval(t *testing.T) {
	rule := decide.Rule{Explore: 0.05, Spread: 1e-9} // the cheapest but for exploring: the same choices whatever the power
	dev := func(power float64) float64 {
		rnd := rand.New(rand.NewPCG(12, 12))
		sum := 0.0
		for i := range uint64(10) {
			list, _ := bandit(rnd, 4000, rule, func(x float64) (float64, float64) { return x + 0.1*rnd.NormFloat64(), x })
			for _, d := range list {
				for p := range d.Cost {
					x := d.Row(p)
					more := (power - 1) * float64(x[current])
					d.Cost[p] *= float32(math.Exp(more))
					x[candidate] = float32(power*float64(x[candidate]) - more)
				}
			}
			r, err := ope.Evaluate(context.Background(), candidate, current, list, ope.Options{Seed: i})
			if err != nil {
				t.Fatal(err)
			}
			sum += r.Difference.Dev / 10
		}
		return sum
	}
	if plain, steep := dev(1), dev(4); steep > 1.3*plain {
		t.Errorf("standard errors %.4f of prices that are returns, %.4f of their fourth powers", plain, steep)
	}
}
