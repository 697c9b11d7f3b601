package serve

import (
	"fmt"
	"math"

	"github.com/weirlb/weir/engine/pool"
)

// Order is what an operator asks of one peer; nil means as it is.
type Order struct {
	Drain  *bool
	Weight *float64
	Force  bool // drain even the last usable peer
}

// The weights an operator may give, as in the configuration file.
const (
	MinWeight = 0.01
	MaxWeight = 1000
)

// ConflictError refuses an order that would leave a pool without a usable peer.
type ConflictError struct{ Pool, Peer string }

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s is the last usable peer of pool %q: without it every request would fail; "+
		`set "force": true to drain it all the same`, e.Peer, e.Pool)
}

// RangeError refuses a weight.
type RangeError struct{ Weight float64 }

func (e *RangeError) Error() string {
	return fmt.Sprintf("weight %v is outside %v to %v", e.Weight, MinWeight, float64(MaxWeight))
}

// Order carries out what an operator asks and publishes it at once. It holds until the engine ends or the peer leaves the
// pool; a weight also until the file gives the peer another one.
func (e *Engine) Order(poolName, addr string, o Order) (PeerFigures, error) {
	p, err := e.pool(poolName)
	if err != nil {
		return PeerFigures{}, err
	}
	p.mu.Lock()
	defer p.unlock()
	at := p.health.Index(addr)
	if at < 0 {
		return PeerFigures{}, p.unknownPeer(addr)
	}
	if o.Weight != nil && !(*o.Weight >= MinWeight && *o.Weight <= MaxWeight) {
		return PeerFigures{}, &RangeError{*o.Weight}
	}
	now := e.now()
	p.health.Advance(now)
	if o.Drain != nil && *o.Drain && !o.Force && p.lastUsable(at) {
		return PeerFigures{}, &ConflictError{Pool: poolName, Peer: addr}
	}
	before := p.health.View(at)
	if o.Drain != nil && *o.Drain != before.Drained {
		if *o.Drain {
			p.health.Drain(now, at)
		} else {
			p.health.Undrain(now, at)
		}
	}
	if o.Weight != nil && *o.Weight != before.Weight {
		p.members[at].weight = *o.Weight
		p.health.SetWeight(now, at, *o.Weight)
		p.later(func() {
			e.log.Info().Str("pool", poolName).Str("peer", addr).Float64("weight", *o.Weight).Msg("operator set a weight")
		})
	}
	p.health.Advance(now)
	p.fill(now)
	p.note()
	p.publish(p.snapshot(), now)
	return p.peerFigures(now, at, p.poolAttempts(now)), nil
}

// lastUsable reports whether traffic to the pool depends on this peer alone. A backup that stands by would carry it. Peers that only the panic rule or a lack of
// others makes usable count: they are what is left.
func (p *livePool) lastUsable(at int) bool {
	if !p.health.View(at).Usable || p.health.View(at).Drained {
		return false
	}
	for i := range p.members {
		if v := p.health.View(i); i != at && !v.Drained && (v.Usable || v.State == pool.Standby) {
			return false
		}
	}
	return true
}

func (p *livePool) unknownPeer(addr string) error {
	known := make([]string, len(p.members))
	for i, m := range p.members {
		known[i] = m.addr
	}
	return &UnknownError{What: "peer", Name: addr, In: p.name, Known: known}
}

func finite(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return &x
}
