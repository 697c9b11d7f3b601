package telemetry

import (
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// LogWriter keeps who logs from waiting for who reads the log: lines wait in memory, and when whoever reads stands still for logLines of them, what comes then
// is lost, and counted in the log once it is read again. A collector that hung with its pipe open stopped the engine's main loop at 64 KiB of log: it neither
// reloaded nor ended on SIGTERM.
//
// zerolog's diode does nearly this, but looks for lines at an interval: what is logged right before a crash would be lost.
type LogWriter struct {
	lines chan []byte
	done  chan struct{} // closed when all that waited at Close is written
	ended chan struct{} // closed by Close
	lost  atomic.Uint64 // lines since that was told
}

const logLines = 2000 // that wait; some 500 KiB

// NewLogWriter returns one that writes to w. Close ends its goroutine; w stays open.
func NewLogWriter(w io.Writer) *LogWriter {
	l := &LogWriter{lines: make(chan []byte, logLines), done: make(chan struct{}), ended: make(chan struct{})}
	go l.run(w)
	return l
}

func (l *LogWriter) run(w io.Writer) {
	defer close(l.done)
	own := NewLog(w, zerolog.LevelInfoValue)
	write := func(line []byte) {
		_, _ = w.Write(line)
		if n := l.lost.Swap(0); n > 0 {
			own.Warn().Uint64("lines", n).Msg("lines of this log were lost: whoever reads it stood still")
		}
	}
	for {
		select {
		case line := <-l.lines:
			write(line)
			continue
		case <-l.ended:
		}
		for {
			select {
			case line := <-l.lines:
				write(line)
			default:
				return
			}
		}
	}
}

// Write takes a line and returns at once.
func (l *LogWriter) Write(line []byte) (int, error) {
	select {
	case l.lines <- slices.Clone(line): // zerolog uses its buffer again
	default:
		l.lost.Add(1)
	}
	return len(line), nil
}

// Close writes what waits, for at most so long, and tells whether all was written. What is logged after it is lost. It is called once.
func (l *LogWriter) Close(within time.Duration) bool {
	close(l.ended)
	select {
	case <-l.done:
		return true
	case <-time.After(within):
		return false
	}
}
