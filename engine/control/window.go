package control

import (
	"math"

	"github.com/weirlb/weir/engine/history/sketch"
)

// The sliding window of a Half: blocks of time, and longer slices for the sketches of its quantiles.
const (
	WindowMS     = 600_000
	windowBlock  = 5000
	windowBlocks = WindowMS / windowBlock
	perSlice     = 12 // blocks in a slice
	windowSlices = windowBlocks / perSlice
)

// Half is what one side of a comparison answered within the last ten minutes: the requests of a group of peers, or those of the rest. Blocks begin
// at multiples of their length, so that those of two halves are of the same times. About 20 KB. The zero value is empty and ready;
// not safe for concurrent use.
type Half struct {
	blocks [windowBlocks]halfBlock
	slices [windowSlices]halfSlice
}

type halfBlock struct {
	number                    int64 // 1 + time / length; 0 = empty
	answered, failed, aborted float64
	ms                        float64 // of the answered
}

type halfSlice struct {
	number int64
	times  sketch.Sketch
}

func (h *Half) block(now float64) *halfBlock {
	number := int64(max(now, 0)/windowBlock) + 1
	b := &h.blocks[number%windowBlocks]
	if b.number != number {
		if number < b.number { // of a time that the window has left
			return nil
		}
		*b = halfBlock{number: number}
	}
	return b
}

// Answered takes in a request that was answered at now (ms) after so many ms.
func (h *Half) Answered(now, ms float64) {
	b := h.block(now)
	if b == nil || !(ms >= 0) || math.IsInf(ms, 0) {
		return
	}
	b.answered++
	b.ms += ms
	number := (b.number-1)/perSlice + 1
	s := &h.slices[number%windowSlices]
	if s.number > number {
		return
	}
	if s.number != number {
		s.number = number
		s.times.Reset()
	}
	s.times.Add(ms)
}

// Failed takes in a request that failed at now.
func (h *Half) Failed(now float64) {
	if b := h.block(now); b != nil {
		b.failed++
	}
}

// Aborted takes in a request whose client left: what it would have been is not known.
func (h *Half) Aborted(now float64) {
	if b := h.block(now); b != nil {
		b.aborted++
	}
}

// Copy makes to the same, which must be empty.
func (h *Half) Copy(to *Half) {
	to.blocks = h.blocks
	for i := range h.slices {
		to.slices[i].number = h.slices[i].number
		to.slices[i].times.Merge(&h.slices[i].times)
	}
}

// HalfFigures are those of a half. NaN = not known.
type HalfFigures struct {
	Requests, Failures, Aborted uint64 // within the window; aborted ones are no part of Requests
	FailureShare                float64
	MeanMS, P50MS, P99MS        float64 // of the answered; quantiles within 2 %
}

// first is the number of the oldest block in the window that ends at now.
func first(now float64) int64 { return int64(now/windowBlock) + 2 - windowBlocks }

// Figures are those of the window that ends at now.
func (h *Half) Figures(now float64) HalfFigures {
	var answered, failed, aborted, ms float64
	for i := range h.blocks {
		if b := &h.blocks[i]; b.number >= first(now) {
			answered, failed, aborted, ms = answered+b.answered, failed+b.failed, aborted+b.aborted, ms+b.ms
		}
	}
	var all sketch.Sketch
	for i := range h.slices {
		if s := &h.slices[i]; s.number > 0 && s.number >= (first(now)-1)/perSlice+1 {
			all.Merge(&s.times)
		}
	}
	return HalfFigures{
		Requests: uint64(answered + failed), Failures: uint64(failed), Aborted: uint64(aborted), FailureShare: failed / (answered + failed),
		MeanMS: ms / answered, P50MS: all.Quantile(0.5), P99MS: all.Quantile(0.99),
	}
}

// Versus says how two halves compare: the first, a candidate, with the second. NaN = not known.
type Versus struct {
	// Ratio of the means; below 1 the first is faster. Low and High are the ends of its 95 % interval, from blocks of time as in
	// Comparison; they need six blocks and twenty answers of either.
	Ratio, Low, High   float64
	P50Ratio, P99Ratio float64
	// More is the share of failures of the first less that of the second, with the ends of its 95 % interval: Newcombe's, of Wilson's scores
	// (Newcombe 1998, method 10). It takes requests as independent; failures that come in bursts make it too narrow.
	More, MoreLow, MoreHigh float64
	Blocks                  int // of time, in which either was asked
}

// Compare compares two halves within the window that ends at now.
func Compare(a, b *Half, now float64) Versus {
	fa, fb := a.Figures(now), b.Figures(now)
	v := Versus{
		Ratio: fa.MeanMS / fb.MeanMS, Low: math.NaN(), High: math.NaN(), P50Ratio: fa.P50MS / fb.P50MS, P99Ratio: fa.P99MS / fb.P99MS,
		More: fa.FailureShare - fb.FailureShare,
	}
	v.MoreLow, v.MoreHigh = newcombe(fa, fb)
	var sum block
	var cross [4][4]float64
	for i := range a.blocks {
		x, y := &a.blocks[i], &b.blocks[i]
		var one block
		if x.number >= first(now) {
			one[policyN], one[policyMS] = x.answered, x.ms
		}
		if y.number >= first(now) && (y.number == x.number || x.number < first(now)) {
			one[controlN], one[controlMS] = y.answered, y.ms
		}
		if one == (block{}) {
			continue
		}
		v.Blocks++
		for i, p := range one {
			sum[i] += p
			for j, q := range one {
				cross[i][j] += p * q
			}
		}
	}
	if sum[policyN] >= minControl {
		v.Low, v.High = interval(sum, cross, float64(v.Blocks))
	}
	return v
}

// wilson is Wilson's 95 % interval of a share: k of n.
func wilson(k, n float64) (low, high float64) {
	const z = 1.959964
	p, d := k/n, 1+z*z/n
	mid, half := (p+z*z/(2*n))/d, z/d*math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return max(mid-half, 0), min(mid+half, 1)
}

func newcombe(a, b HalfFigures) (low, high float64) {
	if a.Requests == 0 || b.Requests == 0 {
		return math.NaN(), math.NaN()
	}
	p, q := a.FailureShare, b.FailureShare
	l1, u1 := wilson(float64(a.Failures), float64(a.Requests))
	l2, u2 := wilson(float64(b.Failures), float64(b.Requests))
	return p - q - math.Hypot(p-l1, u2-q), p - q + math.Hypot(u1-p, q-l2)
}
