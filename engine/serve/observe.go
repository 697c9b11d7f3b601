package serve

import (
	"slices"

	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/pool"
)

// maxAgeMS bounds how far back a record may place its end: older ones are taken as that old.
const maxAgeMS = 60_000

// lateMS is how old a record may be to count in the health of its peer. NGINX keeps outcomes while the engine is away or stands still, and what failed
// before that may be well again: a peer that still fails shows it by what follows. NGINX sets peers aside by itself meanwhile, also for time-outs once it has
// heard nothing for as long (evidence.lua).
const lateMS = 2000

// Observe learns from a batch. Records of pools that do not exist are skipped, and those pools returned; records of peers
// that are not in their pool are counted as accepted and not used.
//
// A change of a peer's state that the batch causes is published before Observe returns.
func (e *Engine) Observe(b *observe.Batch) (accepted int, unknown []string) {
	now := e.now()
	e.lastBatch.Store(int64(now))
	e.vanished.Store(false)
	e.tel.Lost.Add(int(min(b.Dropped, 1<<31)))
	pools := *e.pools.Load()
	for at := 0; at < len(b.Records); {
		// Records come in runs of one pool: its mutex is taken once a run.
		run := at + 1
		for run < len(b.Records) && b.Records[run].Pool == b.Records[at].Pool {
			run++
		}
		name := b.Pools[b.Records[at].Pool]
		if p := pools[name]; p != nil {
			p.learn(now, b, b.Records[at:run])
			accepted += run - at
		} else {
			e.tel.SkippedPool.Add(run - at)
			if !slices.Contains(unknown, name) {
				unknown = append(unknown, name)
			}
		}
		at = run
	}
	e.tel.Records.Add(accepted)
	e.hear(now, b, pools)
	e.hearLimits(now, b, pools)
	for _, r := range b.BadReports {
		if p := pools[r.Pool]; p != nil {
			p.badReports(r)
		}
	}
	return accepted, unknown
}

// learn takes in records of this pool.
func (p *livePool) learn(now float64, b *observe.Batch, records []observe.Record) {
	p.mu.Lock()
	defer p.unlock()
	if p.retired {
		return
	}
	skipped := 0
	for i := range records {
		r := &records[i]
		at := p.health.Index(b.Peers[r.Peer])
		if at < 0 {
			skipped++
			continue
		}
		p.attempt(now, at, b.Classes[r.Class], r)
	}
	p.keepObserved()
	if skipped > 0 {
		p.eng.tel.SkippedPeer.Add(skipped)
	}
	if skipped < len(records) {
		p.dirty, p.trafficAt = true, now
	}
	p.changed(now)
}

func (p *livePool) attempt(now float64, at int, class string, r *observe.Record) {
	kind := pool.Kind(r.Kind)
	ended := max(now-min(float64(r.AgeMS), maxAgeMS), 0)
	c := p.est.Class(ended, class)
	p.keep(ended, at, c, r)
	p.feedAttempt(ended, at, c, r)
	load, held := float64(r.Load), float64(r.Reported.Count())
	if !p.conf.LoadReport.Enabled {
		load, held = -1, -1
	}
	overload := p.health.Excuses(at, kind)
	if overload {
		p.tel.Excused.Inc()
	}
	p.est.Observe(ended, estimate.Outcome{
		Peer: at, Class: c, InFlight: int(r.Inflight), Work: float64(r.Work), Kind: kind, Overload: overload, Status: int(r.Status), Stream: r.Flags&observe.Stream != 0,
		HeaderMS: float64(r.HeaderMS), TotalMS: float64(r.TotalMS), Weight: float64(r.Weight), ReportedLoad: load, ReportedInFlight: held,
	})
	p.limitAttempt(ended, r)
	if r.AgeMS <= lateMS {
		p.health.Result(ended, at, kind)
	}
	p.compare(ended, r)
	p.parted(ended, at, r)
	p.mirror(ended, class, r)

	m := p.members[at]
	m.attempts++
	m.kinds[kind]++
	m.tel.Attempts[kind].Inc()
	ms := latency(r)
	m.recent.add(ended, ms)
	if ms >= 0 {
		m.tel.Duration.Update(ms / 1000)
	}
}

// latency is what a person means by the time an attempt took; negative when it was not answered.
func latency(r *observe.Record) float64 {
	switch {
	case r.Kind != observe.OK:
		return -1
	case r.Flags&observe.Stream != 0:
		return float64(r.HeaderMS)
	}
	return float64(r.TotalMS)
}

// badReports counts load reports that NGINX could not use.
func (p *livePool) badReports(r observe.BadReports) {
	p.mu.Lock()
	defer p.unlock()
	if !p.retired {
		p.tel.ReportsRefused(r.Reason, r.Count)
	}
}
