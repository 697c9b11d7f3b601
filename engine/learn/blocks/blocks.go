// Package blocks gives confidence intervals for means of samples that come in time order and depend on each other.
//
// Response times are correlated: one queue makes many of them long. Samples are therefore added up in blocks of time, each longer
// than a queue lasts, and the blocks are taken as independent (batch means: Law and Kelton, "Simulation modeling and analysis").
//
// The interval is the bootstrap-t over blocks (Efron 1981; Hall 1988). An empirical Bernstein bound would hold for every
// distribution, but it pays for the largest value that could occur: with weights up to 100 and returns up to 30 times the mean it is
// wider than anything there is to find. A normal interval is too short on the side of a long tail; the bootstrap-t is not, for a
// resample that misses the tail has a small deviation and so a large t.
package blocks

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Block is the sums of one stretch of time, for two arms.
type Block struct {
	Sum, N [2]float64 // by arm: sum of the values, and of their weights
}

// Estimate is a value with its interval.
type Estimate struct {
	Value  float64 `json:"value"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Dev    float64 `json:"deviation"` // standard error
	Blocks int     `json:"blocks"`
}

// Known tells whether there is an interval: it takes Least blocks.
func (e Estimate) Known() bool { return e.Blocks >= Least && !math.IsInf(e.High, 0) }

// Least is the number of blocks from which on an interval is given.
const Least = 8

// resamples of a bootstrap: quantiles at 1 % have 10 beyond them.
const resamples = 1000

// Mean estimates the mean of arm 0.
func Mean(b []Block, level float64, seed uint64) Estimate { return estimate(b, 1, level, seed) }

// Difference estimates the mean of arm 0 less the mean of arm 1.
func Difference(b []Block, level float64, seed uint64) Estimate { return estimate(b, 2, level, seed) }

// estimate gives an interval that holds the truth with probability level, both sides alike. It is a function of its arguments.
func estimate(list []Block, arms int, level float64, seed uint64) Estimate {
	used := make([]Block, 0, len(list))
	for _, b := range list {
		if b.N[0] > 0 || arms > 1 && b.N[1] > 0 {
			used = append(used, b)
		}
	}
	e := Estimate{Blocks: len(used), Low: math.Inf(-1), High: math.Inf(1), Dev: math.Inf(1)}
	var ok bool
	e.Value, e.Dev, ok = of(used, nil, arms)
	if !ok {
		e.Value, e.Blocks = 0, 0
		return e
	}
	if len(used) < Least {
		return e
	}
	if e.Dev == 0 {
		e.Low, e.High = e.Value, e.Value
		return e
	}
	rnd := rand.New(rand.NewPCG(seed, 0xb10c5))
	t := make([]float64, 0, resamples)
	pick := make([]int, len(used))
	for range resamples {
		for i := range pick {
			pick[i] = rnd.IntN(len(used))
		}
		// A resample without spread, or without one of the arms, says nothing about it: it counts as the widest.
		v, dev, ok := of(used, pick, arms)
		switch {
		case ok && dev > 0:
			t = append(t, (v-e.Value)/dev)
		default:
			t = append(t, math.Copysign(widest, rnd.Float64()-0.5))
		}
	}
	slices.Sort(t)
	tail := int(math.Floor((1 - level) / 2 * resamples))
	tail = min(max(tail, 0), resamples/2-1)
	e.Low = e.Value - min(t[resamples-1-tail], widest)*e.Dev
	e.High = e.Value - max(t[tail], -widest)*e.Dev
	return e
}

// widest bounds a quantile of t.
const widest = 50

// of is the statistic over the picked blocks (nil: all, once each), and its standard error by the linearised ratio of sums.
func of(list []Block, pick []int, arms int) (value, dev float64, ok bool) {
	n := len(list)
	at := func(i int) *Block {
		if pick == nil {
			return &list[i]
		}
		return &list[pick[i]]
	}
	var sum, count, mean [2]float64
	for i := range n {
		b := at(i)
		for a := range arms {
			sum[a] += b.Sum[a]
			count[a] += b.N[a]
		}
	}
	for a := range arms {
		if !(count[a] > 0) {
			return 0, math.Inf(1), false
		}
		mean[a] = sum[a] / count[a]
	}
	squares := 0.0
	for i := range n {
		b := at(i)
		x := (b.Sum[0] - mean[0]*b.N[0]) / count[0]
		if arms > 1 {
			x -= (b.Sum[1] - mean[1]*b.N[1]) / count[1]
		}
		squares += x * x
	}
	value = mean[0] - mean[1]
	if n < 2 {
		return value, math.Inf(1), true
	}
	return value, math.Sqrt(squares * float64(n) / float64(n-1)), true
}
