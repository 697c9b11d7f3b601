package serve

import "github.com/weirlb/weir/engine/observe"

// In-flight counts come as totals over all workers of one NGINX, from its elected worker; several NGINX may share an engine.
//
// While anything is in flight the elected worker says so many times a second. Counts that were not renewed for long are
// dropped, as when NGINX was killed: the estimators would take requests that never end for a peer that stands still.
const (
	instanceSilentMS = 30_000
	maxInstances     = 256
)

// sender is who says what is in flight. After a binary upgrade, or a reload with another size of the shared dict, the workers of one NGINX count in
// two memories: new ones take what comes while the old ones finish their own, and neither know of the others'.
type sender struct {
	name       string
	generation int // of the memory; 0 = the first
}

// instance is one sender. The engine's hearing mutex guards it.
type instance struct {
	reportedMS float64             // when it last said what is in flight
	pools      map[string]struct{} // those it has requests in flight in
}

// hear takes in the in-flight totals of a batch.
//
// The list has every peer that has requests in flight, so a peer that is not in it has none. Only zeros that were not zero
// before need be said, and an NGINX that started anew does not know of those. An empty list says nothing.
func (e *Engine) hear(now float64, b *observe.Batch, pools map[string]*livePool) {
	if len(b.Inflight) == 0 {
		return
	}
	touched, full := e.heardOf(now, b)
	if full {
		e.log.Repeated("instances").Int("limit", maxInstances).Msg("too many NGINX instances; in-flight counts of new ones are not used")
	}
	for _, name := range touched {
		if p := pools[name]; p != nil {
			p.report(now, b)
		}
	}
}

func senderOf(b *observe.Batch) sender { return sender{b.Instance, b.Generation} }

// heardOf notes the sender and returns the pools whose counts it may have changed; full: it is one sender too many.
func (e *Engine) heardOf(now float64, b *observe.Batch) (touched []string, full bool) {
	e.hearing.Lock()
	defer e.hearing.Unlock()
	from := senderOf(b)
	in := e.instances[from]
	if in == nil {
		if len(e.instances) >= maxInstances {
			return nil, true
		}
		in = &instance{pools: map[string]struct{}{}}
		e.instances[from] = in
	}
	in.reportedMS = now
	for _, f := range b.Inflight {
		in.pools[f.Pool] = struct{}{}
	}
	for name := range in.pools {
		touched = append(touched, name)
	}
	clear(in.pools)
	for _, f := range b.Inflight {
		if f.Count > 0 {
			in.pools[f.Pool] = struct{}{}
		}
	}
	return touched, false
}

// silent removes the senders that did not report for long and returns them.
func (e *Engine) silent(now float64) (gone []sender) {
	e.hearing.Lock()
	defer e.hearing.Unlock()
	for from, in := range e.instances {
		if now-in.reportedMS > instanceSilentMS {
			delete(e.instances, from)
			gone = append(gone, from)
			if len(in.pools) > 0 && now-float64(e.lastBatch.Load()) > staleMS-1 {
				e.vanished.Store(true)
			}
		}
	}
	return gone
}

// report replaces what one NGINX has in flight in this pool.
func (p *livePool) report(now float64, b *observe.Batch) {
	p.mu.Lock()
	defer p.unlock()
	counts := p.inflight[senderOf(b)]
	clear(counts)
	for _, f := range b.Inflight {
		if f.Pool != p.name || f.Count <= 0 || p.health.Index(f.Peer) < 0 {
			continue
		}
		if counts == nil { // an NGINX that has had nothing in flight here shares no limit with the others
			counts = map[string]int{}
			p.inflight[senderOf(b)] = counts
		}
		counts[f.Peer] = f.Count
	}
	p.dirty = true
	p.sumInflight(now)
}

// forget drops what silent senders had in flight.
func (p *livePool) forget(now float64, gone []sender) {
	p.mu.Lock()
	defer p.unlock()
	for _, from := range gone {
		delete(p.inflight, from)
	}
	p.dirty = true
	p.sumInflight(now)
}

// sharers is how many NGINX have had requests in flight in the pool of late, and so share its limit: both generations of one are one.
func (p *livePool) sharers() int {
	names := map[string]struct{}{}
	for from := range p.inflight {
		names[from.name] = struct{}{}
	}
	return len(names)
}

// sumInflight brings the peers' in-flight counts up to date: the sum over the NGINX instances. It is called when a count was
// reported or forgotten and not in between, where the estimators follow the outcomes.
func (p *livePool) sumInflight(now float64) {
	total := 0
	for i, m := range p.members {
		n := 0
		for _, counts := range p.inflight {
			n += counts[m.addr]
		}
		total += n
		if int64(n) != m.inflight.Load() {
			m.inflight.Store(int64(n))
			m.tel.Inflight.Set(float64(n))
		}
		p.est.InFlight(now, i, n)
	}
	if p.limits.limiter != nil {
		p.limits.limiter.InFlight(now, total)
	}
}
