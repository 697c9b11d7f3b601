package main

import (
	"fmt"
	"math"
	"slices"
)

// spread is what is told of a set of repetitions: the median, the quartiles, the extremes.
type spread struct {
	Median float64 `json:"median"`
	Q1     float64 `json:"q1"`
	Q3     float64 `json:"q3"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{Median: math.NaN(), Q1: math.NaN(), Q3: math.NaN(), Min: math.NaN(), Max: math.NaN()}
	}
	v := slices.Sorted(slices.Values(values))
	return spread{between(v, 0.5), between(v, 0.25), between(v, 0.75), v[0], v[len(v)-1], len(v)}
}

// between is the quantile q of sorted values, linear between ranks.
func between(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	low := int(at)
	if low == len(sorted)-1 {
		return sorted[low]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

// rank is the smallest value that at least a share q of the sorted values do not exceed.
func rank(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// quartiles as text, with a format for one number.
func (s spread) quartiles(format string) string {
	return fmt.Sprintf(format+" .. "+format, s.Q1, s.Q3)
}

func (s spread) extremes(format string) string {
	return fmt.Sprintf(format+" .. "+format, s.Min, s.Max)
}
