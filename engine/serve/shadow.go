package serve

import (
	"math"
	"strings"

	"github.com/weirlb/weir/engine/control"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/pool"
)

// A shadow is a pool that NGINX mirrors requests of another pool to (docs/canary.md). What its peers answer goes to nobody; here it is
// compared with what the live pool's did. Each of the two pools keeps its own half, under its own mutex.

// watchShadows makes the pools of a set keep what comparisons with shadows need, and no others.
func watchShadows(pools map[string]*livePool) {
	watched := map[string]bool{}
	for _, p := range pools {
		if live := p.shadows(); live != "" {
			watched[live] = true
		}
	}
	for name, p := range pools {
		p.watch(watched[name])
	}
}

// shadows names the pool that this one is a shadow of, "" = none.
func (p *livePool) shadows() string {
	p.mu.Lock()
	defer p.unlock()
	return p.conf.ShadowOf
}

func (p *livePool) watch(live bool) {
	p.mu.Lock()
	defer p.unlock()
	switch {
	case !live:
		p.mirrored = nil
	case p.mirrored == nil:
		p.mirrored = &control.Half{}
	}
}

// shadowAnew begins the pool's own half, if it is a shadow. The pool's mutex is held, as in what follows.
func (p *livePool) shadowAnew() {
	if p.shadowTel != nil {
		p.shadowTel.Remove()
	}
	p.shadow, p.shadowTel = nil, nil
	if p.conf.ShadowOf != "" {
		p.shadow, p.shadowTel = &control.Half{}, p.eng.tel.Shadow(p.name, p.conf.ShadowOf)
		p.shadowTel.Set(math.NaN(), math.NaN(), math.NaN())
	}
}

// mirror takes in an attempt of a shadow, or of a live pool. First attempts only. Of a live pool only GETs: no others are mirrored, and
// which of them are is drawn at random.
func (p *livePool) mirror(ended float64, class string, r *observe.Record) {
	if p.shadow == nil && p.mirrored == nil || r.Attempt != 1 {
		return
	}
	for _, h := range [...]*control.Half{p.shadow, p.mirrored} {
		switch {
		case h == nil, h == p.mirrored && !mayBeGET(class):
		case r.Kind == observe.Abort:
			h.Aborted(ended)
		case r.Kind.Failure():
			h.Failed(ended)
		case pool.Kind(r.Kind) == pool.OK:
			h.Answered(ended, latency(r))
		}
	}
}

// mayBeGET tells by a class whether its requests are GETs. Classes that the operator named say no method: those count.
func mayBeGET(class string) bool {
	method, _, named := strings.Cut(class, " /")
	return !named || method == "GET" || strings.ContainsFunc(method, func(c rune) bool { return c < 'A' || c > 'Z' })
}

// ShadowFigures compare a shadow with the pool it is a shadow of, within the last ten minutes. The shape is that of SplitFigures.
type ShadowFigures struct {
	Pool     string        `json:"pool"`
	ShadowOf string        `json:"shadow_of"`
	WindowMS int           `json:"window_ms"`
	OfShadow SideFigures   `json:"of_shadow"`
	OfLive   SideFigures   `json:"of_live"` // GETs only
	Versus   VersusFigures `json:"comparison"`
}

// Shadow returns the comparison of a pool that is a shadow with the live one.
func (e *Engine) Shadow(name string) (ShadowFigures, error) {
	p, err := e.pool(name)
	if err != nil {
		return ShadowFigures{}, err
	}
	live := p.shadows()
	if live == "" {
		return ShadowFigures{}, &NoSplitError{name, "shadow_of"}
	}
	q, err := e.pool(live)
	if err != nil {
		return ShadowFigures{}, err
	}
	now := e.now()
	a, peersA, usableA := p.halfOf(func() *control.Half { return p.shadow })
	b, peersB, usableB := q.halfOf(func() *control.Half { return q.mirrored })
	f := ShadowFigures{Pool: name, ShadowOf: live, WindowMS: control.WindowMS, OfShadow: sideOf(a, now), OfLive: sideOf(b, now), Versus: versus(a, b, now, name, live)}
	f.OfShadow.Peers, f.OfShadow.Usable, f.OfLive.Peers, f.OfLive.Usable = peersA, usableA, peersB, usableB
	return f, nil
}

// halfOf copies a half; an empty one where there is none.
func (p *livePool) halfOf(which func() *control.Half) (h *control.Half, peers, usable int) {
	p.mu.Lock()
	defer p.unlock()
	for i := range p.members {
		if p.health.View(i).Usable {
			usable++
		}
	}
	h = &control.Half{}
	if from := which(); from != nil {
		from.Copy(h)
	}
	return h, len(p.members), usable
}

// showShadows sets the gauges of every shadow, each few seconds. The refresh loop calls it, holding nothing.
func (e *Engine) showShadows(now float64) {
	const each = 5000
	if now-e.shadowsShown < each {
		return
	}
	e.shadowsShown = now
	for _, p := range e.sorted() {
		p.mu.Lock()
		tel := p.shadowTel
		p.unlock()
		if tel == nil {
			continue
		}
		f, err := e.Shadow(p.name)
		if err != nil {
			continue
		}
		tel.Set(orNaN(f.Versus.Ratio), orNaN(f.Versus.Low), orNaN(f.Versus.High))
	}
}

func orNaN(x *float64) float64 {
	if x == nil {
		return math.NaN()
	}
	return *x
}
