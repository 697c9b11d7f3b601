// Package history says what is kept of the past and what a store of it must do. It is pure: types, the encoding of a batch,
// the roll-up of outcomes into minutes and of minutes into answers. The stores are in packages below it (embedded, postgres,
// mysql), the way from a running engine into a store is in record.
//
// What is kept: outcomes one by one (raw), minutes rolled up per pool, peer and class, minutes of server metrics, and events: changes of
// health, of models, of the configuration. Times are Unix milliseconds in UTC.
package history

import (
	"context"
	"errors"
	"fmt"
)

// Series names what outcomes are about. In rolled-up minutes the class "" stands for all classes together, so that a question
// about a peer need not add up its classes; an outcome's class is never "".
type Series struct{ Pool, Peer, Class string }

// Outcome is one attempt. The fields after Series are those of docs/protocol.md.
type Outcome struct {
	AtMS        int64  // when it ended
	Series      uint32 // index into the Series it comes with
	Attempt     uint8  // 1 = first
	Kind        uint8  // observe.Kind
	Status      uint16
	Flags       uint16 // observe.Flags
	Inflight    uint16
	AtUS        uint16 // it ended so many microseconds after AtMS, below 1000; 0 = not known. What was in flight at a moment is found from it
	Bytes       uint32
	Propensity  float32
	HeaderMS    float32 // -1 = none
	TotalMS     float32
	Weight      float32
	PredictedMS float32 // -1 = none
	Load        float32 // -1 = none
	// Rate is the probability with which this outcome was kept, in (0, 1]. An estimate from kept outcomes counts each 1/Rate
	// times (Horvitz and Thompson 1952). Failures are always kept: 1.
	Rate float32
}

// Rollup is what happened in one minute on one series. Rollups of one minute and series add up: late outcomes and several
// engines make several.
type Rollup struct {
	MinuteMS int64
	Series   uint32
	Count    uint64 // attempts, those not kept one by one included
	Failures uint64 // of them
	Others   uint64 // of them: aborts and idle races, which say nothing of the peer
	Bytes    uint64 // of answers
	SumMS    float64
	MaxMS    float32
	// Quantiles of this rollup alone, redundant with Sketch: they save decoding where nothing is merged. NaN = no answer.
	P50, P90, P99 float32
	Sketch        []byte // sketch.Sketch of the answers' latencies; its count is the number of answers
}

// Answered is how many attempts have a latency.
func (r *Rollup) Answered() uint64 { return r.Count - r.Failures - r.Others }

// EventKind is what an event is about.
type EventKind string

// The kinds of events. Health: a peer changed state. Model: a version was made, promoted or rolled back. Config: a
// configuration was applied or refused.
const (
	Health EventKind = "health"
	Model  EventKind = "model"
	Config EventKind = "config"
)

// Event is something that happened once.
type Event struct {
	AtMS    int64     `json:"at_ms"`
	Kind    EventKind `json:"kind"`
	Pool    string    `json:"pool"`    // "" = all
	Subject string    `json:"subject"` // the peer, the model's version, or what was done to the configuration
	From    string    `json:"from"`
	To      string    `json:"to"`
	Detail  string    `json:"detail"` // the reason, or JSON with metrics or keys
}

// Batch is what is written at once. Writer and Seq are its identity: a store takes each batch once.
type Batch struct {
	Writer         string // of the run of an engine that made the batch
	Seq            uint64 // from 1, without gaps
	Instance, Zone string // of the engine
	AtMS           int64  // when it was made

	Series   []Series
	Outcomes []Outcome
	Rollups  []Rollup
	Events   []Event
	Metrics  []MetricRow
}

// Rows is the number of outcomes, rollups, events and rows of metrics.
func (b *Batch) Rows() int { return len(b.Outcomes) + len(b.Rollups) + len(b.Events) + len(b.Metrics) }

// Written is what became of a batch.
type Written struct {
	Rows      int
	Bad       int  // rows the store cannot hold, dropped
	Duplicate bool // the store had the batch already
}

// Question asks for rolled-up history. From is included, To not; both and StepMS are multiples of a minute.
type Question struct {
	Pool, Peer   string // "" = every
	Class        string // "" = all classes together, when By is not ByClass
	FromMS, ToMS int64
	StepMS       int64
	By           By
}

// By says what an answer tells apart.
type By string

// The ways to tell apart: one line for each pool, for each peer of a pool, for each class of a pool, or for each of both.
const (
	ByPool      By = "pool"
	ByPeer      By = "peer"
	ByClass     By = "class"
	ByPeerClass By = "peer,class"
)

// MinuteMS is the length of what is rolled up.
const MinuteMS = 60_000

// Retention says how long what is kept. Zero means forever.
type Retention struct {
	RawMS, RollupMS int64
	MaxBytes        int64 // for the embedded store
}

// Migration is the state of one step of a store's schema.
type Migration struct {
	Version int
	Name    string
	Applied bool
	Newer   bool // of a later version of weir, which left it: this one refuses the store
}

// ErrOff is the error of a history that is switched off.
var ErrOff = errors.New(`history is off (history.url is "off")`)

// ErrGone is the error of a store that is not where it was opened any more, as a file that somebody removed. What it was sent it may not have; another
// one must be opened.
var ErrGone = errors.New("it was removed, or another one put in its place")

// Store keeps history. Implementations are safe for concurrent use; Write is called from one goroutine. Every method may take
// as long as a database does, up to the deadline of ctx.
type Store interface {
	// Write stores a batch whole, or nothing of it and an error. Rows that cannot be stored for what is in them are
	// dropped and counted. A batch that is stored already is not stored again, and that is no error.
	Write(ctx context.Context, b *Batch) (Written, error)

	// Rollups yields the rollups that q's answer is made of, with their series, in any order. What is yielded is valid
	// during the call only.
	Rollups(ctx context.Context, q Question, yield func(Series, *Rollup) error) error

	// Metrics yields the rows of server metrics that q's answer is made of, in any order. What is yielded is valid during the call only.
	Metrics(ctx context.Context, q MetricQuestion, yield func(*MetricRow) error) error

	// Outcomes yields raw outcomes from fromMS (included) to toMS (not) of a pool ("" = every) in the order of time, in
	// blocks, with the series their indexes mean. What is yielded is valid during the call only. Outcomes that arrive
	// meanwhile may be missing.
	Outcomes(ctx context.Context, pool string, fromMS, toMS int64, yield func([]Series, []Outcome) error) error

	// Events returns events of a kind ("" = every) and pool ("" = every) in the order of time, the last limit of them.
	Events(ctx context.Context, kind EventKind, pool string, fromMS, toMS int64, limit int) ([]Event, error)

	// Migrate brings the schema up to date. Several engines may call it at once.
	Migrate(ctx context.Context) error
	// Migrations tells which steps there are and which of them are applied.
	Migrations(ctx context.Context) ([]Migration, error)

	// Maintain does what is due now and again: makes room ahead, deletes what is too old.
	Maintain(ctx context.Context, nowMS int64, keep Retention) error

	// Describe names the store for people, without secrets.
	Describe() string
	Close() error
}

// NotMigrated is the error of a store that lacks what this weir's migrations make. what is as its server says it.
func NotMigrated(store, what string) error {
	return fmt.Errorf("%s is of an older weir, or not made yet: %s. weir migrate up brings it up to date", store, what)
}

// RightsError is what a store's user may not do.
type RightsError struct {
	Err error
}

func (e *RightsError) Error() string { return e.Err.Error() }
func (e *RightsError) Unwrap() error { return e.Err }

// DataError is a batch refused for its content rather than for the state of the store: sending it again cannot help.
type DataError struct {
	Err error
}

func (e *DataError) Error() string {
	return fmt.Sprintf("the store cannot hold what is in the batch: %v", e.Err)
}
func (e *DataError) Unwrap() error { return e.Err }
