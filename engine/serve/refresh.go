package serve

import (
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/pool"
)

const (
	// material is the relative change of a cost that is worth a new version.
	material = 0.005
	// republishMS: with traffic, a version is published at least so often.
	republishMS = 1000
	// Without anything learned costs still drift (failures are forgotten, samples age), slowly.
	idleFillMS     = 1000
	idleLongMS     = 60_000
	idleLongFillMS = 10_000
	// busyShare bounds the share of one core that filling one pool's table may take: after a filling that took d ms the next
	// waits for d/busyShare. A pool of 1,000 peers and 1,000 classes is refreshed less often instead of starving the rest.
	busyShare = 0.25
)

// refreshLoop brings every pool's table up to date each refresh_ms.
func (e *Engine) refreshLoop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-e.life.Done():
			return
		case <-timer.C:
		}
		began := time.Now()
		silent := e.silent(e.now())
		for _, p := range e.sorted() {
			if len(silent) > 0 {
				p.forget(e.now(), silent)
			}
			p.refresh(e.now())
		}
		e.showShadows(e.now())
		e.lastTick.Store(int64(e.now()))
		timer.Reset(max(time.Duration(e.refreshMS.Load())*time.Millisecond-time.Since(began), time.Millisecond))
	}
}

// refresh runs the timers of the pool's health, fills its table when it is due and publishes what changed.
func (p *livePool) refresh(now float64) {
	p.mu.Lock()
	defer p.unlock()
	if p.retired {
		return
	}
	if p.meters != nil {
		p.heed(now)
	}
	p.showPending(now)
	p.health.Advance(now)
	p.advanceLimit(now)
	filled := false
	if p.due(now) {
		p.fill(now)
		filled = true
	}
	moved := p.note()
	p.showComparison(now)
	p.showSplit(now)
	p.showMetrics(now)
	switch before := p.latest.Load(); {
	case moved, p.metaMoved(before):
	case filled && differs(before.Table, &p.table):
	case p.trafficAt > p.publishedAt && now-p.publishedAt >= republishMS:
	default:
		return
	}
	p.publish(p.snapshot(), now)
}

func (p *livePool) due(now float64) bool {
	wait := float64(idleFillMS)
	switch {
	case p.dirty, p.learned != nil && p.eval != p.eng.models.running.Load():
		wait = 0
	case now-p.trafficAt > idleLongMS:
		wait = idleLongFillMS
	}
	return now-p.filledAt >= max(wait, p.fillCost/busyShare)
}

// fill computes the table. Should the estimators or the policy ever break, by a panic or by a number that is none, the
// last good table stays, health says so, and the engine goes on.
func (p *livePool) fill(now float64) {
	began := time.Now()
	fault := p.tryFill(now)
	took := time.Since(began)
	p.fillCost = float64(took) / float64(time.Millisecond)
	p.filledAt, p.dirty, p.fault = now, false, fault
	p.tel.Refresh.Update(took.Seconds())
	if fault != "" {
		p.later(func() {
			p.eng.log.Repeated("fill "+p.name).Str("pool", p.name).Str("fault", fault).Msg("the table could not be computed; the last one stays")
		})
		p.keepTable()
		return
	}
	p.tel.Computed(time.Now())
}

func (p *livePool) tryFill(now float64) (fault string) {
	defer func() {
		if r := recover(); r != nil {
			fault = fmt.Sprintf("panic: %v", r)
			stack := debug.Stack()
			p.later(func() {
				p.eng.log.Repeated("fill stack "+p.name).Str("pool", p.name).Bytes("stack", stack).Msg("a policy panicked")
			})
		}
	}()
	p.est.Refresh(now)
	for i := range p.members {
		v := p.est.Peer(i)
		p.health.Predict(now, i, p.risk(i, &v))
		p.showReports(i, &v)
	}
	p.health.Loads(func(i int) pool.Load {
		v := p.est.Peer(i)
		return v.Load()
	})
	params := p.params()
	p.health.Advance(now)
	eval := p.equip()
	defer eval.release()
	if fault := p.fillTable(now, eval, params); fault != "" {
		return fault
	}
	p.table.Trust(params, p.trust())
	p.feedFrame(now)
	return ""
}

// params are the pool's settings that shape its costs, in memory that the next call uses again.
func (p *livePool) params() decide.Params {
	p.weights, p.aways = p.weights[:0], p.aways[:0]
	for i, m := range p.members {
		p.weights, p.aways = append(p.weights, p.health.View(i).Weight), append(p.aways, m.away)
	}
	params := decide.Params{Objective: decide.Mean, Sizes: bool(p.conf.Sizes), Weights: p.weights, Away: p.aways}
	if p.conf.Objective == config.P99 {
		params.Objective = decide.P99
	}
	return params
}

// known is what is known of the peer at position i.
func (p *livePool) known(i int) (pool.View, estimate.PeerView) {
	return p.health.View(i), p.est.Peer(i)
}

// trust is how far the costs of each peer are its own, for decide.Table.Trust.
func (p *livePool) trust() []float64 {
	p.trusts = p.trusts[:0]
	for i := range p.members {
		p.trusts = append(p.trusts, decide.TrustIn(p.known(i)))
	}
	return p.trusts
}

// away is what a peer in this zone costs beyond its own time. A zone that is not told, of the peer or of the engine, is no other one.
func (p *livePool) away(zone string) decide.Away {
	if own := p.eng.zone; zone == "" || own == "" || zone == own {
		return decide.Away{}
	}
	return decide.Away{Share: p.conf.ZoneCost, MS: p.conf.ZoneCostMS}
}

func (p *livePool) showReports(i int, v *estimate.PeerView) {
	load, held := math.NaN(), math.NaN()
	if v.ReportState == estimate.ReportsCount {
		if v.ReportedLoad >= 0 {
			load = v.ReportedLoad
		}
		if v.ReportedHeld >= 0 {
			held = v.ReportedHeld
		}
	}
	p.members[i].tel.Reported(v.Reports, load, held)
}

// tableFault checks the promise of decide.Table that NGINX relies on.
func (p *livePool) tableFault() string {
	t := &p.table
	switch {
	case len(t.Classes) == 0 || t.Classes[0] != "*":
		return `the table's first class is not "*"`
	case len(t.Peers) != len(p.members):
		return fmt.Sprintf("the table has %d peers, the pool %d", len(t.Peers), len(p.members))
	case len(t.Cost) != len(t.Classes)*len(t.Peers)*decide.GridPoints:
		return fmt.Sprintf("the table has %d costs for %d classes and %d peers", len(t.Cost), len(t.Classes), len(t.Peers))
	}
	for _, part := range t.Work.Parts() {
		for _, x := range part {
			if !(x >= 0 && x <= math.MaxFloat32) {
				return fmt.Sprintf("what the table knows of sizes has the number %v", x)
			}
		}
	}
	for i, x := range t.Cost {
		if !(x >= 0 && x <= math.MaxFloat32) {
			return fmt.Sprintf("the cost of class %q is %v", t.Classes[i/(len(t.Peers)*decide.GridPoints)], x)
		}
	}
	return ""
}

// keepTable puts the published table back, or a flat one of the right shape when there is none or the peers changed.
func (p *livePool) keepTable() {
	addrs := make([]string, len(p.members))
	for i, m := range p.members {
		addrs[i] = m.addr
	}
	p.table = decide.Table{Classes: []string{"*"}, Peers: addrs}
	for range addrs {
		for g := range decide.GridPoints {
			p.table.Cost = append(p.table.Cost, float32(decide.Grid()[g]+1))
		}
	}
	if s := p.latest.Load(); s != nil && slices.Equal(s.Table.Peers, addrs) {
		p.table = decide.Table{
			Classes: append([]string(nil), s.Table.Classes...), Peers: addrs, Cost: append([]float32(nil), s.Table.Cost...), Work: s.Table.Work.Clone(),
		}
	}
}

// differs reports whether a cost changed materially. Tables of different shape differ.
func differs(a, b *decide.Table) bool {
	if len(a.Cost) != len(b.Cost) || a.Sized() != b.Sized() || !slices.Equal(a.Classes, b.Classes) || !slices.Equal(a.Peers, b.Peers) {
		return true
	}
	for i, x := range a.Cost {
		if y := b.Cost[i]; max(x-y, y-x) > material*max(x, y) {
			return true
		}
	}
	return false
}
