package serve

import (
	"fmt"
	"math"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/control"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/telemetry"
)

// splitting is what a pool with a split knows of its two sides. It begins anew when the split or its share changes. The pool's mutex guards it.
type splitting struct {
	halves [telemetry.GroupSides]control.Half
	since  float64 // ms: what was placed before is of another split
	wall   time.Time
	shown  float64 // ms: when the gauges were set last
	tel    *telemetry.Groups
}

// splitNow is the pool's split with the share that is in effect.
func (p *livePool) splitNow() config.Split {
	s := p.conf.Split
	if p.ramped >= 0 {
		s.Share = p.ramped
	}
	return s
}

// splitAnew begins the comparison of the sides of the pool's split, if it has one.
func (p *livePool) splitAnew(now float64) {
	if p.split != nil && (!p.conf.Split.On() || p.split.tel.Group != p.conf.Split.Group) {
		p.split.tel.Remove()
		p.split = nil
	}
	if !p.conf.Split.On() {
		return
	}
	var tel *telemetry.Groups
	if p.split != nil {
		tel = p.split.tel
	} else {
		tel = p.eng.tel.Groups(p.name, p.conf.Split.Group)
	}
	p.split = &splitting{since: now, wall: time.Now(), shown: now, tel: tel}
	tel.Share.Set(p.splitNow().Share)
	tel.Ratio(math.NaN(), math.NaN(), math.NaN())
}

// parted takes in an attempt of a pool with a split. First attempts only: a further one goes to the rest whatever the first was meant
// for. Those that were drawn to a side compare with one another; those that a header sent to the group are another kind of request,
// testers as a rule, and are counted apart. A request that fell back to the rest is one of the rest's: it was drawn as they were.
func (p *livePool) parted(ended float64, at int, r *observe.Record) {
	s := p.split
	if s == nil || r.Attempt != 1 || r.Flags&observe.Confined == 0 || r.Flags&(observe.Panic|observe.Bound) != 0 || ended-float64(r.TotalMS) < s.since {
		return
	}
	side := telemetry.GroupRest
	switch {
	case r.Flags&observe.ByHeader != 0:
		side = telemetry.GroupHeader
	case p.members[at].group == p.conf.Split.Group:
		side = telemetry.GroupShare
	}
	h, tel := &s.halves[side], &s.tel.Sides[side]
	switch kind := r.Kind; {
	case kind == observe.Abort:
		h.Aborted(ended)
	case kind.Failure():
		h.Failed(ended)
		tel.Requests.Inc()
		tel.Failed.Inc()
	case kind == observe.OK:
		h.Answered(ended, latency(r))
		tel.Requests.Inc()
		tel.Duration.Update(latency(r) / 1000)
	}
}

// showSplit sets the gauges, each few seconds.
func (p *livePool) showSplit(now float64) {
	const each = 5000
	if s := p.split; s != nil && now-s.shown >= each {
		s.shown = now
		v := control.Compare(&s.halves[telemetry.GroupShare], &s.halves[telemetry.GroupRest], now)
		s.tel.Ratio(v.Ratio, v.Low, v.High)
	}
}

// SplitFigures compare the two sides of a pool's split, within the last ten minutes or since the split or its share changed. Null in JSON:
// not known yet.
type SplitFigures struct {
	Pool       string        `json:"pool"`
	Group      string        `json:"group"`
	Share      float64       `json:"share"`            // in effect
	Configured float64       `json:"share_configured"` // in the file
	Key        *string       `json:"key"`
	Header     *string       `json:"header"`
	Fallback   bool          `json:"fallback"`
	SinceMS    int64         `json:"since_ms"` // Unix
	WindowMS   int           `json:"window_ms"`
	OfGroup    SideFigures   `json:"of_group"`
	OfRest     SideFigures   `json:"of_rest"`
	OfHeader   SideFigures   `json:"of_header"` // sent to the group by a header: no part of the comparison
	Versus     VersusFigures `json:"comparison"`
}

// SideFigures are those of one side: first attempts of requests.
type SideFigures struct {
	Peers        int      `json:"peers"`
	Usable       int      `json:"usable"`
	Requests     uint64   `json:"requests"`
	Failures     uint64   `json:"failures"`
	Aborted      uint64   `json:"aborted"` // by their clients; no part of requests
	FailureShare *float64 `json:"failure_share"`
	MeanMS       *float64 `json:"mean_ms"`
	P50MS        *float64 `json:"p50_ms"`
	P99MS        *float64 `json:"p99_ms"`
}

// VersusFigures say how a candidate compares with what is there.
type VersusFigures struct {
	Ratio    *float64 `json:"ratio"` // of the means; below 1 the candidate is faster
	Low      *float64 `json:"ratio_low"`
	High     *float64 `json:"ratio_high"`
	P50Ratio *float64 `json:"p50_ratio"`
	P99Ratio *float64 `json:"p99_ratio"`
	More     *float64 `json:"more_failures"` // share of failures, candidate less the other
	MoreLow  *float64 `json:"more_failures_low"`
	MoreHigh *float64 `json:"more_failures_high"`
	Blocks   int      `json:"blocks"`
	Says     string   `json:"says"`
}

func sideOf(h *control.Half, now float64) SideFigures {
	f := h.Figures(now)
	return SideFigures{
		Requests: f.Requests, Failures: f.Failures, Aborted: f.Aborted, FailureShare: finite(f.FailureShare),
		MeanMS: finite(f.MeanMS), P50MS: finite(f.P50MS), P99MS: finite(f.P99MS),
	}
}

func versus(a, b *control.Half, now float64, candidate, other string) VersusFigures {
	v := control.Compare(a, b, now)
	return VersusFigures{
		Ratio: finite(v.Ratio), Low: finite(v.Low), High: finite(v.High), P50Ratio: finite(v.P50Ratio), P99Ratio: finite(v.P99Ratio),
		More: finite(v.More), MoreLow: finite(v.MoreLow), MoreHigh: finite(v.MoreHigh), Blocks: v.Blocks, Says: says(&v, candidate, other),
	}
}

// says puts a comparison in words. It claims nothing that the intervals do not.
func says(v *control.Versus, candidate, other string) string {
	time := ""
	switch {
	case math.IsNaN(v.Ratio): // none was answered on a side
		time = "too few answers to compare times"
	case math.IsNaN(v.Low):
		time = fmt.Sprintf("mean of %s is %.3g times that of %s, by too few requests to be sure of", candidate, v.Ratio, other)
	case v.Low > 1:
		time = fmt.Sprintf("%s is slower: its mean is %.3g times that of %s (95 %%: %.3g to %.3g)", candidate, v.Ratio, other, v.Low, v.High)
	case v.High < 1:
		time = fmt.Sprintf("%s is faster: its mean is %.3g times that of %s (95 %%: %.3g to %.3g)", candidate, v.Ratio, other, v.Low, v.High)
	default:
		time = fmt.Sprintf("no difference in time is seen: the mean of %s is %.3g times that of %s (95 %%: %.3g to %.3g)", candidate, v.Ratio, other, v.Low, v.High)
	}
	switch {
	case v.MoreLow > 0:
		return fmt.Sprintf("%s; it fails more, by %.3g %% of its requests (95 %%: %.3g to %.3g)", time, 100*v.More, 100*v.MoreLow, 100*v.MoreHigh)
	case v.MoreHigh < 0:
		return fmt.Sprintf("%s; it fails less, by %.3g %% of its requests (95 %%: %.3g to %.3g)", time, -100*v.More, -100*v.MoreHigh, -100*v.MoreLow)
	}
	if math.IsNaN(v.MoreLow) {
		return time
	}
	return time + "; no difference in failures is seen"
}

// NoSplitError says that a pool has nothing of the kind that was asked for.
type NoSplitError struct{ Pool, What string }

func (e *NoSplitError) Error() string {
	return fmt.Sprintf("pool %q has no %s in the configuration", e.Pool, e.What)
}

// ShareError refuses a share.
type ShareError struct{ Share float64 }

func (e *ShareError) Error() string { return fmt.Sprintf("share %v is outside 0 to 1", e.Share) }

// Split returns the figures of a pool's split.
func (e *Engine) Split(name string) (SplitFigures, error) {
	p, err := e.pool(name)
	if err != nil {
		return SplitFigures{}, err
	}
	p.mu.Lock()
	defer p.unlock()
	return p.splitFigures(e.now())
}

// SetShare changes the share of a pool's split and publishes it at once. It holds until the engine ends or the file changes the split.
func (e *Engine) SetShare(name string, share float64) (SplitFigures, error) {
	p, err := e.pool(name)
	if err != nil {
		return SplitFigures{}, err
	}
	p.mu.Lock()
	defer p.unlock()
	now := e.now()
	switch {
	case p.split == nil:
		return SplitFigures{}, &NoSplitError{name, "split"}
	case !(share >= 0 && share <= 1):
		return SplitFigures{}, &ShareError{share}
	}
	if before := p.splitNow().Share; share != before {
		p.ramped = share
		p.splitAnew(now)
		p.publish(p.snapshot(), now)
		p.later(func() {
			e.log.Info().Str("pool", name).Float64("from", before).Float64("to", share).Msg("operator set the share of the split")
		})
	}
	return p.splitFigures(now)
}

func (p *livePool) splitFigures(now float64) (SplitFigures, error) {
	s, c := p.split, p.splitNow()
	if s == nil {
		return SplitFigures{}, &NoSplitError{p.name, "split"}
	}
	group, rest := &s.halves[telemetry.GroupShare], &s.halves[telemetry.GroupRest]
	f := SplitFigures{
		Pool: p.name, Group: c.Group, Share: c.Share, Configured: p.conf.Split.Share, Key: nullable(c.Key), Header: nullable(c.Header), Fallback: bool(c.Fallback),
		SinceMS: s.wall.UnixMilli(), WindowMS: control.WindowMS,
		OfGroup: sideOf(group, now), OfRest: sideOf(rest, now), OfHeader: sideOf(&s.halves[telemetry.GroupHeader], now),
		Versus: versus(group, rest, now, c.Group, "the rest"),
	}
	for i, m := range p.members {
		side := &f.OfRest
		if m.group == c.Group {
			side = &f.OfGroup
		}
		side.Peers++
		if p.health.View(i).Usable {
			side.Usable++
		}
	}
	f.OfHeader.Peers, f.OfHeader.Usable = f.OfGroup.Peers, f.OfGroup.Usable
	return f, nil
}
