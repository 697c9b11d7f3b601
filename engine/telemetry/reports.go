package telemetry

import "github.com/VictoriaMetrics/metrics"

// refusalReasons are what may be wrong with a load report, as lua/resty/weir/orca.lua names it. "other" stands for what a later NGINX may say, so
// that no sender can make series without bound.
func refusalReasons() []string {
	return []string{"too_long", "format", "unknown", "duplicate", "number", "finite", "negative", "range", "json", "base64", "protobuf", "other"}
}

// ReportsRefused counts load reports that were not used. All reasons of a pool appear with its first, so that a rate over them begins at 0. It is not
// safe for concurrent use with itself and Remove.
func (p *Pool) ReportsRefused(reason string, n int) {
	if p.refused == nil {
		p.refused = map[string]*metrics.Counter{}
		for _, r := range refusalReasons() {
			p.refused[r] = p.counter("weir_load_reports_refused_total", "pool", p.name, "reason", r)
		}
	}
	c := p.refused[reason]
	if c == nil {
		c = p.refused["other"]
	}
	c.Add(n)
}
