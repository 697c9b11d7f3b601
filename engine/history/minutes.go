package history

import (
	"cmp"
	"iter"
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

	// Memory that Take and Peek use again.
	order  []rowKey
	list   []Rollup
	peeked []byte // sketches that Peek yielded
}

// rowKey is where a sum is.
type rowKey struct {
	minute int64
	series uint32
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

// rollup appends the sum as a row to dst, and its sketch to arena.
func (s *sum) rollup(dst []Rollup, at rowKey, arena []byte) ([]Rollup, []byte) {
	from := len(arena)
	arena = s.times.Append(arena)
	return append(dst, Rollup{
		MinuteMS: at.minute, Series: at.series, Count: s.count, Failures: s.failures, Others: s.others, Bytes: s.bytes,
		SumMS: s.ms, MaxMS: float32(s.max), P50: float32(s.times.Quantile(0.5)), P90: float32(s.times.Quantile(0.9)),
		P99: float32(s.times.Quantile(0.99)), Sketch: arena[from:len(arena):len(arena)],
	}), arena
}

// Take yields the rollups of minutes that ended at or before endMS, at most so many at a time, and forgets them. A list is valid until the
// next one, its sketches for ever. Outcomes of such a minute that come later make further rollups of it. Rollups of peers come before
// those of their classes, so that stores keep them close together.
func (m *Minutes) Take(endMS int64, most int) iter.Seq[[]Rollup] {
	return func(yield func([]Rollup) bool) {
		for keys := range slices.Chunk(m.inOrder(endMS), most) {
			var arena []byte
			m.list = m.list[:0]
			for _, k := range keys {
				rows := m.open[k.minute]
				s := rows[k.series]
				m.list, arena = s.rollup(m.list, k, arena)
				if delete(rows, k.series); len(rows) == 0 {
					delete(m.open, k.minute)
				}
				if len(m.spare) < 4096 {
					times := s.times
					times.Reset()
					*s = sum{times: times}
					m.spare = append(m.spare, s)
				}
			}
			if !yield(m.list) {
				return
			}
		}
	}
}

// Peek yields the rollups of all minutes in progress, at most so many at a time, and keeps counting. A list and its sketches are valid
// until the next one.
func (m *Minutes) Peek(most int) iter.Seq[[]Rollup] {
	return func(yield func([]Rollup) bool) {
		for keys := range slices.Chunk(m.inOrder(math.MaxInt64), most) {
			m.list, m.peeked = m.list[:0], m.peeked[:0]
			for _, k := range keys {
				m.list, m.peeked = m.open[k.minute][k.series].rollup(m.list, k, m.peeked)
			}
			if !yield(m.list) {
				return
			}
		}
	}
}

// inOrder is where the sums of minutes are that ended at or before endMS.
func (m *Minutes) inOrder(endMS int64) []rowKey {
	m.order = m.order[:0]
	for minute, rows := range m.open {
		if minute > endMS-MinuteMS {
			continue
		}
		for series := range rows {
			m.order = append(m.order, rowKey{minute, series})
		}
	}
	slices.SortFunc(m.order, func(a, b rowKey) int {
		if a.minute != b.minute {
			return cmp.Compare(a.minute, b.minute)
		}
		x, y := m.series[a.series], m.series[b.series]
		return cmp.Or(cmp.Compare(min(len(x.Class), 1), min(len(y.Class), 1)), strings.Compare(x.Pool, y.Pool), strings.Compare(x.Peer, y.Peer), strings.Compare(x.Class, y.Class))
	})
	return m.order
}
