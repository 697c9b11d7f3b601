package history

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/weirlb/weir/engine/history/sketch"
)

// MaxPoints bounds an answer.
const MaxPoints = 200_000

// Line is the history of one pool, peer or class: columns of equal length, one entry for each step that had attempts.
type Line struct {
	Pool  string `json:"pool"`
	Peer  string `json:"peer,omitempty"`
	Class string `json:"class,omitempty"`

	AtMS     []int64   `json:"at_ms"` // where the step begins
	Count    []uint64  `json:"count"`
	Failures []uint64  `json:"failures"`
	Others   []uint64  `json:"others"` // aborts and idle races
	MeanMS   []float64 `json:"mean_ms"`
	P50MS    []float64 `json:"p50_ms"`
	P90MS    []float64 `json:"p90_ms"`
	P99MS    []float64 `json:"p99_ms"`
	MaxMS    []float64 `json:"max_ms"`
	Bytes    []uint64  `json:"bytes"`
}

// FieldError says which part of a question is wrong.
type FieldError struct{ Field, Reason string }

func (e *FieldError) Error() string { return e.Field + " " + e.Reason }

// Check completes a question: To and Step have defaults, From and To are moved to whole steps. now is Unix ms.
func (q *Question) Check(now int64) error {
	if q.By == "" {
		q.By = ByPeer
	}
	if q.By != ByPool && q.By != ByPeer && q.By != ByClass && q.By != ByPeerClass {
		return &FieldError{"by", `must be one of pool, peer, class, "peer,class"`}
	}
	if q.ToMS == 0 {
		q.ToMS = now
	}
	if q.FromMS == 0 {
		q.FromMS = q.ToMS - 3_600_000
	}
	if q.StepMS == 0 {
		q.StepMS = MinuteMS
	}
	switch {
	case q.FromMS >= q.ToMS:
		return &FieldError{"from", "must be before to"}
	case q.FromMS < 0 || !storableTime(q.ToMS):
		return &FieldError{"from", "and to must be between the years 1970 and 9999"}
	case q.StepMS%MinuteMS != 0 || q.StepMS < 0:
		return &FieldError{"step", "must be whole minutes: that is how history is kept"}
	}
	q.FromMS -= q.FromMS % q.StepMS
	if rest := q.ToMS % q.StepMS; rest > 0 {
		q.ToMS += q.StepMS - rest
	}
	if n := (q.ToMS - q.FromMS) / q.StepMS; n > MaxPoints {
		return &FieldError{"step", fmt.Sprintf("is too small for so long a time: %d steps, at most %d are answered", n, MaxPoints)}
	}
	return nil
}

// Wants tells whether the answer to q is made of rollups of this series. All classes together come from the rollups kept for
// that, class by class from the others.
func (q *Question) Wants(s Series) bool {
	if (q.Pool != "" && q.Pool != s.Pool) || (q.Peer != "" && q.Peer != s.Peer) {
		return false
	}
	if q.Class != "" {
		return s.Class == q.Class
	}
	return (s.Class != "") == q.Classes()
}

// Classes tells whether q is answered from the rollups of single classes.
func (q *Question) Classes() bool { return q.Class != "" || q.By == ByClass || q.By == ByPeerClass }

// Collector makes the answer to a question of rollups. Not safe for concurrent use.
type Collector struct {
	q     Question
	lines map[Series]*line
	last  Series // rollups come in runs of one series, mostly
	at    *line
	arena []byte // what is left of the memory for the sketches of steps
}

// keep copies a sketch into memory that is taken in large pieces.
func (c *Collector) keep(data []byte) []byte {
	if len(data) > cap(c.arena)-len(c.arena) {
		c.arena = make([]byte, 0, max(64<<10, len(data)))
	}
	from := len(c.arena)
	c.arena = append(c.arena, data...)
	return c.arena[from:len(c.arena):len(c.arena)]
}

// line holds its steps in the order of time, in which rollups come almost always.
type line struct{ steps []step }

// step is one point. The sketch is made only when a second rollup falls into it: a minute asked for as such has its quantiles.
type step struct {
	at int64
	Rollup
	times *sketch.Sketch
}

// find returns the step that begins at a time, and whether it is new.
func (l *line) find(at int64) (*step, bool) {
	n := len(l.steps)
	if n == 0 || l.steps[n-1].at < at {
		l.steps = append(l.steps, step{at: at})
		return &l.steps[n], true
	}
	i, ok := slices.BinarySearchFunc(l.steps, at, func(s step, at int64) int { return cmp.Compare(s.at, at) })
	if !ok {
		l.steps = slices.Insert(l.steps, i, step{at: at})
	}
	return &l.steps[i], !ok
}

// NewCollector makes one for a checked question.
func NewCollector(q Question) *Collector { return &Collector{q: q, lines: map[Series]*line{}} }

// Add takes in a rollup. Those that the question does not want are passed over.
func (c *Collector) Add(s Series, r *Rollup) error {
	if !c.q.Wants(s) || r.MinuteMS < c.q.FromMS || r.MinuteMS >= c.q.ToMS {
		return nil
	}
	if c.q.By == ByPool || c.q.By == ByClass {
		s.Peer = ""
	}
	if c.at == nil || s != c.last {
		c.last = s
		c.at = c.lines[s]
		if c.at == nil {
			// Most lines have an entry in most steps.
			c.at = &line{steps: make([]step, 0, min((c.q.ToMS-c.q.FromMS)/c.q.StepMS, 2000))}
			c.lines[s] = c.at
		}
	}
	at := r.MinuteMS - r.MinuteMS%c.q.StepMS
	p, fresh := c.at.find(at)
	if fresh {
		p.Rollup = *r
		p.Sketch = c.keep(r.Sketch)
		return nil
	}
	if p.times == nil {
		p.times = &sketch.Sketch{}
		if err := p.times.MergeEncoded(p.Sketch); err != nil {
			return fmt.Errorf("history of %s %s: %w", s.Pool, s.Peer, err)
		}
	}
	p.Count += r.Count
	p.Failures += r.Failures
	p.Others += r.Others
	p.Bytes += r.Bytes
	p.SumMS += r.SumMS
	p.MaxMS = max(p.MaxMS, r.MaxMS)
	if err := p.times.MergeEncoded(r.Sketch); err != nil {
		return fmt.Errorf("history of %s %s: %w", s.Pool, s.Peer, err)
	}
	return nil
}

// Lines returns the answer, sorted by pool, peer and class, each in the order of time.
func (c *Collector) Lines() []*Line {
	out := make([]*Line, 0, len(c.lines))
	for s, l := range c.lines {
		out = append(out, l.line(s))
	}
	slices.SortFunc(out, func(a, b *Line) int {
		return cmp.Or(strings.Compare(a.Pool, b.Pool), strings.Compare(a.Peer, b.Peer), strings.Compare(a.Class, b.Class))
	})
	return out
}

func (l *line) line(s Series) *Line {
	n := len(l.steps)
	out := &Line{
		Pool: s.Pool, Peer: s.Peer, Class: s.Class, AtMS: make([]int64, n), Count: make([]uint64, n), Failures: make([]uint64, n),
		Others: make([]uint64, n), MeanMS: make([]float64, n), P50MS: make([]float64, n), P90MS: make([]float64, n),
		P99MS: make([]float64, n), MaxMS: make([]float64, n), Bytes: make([]uint64, n),
	}
	for i := range l.steps {
		p := &l.steps[i]
		if p.times != nil {
			p.P50, p.P90, p.P99 = float32(p.times.Quantile(0.5)), float32(p.times.Quantile(0.9)), float32(p.times.Quantile(0.99))
		}
		out.AtMS[i] = p.at
		out.Count[i], out.Failures[i], out.Others[i], out.Bytes[i] = p.Count, p.Failures, p.Others, p.Bytes
		out.MeanMS[i] = math.NaN()
		if n := p.Answered(); n > 0 {
			out.MeanMS[i] = p.SumMS / float64(n)
		}
		out.P50MS[i], out.P90MS[i], out.P99MS[i], out.MaxMS[i] = float64(p.P50), float64(p.P90), float64(p.P99), float64(p.MaxMS)
	}
	return out
}
