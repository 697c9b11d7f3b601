package policy

import (
	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/sim/world"
)

// aside is NGINX's reflex against failing peers, as lua/resty/weir/evidence.lua has it: a peer that refuses is set aside at
// once, one that fails otherwise after so many failures in a row; each time twice as long, until it was quiet for ten times
// as long; then one request tries it while the others stay away. The last usable peer is never set aside, one that the pool
// cannot do without only when it refuses, and time-outs are the engine's to judge, but for those of trials.
type aside struct {
	eject config.Eject
	peers []asidePeer // by peer of the scenario
}

type asidePeer struct {
	fails   int
	until   float64 // set aside until then, ms; 0 = not
	trial   float64 // a request tries it; the others stay away until then
	backoff float64 // length of the last setting aside
	last    float64 // its end
}

const (
	asideLongestMS  = 10_000
	asideTrialMS    = 1000
	asideQuietTimes = 10
)

func newAside(peers int, eject config.Eject) aside {
	return aside{eject: eject, peers: make([]asidePeer, peers)}
}

func (s *aside) forget(peer int32) { s.peers[peer] = asidePeer{} }

// free tells whether peer may be picked now.
func (s *aside) free(peer int32, now float64) bool {
	p := &s.peers[peer]
	return p.until <= now && p.trial <= now
}

// picked: the pick of a peer whose time aside is over is its trial.
func (s *aside) picked(peer int32, now float64) {
	if p := &s.peers[peer]; p.until != 0 {
		p.trial = now + asideTrialMS
	}
}

// before tells whether a request that ended was sent before its peer was set aside: then it tells nothing of it since.
func (p *asidePeer) before(o *world.Outcome) bool {
	return p.until != 0 && o.Now-o.LatencyMS < p.last-p.backoff
}

// ended hears of an outcome of a peer that is needed or not.
func (s *aside) ended(members []int32, o *world.Outcome, needed bool) {
	p := &s.peers[o.Peer]
	if p.before(o) {
		return
	}
	if o.Kind == world.OK {
		p.fails = 0
		p.until, p.trial = 0, 0
		return
	}
	p.fails++
	if p.until > o.Now {
		return // already: requests sent before are still failing
	}
	refused := o.Kind == world.Refused
	if !refused && p.until == 0 && p.fails < s.eject.Consecutive {
		return
	}
	free, out := 0, 0
	for _, m := range members {
		switch {
		case m == o.Peer:
		case s.peers[m].until > o.Now:
			out++
		default:
			free++
		}
	}
	if free == 0 || (!refused && (needed || o.Kind == world.Timeout && p.until == 0)) || (!refused && float64(out+1) > s.eject.MaxShare*float64(len(members))) {
		p.until, p.trial = 0, 0
		return
	}
	backoff := 2 * p.backoff
	if backoff == 0 || o.Now-p.last > asideQuietTimes*p.backoff {
		backoff = float64(s.eject.BaseMS)
	}
	p.backoff = min(backoff, asideLongestMS, float64(s.eject.MaxMS))
	p.until, p.trial = o.Now+p.backoff, 0
	p.last = p.until
}
