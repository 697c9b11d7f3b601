package history

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// MetricSeries names a server metric of a peer (docs/server-metrics.md).
type MetricSeries struct{ Pool, Peer, Metric string }

// MetricRow is what a server metric was in one minute. Rows of one minute and series add up: several engines ask the same servers.
//
// Mean, lowest and highest are kept because they do add up, over minutes and over engines alike. The last value would not: of two
// engines' nobody could tell which was later. The highest is what a limit to drain at would have met, the mean is how busy the server was.
type MetricRow struct {
	MetricSeries
	MinuteMS       int64
	Samples        uint64 // values, at least 1
	Mean, Min, Max float64
}

// Merge adds another row of the same series.
func (r *MetricRow) Merge(o *MetricRow) {
	r.Samples += o.Samples
	r.Mean += (o.Mean - r.Mean) * (float64(o.Samples) / float64(r.Samples))
	r.Min, r.Max = min(r.Min, o.Min), max(r.Max, o.Max)
}

func (r *MetricRow) storable() bool {
	for _, s := range [...]string{r.Pool, r.Peer, r.Metric} {
		if s == "" || !Storable(s) {
			return false
		}
	}
	for _, x := range [...]float64{r.Mean, r.Min, r.Max} {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return false
		}
	}
	return storableTime(r.MinuteMS) && r.Samples > 0 && r.Samples <= math.MaxInt32
}

// MetricMinutes rolls values of server metrics up. Not safe for concurrent use.
type MetricMinutes struct{ open map[metricMinute]*MetricRow }

type metricMinute struct {
	MetricSeries
	at int64
}

// Add counts a value. False when it is none that can be kept, or there are MaxSeries in progress.
func (m *MetricMinutes) Add(s MetricSeries, atMS int64, value float64) bool {
	return m.Restore(&MetricRow{s, atMS - atMS%MinuteMS, 1, value, value, value})
}

// Restore counts a row that Take or Peek gave once.
func (m *MetricMinutes) Restore(r *MetricRow) bool {
	key := metricMinute{r.MetricSeries, r.MinuteMS}
	if !r.storable() {
		return false
	}
	if row := m.open[key]; row != nil {
		row.Merge(r)
		return true
	}
	if m.open == nil {
		m.open = map[metricMinute]*MetricRow{}
	}
	if len(m.open) >= MaxSeries {
		return false
	}
	kept := *r
	m.open[key] = &kept
	return true
}

// Take appends the rows of minutes that ended at or before endMS and forgets them.
func (m *MetricMinutes) Take(dst []MetricRow, endMS int64) []MetricRow {
	from := len(dst)
	for key, row := range m.open {
		if key.at <= endMS-MinuteMS {
			dst = append(dst, *row)
			delete(m.open, key)
		}
	}
	slices.SortFunc(dst[from:], func(a, b MetricRow) int {
		return cmp.Or(cmp.Compare(a.MinuteMS, b.MinuteMS), compareMetrics(a.MetricSeries, b.MetricSeries))
	})
	return dst
}

// Peek appends the rows of all minutes in progress and keeps counting.
func (m *MetricMinutes) Peek(dst []MetricRow) []MetricRow {
	for _, row := range m.open {
		dst = append(dst, *row)
	}
	return dst
}

func compareMetrics(a, b MetricSeries) int {
	return cmp.Or(strings.Compare(a.Pool, b.Pool), strings.Compare(a.Peer, b.Peer), strings.Compare(a.Metric, b.Metric))
}
