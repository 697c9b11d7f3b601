package telemetry

import (
	"sync"

	"github.com/VictoriaMetrics/metrics"
)

// Models is the series about models.
type Models struct {
	set *metrics.Set

	Refused, Failed *metrics.Counter // models that could not be loaded, tables that had to be made without
	Inference       *metrics.PrometheusHistogram

	mu   sync.Mutex // guards info
	info string     // the series that names the model that serves, "" = none does
}

// Models registers the series. It is called once; up is read at each scrape.
func (m *Metrics) Models(up func() float64) *Models {
	m.set.NewGauge("weir_model_up", up)
	return &Models{
		set:       m.set,
		Refused:   m.set.NewCounter(name("weir_model_faults_total", "stage", "load")),
		Failed:    m.set.NewCounter(name("weir_model_faults_total", "stage", "table")),
		Inference: m.set.NewPrometheusHistogramExt("weir_model_inference_duration_seconds", refreshBuckets()),
	}
}

// Serving names the model that tables are made with; "" = none is.
func (m *Models) Serving(id, called, evaluator string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.info != "" {
		m.set.UnregisterMetric(m.info)
		m.info = ""
	}
	if id != "" {
		m.info = name("weir_model_info", "model", id, "name", called, "evaluator", evaluator)
		m.set.GetOrCreateGauge(m.info, nil).Set(1)
	}
}

// Event counts what happened to a model; event is one of a small set of words.
func (m *Models) Event(event string) {
	m.set.GetOrCreateCounter(name("weir_model_events_total", "event", event)).Inc()
}
