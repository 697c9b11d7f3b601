package serve

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/record"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/pool"
)

// Keep makes the engine hand what happens to a recorder. It is called before Start; the caller starts the recorder, and closes
// it after the engine.
func (e *Engine) Keep(r *record.Recorder) { e.history = r }

// History returns the recorder, nil when history is off. Its methods may be called on nil.
func (e *Engine) History() *record.Recorder { return e.history }

// keep notes one outcome. The class is the one the estimators know it by, so that a flood of names seen once ends in "*" here too.
func (p *livePool) keep(ended float64, at, class int, r *observe.Record) {
	if p.eng.history == nil {
		return
	}
	p.observed = append(p.observed, record.Observed{
		Series: history.Series{Pool: p.name, Peer: p.members[at].addr, Class: p.est.ClassName(class)},
		Outcome: history.Outcome{
			AtMS: int64(1000 * ended), Attempt: r.Attempt, Kind: uint8(r.Kind), Status: r.Status, Flags: uint16(r.Flags),
			Inflight: r.Inflight, Bytes: r.Bytes, Propensity: r.Propensity, HeaderMS: r.HeaderMS, TotalMS: r.TotalMS,
			Weight: r.Weight, PredictedMS: r.PredictedMS, Load: r.Load, Rate: 1,
		},
	})
}

// keepObserved hands on what was noted, with the time of day: AtMS has been the engine's own, in microseconds. The two clocks are read
// together, so that a batch that took long to learn from is not later than others.
func (p *livePool) keepObserved() {
	if len(p.observed) == 0 {
		return
	}
	ahead := time.Now().UnixMicro() - int64(1000*p.eng.now())
	for i := range p.observed {
		o := &p.observed[i].Outcome
		us := o.AtMS + ahead
		o.AtMS, o.AtUS = us/1000, uint16(us%1000)
	}
	p.eng.history.Add(p.observed)
	clear(p.observed)
	p.observed = p.observed[:0]
}

// keepMeasured notes a value of a server metric.
func (p *livePool) keepMeasured(addr, metric string, value float64) {
	if p.eng.history == nil || math.IsNaN(value) || math.IsInf(value, 0) {
		return
	}
	p.eng.history.Measured(record.Measured{
		MetricSeries: history.MetricSeries{Pool: p.name, Peer: addr, Metric: metric}, AtMS: time.Now().UnixMilli(), Value: value,
	})
}

func (e *Engine) keepTransition(poolName string, t pool.Transition) {
	e.history.Event(history.Event{
		AtMS: time.Now().UnixMilli(), Kind: history.Health, Pool: poolName, Subject: t.Addr,
		From: t.From.String(), To: t.To.String(), Detail: t.Reason,
	})
}

// keepReload notes what a reload changed, or that it was refused.
func (e *Engine) keepReload(c config.Changes, refused error) {
	event := history.Event{AtMS: time.Now().UnixMilli(), Kind: history.Config, Subject: "applied"}
	switch {
	case refused != nil:
		event.Subject = "refused"
		event.Detail = cut(refused.Error())
	case c.None():
		return
	default:
		detail, _ := json.Marshal(map[string][]string{ // lists of names always have a form
			"added": c.Added, "removed": c.Removed, "changed": c.Changed, "keys": c.Live, "restart": c.Restart,
		})
		event.Detail = cut(string(detail))
	}
	e.history.Event(event)
}

func cut(s string) string {
	if len(s) > history.MaxText {
		return s[:history.MaxText-3] + "..."
	}
	return s
}

// inspectHistory adds that history is not kept as it should be. Requests are served all the same.
func (e *Engine) inspectHistory(r *Report) {
	if e.history == nil {
		return
	}
	s := e.history.State()
	if s.Outage != nil {
		r.add("history", "", fmt.Sprintf("the history store is down since %s, %d rows wait: %s", s.Outage.Since.UTC().Format(time.RFC3339), s.Rows, s.Outage.Error))
	}
	switch {
	case s.Folder != nil:
		r.add("history", "", fmt.Sprintf("history has no folder, what waits for the store is in memory: %v", s.Folder))
	case s.InMemory:
		r.add("history", "", "history that waits for the store cannot be written to the disk and is in memory")
	}
}
