package serve

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/servermetrics"
	"github.com/weirlb/weir/engine/telemetry"
)

// meters are what a pool knows of its servers by their metrics, and who asks for them. The pool's mutex guards it.
type meters struct {
	board      *servermetrics.Board
	tel        []*telemetry.ServerMetric // by metric
	collectors []*collector
}

// MetricFigure is a metric of a peer, as the API tells it.
type MetricFigure struct {
	Name      string   `json:"name"`
	Value     *float64 `json:"value"`  // null = not known, or too old
	AgeMS     *float64 `json:"age_ms"` // null = there never was one
	Limit     *float64 `json:"limit"`
	ToLimitMS *float64 `json:"to_limit_ms"` // at the present climb; null = it does not climb
	AtLimit   bool     `json:"at_limit"`
}

// setMetrics brings the meters in line with the configuration and returns the collectors that were told to end. Values of metrics that
// stay as they were are kept.
func (p *livePool) setMetrics(now float64, before []config.Metric) (stopped []ending) {
	if p.meters != nil && slices.Equal(before, p.conf.Metrics) {
		p.keepMetered(now)
		return nil
	}
	var former *servermetrics.Board
	if p.meters != nil {
		former = p.meters.board
		stopped = p.dropMetrics()
	}
	p.meters = nil
	if len(p.conf.Metrics) > 0 {
		m := &meters{}
		rules := make([]servermetrics.Rule, len(p.conf.Metrics))
		for i, c := range p.conf.Metrics {
			rules[i] = servermetrics.Rule{
				Name: c.Name, Limit: c.Limit, HorizonMS: float64(c.HorizonMS), ExpireMS: float64(c.ExpireMS), Load: bool(c.Load),
			}
			m.tel = append(m.tel, p.eng.tel.ServerMetric(p.name, c.Name))
		}
		m.board = servermetrics.New(rules, former)
		m.collectors = newCollectors(p)
		p.meters = m
	}
	p.keepMetered(now)
	return stopped
}

// dropMetrics tells the collectors to end and takes the series away.
func (p *livePool) dropMetrics() (stopped []ending) {
	if p.meters == nil {
		return nil
	}
	for _, s := range p.meters.collectors {
		if s.started {
			s.stop()
			stopped = append(stopped, s)
		}
	}
	p.meters.collectors = nil
	for _, t := range p.meters.tel {
		t.Remove()
	}
	return stopped
}

// keepMetered forgets peers that left and heeds what is known of the others.
func (p *livePool) keepMetered(now float64) {
	for _, m := range p.members {
		m.metered.Load = untold // the estimators may be new ones
	}
	if p.meters != nil {
		addrs := p.addrs()
		p.meters.board.Keep(addrs)
		for _, t := range p.meters.tel {
			t.Keep(addrs)
		}
	}
	p.heed(now)
}

func (p *livePool) addrs() []string {
	addrs := make([]string, len(p.members))
	for i, m := range p.members {
		addrs[i] = m.addr
	}
	return addrs
}

// untold is a utilisation that no verdict has.
const untold = -2

// heed has health and estimators know what the metrics say now. It runs at each refresh too, since values expire.
func (p *livePool) heed(now float64) {
	for i, m := range p.members {
		v := servermetrics.Verdict{Load: -1}
		if p.meters != nil {
			v = p.meters.board.Verdict(now, m.addr)
		}
		if v == m.metered {
			continue
		}
		moved := v.Risk != m.metered.Risk
		m.metered = v
		p.health.Limit(now, i, v.Over, v.Why)
		p.est.Told(i, v.Load)
		if moved {
			e := p.est.Peer(i)
			p.health.Predict(now, i, p.risk(i, &e))
		}
	}
}

// risk is how likely peer i is to fail soon, by its answers and by its metrics. Where keys have their peers, what a peer costs is a reason to leave it from break_at on
// only, and all NGINX should agree where a key is; so that it became slow is no risk there. It was, and a peer of 1 ms that seemed three times as slow for a second gave
// a part of its keys away.
func (p *livePool) risk(i int, v *estimate.PeerView) float64 {
	answers := v.Risk
	if p.conf.Affinity.By == config.AffinityHash {
		answers = v.Failing
	}
	return 1 - (1-answers)*(1-p.members[i].metered.Risk)
}

// measured takes in what a collector brought: values by metric of it and peer, and what went wrong, "" = nothing did.
func (p *livePool) measured(s *collector, values []map[string]float64, fault string) {
	p.mu.Lock()
	defer p.unlock()
	if p.retired || p.meters == nil || !slices.Contains(p.meters.collectors, s) {
		return
	}
	now := p.eng.now()
	for j, i := range s.at {
		all := true
		for _, m := range p.members {
			v, ok := values[j][m.addr]
			if ok {
				p.meters.board.Put(now, i, m.addr, v)
				p.keepMeasured(m.addr, p.conf.Metrics[i].Name, v)
			}
			all = all && ok
		}
		p.meters.tel[i].Collected(all)
	}
	p.collectorFault(s, fault)
	p.heed(now)
	p.showMetrics(now)
	p.changed(now)
}

// collectorFault notes whether a collector works, and says so once when that changes.
func (p *livePool) collectorFault(s *collector, fault string) {
	name, before, since := p.name, s.fault, s.since
	s.fault = fault
	switch {
	case before == "" && fault != "":
		s.since = time.Now()
		p.later(func() {
			p.eng.log.Warn().Str("pool", name).Str("metrics", s.names()).Str("fault", fault).
				Msg("server metrics cannot be had; values expire and count for nothing then")
		})
	case before != "" && fault == "":
		p.later(func() {
			p.eng.log.Info().Str("pool", name).Str("metrics", s.names()).Float64("after_s", math.Round(time.Since(since).Seconds()*10)/10).
				Msg("server metrics are back")
		})
	}
}

// showMetrics sets the series of the metrics.
func (p *livePool) showMetrics(now float64) {
	if p.meters == nil {
		return
	}
	for _, m := range p.members {
		for i, v := range p.meters.board.Values(now, m.addr) {
			p.meters.tel[i].Set(m.addr, v.Value)
		}
	}
}

func (p *livePool) metricFigures(now float64, addr string) []MetricFigure {
	out := []MetricFigure{}
	if p.meters == nil {
		return out
	}
	for _, v := range p.meters.board.Values(now, addr) {
		f := MetricFigure{Name: v.Name, Value: finite(v.Value), AgeMS: finite(v.AgeMS), ToLimitMS: finite(v.ToLimitMS), AtLimit: v.Over}
		if v.Limit > 0 {
			f.Limit = &v.Limit
		}
		out = append(out, f)
	}
	return out
}

// inspectMetrics adds which collectors fail.
func (p *livePool) inspectMetrics(r *Report) {
	if p.meters == nil {
		return
	}
	for _, s := range p.meters.collectors {
		if s.fault != "" {
			r.add("metrics", p.name, fmt.Sprintf("%s of pool %q cannot be had: %s; the pool is served without", s.names(), p.name, s.fault))
		}
	}
}
