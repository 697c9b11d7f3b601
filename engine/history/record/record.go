// Package record carries what a running engine sees into a store, without ever being in its way.
//
//	Observe -> queue (memory, bounded) -> writer: sample, roll up, number -> spool (disk, bounded) -> shipper -> store
//
// Adding to the queue takes a mutex for the time of a copy; it waits for nothing else. The writer empties the queue each
// quarter of a second into a batch, which goes to the spool before anything else happens to it, so kill -9 loses what came in that
// time. The shipper sends batch after batch and repeats one until the store has it; that the store may have had it already
// is settled by the batch's number. A store that is slow or down therefore means a longer spool, and nothing else.
//
// Each bound drops the oldest first and counts what it drops, by where: queue, spool, store (rows it cannot hold).
package record

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/spool"
	"github.com/weirlb/weir/engine/telemetry"
)

// The bounds of the queue: three seconds of 20,000 outcomes a second.
const (
	maxQueue  = 1 << 16
	maxEvents = 4096
)

const (
	flushEvery    = 250 * time.Millisecond // short, so that the store's work does not come in bursts that others feel
	saveEvery     = 500 * time.Millisecond // of the minutes in progress
	maintainEvery = time.Minute
	openWithin    = 15 * time.Second
	migrateWithin = time.Hour
	farewell      = 200 * time.Millisecond
	firstRetry    = 500 * time.Millisecond
)

// Observed is an outcome with what it is about. Its own Series field is not used.
type Observed struct {
	history.Series
	history.Outcome
}

// Measured is a value of a server metric.
type Measured struct {
	history.MetricSeries
	AtMS  int64
	Value float64
}

// Options of a recorder.
type Options struct {
	// Dir is for the spool and what belongs to it; one engine uses it at a time. "" keeps all in memory.
	Dir        string
	SpoolBytes int64
	// Open opens the store. It is called until it works, and again when that store is gone (history.ErrGone).
	Open           func(ctx context.Context) (history.Store, error)
	Instance, Zone string
	SampleAbove    float64       // outcomes a second above which successes are sampled; 0 = never
	WriteWithin    time.Duration // what a store may take for a batch before it counts as down; 0 = 10 s
	LastRetry      time.Duration // the longest pause before a store that is down is tried again; 0 = 15 s
	Keep           history.Retention
	Log            *telemetry.Log
	Tel            *telemetry.History
}

// Recorder carries history into a store. Safe for concurrent use.
type Recorder struct {
	opt    Options
	writer string // of this run; what an earlier one left in the spool has that one's
	spool  *spool.Spool
	lock   *os.File

	queue   queue
	full    chan struct{} // the queue is half full
	shipped chan struct{} // something is in the spool
	stop    context.CancelFunc
	life    context.Context
	writing sync.WaitGroup
	sending sync.WaitGroup
	closing atomic.Bool

	// The writer's own.
	pack     packer
	saved    time.Time // when the minutes in progress were
	unsaved  bool      // they have changed since
	progress history.Batch
	saving   []byte

	hand    handover
	store   atomic.Pointer[history.Store]
	outage  atomic.Pointer[Outage]
	dirtied error // why there is no folder
}

// Outage is a store that does not take what it is sent.
type Outage struct {
	Since time.Time
	Error string
}

// New makes a recorder and takes over what an earlier one left in its folder. A folder that cannot be used is told in the log and
// by State, and all is kept in memory. It starts nothing; Start does.
func New(opt Options) *Recorder {
	if opt.WriteWithin <= 0 {
		opt.WriteWithin = 10 * time.Second
	}
	if opt.LastRetry <= 0 {
		opt.LastRetry = 15 * time.Second
	}
	r := &Recorder{opt: opt, full: make(chan struct{}, 1), shipped: make(chan struct{}, 1)}
	r.life, r.stop = context.WithCancel(context.Background())
	r.writer = newWriter()
	r.pack = newPacker(opt.SampleAbove)
	if opt.Dir != "" {
		r.dirtied = r.takeOver()
	}
	if r.spool == nil {
		r.spool = spool.Memory()
	}
	if r.dirtied != nil {
		opt.Log.Error().Str("dir", opt.Dir).Str("error", r.dirtied.Error()).Msg("history has no folder: what waits is kept in memory and ends with the engine")
	}
	opt.Tel.Gauges(func() telemetry.HistoryGauges {
		queued := r.queue.len() // before the spool: rows that move between the two count twice rather than not at all
		_, rows, bytes := r.spool.Waiting()
		up := 1.0
		if r.outage.Load() != nil || r.store.Load() == nil {
			up = 0
		}
		return telemetry.HistoryGauges{Queue: float64(queued), SpoolRows: float64(rows), SpoolBytes: float64(bytes), Up: up}
	})
	return r
}

// takeOver locks the folder and reads spool and minutes in progress from it.
func (r *Recorder) takeOver() error {
	dir := r.opt.Dir
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return fmt.Errorf("another engine uses %s: give each its own history.dir", dir)
	}
	s, err := spool.Open(filepath.Join(dir, "spool"), r.opt.SpoolBytes)
	if err != nil {
		_ = lock.Close()
		return err
	}
	r.lock, r.spool = lock, s
	r.restoreMinutes()
	if n := s.Damaged(); n > 0 {
		r.opt.Log.Warn().Int64("bytes", n).Msg("history that waited on the disk was damaged: it is dropped")
	}
	if n, rows, _ := s.Waiting(); n > 0 {
		r.opt.Log.Info().Int64("batches", n).Int64("rows", rows).Msg("history from before the start waits for the store")
		r.wake(r.shipped)
	}
	return nil
}

// Start starts the writer and the shipper.
func (r *Recorder) Start() {
	r.writing.Go(r.write)
	r.sending.Go(r.ship)
}

// Close writes what is queued, gives the store until ctx ends to take what waits, and closes it. What it did not take is sent
// after the next start, if there is a folder.
func (r *Recorder) Close(ctx context.Context) error {
	r.closing.Store(true)
	r.wake(r.full)
	r.writing.Wait()
	r.wake(r.shipped)
	sent := make(chan struct{})
	go func() { r.sending.Wait(); close(sent) }()
	select {
	case <-sent:
	case <-ctx.Done():
	}
	r.stop()
	<-sent
	err := r.closeStore()
	if lost := r.spool.Close(); lost > 0 {
		r.opt.Log.Warn().Int("rows", lost).Msg("history that waited in memory ends with the engine: no disk took it")
	}
	if r.lock != nil {
		// Closing alone keeps the lock while a process is being started beside, which has all files until it runs its program.
		_ = syscall.Flock(int(r.lock.Fd()), syscall.LOCK_UN)
		err = errors.Join(err, r.lock.Close())
	}
	return err
}

// closeStore closes the store, but does not wait for long: a database that does not answer does not answer a farewell either.
func (r *Recorder) closeStore() error {
	s := r.store.Swap(nil)
	if s == nil {
		return nil
	}
	closed := make(chan error, 1)
	go func() { closed <- (*s).Close() }()
	select {
	case err := <-closed:
		return err
	case <-time.After(farewell):
		return nil
	}
}

func (r *Recorder) wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Add queues outcomes; the list may be used again. It allocates nothing once the queue has grown.
func (r *Recorder) Add(list []Observed) {
	if r == nil {
		return
	}
	dropped, half := r.queue.add(list)
	if dropped > 0 {
		r.opt.Tel.DroppedQueue.Add(dropped)
	}
	if half {
		r.wake(r.full)
	}
}

// Event queues an event. Like Add and Store it may be called on nil, which is history that is off.
func (r *Recorder) Event(e history.Event) {
	if r == nil {
		return
	}
	if r.queue.event(e) {
		r.opt.Tel.DroppedQueue.Inc()
	}
}

// Measured queues a value of a server metric.
func (r *Recorder) Measured(m Measured) {
	if r == nil {
		return
	}
	if r.queue.measured(m) {
		r.opt.Tel.DroppedQueue.Inc()
	}
}

// Store returns the store for reading, or why there is none yet.
func (r *Recorder) Store() (history.Store, error) {
	if r == nil {
		return nil, history.ErrOff
	}
	if s := r.store.Load(); s != nil {
		return *s, nil
	}
	if o := r.outage.Load(); o != nil {
		return nil, fmt.Errorf("the history store is down since %s: %s", o.Since.UTC().Format(time.RFC3339), o.Error)
	}
	return nil, errors.New("the history store is being opened: ask again in a moment")
}

// State is what a report of health needs to know.
type State struct {
	Outage   *Outage // nil = the store takes what it is sent
	Folder   error   // nil = there is one, or none was wanted
	InMemory bool    // what waits is on no disk
	Rows     int64   // that wait
}

// State returns the recorder's state.
func (r *Recorder) State() State {
	_, rows, _ := r.spool.Waiting()
	return State{Outage: r.outage.Load(), Folder: r.dirtied, InMemory: r.opt.Dir != "" && r.spool.InMemory(), Rows: rows}
}
