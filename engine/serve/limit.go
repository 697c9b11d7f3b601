package serve

import (
	"fmt"
	"math"

	"github.com/weirlb/weir/engine/limit"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/pool"
)

// limits are the adaptive limit of a pool and what NGINX refuses by it and by the peers' caps. The pool's mutex guards it.
type limits struct {
	limiter *limit.Limiter // nil = the pool has none
	usable  int            // peers that the limiter's findings are for; 0 = none yet

	shed               uint64  // because the pool could do no more
	rated              uint64  // because a client asked for more than a rate: what the pool can do has no part in it
	shedFrom, shedLast float64 // of shed, with no longer pause than shedPauseMS; ms, shedLast 0 = never
}

const (
	shedPauseMS = 10_000 // refusals after a longer pause are another story
	shedLastsMS = 10_000 // refusals for so long are worth a look
)

// setLimit brings the limiter in line with the configuration.
func (p *livePool) setLimit() {
	c := &p.conf.Limit
	if !c.Adaptive {
		p.limits.limiter = nil
		return
	}
	if p.limits.limiter == nil {
		p.limits.limiter = &limit.Limiter{}
		p.limits.usable = 0
	}
	p.limits.limiter.Options = limit.Options{Min: float64(c.Min), Max: float64(c.Max), Tolerance: c.Tolerance}
}

// limitAttempt has the limiter learn from an attempt. A time-out is as slow as it lasted; other failures say nothing of the latency.
func (p *livePool) limitAttempt(ended float64, r *observe.Record) {
	l := p.limits.limiter
	if l == nil || r.Flags&observe.Stream != 0 {
		return
	}
	if k := pool.Kind(r.Kind); k == pool.OK || k == pool.Timeout {
		l.Sample(ended, float64(r.TotalMS))
	}
}

// advanceLimit closes the limiter's window when it is due, and follows the number of usable peers.
func (p *livePool) advanceLimit(now float64) {
	l := p.limits.limiter
	if l == nil {
		p.tel.Limit.Set(0)
		return
	}
	usable := 0
	for i := range p.members {
		if p.health.View(i).Usable {
			usable++
		}
	}
	if usable > 0 {
		if was := p.limits.usable; was > 0 && was != usable {
			l.Scale(float64(usable) / float64(was))
		}
		p.limits.usable = usable
	}
	l.Advance(now)
	p.tel.Limit.Set(l.Limit())
}

// limitNow is the limit as NGINX is to be told. A change of less than 5 % is none.
func (p *livePool) limitNow(before *Snapshot) Limit {
	l := p.limits.limiter
	if l == nil {
		return Limit{}
	}
	now := Limit{On: true, Sharers: max(1, p.sharers())}
	if l.Limit() > 0 {
		now.Max, now.Now, now.BaseMS = digits3(l.Limit()), digits3(l.Now()), digits3(l.Base())
	}
	if before != nil && before.Limit.On && before.Limit.Sharers == now.Sharers &&
		math.Abs(before.Limit.Max-now.Max) <= 0.05*now.Max && math.Abs(before.Limit.Now-now.Now) <= 0.05*now.Now {
		return before.Limit
	}
	return now
}

// digits3 keeps three digits.
func digits3(x float64) float64 {
	if !(x > 0) {
		return 0
	}
	scale := math.Pow(10, 2-math.Floor(math.Log10(x)))
	return math.Round(x*scale) / scale
}

// hearLimits takes in what NGINX refused, and limits it knows of from before this engine started.
func (e *Engine) hearLimits(now float64, b *observe.Batch, pools map[string]*livePool) {
	for _, s := range b.Shed {
		if p := pools[s.Pool]; p != nil {
			p.hearShed(now, s)
		}
	}
	for _, r := range b.RateLimited {
		if p := pools[r.Pool]; p != nil {
			p.tel.Shed[4].Add(r.Count)
			p.mu.Lock()
			p.limits.rated += uint64(r.Count)
			p.unlock()
		}
	}
	for _, l := range b.Limits {
		if p := pools[l.Pool]; p != nil {
			p.adopt(now, l)
		}
	}
}

func (p *livePool) hearShed(now float64, s observe.Shed) {
	p.mu.Lock()
	defer p.unlock()
	sum := 0
	for i, n := range [...]int{s.High, s.Normal, s.Low, s.Full} {
		p.tel.Shed[i].Add(n)
		sum += n
	}
	if sum == 0 {
		return
	}
	p.limits.shed += uint64(sum)
	if p.limits.shedLast == 0 || now-p.limits.shedLast > shedPauseMS {
		p.limits.shedFrom = now
	}
	p.limits.shedLast = now
}

func (p *livePool) adopt(now float64, told observe.Limit) {
	p.mu.Lock()
	defer p.unlock()
	if l := p.limits.limiter; l != nil && l.Adopt(now, told.Max, told.Base) {
		p.later(func() {
			p.eng.log.Info().Str("pool", p.name).Float64("limit", told.Max).Float64("base_ms", told.Base).Msg("limit taken over from NGINX")
		})
	}
}

// shedding adds that requests have been refused for a while.
func (p *livePool) shedding(now float64, r *Report) {
	if l := &p.limits; l.shedLast > 0 && now-l.shedLast < shedPauseMS && l.shedLast-l.shedFrom > shedLastsMS {
		r.add("shedding", p.name, fmt.Sprintf("requests for pool %q have been refused for %.0f s: it is asked for more than it can do", p.name, (now-l.shedFrom)/1000))
	}
}
