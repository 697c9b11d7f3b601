package telemetry

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Log writes one JSON object a line. Safe for concurrent use. Nothing that could hold a secret is ever handed to it:
// no request headers, no configuration values.
type Log struct {
	base  zerolog.Logger
	level atomic.Int32

	mu   sync.Mutex // guards said
	said map[string]*saying
}

// saying is what was logged by Repeated for one cause.
type saying struct {
	at         time.Time
	suppressed int
}

const (
	repeatAfter = time.Minute
	maxCauses   = 1024
)

// stamp puts the time on each event. zerolog's own is to the second unless a global is changed.
type stamp struct{}

func (stamp) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str("time", time.Now().UTC().Format("2006-01-02T15:04:05.000Z"))
}

// NewLog returns a log with a level by zerolog's names; an unknown level is info.
func NewLog(w io.Writer, level string) *Log {
	l := &Log{base: zerolog.New(w).Hook(stamp{}), said: make(map[string]*saying)}
	l.SetLevel(level)
	return l
}

// SetLevel changes what is logged from now on.
func (l *Log) SetLevel(level string) {
	parsed, err := zerolog.ParseLevel(level)
	if err != nil || level == "" {
		parsed = zerolog.InfoLevel
	}
	l.level.Store(int32(parsed))
}

// Name puts the engine's name on every event. It is called once, before the log is shared.
func (l *Log) Name(engine string) { l.base = l.base.With().Str("engine", engine).Logger() }

func (l *Log) at(level zerolog.Level) *zerolog.Event {
	if level < zerolog.Level(l.level.Load()) {
		return nil
	}
	return l.base.WithLevel(level)
}

// Debug, Info, Warn and Error start an event; it is written by its Msg. A level that is off gives nil, on which every
// method does nothing.
func (l *Log) Debug() *zerolog.Event { return l.at(zerolog.DebugLevel) }

// Info starts an event that an operator may want to know.
func (l *Log) Info() *zerolog.Event { return l.at(zerolog.InfoLevel) }

// Warn starts an event that an operator should look at.
func (l *Log) Warn() *zerolog.Event { return l.at(zerolog.WarnLevel) }

// Error starts an event that keeps the engine from doing its work.
func (l *Log) Error() *zerolog.Event { return l.at(zerolog.ErrorLevel) }

// Repeated starts a warning for something that may happen again at once. The same cause is written once a minute; the
// next time with the number that were left out. cause must come from a bounded set or be cut by the caller: past
// 1024 causes the old ones are forgotten.
func (l *Log) Repeated(cause string) *zerolog.Event {
	suppressed, ok := l.due(cause, time.Now())
	if !ok {
		return nil
	}
	e := l.Warn()
	if suppressed > 0 {
		e = e.Int("suppressed", suppressed)
	}
	return e
}

func (l *Log) due(cause string, now time.Time) (suppressed int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.said[cause]
	switch {
	case s == nil:
		if len(l.said) >= maxCauses {
			clear(l.said)
		}
		l.said[cause] = &saying{at: now}
		return 0, true
	case now.Sub(s.at) < repeatAfter:
		s.suppressed++
		return 0, false
	}
	suppressed = s.suppressed
	*s = saying{at: now}
	return suppressed, true
}
