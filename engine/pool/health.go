package pool

// Options are the rules of one pool. The zero value of a field means its default.
type Options struct {
	Consecutive  int     // failures in a row that eject; default 5
	FailureShare float64 // share of failures in the window that ejects; default 0.5, at least
	MinRequests  int     // results in the window before its share counts; default 10
	WindowMS     float64 // length of the failure window; default 10000
	BaseMS       float64 // first ejection; default 1000
	MaxMS        float64 // longest ejection; default 60000
	MaxShare     float64 // of the pool that may be ejected at once; default 0.5
	Rise         int     // probes in a row that bring a down peer up; default 2
	Fall         int     // failed probes in a row that take a peer down; default 3
	SlowStartMS  float64 // ramp after joining or coming back; default 10000, negative = none
	RiskShare    float64 // of the pool whose share prediction may shrink at once; default 0.3
	RiskFloor    float64 // smallest admit prediction may set; default 0.1
}

// PeerSpec is one configured peer.
type PeerSpec struct {
	Addr     string
	Weight   float64 // operator's weight; <= 0 means 1
	Draining bool    // drained by configuration
}

// View is what others may know of one peer.
type View struct {
	Addr      string
	State     State
	Usable    bool    // may get traffic now (panic rule applied)
	Admit     float64 // (0, 1]: the probability with which NGINX considers the peer
	Weight    float64
	Reason    string  // why it is in this state, for people
	SinceMS   float64 // when it entered the state
	UntilMS   float64 // when a timer ends (ejected, slow start); 0 = none
	Ejections int     // since it joined
	Risk      float64 // last prediction, 0..1
	Drained   bool    // the operator's wish, whatever the state
}

// Transition is one change of state.
type Transition struct {
	AtMS     float64
	Addr     string
	From, To State
	Reason   string
}

// Health is the health of one pool's peers. Not safe for concurrent use.
type Health struct{ opt Options }

// New returns the health of a pool without peers.
func New(opt Options) *Health { return &Health{opt: opt} }

// SetOptions changes the rules; states stay.
func (h *Health) SetOptions(now float64, opt Options) { panic("todo") }

// SetPeers makes specs the members of the pool, in that order. State follows the address; a removed peer is forgotten and one
// added again is new. Of two specs with one address the first wins.
func (h *Health) SetPeers(now float64, specs []PeerSpec) { panic("todo") }

// Len returns the number of peers.
func (h *Health) Len() int { panic("todo") }

// Index returns the position of addr in the last SetPeers, or -1.
func (h *Health) Index(addr string) int { panic("todo") }

// Result is passive evidence: how an attempt on peer i ended. Kinds without evidence are ignored.
func (h *Health) Result(now float64, i int, kind Kind) { panic("todo") }

// Probe is active evidence. Which answers pass is decided by the caller's written rule.
func (h *Health) Probe(now float64, i int, pass bool) { panic("todo") }

// Drain takes peer i out of traffic until Undrain.
func (h *Health) Drain(now float64, i int) { panic("todo") }

// Undrain ends Drain; the peer comes back through slow start.
func (h *Health) Undrain(now float64, i int) { panic("todo") }

// SetWeight sets the operator's weight of peer i.
func (h *Health) SetWeight(now float64, i int, weight float64) { panic("todo") }

// Predict tells how likely peer i is to fail soon, 0..1; admit shrinks with it.
func (h *Health) Predict(now float64, i int, risk float64) { panic("todo") }

// Advance runs the timers up to now. Call it every 100 ms or so, and before reading.
func (h *Health) Advance(now float64) { panic("todo") }

// View returns what is known of peer i as of the last call with a time.
func (h *Health) View(i int) View { panic("todo") }

// Panic reports whether the panic rule holds: no peer is usable by health, so all that are not draining are used.
func (h *Health) Panic() bool { panic("todo") }

// Transitions appends the changes of state since the last call to dst and forgets them.
func (h *Health) Transitions(dst []Transition) []Transition { panic("todo") }
