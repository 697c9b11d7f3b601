// Package replay remembers decisions with what they really cost, to learn from them and to judge others by them.
//
// It is pure: time and randomness are arguments. A Recorder per pool hears of every attempt when it has ended and keeps the Frames
// of the last while. When those behind an attempt have ended too, it works out what the attempt was decided on: the in-flight
// counts of all peers at that moment, from when all attempts began and ended, their features from the frame of the time, and
// the return: its response time and the delay it imposed on others (package returns). Decisions go into a Store with bounds.
package replay

import (
	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/pool"
)

// Flags of an attempt.
type Flags uint8

// The flags.
const (
	Explored Flags = 1 << iota // drawn at random to learn
	Control                    // of the control slice: another rule chose
	Stream                     // its time is to the first header byte: no return
	Other                      // chosen by neither: the local rule, or no usable peer
	Confined                   // only peers of the chosen one's side of the pool's split were considered
)

// FlagsOf are those that NGINX reported.
func FlagsOf(f observe.Flags) (r Flags) {
	if f&observe.Explored != 0 {
		r |= Explored
	}
	if f&observe.Control != 0 {
		r |= Control
	}
	if f&observe.Stream != 0 {
		r |= Stream
	}
	if f&(observe.Local|observe.Panic|observe.Bound) != 0 {
		r |= Other
	}
	if f&observe.Confined != 0 {
		r |= Confined
	}
	return r
}

// Attempt is one attempt that ended.
type Attempt struct {
	Start, End float64 // ms
	Peer       string
	Class      int32   // of the estimators
	Inflight   float32 // at its peer at the pick, without it
	Propensity float32 // probability of the pick, given who was considered
	Number     uint8   // 1 = the first of its request
	Kind       pool.Kind
	Flags      Flags
}

// Decision is one pick and what it cost.
type Decision struct {
	At         float64 // ms
	Pool       int32   // index, as the owner of the store numbers them
	Flags      Flags
	Failed     bool
	Exact      bool      // all who were considered are known; otherwise only the chosen one is in X and Cost
	Chosen     int       // index into Cost
	Propensity float64   // of the chosen, given who was considered
	X          []float32 // [considered][decide.Inputs]
	Cost       []float32 // analytic cost by considered peer, ms
	Time       float64   // what the chosen was expected to take, by the formulas, ms
	Own        float64   // response time, ms; of a failure with its penalty
	Imposed    float64   // delay imposed on others, ms
	Return     float64   // what it cost, in the unit of Cost
	Scale      float64   // mean response time of the pool at the time, ms
	Rule       decide.Rule
}

// Ratio is what a model learns of a decision: what it took, over what it was expected to take. What it costs others to wait is in the price that
// the answer corrects, and grows with it.
func (d *Decision) Ratio() float32 { return float32(max(d.Own/max(d.Time, 1e-6), 1e-4)) }

// Row returns the features of considered peer i.
func (d *Decision) Row(i int) []float32 { return d.X[i*decide.Inputs : (i+1)*decide.Inputs] }

// Bytes is what the decision holds in memory, about.
func (d *Decision) Bytes() int { return 4*(len(d.X)+len(d.Cost)) + 200 }

// Counts tell what became of attempts.
type Counts struct {
	Attempts  uint64 // heard of
	Decisions uint64 // replayed
	NoFrame   uint64 // not: the frame of their pick was gone
	NoPeer    uint64 // not: their peer was not in the frame, or not usable by it
	NoReturn  uint64 // not: aborted, an idle race, or a stream
	Shared    uint64 // not: sent to peers whose load is not this engine's alone
	Sized     uint64 // not: requests told their size, and there a model has no say
	Foreign   uint64 // not: another rule chose (local, panic), or it was a retry
	Thinned   uint64 // not: above the rate that is kept
	Overflow  uint64 // not: more were open than there is room for
}

// Add adds up.
func (c *Counts) Add(o Counts) {
	c.Attempts += o.Attempts
	c.Decisions += o.Decisions
	c.NoFrame += o.NoFrame
	c.NoPeer += o.NoPeer
	c.NoReturn += o.NoReturn
	c.Shared += o.Shared
	c.Sized += o.Sized
	c.Foreign += o.Foreign
	c.Thinned += o.Thinned
	c.Overflow += o.Overflow
}

// Store keeps the last decisions. Not safe for concurrent use.
type Store struct {
	most, mostBytes int
	list            []Decision // a ring once full
	head            int        // the oldest
	bytes           int
	Added, Dropped  uint64
}

// Default bounds of a store.
const (
	DefaultDecisions = 20_000
	DefaultBytes     = 32 << 20
)

// NewStore makes a store; 0 means the default bound.
func NewStore(most, mostBytes int) *Store {
	if most <= 0 {
		most = DefaultDecisions
	}
	if mostBytes <= 0 {
		mostBytes = DefaultBytes
	}
	return &Store{most: most, mostBytes: mostBytes}
}

// Add keeps a decision; the oldest go when there is no room.
func (s *Store) Add(d Decision) {
	s.Added++
	size := d.Bytes()
	if size > s.mostBytes {
		s.Dropped++
		return
	}
	for s.Len() > 0 && (s.Len() >= s.most || s.bytes+size > s.mostBytes) {
		s.bytes -= s.list[s.head].Bytes()
		s.list[s.head] = Decision{}
		s.head++
		s.Dropped++
	}
	if s.head > 1024 && s.head > len(s.list)/2 {
		n := copy(s.list, s.list[s.head:])
		clear(s.list[n:])
		s.list, s.head = s.list[:n], 0
	}
	s.list = append(s.list, d)
	s.bytes += size
}

// Len is how many there are.
func (s *Store) Len() int { return len(s.list) - s.head }

// Bytes is what they hold, about.
func (s *Store) Bytes() int { return s.bytes }

// All returns them, oldest first, valid until the next Add.
func (s *Store) All() []Decision { return s.list[s.head:] }

// Clear forgets them all.
func (s *Store) Clear() {
	clear(s.list)
	s.list, s.head, s.bytes = s.list[:0], 0, 0
}
