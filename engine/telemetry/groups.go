package telemetry

import "github.com/VictoriaMetrics/metrics"

// Indexes of Groups.Sides.
const (
	GroupShare  = iota // drawn to the group
	GroupRest          // drawn to the rest
	GroupHeader        // sent to the group by a header
	GroupSides         // how many there are
)

// Groups is the series of a pool's split.
type Groups struct {
	series
	Group string
	Share *metrics.Gauge
	Sides [GroupSides]GroupSide
	ratio [3]*metrics.Gauge
}

// GroupSide is the series of one side: first attempts.
type GroupSide struct {
	Requests, Failed *metrics.Counter
	Duration         *metrics.PrometheusHistogram
}

// Groups registers the series of a split.
func (m *Metrics) Groups(poolName, group string) *Groups {
	g := &Groups{series: series{set: m.set}, Group: group}
	g.Share = g.gauge("weir_group_share", "pool", poolName, "group", group)
	for i, side := range [...]string{GroupShare: "group", GroupRest: "rest", GroupHeader: "header"} {
		labels := []string{"pool", poolName, "group", group, "side", side}
		g.Sides[i] = GroupSide{
			g.counter("weir_group_requests_total", labels...), g.counter("weir_group_failures_total", labels...),
			g.histogram(durationBuckets(), "weir_group_duration_seconds", labels...),
		}
	}
	for i, bound := range [...]string{"estimate", "low", "high"} {
		g.ratio[i] = g.gauge("weir_group_ratio", "pool", poolName, "group", group, "bound", bound)
	}
	return g
}

// Shadow is the series of a pool that is a shadow of another.
type Shadow struct {
	series
	ratio [3]*metrics.Gauge
}

// Shadow registers the series of a shadow.
func (m *Metrics) Shadow(poolName, live string) *Shadow {
	s := &Shadow{series: series{set: m.set}}
	for i, bound := range [...]string{"estimate", "low", "high"} {
		s.ratio[i] = s.gauge("weir_shadow_ratio", "pool", poolName, "live", live, "bound", bound)
	}
	return s
}

// Set shows how the shadow compares with the live pool; NaN where that is not known.
func (s *Shadow) Set(estimate, low, high float64) {
	for i, x := range [...]float64{estimate, low, high} {
		s.ratio[i].Set(x)
	}
}

// Ratio shows how the group compares with the rest; NaN where that is not known.
func (g *Groups) Ratio(estimate, low, high float64) {
	for i, x := range [...]float64{estimate, low, high} {
		g.ratio[i].Set(x)
	}
}
