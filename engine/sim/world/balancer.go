package world

// Balancer is one instance of a policy: it picks a peer for every attempt of its share of the requests and hears how
// each ended. A world drives it from one goroutine; time is an argument. Policies may also be a Ticker, a Member and a
// Prober.
type Balancer interface {
	// Pick chooses one of a.Present that is not in a.Tried. There always is one. a is the world's own and is
	// overwritten by the next attempt; a.Cookie may be set and comes back in the outcome.
	Pick(a *Attempt) int32
	// Done tells how an attempt ended. o is the world's own and is overwritten by the next.
	Done(o *Outcome)
}

// Ticker is a Balancer that does something at regular times, as refreshing a table.
type Ticker interface {
	// PeriodMS is asked once, before the run.
	PeriodMS() float64
	Tick(now float64)
}

// Member is a Balancer that wants to hear of peers joining and leaving, besides finding them in Attempt.Present. The
// peers present from the start are not announced.
type Member interface {
	Joined(now float64, peer int32)
	Left(now float64, peer int32)
}

// Prober is a Balancer that acts right after an attempt has reached its peer, as sending probes beside a query.
type Prober interface {
	Sent(now float64, peer int32)
}

// Attempt is one decision to make.
type Attempt struct {
	Now     float64 // ms
	Class   int32
	Number  int32   // 1 = the first attempt of its request
	Weight  float64 // the request's true size in ms, where its class hints it; 0 = not told
	Present []int32 // the members of the pool, ascending
	Tried   []int32 // members this request has been to already
	// InFlight is by peer, not by position in Present: what this balancer has at each peer, without this attempt.
	InFlight []int32
	Cookie   uint32 // the policy's own
}

// Untried tells whether peer may be picked.
func (a *Attempt) Untried(peer int32) bool {
	for _, t := range a.Tried {
		if t == peer {
			return false
		}
	}
	return true
}

// Kind is how an attempt ended.
type Kind uint8

// The ways an attempt ends.
const (
	OK Kind = iota
	Refused
	Timeout // given up by the balancer; the peer still works it off
	Status  // a failure status was answered
)

// Outcome is how one attempt ended.
type Outcome struct {
	Now       float64 // ms
	Peer      int32
	Class     int32
	Number    int32
	Kind      Kind
	Status    int     // 200 when OK, 0 when there was no answer
	LatencyMS float64 // of this attempt
	Weight    float64 // as in the attempt
	InFlight  int32   // at the pick, as in the attempt
	Cookie    uint32
	// Utilisation and PeerInFlight are what an answer of a peer with `reports: orca` carries: busy slots over slots and
	// the requests it holds, from all balancers. -1 when nothing was reported.
	Utilisation  float64
	PeerInFlight int32
	// ServiceMS and Queue are the server-side feedback of C3's own protocol: how long a slot worked on this request, and
	// how many requests the peer held when it had finished. No other policy may read them, and C3 only those of a peer that
	// reports. They are 0 for a failure.
	ServiceMS float64
	Queue     int32
}
