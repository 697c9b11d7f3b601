package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Source is the series of one source of a pool's members.
type Source struct {
	series
	Queries   *metrics.Counter
	up, peers *metrics.Gauge
	looks     [2]*metrics.Counter // failed, good
	answered  atomic.Pointer[time.Time]
}

// Source registers the series of a source; name is as the configuration gives it.
func (m *Metrics) Source(poolName, kind, sourceName string) *Source {
	s := &Source{series: series{set: m.set}}
	labels := func(more ...string) []string {
		return append([]string{"pool", poolName, "kind", kind, "source", sourceName}, more...)
	}
	s.Queries = s.counter("weir_discovery_queries_total", labels()...)
	s.looks[0] = s.counter("weir_discovery_looks_total", labels("result", "fail")...)
	s.looks[1] = s.counter("weir_discovery_looks_total", labels("result", "ok")...)
	s.up = s.gauge("weir_discovery_up", labels()...)
	s.peers = s.gauge("weir_discovery_peers", labels()...)
	now := time.Now()
	s.answered.Store(&now)
	s.set.GetOrCreateGauge(s.add("weir_discovery_age_seconds", labels()...), func() float64 {
		return time.Since(*s.answered.Load()).Seconds()
	})
	return s
}

// Looked counts a look and shows what the source names now. answered: it told the whole of it.
func (s *Source) Looked(ok bool, peers int, answered bool) {
	up := 0
	if ok {
		up = 1
	}
	s.looks[up].Inc()
	s.up.Set(float64(up))
	s.peers.Set(float64(peers))
	if answered {
		now := time.Now()
		s.answered.Store(&now)
	}
}
