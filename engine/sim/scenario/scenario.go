// Package scenario reads the scenario files that the simulator and the benchmark on real NGINX share.
//
// A scenario is a world without a policy: who asks, what it costs, who answers and what goes wrong when. Everything in it
// is plain data; nothing here draws a random number or knows a clock. Units are in the names: times ending in MS are
// milliseconds, in S seconds.
//
// What the written form leaves open is settled here, in one place:
//
//   - `speed` defaults to 1, `slots` to 1, `count` to 1, `balancers` and `episodes` to 1, `warmup` and `retries` to 0.
//     No `timeout_ms` means that nothing is given up. `dist` defaults to exp. A single class may omit `share`.
//   - Warm-up happens once. With more than one episode, the queues are emptied after the warm-up and after each episode
//     of `requests` measured requests.
//   - The clock of `events` and `steps` counts arrivals' time only: it stands still while an episode's last requests
//     finish, so that every policy meets the same world at the same arrival.
//   - An event without `for_s` lasts for ever. `leave` with `for_s` comes back, warm, when it ends; `join` with `for_s`
//     leaves again. `every_s` needs `for_s`, and repeats from `from_s` on.
//   - A peer is absent from the start when the earliest of its events with `join` or `leave` is a `join`.
//   - Of several joins and leaves of one peer that are under way at one time the one that started last holds. A join makes the peer cold
//     whether it was away or not, so also one that comes just as a leave ends.
//   - Of several speeds on one peer at one time the lowest holds. Of several failures the one last in the file holds.
//   - A failing peer answers `after_ms` after the attempt came, without queue or slot. A refusal takes `after_ms` too
//     (0 by default). What the peer held before the failure began, it finishes.
package scenario

// Scenario is one whole, valid scenario. Made by Parse or Load; not changed afterwards.
type Scenario struct {
	Name      string
	Requests  int // measured; with several episodes, in each
	Warmup    int // before the first measured
	Episodes  int
	Balancers int
	Arrivals  []Step // one step without end for a constant rate
	Classes   []Class
	Peers     []Peer // `count` written out: numbered from 0 as events number them
	Events    []Event
	TimeoutMS float64 // 0 = none
	Retries   int
}

// Step is a stretch of time with one arrival rate. Steps repeat in order.
type Step struct {
	ForS     float64 // 0 = without end, only as the single step
	RatePerS float64 // Poisson; `load` has been turned into a rate already
}

// Dist is the shape of a class's service times.
type Dist uint8

// The distributions. All are scaled to the class's mean.
const (
	Fixed Dist = iota
	Exp
	Lognormal // by its coefficient of variation
	Pareto    // by its shape; smallest value mean*(shape-1)/shape
)

func (d Dist) String() string { return distNames[d] }

var distNames = [...]string{Fixed: "fixed", Exp: "exp", Lognormal: "lognormal", Pareto: "pareto"}

// Class is one kind of request.
type Class struct {
	Name       string
	Share      float64 // of the arrivals; all shares sum to 1
	MeanMS     float64 // service time at speed 1 and affinity 1
	Dist       Dist
	CV         float64 // Lognormal only
	Shape      float64 // Pareto only, > 1
	WeightHint bool    // the balancer is told the true size
}

// Peer is a first-come-first-served queue in front of Slots workers.
type Peer struct {
	Slots    int
	Speed    float64
	Affinity []float64 // factor on the service time, by class index; 1 where the file says nothing
	ORCA     bool      // sends utilisation and in-flight with each answer
}

// Event changes one peer for a time. More than one of its effects may be set; Leave and Join exclude each other.
type Event struct {
	Peer   int
	FromS  float64
	ForS   float64 // 0 = for ever
	EveryS float64 // 0 = once
	Speed  float64 // 0 = unchanged
	Fail   *Fail   // nil = does not fail
	Leave  bool
	Join   bool
	// WarmS and ColdFactor belong to Join: service times start at ColdFactor times the normal and fall linearly to
	// normal over WarmS.
	WarmS      float64
	ColdFactor float64
}

// Fail is how a peer fails while an event lasts.
type Fail struct {
	Refuse  bool // the connection is refused
	Status  int  // answered when not refused
	AfterMS float64
	Share   float64 // of the attempts that fail; the others are served
}

// Limits keep a scenario within the memory of an ordinary machine.
const (
	maxRequests  = 50_000_000 // measured and warm-up together
	maxPeers     = 5000       // after `count` is written out
	maxSlots     = 10_000     // of one peer
	maxClasses   = 1000
	maxEvents    = 20_000
	maxSteps     = 10_000
	maxBalancers = 1000
	maxRetries   = 100
	maxSpan      = 1e9 // s or ms, whatever is given as a time
	maxTimeS     = 1e7 // simulated: a hundred million tables, some minutes
	maxFile      = 8 << 20
	minSpanS     = 1e-3
	minMeanMS    = 1e-3
)

// MixMeanMS is the mean service time on a peer over the classes' shares, at speed 1.
func (s *Scenario) MixMeanMS(p int) float64 { return mixMean(s.Classes, s.Peers[p].Affinity) }

// CapacityPerS is how many requests a second all the peers of the file can finish together: the arrivals of `load: 1`.
// It counts the speeds in `peers`, whatever events do to them, and peers that only join later.
func (s *Scenario) CapacityPerS() float64 { return capacity(s.Classes, s.Peers) }

func mixMean(classes []Class, affinity []float64) float64 {
	mean := 0.0
	for i, c := range classes {
		mean += c.Share * c.MeanMS * affinity[i]
	}
	return mean
}

func capacity(classes []Class, peers []Peer) float64 {
	sum := 0.0
	for _, p := range peers {
		sum += float64(p.Slots) * p.Speed / mixMean(classes, p.Affinity) * 1000
	}
	return sum
}

// Total is how many requests one run draws, warm-up included.
func (s *Scenario) Total() int { return s.Warmup + s.Requests*s.Episodes }
