// Package pool holds who the peers of an upstream pool are and whether they may get traffic.
//
// It is a pure state machine: time is an argument, in milliseconds since any fixed origin of a monotonic clock, and nothing
// here reads a clock, logs, or starts a goroutine. The running engine and the simulator drive the same code.
package pool

// Peer is the identity of an upstream peer. State follows it: pool and address, never a position in a list.
type Peer struct {
	Pool string
	Addr string // host:port or [v6]:port, exactly as configured; never parsed here
}

// Kind says how an attempt ended. The numbers are those of the wire format (docs/protocol.md).
type Kind uint8

const (
	OK             Kind = 0 // answered, any status that is not a failure status (404 included)
	Refused        Kind = 1 // refused or unreachable
	ConnectTimeout Kind = 2
	Timeout        Kind = 3
	Reset          Kind = 4 // reset, or an invalid answer
	Status         Kind = 5 // a failure status: 5xx or 429
	Abort          Kind = 6 // the client went away: censored, no evidence about the peer
	IdleRace       Kind = 7 // the peer closed an idle connection just as it was used: no evidence
	kinds               = 8
)

// Known reports whether k is a kind of protocol version 1.
func (k Kind) Known() bool { return k < kinds }

// Failed reports whether k counts against the peer.
func (k Kind) Failed() bool { return k >= Refused && k <= Status }

// Evidence reports whether k says anything about the peer's health.
func (k Kind) Evidence() bool { return k <= Status }

// Unreachable reports whether no connection was made: nothing was sent, and the peer may not be there at all.
func (k Kind) Unreachable() bool { return k == Refused || k == ConnectTimeout }

// String returns the kind's name on the wire.
func (k Kind) String() string {
	switch k {
	case OK:
		return "ok"
	case Refused:
		return "refused"
	case ConnectTimeout:
		return "connect_timeout"
	case Timeout:
		return "timeout"
	case Reset:
		return "reset"
	case Status:
		return "status"
	case Abort:
		return "abort"
	case IdleRace:
		return "idle_race"
	}
	return "unknown"
}

// States is the number of states.
const States = int(states)

// State is the health state of a peer.
type State uint8

const (
	Up        State = iota // gets traffic
	Suspect                // gets traffic; its last results failed, but not enough of them
	SlowStart              // gets traffic; its share is bounded while it warms up
	Ejected                // no traffic until a timer ends: passive evidence
	Down                   // no traffic until probes pass: active evidence
	Draining               // no traffic: the operator said so, or its server metrics are at their limit
	Standby                // no traffic: a backup that is not needed
	states                 // how many there are
)

// String returns the state's name on the wire.
func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Suspect:
		return "suspect"
	case SlowStart:
		return "slow_start"
	case Ejected:
		return "ejected"
	case Down:
		return "down"
	case Draining:
		return "draining"
	case Standby:
		return "standby"
	}
	return "unknown"
}
