package telemetry

// LearningGauges is where online learning stands, as of a scrape.
type LearningGauges struct {
	Phase            string
	Decisions, Bytes int
	Candidates       uint64
	CPUSeconds       float64
	Attempts         map[string]uint64 // by what became of them
}

// learningResults and learningPhases are the values of labels.
func learningResults() []string {
	return []string{"replayed", "thinned", "no_frame", "no_peer", "no_return", "foreign", "lost"}
}

func learningPhases() []string { return []string{"idle", "offline", "shadow", "watched"} }

// Learning registers the series of online learning. It is called once; now is read at each scrape.
func (m *Metrics) Learning(now func() LearningGauges) {
	gauge := func(n string, of func(LearningGauges) float64) {
		m.set.NewGauge(n, func() float64 { return of(now()) })
	}
	gauge("weir_learn_replay_decisions", func(g LearningGauges) float64 { return float64(g.Decisions) })
	gauge("weir_learn_replay_bytes", func(g LearningGauges) float64 { return float64(g.Bytes) })
	gauge("weir_learn_candidates_total", func(g LearningGauges) float64 { return float64(g.Candidates) })
	gauge("weir_learn_cpu_seconds_total", func(g LearningGauges) float64 { return g.CPUSeconds })
	for _, r := range learningResults() {
		gauge(name("weir_learn_attempts_total", "result", r), func(g LearningGauges) float64 { return float64(g.Attempts[r]) })
	}
	for _, p := range learningPhases() {
		gauge(name("weir_learn_phase", "phase", p), func(g LearningGauges) float64 {
			if g.Phase == p {
				return 1
			}
			return 0
		})
	}
}
