package history

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
)

// MarshalJSON writes numbers that are none as null. It is written out because an answer may have a million numbers.
func (l *Line) MarshalJSON() ([]byte, error) { return l.AppendJSON(nil), nil }

// AppendJSON appends the line as a JSON object.
func (l *Line) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"pool":`...)
	dst = appendJSONText(dst, l.Pool)
	if l.Peer != "" {
		dst = appendJSONText(append(dst, `,"peer":`...), l.Peer)
	}
	if l.Class != "" {
		dst = appendJSONText(append(dst, `,"class":`...), l.Class)
	}
	dst = column(dst, "at_ms", l.AtMS, func(dst []byte, x int64) []byte { return strconv.AppendInt(dst, x, 10) })
	whole := func(dst []byte, x uint64) []byte { return strconv.AppendUint(dst, x, 10) }
	dst = column(dst, "count", l.Count, whole)
	dst = column(dst, "failures", l.Failures, whole)
	dst = column(dst, "others", l.Others, whole)
	dst = column(dst, "mean_ms", l.MeanMS, appendMS)
	dst = column(dst, "p50_ms", l.P50MS, appendMS)
	dst = column(dst, "p90_ms", l.P90MS, appendMS)
	dst = column(dst, "p99_ms", l.P99MS, appendMS)
	dst = column(dst, "max_ms", l.MaxMS, appendMS)
	dst = column(dst, "bytes", l.Bytes, whole)
	return append(dst, '}')
}

func column[T any](dst []byte, name string, values []T, one func([]byte, T) []byte) []byte {
	dst = append(append(append(dst, `,"`...), name...), `":[`...)
	for i, x := range values {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = one(dst, x)
	}
	return append(dst, ']')
}

// appendMS writes a time to the microsecond: the sketch's error is far above that. Writing thousandths as a whole number and
// setting the point is several times faster than formatting a float, which matters for a day of minutes of twenty peers.
func appendMS(dst []byte, x float64) []byte {
	if !(x >= 0 && x < 1e15) {
		return append(dst, "null"...)
	}
	n := int64(math.Round(x * 1000))
	dst = strconv.AppendInt(dst, n/1000, 10)
	if n %= 1000; n > 0 {
		dst = append(dst, '.', byte('0'+n/100))
		if n %= 100; n > 0 {
			dst = append(dst, byte('0'+n/10))
			if n %= 10; n > 0 {
				dst = append(dst, byte('0'+n))
			}
		}
	}
	return dst
}

func appendJSONText(dst []byte, s string) []byte {
	text, _ := json.Marshal(s) // a string always has a form
	return append(dst, text...)
}

// AppendAnswer appends the answer to the question as a JSON object.
func (q *Question) AppendAnswer(dst []byte, lines []*Line) []byte {
	size := 200
	for _, l := range lines {
		size += 200 + 70*len(l.AtMS)
	}
	dst = append(slices.Grow(dst, size), `{"from_ms":`...)
	dst = strconv.AppendInt(dst, q.FromMS, 10)
	dst = strconv.AppendInt(append(dst, `,"to_ms":`...), q.ToMS, 10)
	dst = strconv.AppendInt(append(dst, `,"step_ms":`...), q.StepMS, 10)
	dst = appendJSONText(append(dst, `,"by":`...), string(q.By))
	dst = append(dst, `,"lines":[`...)
	for i, l := range lines {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = l.AppendJSON(dst)
	}
	return append(dst, "]}"...)
}
