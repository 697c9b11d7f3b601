package serve

import (
	"fmt"
	"time"
)

// Status is the engine's health in one word.
type Status string

// The statuses. Degraded: it serves, but something needs a look. Unavailable: it cannot do its work.
const (
	OK          Status = "ok"
	Degraded    Status = "degraded"
	Unavailable Status = "unavailable"
)

// Report is the engine's health: the answer of GET /api/health.
type Report struct {
	Status       Status      `json:"status"`
	Reasons      []Reason    `json:"reasons"`
	Epoch        string      `json:"epoch"`
	Version      uint64      `json:"version"`
	UptimeMS     float64     `json:"uptime_ms"`
	Pools        int         `json:"pools"`
	Watchers     int         `json:"watch_clients"`
	Model        ModelReport `json:"model"`
	LastBatchAge *float64    `json:"last_observe_age_ms"`
}

// ModelReport says what the learned policy computes with.
type ModelReport struct {
	Serves    *string `json:"serves"`    // id of the model that tables are made with, null = the analytic policy
	Evaluator *string `json:"evaluator"` // "ONNX Runtime 1.27.0 (path)", "built in", null = none
}

// Reason is one thing that needs a look.
type Reason struct {
	Code    string `json:"code"` // no_pools no_peers no_usable_peer panic backups shedding policy model metrics stale_observations discovery config history sharing stopping stalled
	Pool    string `json:"pool,omitempty"`
	Message string `json:"message"`
}

// staleMS: traffic without an outcome for so long means that outcomes are lost on the way.
const staleMS = 30_000

// stalledMS: the refresh loop has not come round for so long.
const stalledMS = 10_000

// reloadFault is the last reload that was refused.
type reloadFault struct {
	at    time.Time
	error string
}

// Report returns the engine's health.
func (e *Engine) Report() Report {
	now, s := e.now(), e.State()
	r := Report{
		Status: OK, Reasons: []Reason{}, Epoch: s.Epoch, Version: s.Version, UptimeMS: now, Pools: len(s.Pools),
		Watchers: e.watching.Count(),
	}
	if at := e.lastBatch.Load(); at >= 0 {
		r.LastBatchAge = finite(now - float64(at))
	}
	if len(s.Pools) == 0 {
		r.add("no_pools", "", "no pools are configured: nothing is balanced")
	}
	learned := false
	for _, p := range e.sorted() {
		learned = p.inspect(&r) || learned
	}
	e.models.inspect(&r, learned)
	e.staleness(now, &r)
	if f := e.reload.Load(); f != nil {
		r.add("config", "", fmt.Sprintf("the configuration file was refused at %s and the one before stays: %s",
			f.at.UTC().Format(time.RFC3339), f.error))
	}
	e.inspectHistory(&r)
	e.share.inspect(&r)
	switch {
	case e.life.Err() != nil:
		r.Status = Unavailable
		r.Reasons = append(r.Reasons, Reason{"stopping", "", "the engine is stopping"})
	case now-float64(e.lastTick.Load()) > stalledMS:
		r.Status = Unavailable
		r.Reasons = append(r.Reasons, Reason{"stalled", "", fmt.Sprintf("tables have not been refreshed for %.0f s", (now-float64(e.lastTick.Load()))/1000)})
	}
	return r
}

func (r *Report) add(code, pool, message string) {
	r.Status = Degraded
	r.Reasons = append(r.Reasons, Reason{code, pool, message})
}

// inspect adds what is wrong with the pool, and tells whether its policy is the learned one.
func (p *livePool) inspect(r *Report) (learned bool) {
	p.mu.Lock()
	defer p.unlock()
	usable := 0
	for i := range p.members {
		if v := p.health.View(i); v.Usable && !v.Drained {
			usable++
		}
	}
	switch {
	case len(p.members) == 0 && p.pending:
		r.add("no_peers", p.name, fmt.Sprintf("pool %q has no peers yet: NGINX goes on with those it knows", p.name))
	case len(p.members) == 0 && len(p.sources) > 0:
		r.add("no_peers", p.name, fmt.Sprintf("pool %q has no peers: its requests fail; its sources name none", p.name))
	case len(p.members) == 0:
		r.add("no_peers", p.name, fmt.Sprintf("pool %q has no peers: its requests fail; add peers to the configuration", p.name))
	case p.health.Panic():
		r.add("panic", p.name, fmt.Sprintf("no peer of pool %q is healthy: all that are not draining are used", p.name))
	case usable == 0:
		r.add("no_usable_peer", p.name, fmt.Sprintf("every peer of pool %q is draining: they are used all the same", p.name))
	}
	if share := p.health.Backups(); share > 0 {
		r.add("backups", p.name, fmt.Sprintf("too few primaries of pool %q are usable: its backups may take up to %.0f %% of the requests", p.name, 100*share))
	}
	p.inspectSources(p.eng.now(), r)
	p.shedding(p.eng.now(), r)
	if p.fault != "" {
		r.add("policy", p.name, fmt.Sprintf("the table of pool %q could not be computed, the last one stays: %s", p.name, p.fault))
	}
	if p.modelFault != "" {
		r.add("model", p.name, fmt.Sprintf("the model failed for pool %q, the analytic policy serves it: %s", p.name, p.modelFault))
	}
	p.inspectMetrics(r)
	return p.learned != nil
}

// staleness adds that NGINX shows signs of traffic, and no outcome of it arrives. A quiet night is no fault.
func (e *Engine) staleness(now float64, r *Report) {
	last, asked := float64(e.lastBatch.Load()), float64(e.lastDecide.Load())
	if now-max(last, 0) < staleMS {
		return
	}
	if e.vanished.Load() || (asked > last && now-asked < 10*staleMS) {
		r.add("stale_observations", "", fmt.Sprintf("NGINX has traffic, but no outcome arrived for %.0f s: "+
			"the tables no longer learn; look at the error log of NGINX", (now-max(last, 0))/1000))
	}
}
