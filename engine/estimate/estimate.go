// Package estimate learns, from outcomes, how each peer of a pool works: speed, concurrency, service time and affinity per
// request class, failures.
//
// It is pure: time is an argument (ms since any fixed origin of a monotonic clock), there is no I/O, no clock and no
// goroutine. The running engine and the simulator drive the same code.
package estimate

import "github.com/weirlb/weir/engine/pool"

// Options of a pool's estimators. The zero value of a field means its default.
type Options struct {
	TopClasses int // listed classes beside "*"; default 50
}

// Outcome is how one attempt ended.
type Outcome struct {
	Peer         int // index in the last SetPeers
	Class        int // from Class; 0 = "*"
	InFlight     int // others there at the pick
	Kind         pool.Kind
	Stream       bool    // latency is to the first header byte only
	HeaderMS     float64 // to the first header byte; negative = none
	TotalMS      float64 // to the end of the attempt
	Weight       float64 // hint of the request's size; 0 = none
	ReportedLoad float64 // utilisation reported by the peer; negative = none
}

// Pool is the estimators of one pool. Not safe for concurrent use.
type Pool struct{ opt Options }

// New returns estimators of a pool without peers.
func New(opt Options) *Pool { return &Pool{opt: opt} }

// SetPeers makes addrs the peers, in that order. What is known follows the address; a new peer starts at the pool's typical.
func (p *Pool) SetPeers(now float64, addrs []string) { panic("todo") }

// Class returns the index to put into Outcome.Class for a class name and counts its traffic. The index stays valid until the
// next call of Class or Refresh. Names beyond the bound share 0.
func (p *Pool) Class(now float64, name string) int { panic("todo") }

// Observe learns from an attempt that ended at now. Slightly late and out of order is fine.
func (p *Pool) Observe(now float64, o Outcome) { panic("todo") }

// InFlight tells that n requests were in flight on the peer at now, over all balancers known to the engine.
func (p *Pool) InFlight(now float64, peer, n int) { panic("todo") }

// Refresh does the slow part of learning (concurrency, shrinkage, top classes). Call it before reading, each 100 ms or so.
func (p *Pool) Refresh(now float64) { panic("todo") }

// Peers returns the number of peers.
func (p *Pool) Peers() int { panic("todo") }

// Listed returns the indices of the listed classes, 0 ("*") first. Valid until the next Refresh.
func (p *Pool) Listed() []int { panic("todo") }

// PeerView is what is known of one peer.
type PeerView struct {
	Addr         string
	Speed        float64 // nominal ms of work a slot does in one ms; the pool's typical is 1
	SpeedSlow    float64 // the same over the long run
	Concurrency  float64 // requests worked on at a time before the next one waits (learned)
	WorkMS       float64 // mean service time of the mix the peer gets, ms
	CV2          float64 // squared coefficient of variation of that
	ArrivalRate  float64 // requests a ms, decayed
	InFlight     int     // last sample
	LatencyMS    float64 // mean of recent answers
	FailureRate  float64 // used in costs
	FailureFast  float64
	FailureSlow  float64
	Trend        float64 // recent over long-run latency at equal load; 1 = steady, more = getting slower
	Risk         float64 // 0..1: how likely it is on its way to failing (for pool.Predict)
	Samples      float64 // decayed successes
	AgeMS        float64 // since the last outcome; +Inf = none
	JoinedMS     float64
	ReportedLoad float64 // decayed; negative = none
}

// Peer returns what is known of peer i.
func (p *Pool) Peer(i int) PeerView { panic("todo") }

// ClassView is what is known of one class over the pool.
type ClassView struct {
	Name    string
	BaseMS  float64 // service time at a peer of speed 1, without waiting
	CV2     float64
	Share   float64 // of recent traffic
	Samples float64
}

// ClassAt returns what is known of class index c.
func (p *Pool) ClassAt(c int) ClassView { panic("todo") }

// PairView is what is known of a class on a peer.
type PairView struct {
	ServiceMS float64 // expected service time without waiting
	Affinity  float64 // factor on the class's base, shrunk towards 1
	Samples   float64
	AgeMS     float64
}

// Pair returns what is known of class c on peer i.
func (p *Pool) Pair(i, c int) PairView { panic("todo") }

// SlowMS is the pool's typical slow latency (about its 95th percentile): what a failure is charged at least.
func (p *Pool) SlowMS() float64 { panic("todo") }

// Features is the number of features of a (peer, class).
const Features = 16

// FeatureNames returns their names, in order.
func FeatureNames() [Features]string { panic("todo") }

// Feature writes the features of class c on peer i. All are finite and scale-free.
func (p *Pool) Feature(now float64, i, c int, dst *[Features]float32) { panic("todo") }
