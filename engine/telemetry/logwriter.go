package telemetry

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/rs/zerolog/diode"
)

// LogWriter lets nobody who logs wait for who reads the log: lines wait in memory, and when whoever reads has stood still for logLines of them the old ones
// are lost, and counted in the log once it is read again. A collector that hung with its pipe open stopped the engine's main loop at 64 KiB of log: it
// neither reloaded nor ended on SIGTERM.
type LogWriter struct {
	lines diode.Writer
	done  chan struct{} // closed by Close's goroutine when all is written
	lost  atomic.Uint64 // lines, as far as that is known: it is found when the log is read again
}

const (
	logLines = 2000 // that wait; some 500 KiB
	// logPoll is how often is looked for lines. The library's way to be woken can miss a line until the next one.
	logPoll = 20 * time.Millisecond
)

// NewLogWriter returns one that writes to w. It does not close w.
func NewLogWriter(w io.Writer) *LogWriter {
	l := &LogWriter{done: make(chan struct{})}
	own := NewLog(w, zerolog.LevelInfoValue) // past the queue: called by the one goroutine that writes
	l.lines = diode.NewWriter(struct{ io.Writer }{w}, logLines, logPoll, func(n int) {
		l.lost.Add(uint64(n))
		own.Warn().Int("lines", n).Msg("lines of this log were lost: whoever reads it stood still")
	})
	return l
}

// Write takes a line and returns at once.
func (l *LogWriter) Write(line []byte) (int, error) { return l.lines.Write(line) }

// Close writes what waits, for at most so long, and tells whether all was written. Nothing may be logged after it.
func (l *LogWriter) Close(within time.Duration) bool {
	go func() {
		_ = l.lines.Close()
		close(l.done)
	}()
	select {
	case <-l.done:
		return true
	case <-time.After(within):
		return false
	}
}
