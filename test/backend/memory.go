package backend

import (
	"fmt"
	"net/http"
	"time"
)

// memoryLimit is what a backend says it may use, in bytes. None of it is really taken.
const memoryLimit = 1 << 30

// leak makes the memory agree with the settings. Each time settings.memory changes it begins anew. The caller holds mu.
func (b *Backend) leak() {
	m := b.settings.Memory
	if m == nil && b.leaking == nil || m != nil && b.leaking != nil && *m == *b.leaking {
		return
	}
	if b.full != nil {
		b.full.Stop()
		b.full = nil
	}
	b.leaking, b.leaks = m, time.Now()
	if m != nil && m.PerS > 0 && b.opt.Full != nil && b.life.Err() == nil {
		b.full = time.AfterFunc(time.Duration((1-m.From)/m.PerS*float64(time.Second)), b.opt.Full)
	}
}

// used is the part of the memory in use. The caller holds mu.
func (b *Backend) used() float64 {
	if b.leaking == nil {
		return 0
	}
	return min(b.leaking.From+b.leaking.PerS*time.Since(b.leaks).Seconds(), 1)
}

// metrics answers /metrics as an exporter in the application would.
func (b *Backend) metrics(w http.ResponseWriter) {
	b.mu.Lock()
	used := b.used()
	b.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	for _, m := range []struct {
		name, kind, help string
		value            float64
	}{
		{"backend_memory_bytes", "gauge", "Memory in use.", used * memoryLimit},
		{"backend_memory_limit_bytes", "gauge", "Memory that may be used.", memoryLimit},
		{"backend_inflight", "gauge", "Requests held now.", float64(b.counts.inflight.Load())},
		{"backend_requests_total", "counter", "Requests so far.", float64(b.counts.requests.Load())},
	} {
		_, _ = fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n%s %g\n", m.name, m.help, m.name, m.kind, m.name, m.value)
	}
}
