// Package sketch counts latencies so that quantiles of any merge of counts can be read off: peers of a pool, minutes of a day.
//
// It is the log-bucketed sketch of Masson, Rim and Lee, "DDSketch" (VLDB 2019), with the relative error Error: bucket i holds
// the values in (gamma^(i-1), gamma^i], gamma = (1+Error)/(1-Error), and stands for 2 gamma^i/(gamma+1), which is within Error
// of every value in it. Merging adds counts, so a quantile of merged sketches has the same error as one of the raw values;
// means of percentiles have none that is known. t-digest is smaller at the same count and has no bound on its error.
//
// No buckets are collapsed: between MinMS and MaxMS there are 577 of them. What lies outside is counted in the first or last.
package sketch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Error is the relative error of a quantile, for values between MinMS and MaxMS.
const Error = 0.02

// The values told apart, in ms.
const (
	MinMS = 1e-3
	MaxMS = 1e7 // 2.8 hours
)

const gamma = (1 + Error) / (1 - Error)

var (
	perLog  = 1 / math.Log(gamma)
	lowest  = int32(math.Ceil(math.Log(MinMS) * perLog))
	highest = int32(math.Ceil(math.Log(MaxMS) * perLog))
)

// Sketch is the count of a set of latencies. The zero value is empty and ready. Not safe for concurrent use.
//
// An engine holds one for each peer and class of the minute in progress, ten thousand in a large pool. Few of them count beyond
// 65,535 in a bucket, so counts begin with two bytes; a sketch that needs more has eight from then on.
type Sketch struct {
	low    int32 // bucket of the first count
	narrow []uint16
	wide   []uint64 // in place of narrow when it is not nil
	total  uint64
}

func bucket(ms float64) int32 {
	switch {
	case !(ms > MinMS): // 0, negative and NaN too
		return lowest
	case ms >= MaxMS:
		return highest
	}
	return int32(math.Ceil(math.Log(ms) * perLog))
}

func value(bucket int32) float64 { return math.Exp(float64(bucket)/perLog) * 2 / (gamma + 1) }

// Add counts a latency.
func (s *Sketch) Add(ms float64) { s.AddN(ms, 1) }

// AddN counts a latency n times.
func (s *Sketch) AddN(ms float64, n uint64) { s.add(bucket(ms), n) }

func (s *Sketch) add(b int32, n uint64) {
	if n == 0 {
		return
	}
	if at := int64(b) - int64(s.low); at < 0 || at >= int64(s.size()) {
		s.reach(b)
	}
	i := b - s.low
	s.total += n
	if s.wide == nil {
		if sum := uint64(s.narrow[i]) + n; sum >= n && sum <= math.MaxUint16 {
			s.narrow[i] = uint16(sum)
			return
		}
		s.wide = make([]uint64, len(s.narrow))
		for i, n := range s.narrow {
			s.wide[i] = uint64(n)
		}
		s.narrow = nil
	}
	s.wide[i] += n
}

func (s *Sketch) size() int { return len(s.narrow) + len(s.wide) }

// reach makes room for a bucket and for some beside it: latencies come in clusters.
func (s *Sketch) reach(b int32) {
	const beside = 8
	from, to := max(b-beside, lowest), min(b+beside, highest)
	if n := s.size(); n > 0 {
		from, to = min(from, s.low), max(to, s.low+int32(n)-1)
	}
	if s.wide != nil {
		grown := make([]uint64, to-from+1)
		copy(grown[s.low-from:], s.wide)
		s.wide = grown
	} else {
		grown := make([]uint16, to-from+1)
		if len(s.narrow) > 0 {
			copy(grown[s.low-from:], s.narrow)
		}
		s.narrow = grown
	}
	s.low = from
}

// each yields the buckets that counted something, in order, until told to stop.
func (s *Sketch) each(yield func(b int32, n uint64) bool) {
	for i, n := range s.narrow {
		if n > 0 && !yield(s.low+int32(i), uint64(n)) {
			return
		}
	}
	for i, n := range s.wide {
		if n > 0 && !yield(s.low+int32(i), n) {
			return
		}
	}
}

// Count returns how many latencies were counted.
func (s *Sketch) Count() uint64 { return s.total }

// Reset empties the sketch and keeps its memory.
func (s *Sketch) Reset() {
	clear(s.narrow)
	clear(s.wide)
	s.total = 0
}

// Merge adds what another sketch counted.
func (s *Sketch) Merge(o *Sketch) {
	for b, n := range o.each {
		s.add(b, n)
	}
}

// Quantile returns the latency that the share q of the counted ones does not exceed, NaN when there are none.
func (s *Sketch) Quantile(q float64) float64 {
	if s.total == 0 {
		return math.NaN()
	}
	rank := max(uint64(math.Ceil(q*float64(s.total))), 1)
	seen := uint64(0)
	last := lowest
	for b, n := range s.each {
		last = b
		if seen += n; seen >= rank {
			break
		}
	}
	return value(last)
}

// Append encodes the sketch: for each bucket with a count, in order, the distance from the one before it (the first one from
// MinMS's) and the count, both as unsigned varints. An empty sketch is no bytes.
func (s *Sketch) Append(dst []byte) []byte {
	last := lowest
	for b, n := range s.each {
		dst = binary.AppendUvarint(dst, uint64(b-last))
		dst = binary.AppendUvarint(dst, n)
		last = b
	}
	return dst
}

var errCut = errors.New("the sketch is cut off")

// MergeEncoded adds what an encoded sketch counted. It fails on bytes that Append did not write; buckets before the fault
// stay added.
func (s *Sketch) MergeEncoded(data []byte) error {
	b := int64(lowest)
	for len(data) > 0 {
		step, k := binary.Uvarint(data)
		if k <= 0 {
			return errCut
		}
		data = data[k:]
		n, k := binary.Uvarint(data)
		if k <= 0 {
			return errCut
		}
		data = data[k:]
		if step > uint64(highest-lowest) || b+int64(step) > int64(highest) {
			return fmt.Errorf("the sketch has a bucket past %v ms", MaxMS)
		}
		b += int64(step)
		if n > math.MaxUint64-s.total {
			return errors.New("the sketch counts more than a number holds")
		}
		s.add(int32(b), n)
	}
	return nil
}
