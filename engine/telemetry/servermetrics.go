package telemetry

import (
	"math"
	"slices"
	"sync"

	"github.com/VictoriaMetrics/metrics"
)

// ServerMetric is the series of one metric that a pool's servers tell of themselves.
type ServerMetric struct {
	ok, failed   *metrics.Counter
	set          *metrics.Set
	names        []string
	pool, metric string

	mu     sync.Mutex // guards values
	values map[string]*metrics.Gauge
}

// ServerMetric registers the series of a metric of a pool. Remove takes them away.
func (m *Metrics) ServerMetric(poolName, metric string) *ServerMetric {
	s := &ServerMetric{set: m.set, pool: poolName, metric: metric, values: map[string]*metrics.Gauge{}}
	for _, result := range [...]string{"ok", "failed"} {
		s.names = append(s.names, name("weir_server_metric_collections_total", "pool", poolName, "metric", metric, "result", result))
	}
	s.ok, s.failed = m.set.GetOrCreateCounter(s.names[0]), m.set.GetOrCreateCounter(s.names[1])
	return s
}

// Collected counts a round that brought values of every peer, or did not.
func (s *ServerMetric) Collected(all bool) {
	if all {
		s.ok.Inc()
	} else {
		s.failed.Inc()
	}
}

// Set shows the value of a peer; NaN = not known.
func (s *ServerMetric) Set(addr string, value float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.values[addr]
	if g == nil {
		if math.IsNaN(value) {
			return
		}
		g = s.set.GetOrCreateGauge(s.of(addr), nil)
		s.values[addr] = g
	}
	g.Set(value)
}

func (s *ServerMetric) of(addr string) string {
	return name("weir_server_metric_value", "pool", s.pool, "peer", addr, "metric", s.metric)
}

// Keep removes the series of every peer that is not among these.
func (s *ServerMetric) Keep(addrs []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for addr := range s.values {
		if !slices.Contains(addrs, addr) {
			s.set.UnregisterMetric(s.of(addr))
			delete(s.values, addr)
		}
	}
}

// Remove takes all of it out of the exposition.
func (s *ServerMetric) Remove() {
	s.Keep(nil)
	for _, n := range s.names {
		s.set.UnregisterMetric(n)
	}
}
