// Package serve is the running engine. It drives the pure parts (estimate, pool, decide) with real time, real outcomes and
// real probes, and publishes what they say.
//
// Each pool has one mutex, under which its estimators, health and policy live; it is held for a batch of outcomes or a
// refresh of the table. Readers (the API's hot path) never take it: they load the published State, which is immutable.
// Order of locks: a pool's mutex, then the engine's publication mutex.
package serve

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/history/record"
	"github.com/weirlb/weir/engine/telemetry"
)

// Engine is a running engine. Safe for concurrent use.
type Engine struct {
	log   *telemetry.Log
	tel   *telemetry.Metrics
	start time.Time // origin of all times in ms; read through the monotonic clock
	zone  string    // where the engine and its NGINX run; "" = not told
	state atomic.Pointer[State]

	publishing sync.Mutex // guards the making of the next State from the last

	applying sync.Mutex // guards conf and started, and serialises changes of the set of pools
	conf     *config.Config
	started  bool                                 // Start was called
	pools    atomic.Pointer[map[string]*livePool] // replaced whole by Apply

	refreshMS    atomic.Int64
	lastTick     atomic.Int64 // ms of the last round of the refresh loop
	shadowsShown float64      // ms; the refresh loop alone uses it
	lastBatch    atomic.Int64 // ms of the last accepted batch; -1 = none yet
	lastDecide   atomic.Int64 // ms of the last /decide; -1 = none yet
	reload       atomic.Pointer[reloadFault]

	hearing   sync.Mutex // guards instances and foreign
	instances map[sender]*instance
	foreign   map[string]struct{} // protocol versions refused so far
	vanished  atomic.Bool         // an NGINX fell silent with requests in flight, and no batch came since

	watching Watchers

	history    *record.Recorder // nil = off; set before Start
	models     *Models
	prometheus string   // URL, "" = none
	share      *sharing // nil = models are shared with no other engine; set before Start
	learner    *Learner // nil = the engine does not learn models; set before Start

	life    context.Context // ends when the engine stops
	stop    context.CancelFunc
	running sync.WaitGroup // refresh loop and probes

	firstChecks chan struct{} // taken by the first check of a peer while it runs
}

// Watchers counts the long polls of NGINX.
type Watchers struct{ n atomic.Int64 }

// Join counts one in and Leave one out.
func (w *Watchers) Join() int64 { return w.n.Add(1) }

// Leave counts one out.
func (w *Watchers) Leave() int64 { return w.n.Add(-1) }

// Count returns how many there are.
func (w *Watchers) Count() int { return int(w.n.Load()) }

// New makes an engine with the pools of a configuration and publishes their first tables. It starts nothing; Start does.
func New(conf *config.Config, log *telemetry.Log, tel *telemetry.Metrics) *Engine {
	e := &Engine{log: log, tel: tel, start: time.Now(), zone: conf.Zone, prometheus: conf.PrometheusURL.Reveal(), instances: map[sender]*instance{}, foreign: map[string]struct{}{}, firstChecks: make(chan struct{}, firstAtOnce)}
	e.models = newModels(e)
	e.life, e.stop = context.WithCancel(context.Background())
	e.lastBatch.Store(-1)
	e.lastDecide.Store(-1)
	none := map[string]*livePool{}
	e.pools.Store(&none)
	e.state.Store(&State{Epoch: newEpoch(), RefreshMS: conf.RefreshMS, index: map[string]int{}, next: make(chan struct{})})
	e.conf = &config.Config{RefreshMS: conf.RefreshMS}
	e.Apply(conf)
	return e
}

// Start starts the refresh loop and the active checks. It is called once.
func (e *Engine) Start() {
	e.lastTick.Store(int64(e.now()))
	e.running.Go(e.refreshLoop)
	if e.share != nil {
		e.running.Go(func() { e.share.run(e.life) })
	}
	if e.learner != nil {
		e.running.Go(func() { e.learner.run(e.life) })
	}
	e.applying.Lock()
	defer e.applying.Unlock()
	e.started = true
	for _, p := range *e.pools.Load() {
		p.startChecks()
		p.startSources()
	}
}

// Close stops the goroutines and waits for them. State stays readable.
func (e *Engine) Close() {
	e.stop()
	e.running.Wait()
	e.models.close()
}

// now returns ms since the engine was made.
func (e *Engine) now() float64 { return float64(time.Since(e.start)) / float64(time.Millisecond) }

// State returns what is published now.
func (e *Engine) State() *State { return e.state.Load() }

// Watchers returns the counter of long polls.
func (e *Engine) Watchers() *Watchers { return &e.watching }

// Log returns the engine's log.
func (e *Engine) Log() *telemetry.Log { return e.log }

// Metrics returns the engine's metrics.
func (e *Engine) Metrics() *telemetry.Metrics { return e.tel }

// Decided tells that NGINX asked for a table, a sign that it has traffic.
func (e *Engine) Decided() { e.lastDecide.Store(int64(e.now())) }

func newEpoch() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b[:])
}

// publish makes the next state from the last with one pool's snapshot replaced. A pool that is not in the state (it was
// removed meanwhile, or is about to be added) is left alone. Callers hold that pool's mutex, so versions of one pool never go
// back, and have stored s as the pool's latest: should Apply publish it first, there is nothing left to do here.
func (e *Engine) publish(s *Snapshot) {
	e.publishing.Lock()
	defer e.publishing.Unlock()
	last := e.state.Load()
	i, ok := last.index[s.Name]
	if !ok || last.Pools[i] == s {
		return
	}
	next := e.successor(last)
	next.Pools = slices.Clone(last.Pools)
	next.Pools[i] = stamp(s, last.Pools[i], next.Version)
	e.swap(last, next)
}

// stamp gives a snapshot its versions. It is not shared yet, so it may still be changed.
func stamp(s, before *Snapshot, version uint64) *Snapshot {
	s.Version, s.MetaVersion = version, version
	if before != nil && before.sameMeta(s) {
		s.MetaVersion = before.MetaVersion
	}
	return s
}

func (e *Engine) successor(last *State) *State {
	return &State{
		Epoch: last.Epoch, Version: last.Version + 1, RefreshMS: int(e.refreshMS.Load()),
		Removed: last.Removed, index: last.index, next: make(chan struct{}),
	}
}

func (e *Engine) swap(last, next *State) {
	e.state.Store(next)
	close(last.next)
}

// Apply makes conf the running configuration. State of pools and peers that stay is kept, by pool name and address. It
// returns what changed.
func (e *Engine) Apply(conf *config.Config) config.Changes {
	e.applying.Lock()
	defer e.applying.Unlock()
	changes := config.Diff(e.conf, conf)
	e.refreshMS.Store(int64(conf.RefreshMS))
	old := *e.pools.Load()
	now := e.now()

	pools := make(map[string]*livePool, len(conf.Pools))
	var retired []ending
	for i := range conf.Pools {
		c := &conf.Pools[i]
		p, known := old[c.Name]
		if !known {
			p = newPool(e, c.Name)
			p.started, p.sourcing = e.started, e.started
		}
		pools[c.Name] = p
		if known && !slices.Contains(changes.Changed, c.Name) {
			continue
		}
		retired = append(retired, p.configure(now, c)...)
	}
	e.pools.Store(&pools)
	watchShadows(pools)
	e.publishSet(conf, pools, changes.Removed)
	for _, name := range changes.Removed {
		retired = append(retired, old[name].retire()...)
	}
	e.conf = conf
	for _, c := range retired { // outside every pool's mutex: what is ending may be waiting for one
		c.wait()
	}
	return changes
}

// publishSet publishes the latest snapshots of a configuration's pools, and that those removed are gone.
func (e *Engine) publishSet(conf *config.Config, pools map[string]*livePool, removed []string) {
	e.publishing.Lock()
	defer e.publishing.Unlock()
	last := e.state.Load()
	next := e.successor(last)
	next.index = make(map[string]int, len(conf.Pools))
	for i := range conf.Pools {
		name := conf.Pools[i].Name
		before, latest := last.Pool(name), pools[name].latest.Load()
		if latest != before {
			stamp(latest, before, next.Version)
		}
		next.index[name] = i
		next.Pools = append(next.Pools, latest)
	}
	next.Removed = slices.DeleteFunc(slices.Clone(last.Removed), func(r Removed) bool { _, back := next.index[r.Name]; return back })
	for _, name := range removed {
		next.Removed = append(next.Removed, Removed{name, next.Version})
	}
	if len(next.Removed) > maxRemoved {
		next.Removed, next.Epoch = nil, newEpoch()
	}
	e.swap(last, next)
}

// Pool finds a running pool.
func (e *Engine) pool(name string) (*livePool, error) {
	if p := (*e.pools.Load())[name]; p != nil {
		return p, nil
	}
	return nil, &UnknownError{What: "pool", Name: name, Known: e.State().Names()}
}

// sorted returns the running pools by name.
func (e *Engine) sorted() []*livePool {
	pools := *e.pools.Load()
	out := make([]*livePool, 0, len(pools))
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		out = append(out, pools[name])
	}
	return out
}

// UnknownError names something that is not there, and what is.
type UnknownError struct {
	What  string // pool or peer
	Name  string
	In    string // the pool, for a peer
	Known []string
}

func (e *UnknownError) Error() string {
	in := ""
	if e.In != "" {
		in = fmt.Sprintf(" in pool %q", e.In)
	}
	if len(e.Known) == 0 {
		return fmt.Sprintf("there is no %s %q%s, and no other either", e.What, e.Name, in)
	}
	return fmt.Sprintf("there is no %s %q%s; known says which there are", e.What, e.Name, in)
}

// FirstSeen reports whether a foreign protocol version is seen for the first time; it is remembered until the engine ends.
// Past 64 versions it is always false: somebody is playing.
func (e *Engine) FirstSeen(version string) bool {
	e.hearing.Lock()
	defer e.hearing.Unlock()
	if _, seen := e.foreign[version]; seen || len(e.foreign) >= 64 {
		return false
	}
	e.foreign[version] = struct{}{}
	return true
}
