package serve

import (
	"math"
	"time"

	"github.com/weirlb/weir/engine/control"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/telemetry"
)

// compared is the comparison of a pool's policy with the control slice. It begins anew when another policy or another model takes
// over. The pool's mutex guards it.
type compared struct {
	control.Comparison
	policy string
	model  string  // id, "" = none
	since  float64 // ms: what was placed before says nothing of this policy
	wall   time.Time
	shown  float64 // ms: when the gauges were set last
}

// compareAnew begins a comparison unless it is of the same policy and model already.
func (p *livePool) compareAnew(now float64, policy, model string) {
	if c := p.versus; c != nil && c.policy == policy && c.model == model {
		return
	}
	p.versus = &compared{Comparison: *control.New(control.Options{}), policy: policy, model: model, since: now, wall: time.Now(), shown: now}
	p.tel.Ratio(math.NaN(), math.NaN(), math.NaN())
}

// compare takes in an attempt. First attempts only: a further one is placed by the policy whoever placed the first. What NGINX placed
// without a table, without a usable peer, or where a client's affinity chose, is no subject of the comparison; nor are attempts that tell nothing of the peer.
func (p *livePool) compare(ended float64, r *observe.Record) {
	c := p.versus
	if c == nil || r.Attempt != 1 || r.Flags&(observe.Local|observe.Panic|observe.Bound) != 0 || ended-float64(r.TotalMS) < c.since {
		return
	}
	failed := r.Kind.Failure()
	if !failed && r.Kind != observe.OK {
		return
	}
	s, tel := control.Policy, &p.tel.Slices[telemetry.SlicePolicy]
	if r.Flags&observe.Control != 0 {
		s, tel = control.Control, &p.tel.Slices[telemetry.SliceControl]
	}
	ms := latency(r)
	c.Add(ended, s, ms, failed)
	if failed {
		tel.Failed.Inc()
		return
	}
	tel.Duration.Update(ms / 1000)
}

// showComparison sets the gauges, each few seconds.
func (p *livePool) showComparison(now float64) {
	const each = 5000
	if c := p.versus; c != nil && now-c.shown >= each {
		c.shown = now
		c.Advance(now)
		r := c.Result()
		p.tel.Ratio(r.Ratio, r.Low, r.High)
	}
}

// ControlFigures are what the control slice says of a pool's policy, since that policy with that model serves. Null in JSON: not known
// yet.
type ControlFigures struct {
	Pool     string       `json:"pool"`
	Policy   string       `json:"policy"` // which one is compared
	Model    *string      `json:"model"`  // with which model
	SinceMS  int64        `json:"since_ms"`
	Share    float64      `json:"control_share"` // as configured
	Of       SliceFigures `json:"of_policy"`
	Control  SliceFigures `json:"of_control"`
	Ratio    *float64     `json:"ratio"` // of the means, policy over control
	Low      *float64     `json:"ratio_low"`
	High     *float64     `json:"ratio_high"`
	P99Ratio *float64     `json:"p99_ratio"`
	Blocks   float64      `json:"blocks"`
}

// SliceFigures are those of one slice.
type SliceFigures struct {
	Attempts     uint64   `json:"attempts"`
	Failures     uint64   `json:"failures"`
	FailureShare *float64 `json:"failure_share"`
	MeanMS       *float64 `json:"mean_ms"`
	P99MS        *float64 `json:"p99_ms"`
}

// Comparisons are those of all pools, by name.
func (e *Engine) Comparisons() []ControlFigures {
	all := []ControlFigures{}
	for _, p := range e.sorted() {
		if f, ok := p.comparison(e.now()); ok {
			all = append(all, f)
		}
	}
	return all
}

func (p *livePool) comparison(now float64) (ControlFigures, bool) {
	p.mu.Lock()
	defer p.unlock()
	c := p.versus
	if c == nil {
		return ControlFigures{}, false
	}
	c.Advance(now)
	r := c.Result()
	return ControlFigures{
		Pool: p.name, Policy: c.policy, Model: nullable(c.model), SinceMS: c.wall.UnixMilli(), Share: p.conf.Control,
		Of: sliceFigures(&r.Policy), Control: sliceFigures(&r.Control),
		Ratio: finite(r.Ratio), Low: finite(r.Low), High: finite(r.High), P99Ratio: finite(r.P99Ratio), Blocks: r.Blocks,
	}, true
}

func sliceFigures(f *control.Figures) SliceFigures {
	return SliceFigures{
		Attempts: f.Attempts, Failures: f.Failures, FailureShare: finite(f.FailureShare), MeanMS: finite(f.MeanMS), P99MS: finite(f.P99MS),
	}
}
