package history

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// MetricQuestion asks for what server metrics were. The question's Class is empty, and By is ByPeer or ByPool.
type MetricQuestion struct {
	Question
	Metric string // "" = every
}

// AllMetrics is how people ask for every metric.
const AllMetrics = "*"

// AskMetrics makes a question about a metric, or AllMetrics, of a question about outcomes.
func AskMetrics(q Question, metric string) MetricQuestion {
	if metric == AllMetrics {
		metric = ""
	}
	return MetricQuestion{q, metric}
}

// Check completes a question, as Question.Check does.
func (q *MetricQuestion) Check(now int64) error {
	switch {
	case q.Class != "":
		return &FieldError{"class", "does not go with metric: servers have no metrics of a class"}
	case q.By != "" && q.By != ByPeer && q.By != ByPool:
		return &FieldError{"by", "must be peer or pool where metric is asked for"}
	}
	return q.Question.Check(now)
}

// Wants tells whether a row of this series belongs to the answer.
func (q *MetricQuestion) Wants(s MetricSeries) bool {
	return (q.Pool == "" || q.Pool == s.Pool) && (q.Peer == "" || q.Peer == s.Peer) && (q.Metric == "" || q.Metric == s.Metric)
}

// MetricLine is what a metric of one peer was, or of all peers of a pool together: columns of equal length, one entry for each step that
// had values.
type MetricLine struct {
	Pool   string `json:"pool"`
	Peer   string `json:"peer,omitempty"`
	Metric string `json:"metric"`

	AtMS    []int64   `json:"at_ms"`   // where the step begins
	Samples []uint64  `json:"samples"` // values
	Mean    []float64 `json:"mean"`
	Min     []float64 `json:"min"`
	Max     []float64 `json:"max"`
}

// MetricCollector makes the answer to a question of rows. Not safe for concurrent use.
type MetricCollector struct {
	q      MetricQuestion
	lines  map[MetricSeries]map[int64]*MetricRow
	points int
}

// NewMetricCollector makes one for a checked question.
func NewMetricCollector(q MetricQuestion) *MetricCollector {
	return &MetricCollector{q: q, lines: map[MetricSeries]map[int64]*MetricRow{}}
}

// maxMetricPoints bounds the entries of an answer over all its lines.
const maxMetricPoints = 2_000_000

// Add takes in a row. Those that the question does not want are passed over.
func (c *MetricCollector) Add(r *MetricRow) error {
	if !c.q.Wants(r.MetricSeries) || r.MinuteMS < c.q.FromMS || r.MinuteMS >= c.q.ToMS {
		return nil
	}
	series := r.MetricSeries
	if c.q.By == ByPool {
		series.Peer = ""
	}
	steps := c.lines[series]
	if steps == nil {
		steps = map[int64]*MetricRow{}
		c.lines[series] = steps
	}
	at := r.MinuteMS - r.MinuteMS%c.q.StepMS
	if step := steps[at]; step != nil {
		step.Merge(r)
		return nil
	}
	if c.points++; c.points > maxMetricPoints {
		return &FieldError{"step", fmt.Sprintf("is too small for so many metrics and so long a time: at most %d values are answered", maxMetricPoints)}
	}
	step := *r
	step.MinuteMS = at
	steps[at] = &step
	return nil
}

// Lines returns the answer, sorted by pool, peer and metric, each in the order of time.
func (c *MetricCollector) Lines() []*MetricLine {
	out := make([]*MetricLine, 0, len(c.lines))
	for s, steps := range c.lines {
		rows := make([]*MetricRow, 0, len(steps))
		for _, r := range steps {
			rows = append(rows, r)
		}
		slices.SortFunc(rows, func(a, b *MetricRow) int { return cmp.Compare(a.MinuteMS, b.MinuteMS) })
		l := &MetricLine{Pool: s.Pool, Peer: s.Peer, Metric: s.Metric}
		for _, r := range rows {
			l.AtMS, l.Samples = append(l.AtMS, r.MinuteMS), append(l.Samples, r.Samples)
			l.Mean, l.Min, l.Max = append(l.Mean, r.Mean), append(l.Min, r.Min), append(l.Max, r.Max)
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b *MetricLine) int {
		return compareMetrics(MetricSeries{a.Pool, a.Peer, a.Metric}, MetricSeries{b.Pool, b.Peer, b.Metric})
	})
	return out
}

// AppendAnswer appends the answer to the question as a JSON object.
func (q *MetricQuestion) AppendAnswer(dst []byte, lines []*MetricLine) []byte {
	text, _ := json.Marshal(struct { // what is kept always has a form
		FromMS  int64         `json:"from_ms"`
		ToMS    int64         `json:"to_ms"`
		StepMS  int64         `json:"step_ms"`
		By      By            `json:"by"`
		Metrics []*MetricLine `json:"metrics"`
	}{q.FromMS, q.ToMS, q.StepMS, q.By, lines})
	return append(dst, text...)
}

// MetricCSVHeader names the columns of AppendCSV.
const MetricCSVHeader = "time,at_ms,pool,peer,metric,samples,mean,min,max\n"

// AppendCSV appends a row of CSV.
func (r *MetricRow) AppendCSV(dst []byte) []byte {
	dst = time.UnixMilli(r.MinuteMS).UTC().AppendFormat(dst, time.RFC3339)
	dst = strconv.AppendInt(append(dst, ','), r.MinuteMS, 10)
	for _, text := range [...]string{r.Pool, r.Peer, r.Metric} {
		dst = appendCSVText(append(dst, ','), text)
	}
	dst = strconv.AppendUint(append(dst, ','), r.Samples, 10)
	for _, x := range [...]float64{r.Mean, r.Min, r.Max} {
		dst = strconv.AppendFloat(append(dst, ','), x, 'g', -1, 64)
	}
	return append(dst, '\n')
}
