package policy

import (
	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/sim/world"
)

// aside is NGINX's reflex against failing peers, as lua/resty/weir/evidence.lua has it: a peer that refuses is set aside at
// once, one that fails otherwise after so many failures in a row; each time twice as long, until it was quiet for ten times
// as long; then one request tries it while the others stay away. The last usable peer is never set aside, one that the pool
// cannot do without only when it refuses, and time-outs are the engine's to judge, but for those of trials. Where peers are missed the times stay short.
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

	asideShort, asideShortest = 4, 1 // the longest times aside where peers are missed, in base times
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

// ended hears of an outcome of a peer that is needed or not, in a pool that is short or not.
func (s *aside) ended(members []int32, o *world.Outcome, needed, short bool) {
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
	free, out, failing := 0, 0, 1
	for _, m := range members {
		switch q := &s.peers[m]; {
		case m == o.Peer:
		case q.until > o.Now:
			out++
			failing++
		default:
			free++
			if q.until != 0 || s.eject.Consecutive > 0 && q.fails >= s.eject.Consecutive {
				failing++
			}
		}
	}
	if free == 0 || (!refused && (needed || o.Kind == world.Timeout && p.until == 0)) || (!refused && float64(out+1) > s.eject.MaxShare*float64(len(members))) {
		p.until, p.trial = 0, 0
		return
	}
	base, longest := float64(s.eject.BaseMS), min(asideLongestMS, float64(s.eject.MaxMS))
	switch slow := o.Kind == world.Timeout; {
	case failing > 1 && 2*failing > len(members):
		s.shorten(members, asideShort*base, o.Now)
		if slow {
			longest = min(longest, asideShort*base)
		} else {
			longest = min(longest, asideShortest*base)
		}
	case short && !slow:
		longest = min(longest, asideShort*base)
	}
	backoff := 2 * p.backoff
	if backoff == 0 || o.Now-p.last > asideQuietTimes*p.backoff {
		backoff = base
	}
	p.backoff = min(backoff, longest)
	p.until, p.trial = o.Now+p.backoff, 0
	p.last = p.until
}

// shorten ends what is left of times aside after ms at most.
func (s *aside) shorten(members []int32, ms, now float64) {
	for _, m := range members {
		p := &s.peers[m]
		if over := p.until - now - ms; over > 0 {
			p.until, p.last, p.backoff = p.until-over, p.last-over, p.backoff-over
		}
	}
}
