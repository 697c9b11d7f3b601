package telemetry

import "github.com/VictoriaMetrics/metrics"

// History is the series about the keeping of history.
type History struct {
	set *metrics.Set

	Written, Batches                       *metrics.Counter
	DroppedQueue, DroppedSpool, DroppedBad *metrics.Counter
	Spilled, SampledOut, Outages           *metrics.Counter
}

// HistoryGauges are read at each scrape.
type HistoryGauges struct{ Queue, SpoolRows, SpoolBytes, Up float64 }

// History registers the series. It is called once.
func (m *Metrics) History() *History {
	s := m.set
	return &History{
		set:          s,
		Written:      s.NewCounter("weir_history_written_rows_total"),
		Batches:      s.NewCounter("weir_history_written_batches_total"),
		DroppedQueue: s.NewCounter(name("weir_history_dropped_rows_total", "reason", "queue")),
		DroppedSpool: s.NewCounter(name("weir_history_dropped_rows_total", "reason", "spool")),
		DroppedBad:   s.NewCounter(name("weir_history_dropped_rows_total", "reason", "bad")),
		Spilled:      s.NewCounter("weir_history_spilled_rows_total"),
		SampledOut:   s.NewCounter("weir_history_sampled_out_outcomes_total"),
		Outages:      s.NewCounter("weir_history_outages_total"),
	}
}

// Gauges tells where the gauges are read from. It is called once.
func (h *History) Gauges(read func() HistoryGauges) {
	h.set.NewGauge("weir_history_queue_rows", func() float64 { return read().Queue })
	h.set.NewGauge("weir_history_spool_rows", func() float64 { return read().SpoolRows })
	h.set.NewGauge("weir_history_spool_bytes", func() float64 { return read().SpoolBytes })
	h.set.NewGauge("weir_history_store_up", func() float64 { return read().Up })
}
