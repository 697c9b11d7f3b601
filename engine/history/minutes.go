package history

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/weirlb/weir/engine/history/sketch"
	"github.com/weirlb/weir/engine/observe"
)

// MaxSeries bounds the series a Minutes knows. Peers and classes come and go; when there are more it starts over, which
// makes more rollups of the minutes in progress and loses nothing.
const MaxSeries = 1 << 16

// Minutes rolls outcomes up. It counts every outcome, those that sampling leaves out of the raw history too, so counts and
// quantiles of rollups are of all traffic. Not safe for concurrent use.
type Minutes struct {
	ids    map[Series]uint32
	series []Series
	all    []uint32 // for each series the one of its peer with class ""
	open   map[int64]map[uint32]*sum
	spare  []*sum
	peeked []byte // the sketches of the last Peek
}

// sum is a rollup in the making.
type sum struct {
	count, failures, others, bytes uint64
	ms, max                        float64
	times                          sketch.Sketch
}

// NewMinutes makes an empty one.
func NewMinutes() *Minutes {
	return &Minutes{ids: map[Series]uint32{}, open: map[int64]map[uint32]*sum{}}
}

// Series returns the series of an index that Index gave.
func (m *Minutes) Series(i uint32) Series { return m.series[i] }

// Known returns how many series there are; Full tells that no more should be added before Take(math.MaxInt64) and Forget.
func (m *Minutes) Known() int { return len(m.series) }

// Full tells that there are MaxSeries.
func (m *Minutes) Full() bool { return len(m.series) >= MaxSeries }

// Forget drops all series. It is called when nothing is open.
func (m *Minutes) Forget() {
	clear(m.ids)
	m.series, m.all = m.series[:0], m.all[:0]
}

// Index returns the number of a series. It holds until Forget.
func (m *Minutes) Index(s Series) uint32 {
	if i, ok := m.ids[s]; ok {
		return i
	}
	i := uint32(len(m.series))
	m.ids[s] = i
	m.series = append(m.series, s)
	m.all = append(m.all, i)
	if s.Class != "" {
		m.all[i] = m.Index(Series{s.Pool, s.Peer, ""})
	}
	return i
}

// Latency is what a person means by the time an attempt took; negative when it was not answered.
func (o *Outcome) Latency() float64 {
	switch {
	case observe.Kind(o.Kind) != observe.OK:
		return -1
	case observe.Flags(o.Flags)&observe.Stream != 0:
		return float64(o.HeaderMS)
	}
	return float64(o.TotalMS)
}

// Add counts an outcome, under its class and under all.
func (m *Minutes) Add(o *Outcome) {
	minute := o.AtMS - o.AtMS%MinuteMS
	rows := m.open[minute]
	if rows == nil {
		rows = map[uint32]*sum{}
		m.open[minute] = rows
	}
	m.row(rows, o.Series).add(o)
	if all := m.all[o.Series]; all != o.Series {
		m.row(rows, all).add(o)
	}
}

func (m *Minutes) row(rows map[uint32]*sum, series uint32) *sum {
	s := rows[series]
	if s == nil {
		if n := len(m.spare); n > 0 {
			s, m.spare = m.spare[n-1], m.spare[:n-1]
		} else {
			s = &sum{}
		}
		rows[series] = s
	}
	return s
}

func (s *sum) add(o *Outcome) {
	s.count++
	s.bytes += uint64(o.Bytes)
	kind := observe.Kind(o.Kind)
	switch {
	case kind.Failure():
		s.failures++
	case kind != observe.OK:
		s.others++
	default:
		ms := max(o.Latency(), 0)
		s.ms += ms
		s.max = max(s.max, ms)
		s.times.Add(ms)
	}
}

// Restore counts a rollup that Take gave once.
func (m *Minutes) Restore(series Series, r *Rollup) error {
	rows := m.open[r.MinuteMS]
	if rows == nil {
		rows = map[uint32]*sum{}
		m.open[r.MinuteMS] = rows
	}
	return m.row(rows, m.Index(series)).merge(r)
}

func (s *sum) merge(r *Rollup) error {
	s.count += r.Count
	s.failures += r.Failures
	s.others += r.Others
	s.bytes += r.Bytes
	s.ms += r.SumMS
	s.max = max(s.max, float64(r.MaxMS))
	return s.times.MergeEncoded(r.Sketch)
}

// rollup is the sum as a row. The sketch is appended to arena.
func (s *sum) rollup(minute int64, series uint32, arena []byte) (Rollup, []byte) {
	from := len(arena)
	arena = s.times.Append(arena)
	return Rollup{
		MinuteMS: minute, Series: series, Count: s.count, Failures: s.failures, Others: s.others, Bytes: s.bytes,
		SumMS: s.ms, MaxMS: float32(s.max), P50: float32(s.times.Quantile(0.5)), P90: float32(s.times.Quantile(0.9)),
		P99: float32(s.times.Quantile(0.99)), Sketch: arena[from:len(arena):len(arena)],
	}, arena
}

// Take appends the rollups of minutes that ended at or before endMS and forgets them. Outcomes of such a minute that come later
// make further rollups of it. Rollups of peers come before those of their classes, so that stores keep them close together.
func (m *Minutes) Take(dst []Rollup, endMS int64) []Rollup {
	return m.collect(dst, endMS, true)
}

// Peek appends the rollups of all minutes in progress and keeps counting. They are valid until the next Peek.
func (m *Minutes) Peek(dst []Rollup) []Rollup { return m.collect(dst, math.MaxInt64, false) }

func (m *Minutes) collect(dst []Rollup, endMS int64, remove bool) []Rollup {
	from := len(dst)
	var arena []byte
	if !remove {
		arena = m.peeked[:0]
	}
	for minute, rows := range m.open {
		if minute > endMS-MinuteMS {
			continue
		}
		for series, s := range rows {
			var r Rollup
			r, arena = s.rollup(minute, series, arena)
			dst = append(dst, r)
			if remove && len(m.spare) < 4096 {
				times := s.times
				times.Reset()
				*s = sum{times: times}
				m.spare = append(m.spare, s)
			}
		}
		if remove {
			delete(m.open, minute)
		}
	}
	if !remove {
		m.peeked = arena
	}
	slices.SortFunc(dst[from:], func(a, b Rollup) int {
		if a.MinuteMS != b.MinuteMS {
			return cmp.Compare(a.MinuteMS, b.MinuteMS)
		}
		x, y := m.series[a.Series], m.series[b.Series]
		return cmp.Or(cmp.Compare(min(len(x.Class), 1), min(len(y.Class), 1)), strings.Compare(x.Pool, y.Pool), strings.Compare(x.Peer, y.Peer), strings.Compare(x.Class, y.Class))
	})
	return dst
}
