// Package ope tells from recorded decisions what another model would have made of them (off-policy evaluation), without letting it
// decide anything.
//
// The estimate is doubly robust (Dudik, Langford and Li, "Doubly robust policy evaluation and learning", 2011). A decision gave one
// return r, of the peer a that was chosen with probability p among those considered. For a policy that picks i with probability pi_i,
//
//	sum over i of pi_i q_i  +  pi_a/p (r - q_a)
//
// has the policy's expected return as its mean if the propensities are right, whatever q is; and also if q is right, whatever the
// propensities are. q is what decisions on record returned at the current model's cost (calibrate.go). The propensities are as logged,
// given the considered set, and the candidate is given the same set; so nobody needs to know how the set came to be.
//
// What it cannot see: a policy changes the queues that later decisions find. The delay imposed is in the return, as far as it falls
// on requests that came; the rest shows live only, which is why a candidate is watched after it (package gate).
//
// Weights pi/p are cut at max(10, sqrt(n)) for n decisions (Ionides 2008: the variance stays finite and the bias goes to 0 as n
// grows). What is cut counts as if q were right for it. As q goes by the current model's cost, and the current model sends few requests
// where it reckons costs are high, the bias is against candidates that differ much: they look as the current model thinks of them.
package ope

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/blocks"
	"github.com/weirlb/weir/engine/learn/fit"
	"github.com/weirlb/weir/engine/learn/replay"
)

// Options of an evaluation. The zero value of a field means its default.
type Options struct {
	Level float64 // of the intervals, both sides; default 0.95
	Own   bool    // what is judged is the response time alone (of a failure with its penalty), not the delay imposed on others
	Most  float64 // where weights are cut; default max(10, sqrt(n)); negative = nowhere
	Seed  uint64  // of the bootstrap
	Pause func()  // called between parts of the work; nil = not
}

// Result of an evaluation. Values are returns over the mean return of their pool, so 1 is what was, and 0.02 less is 2 % less.
type Result struct {
	Decisions  int             `json:"decisions"` // that could be used
	Passed     int             `json:"passed"`    // of the others: control slice, or considered set not known
	Current    blocks.Estimate `json:"current"`
	Candidate  blocks.Estimate `json:"candidate"`
	Difference blocks.Estimate `json:"difference"` // candidate - current, paired; negative = the candidate is better
	OnRecord   blocks.Estimate `json:"on_record"`  // candidate - what the returns were, paired
	Recorded   blocks.Estimate `json:"recorded"`   // what the returns were: 1, and how far chance may have moved it
	Effective  float64         `json:"effective_decisions"`
	Cut        float64         `json:"weights_cut"` // share of decisions whose weight was cut
	Most       float64         `json:"weight_max"`
	Moved      float64         `json:"moved"` // share of the requests the candidate sends elsewhere
	// Weight is the mean of the candidate's weights. It is 1 where propensities are right and whatever the candidate picks was picked
	// now and then. Below, that part of its picks was never recorded, and counts with what the current model thinks of it.
	Weight  blocks.Estimate `json:"mean_weight"`
	Certain float64         `json:"certain"` // share of the decisions among several peers whose propensity is 1: they say nothing of others
	MeanMS  float64         `json:"mean_return_ms"`
}

// ErrTooFew is returned when there are too few decisions for an interval.
var ErrTooFew = errors.New("too few decisions to judge by")

// runs is how many blocks the decisions are put in, in the order of time.
const runs = 40

// leastRun is the fewest decisions of a block.
const leastRun = 10

// Evaluate judges candidate against current. A nil predictor is the analytic policy.
func Evaluate(ctx context.Context, candidate, current decide.Predictor, list []replay.Decision, opt Options) (Result, error) {
	if !(opt.Level > 0) {
		opt.Level = 0.95
	}
	var r Result
	used := make([]*replay.Decision, 0, len(list))
	type total struct{ sum, n float64 }
	pools := map[int32]*total{}
	for i := range list {
		d := &list[i]
		if !d.Exact || d.Flags&(replay.Control|replay.Other) != 0 || !(d.Propensity > 0) || len(d.Cost) == 0 {
			r.Passed++
			continue
		}
		used = append(used, d)
		t := pools[d.Pool]
		if t == nil {
			t = &total{}
			pools[d.Pool] = t
		}
		t.sum += opt.cost(d)
		t.n++
		r.MeanMS += opt.cost(d)
		if len(d.Cost) > 1 && d.Propensity > certain {
			r.Certain++
		}
	}
	r.Decisions = len(used)
	if r.Decisions < leastRun*blocks.Least {
		return r, fmt.Errorf("%w: %d that can be used, at least %d are needed", ErrTooFew, r.Decisions, leastRun*blocks.Least)
	}
	r.MeanMS /= float64(r.Decisions)
	slices.SortStableFunc(used, func(a, b *replay.Decision) int { return cmp.Compare(a.At, b.At) })
	r.Most = opt.Most
	switch {
	case opt.Most < 0:
		r.Most = math.Inf(1)
	case opt.Most == 0:
		r.Most = max(10, math.Sqrt(float64(r.Decisions)))
	}
	per := max((r.Decisions+runs-1)/runs, leastRun)
	count := (r.Decisions + per - 1) / per
	var now, then, paired, against, was, weighed []blocks.Block
	for _, b := range []*[]blocks.Block{&now, &then, &paired, &against, &was, &weighed} {
		*b = make([]blocks.Block, count)
	}
	e := evaluator{candidate: candidate, current: current}
	expected, err := e.calibrate(used, &opt)
	if err != nil {
		return r, err
	}
	weights, squares := 0.0, 0.0
	for at := 0; at < len(used); at += batch {
		part := used[at:min(at+batch, len(used))]
		if err := e.costs(part); err != nil {
			return r, err
		}
		for i, d := range part {
			t := pools[d.Pool]
			scale := max(t.sum/t.n, 1e-9)
			cost := opt.cost(d)
			v := e.value(d, i, r.Most, cost, expected[d.Pool])
			b := (at + i) / per
			for _, x := range []struct {
				to *blocks.Block
				v  float64
			}{
				{&now[b], v.candidate / scale},
				{&then[b], v.current / scale},
				{&paired[b], (v.candidate - v.current) / scale},
				{&against[b], (v.candidate - cost) / scale},
				{&was[b], cost / scale},
				{&weighed[b], v.weight},
			} {
				x.to.Sum[0] += x.v
				x.to.N[0]++
			}
			weights += v.weight
			squares += v.weight * v.weight
			r.Moved += v.moved
			if v.cut {
				r.Cut++
			}
		}
		if ctx.Err() != nil {
			return r, fmt.Errorf("evaluating a model: %w", ctx.Err())
		}
		if opt.Pause != nil {
			opt.Pause()
		}
	}
	n := float64(r.Decisions)
	r.Cut /= n
	r.Certain /= n
	r.Moved /= n
	if squares > 0 {
		r.Effective = weights * weights / squares
	}
	r.Candidate = blocks.Mean(now, opt.Level, opt.Seed)
	r.Current = blocks.Mean(then, opt.Level, opt.Seed)
	r.Difference = blocks.Mean(paired, opt.Level, opt.Seed)
	r.OnRecord = blocks.Mean(against, opt.Level, opt.Seed)
	r.Recorded = blocks.Mean(was, opt.Level, opt.Seed)
	r.Weight = blocks.Mean(weighed, opt.Level, opt.Seed)
	return r, nil
}

// Moved is the share of requests a candidate would send elsewhere than the current model, over recorded decisions.
func Moved(candidate, current decide.Predictor, list []replay.Decision) (float64, error) {
	e := evaluator{candidate: candidate, current: current}
	sum, n := 0.0, 0
	part := make([]*replay.Decision, 1)
	for i := range list {
		d := &list[i]
		if !d.Exact || len(d.Cost) == 0 {
			continue
		}
		part[0] = d
		if err := e.costs(part); err != nil {
			return 0, err
		}
		sum += e.value(d, 0, 0, 0, nil).moved
		n++
	}
	return sum / float64(max(n, 1)), nil
}

// certain is the propensity from which on nothing else can be said to have been possible.
const certain = 1 - 1e-6

// cost is what a decision is judged by.
func (o *Options) cost(d *replay.Decision) float64 {
	if o.Own {
		return min(d.Own, fit.MostRatio*float64(d.Cost[d.Chosen]))
	}
	return capped(d)
}

// capped is the return, no more than fit counts with either: one request must not decide.
func capped(d *replay.Decision) float64 {
	return min(d.Return, fit.MostRatio*float64(d.Cost[d.Chosen]))
}

// batch is how many decisions are evaluated at a time.
const batch = 64

// evaluator holds the memory of an evaluation.
type evaluator struct {
	candidate, current decide.Predictor
	x, y, z            []float32
	first              []int // of each decision of the part: its first row
	q, qc, p, pc       []float64
}

// costs evaluates both models on the considered peers of some decisions.
func (e *evaluator) costs(part []*replay.Decision) error {
	e.x, e.first = e.x[:0], e.first[:0]
	rows := 0
	for _, d := range part {
		e.first = append(e.first, rows)
		e.x = append(e.x, d.X...)
		rows += len(d.Cost)
	}
	e.y, e.z = sized(e.y, rows), sized(e.z, rows)
	for _, m := range []struct {
		name string
		of   decide.Predictor
		to   []float32
	}{{"candidate", e.candidate, e.y}, {"current", e.current, e.z}} {
		clear(m.to)
		if m.of == nil {
			continue
		}
		if err := m.of.Predict(e.x, rows, m.to); err != nil {
			return fmt.Errorf("evaluating the %s model: %w", m.name, err)
		}
	}
	return nil
}

func sized[T any](v []T, n int) []T {
	if cap(v) < n {
		return make([]T, n)
	}
	return v[:n]
}

// judged is what one decision says.
type judged struct {
	candidate, current float64 // doubly robust values
	weight, moved      float64
	cut                bool
}

// value judges decision i of the part, which cost so much.
func (e *evaluator) value(d *replay.Decision, i int, most, cost float64, expected *calibration) (v judged) {
	n := len(d.Cost)
	e.q, e.qc, e.p, e.pc = sized(e.q, n), sized(e.qc, n), sized(e.p, n), sized(e.pc, n)
	for j := range n {
		at := e.first[i] + j
		e.qc[j] = corrected(d.Cost[j], e.y[at])
		e.q[j] = corrected(d.Cost[j], e.z[at])
	}
	d.Rule.Distribution(e.qc, e.pc)
	d.Rule.Distribution(e.q, e.p)
	if expected != nil {
		for j, price := range e.q {
			e.q[j] = expected.at(price)
		}
	}
	for j := range n {
		v.candidate += e.pc[j] * e.q[j]
		v.current += e.p[j] * e.q[j]
		v.moved += math.Abs(e.pc[j]-e.p[j]) / 2
	}
	rest := cost - e.q[d.Chosen]
	v.weight = e.pc[d.Chosen] / d.Propensity
	w0 := e.p[d.Chosen] / d.Propensity
	v.cut = v.weight > most || w0 > most
	v.weight = min(v.weight, most)
	v.candidate += v.weight * rest
	v.current += min(w0, most) * rest
	return v
}

// corrected is decide.Learned's cost.
func corrected(analytic, z float32) float64 {
	return float64(analytic) * math.Exp(min(max(float64(z), -decide.Trust), decide.Trust))
}
