package serve

import "github.com/weirlb/weir/engine/config"

// splitNow is the pool's split with the share that is in effect.
func (p *livePool) splitNow() config.Split {
	s := p.conf.Split
	if p.ramped >= 0 {
		s.Share = p.ramped
	}
	return s
}
