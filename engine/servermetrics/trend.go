package servermetrics

import (
	"math"
	"slices"
)

// trend is the recent samples of one metric of one peer, and how fast it climbs.
//
// The slope is the lower quartile of the slopes between all pairs of samples. The median would be the Theil-Sen estimator (Theil
// 1950, Sen 1968), which a quarter of wild samples cannot move; with the quartile a climb counts only when three pairs in four
// climb, so that noise around a level, or a sawtooth that garbage collection makes, is no climb. For a straight line both are its slope.
type trend struct {
	ring  [trendSamples]sample
	n     int // samples in the ring, oldest first
	last  sample
	climb float64 // per ms; never negative
}

type sample struct{ at, value float64 }

const (
	trendSamples = 24
	// trendLeast is how many samples make a trend.
	trendLeast = 4
)

// add takes a sample. Samples older than span are forgotten; those closer together than a share of it replace one another, so that
// the ring always covers the span.
func (t *trend) add(s sample, span float64) {
	// A level that fell by half is another life: the program began again.
	if t.n > 0 && s.value < t.last.value/2 {
		t.n = 0
	}
	t.last = s
	old := 0
	for old < t.n && t.ring[old].at < s.at-span {
		old++
	}
	t.drop(old)
	if t.n >= 2 && s.at-t.ring[t.n-2].at < span/(trendSamples-1) {
		t.n--
	}
	if t.n == trendSamples {
		t.drop(1)
	}
	t.ring[t.n] = s
	t.n++
	t.climb = t.slope()
}

func (t *trend) drop(n int) {
	copy(t.ring[:], t.ring[n:t.n])
	t.n -= n
}

func (t *trend) slope() float64 {
	if t.n < trendLeast {
		return 0
	}
	var slopes [trendSamples * (trendSamples - 1) / 2]float64
	n := 0
	for i := range t.n {
		for j := range i {
			if dt := t.ring[i].at - t.ring[j].at; dt > 0 {
				slopes[n] = (t.ring[i].value - t.ring[j].value) / dt
				n++
			}
		}
	}
	if n == 0 {
		return 0
	}
	slices.Sort(slopes[:n])
	return max(slopes[n/4], 0)
}

// until is how long the climb takes from the last sample to a limit, from a time on, ms; 0 = it is there, +Inf = it does not climb.
func (t *trend) until(now, limit float64) float64 {
	switch {
	case t.last.value >= limit:
		return 0
	case !(t.climb > 0):
		return math.Inf(1)
	}
	return max((limit-t.last.value)/t.climb-(now-t.last.at), 0)
}
