package serve

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/discover"
	"github.com/weirlb/weir/engine/telemetry"
)

// static names the peers of the configuration itself among the sources of a pool.
const static = "static"

const (
	// graceMS is how long a new pool with static peers waits for its other sources before NGINX hears of it: an engine that starts
	// again would else take all but the static peers from an NGINX that knows them.
	graceMS = 5000
	// maxMembers bounds a pool, whatever its sources say; as the configuration does for a list.
	maxMembers = 4096
	maxFault   = 1000 // bytes of a source's error that are kept
)

// source is one source of a pool's members at work: a goroutine that the pool starts and stops. The pool's mutex guards it but for
// what is set once.
type source struct {
	pool *livePool
	from discover.Source
	dns  *config.DNS // what it was made of; one of dns and file is set
	file string
	tel  *telemetry.Source

	stop  context.CancelFunc // nil = not started
	ended chan struct{}

	peers      []discover.Peer
	known      bool    // peers is an answer, be it the empty one
	relied     bool    // one of its answers named peers, or nobody on purpose: a name that there is not is an answer too, and may be misspelt
	fault      string  // why it cannot be relied on, "" = it can
	partly     bool    // the fault is of a part of its last answer
	faultAt    float64 // ms since when
	answeredAt float64 // ms of the last answer
}

// SourceFigures are those of one source of a pool's members.
type SourceFigures struct {
	Kind     string   `json:"kind"` // static, file, dns
	Name     string   `json:"name"`
	Peers    *int     `json:"peers"` // that it names; null = it has not answered yet
	Up       bool     `json:"up"`    // its last look was good
	Error    *string  `json:"error"`
	ErrorAge *float64 `json:"error_age_ms"` // since when it fails
	Age      *float64 `json:"answer_age_ms"`
}

// newcomer is a source made for a configuration, before the pool's mutex is taken: reading a file can take its time.
type newcomer struct {
	s    *source
	told *discover.Update
}

// wanted lists the sources of a configuration in its order, those that run already as they are.
func (p *livePool) wanted(c *config.Pool, running []*source) (all []newcomer) {
	find := func(same func(*source) bool) *source {
		if i := slices.IndexFunc(running, same); i >= 0 {
			return running[i]
		}
		return nil
	}
	if c.PeersFile != "" {
		s := find(func(s *source) bool { return s.file == c.PeersFile })
		if s != nil {
			all = append(all, newcomer{s: s})
		} else {
			f := discover.NewFile(c.PeersFile)
			u := f.Read()
			all = append(all, newcomer{&source{pool: p, from: f, file: c.PeersFile}, &u})
		}
	}
	for i := range c.DNS {
		n := &c.DNS[i]
		s := find(func(s *source) bool { return s.dns != nil && s.dns.Equal(n) })
		if s == nil {
			s = &source{pool: p, from: discover.NewDNS(*n), dns: n}
		}
		all = append(all, newcomer{s: s})
	}
	return all
}

// setSources makes the sources those of the configuration. It returns the ones that were told to end.
func (p *livePool) setSources(now float64, all []newcomer) (ended []*source) {
	before := p.sources
	p.sources = nil
	fresh := false
	for _, n := range all {
		p.sources = append(p.sources, n.s)
		if slices.Contains(before, n.s) {
			continue
		}
		// Asked in another way it is still the same name: what it answered stays until it answers anew.
		for _, s := range before {
			if s.dns != nil && n.s.dns != nil && s.dns.Same(n.s.dns) {
				n.s.peers, n.s.known, n.s.relied, n.s.answeredAt = s.peers, s.known, s.relied, s.answeredAt
			}
		}
		fresh = fresh || !n.s.known && (n.told == nil || !n.told.Known) // a file that cannot be read names nobody either
	}
	for _, s := range before { // before the new ones register: they may have the same series
		if !slices.Contains(p.sources, s) {
			if s.tel != nil {
				s.tel.Remove()
			}
			if s.stop != nil {
				s.stop()
				ended = append(ended, s)
			}
		}
	}
	for _, n := range all {
		if n.s.tel == nil {
			n.s.tel = p.eng.tel.Source(p.name, n.s.from.Kind(), n.s.from.Name())
		}
		if n.told != nil {
			n.s.take(now, *n.told)
		}
	}
	// Peers that leave with the change of the configuration stay until its new sources have answered: else a pool that moves from a
	// list to a name would have nobody for as long as the first answer takes.
	if fresh {
		p.leaving = slices.Clone(p.roster)
	}
	return ended
}

// startSources allows the pool's sources to run and starts them.
func (p *livePool) startSources() {
	p.mu.Lock()
	defer p.unlock()
	p.sourcing = true
	p.startSourcesLocked()
}

func (p *livePool) startSourcesLocked() {
	if !p.sourcing || p.retired {
		return
	}
	for _, s := range p.sources {
		if s.stop != nil {
			continue
		}
		ctx, stop := context.WithCancel(p.eng.life)
		s.stop, s.ended = stop, make(chan struct{})
		p.eng.running.Go(func() {
			defer close(s.ended)
			defer stop()
			s.from.Run(ctx, func(u discover.Update) { p.told(s, u) })
		})
	}
}

func (s *source) wait() { <-s.ended }

// told takes in what a source says and publishes at once when the members changed by it.
func (p *livePool) told(s *source, u discover.Update) {
	for _, c := range p.hear(s, u) { // outside the mutex: a check that is ending may be waiting for it
		c.wait()
	}
}

func (p *livePool) hear(s *source, u discover.Update) (stopped []*check) {
	p.mu.Lock()
	defer p.unlock()
	if p.retired || !slices.Contains(p.sources, s) {
		return nil
	}
	now := p.eng.now()
	s.take(now, u)
	before := p.addresses()
	if !p.enroll() {
		p.showPending(now)
		return nil
	}
	p.setMembers(now)
	p.tellMembers(s.from.Name(), before)
	stopped = p.stopChecks(func(k *check) bool { return p.health.Index(k.addr) < 0 })
	if p.started {
		p.startChecksLocked()
	}
	p.note()
	p.fill(now)
	p.pending = p.waits(now)
	p.publish(p.snapshot(), now)
	return stopped
}

// take notes what was told. One log line says that a source fails, one that it works again, whatever happens between.
func (s *source) take(now float64, u discover.Update) {
	p, name := s.pool, s.from.Name()
	s.tel.Queries.Add(u.Queries)
	if u.Known {
		s.peers, s.known = u.Peers, true
		s.relied = s.relied || len(u.Peers) > 0 || u.Err == nil
		if u.Err == nil {
			s.answeredAt = now
		}
	}
	failed := u.Err != nil
	s.partly = u.Partly
	s.tel.Looked(!failed, len(s.peers), u.Known && !failed)
	was := s.fault
	if !failed {
		s.fault = ""
		if was != "" {
			lasted := now - s.faultAt
			p.later(func() {
				p.eng.log.Info().Str("pool", p.name).Str("source", name).Float64("failed_ms", lasted).Msg("source of peers works again")
			})
		}
		return
	}
	s.fault = u.Err.Error()
	if len(s.fault) > maxFault {
		s.fault = strings.ToValidUTF8(s.fault[:maxFault], "") + " ..."
	}
	if was == "" {
		s.faultAt = now
		fault, kept, message := s.fault, len(s.peers), "source of peers fails; its last peers stay"
		if s.partly {
			message = "source of peers fails in part; the rest of its answer counts"
		}
		p.later(func() {
			p.eng.log.Warn().Str("pool", p.name).Str("source", name).Strs("problems", strings.Split(fault, "\n")).Int("peers_kept", kept).Msg(message)
		})
	}
}

// enroll makes the roster of the pool's sources and reports whether it is another one than before. The order is that of the
// configuration, static peers first; an address is as the first that names it says.
func (p *livePool) enroll() bool {
	roster := make([]config.Peer, 0, len(p.roster))
	origin := make(map[string][]string, len(p.roster))
	over := map[string]bool{}
	add := func(from string, peer config.Peer) {
		if _, there := origin[peer.Address]; !there {
			if len(roster) >= maxMembers {
				over[peer.Address] = true
				return
			}
			roster = append(roster, peer)
		}
		origin[peer.Address] = append(origin[peer.Address], from)
	}
	for _, peer := range p.conf.Peers {
		add(static, peer)
	}
	answered := true
	for _, s := range p.sources {
		answered = answered && s.relied
		for _, peer := range s.peers {
			add(s.from.Name(), peer)
		}
	}
	if answered {
		p.leaving = nil
	}
	for _, peer := range p.leaving {
		if _, there := origin[peer.Address]; !there {
			add("leaving", peer)
		}
	}
	p.origin = origin
	if n := len(over); n > 0 && p.over == 0 {
		p.later(func() {
			p.eng.log.Warn().Str("pool", p.name).Int("peers", maxMembers).Int("left_out", n).Msg("the sources of a pool name more peers than it may have; the last ones are left out")
		})
	} else if n == 0 && p.over > 0 {
		p.later(func() {
			p.eng.log.Info().Str("pool", p.name).Int("peers", len(roster)).Msg("the sources of a pool name no more peers than it may have")
		})
	}
	p.over = len(over)
	if slices.Equal(roster, p.roster) {
		return false
	}
	p.roster = roster
	return true
}

func (p *livePool) addresses() []string {
	out := make([]string, len(p.members))
	for i, m := range p.members {
		out[i] = m.addr
	}
	return out
}

// tellMembers logs who joined and who left.
func (p *livePool) tellMembers(source string, before []string) {
	const most = 20
	joined, left := []string{}, []string{}
	known := make(map[string]bool, len(before))
	for _, a := range before {
		known[a] = true
	}
	for _, m := range p.members {
		if !known[m.addr] {
			joined = append(joined, m.addr)
		}
		delete(known, m.addr)
	}
	for _, a := range before {
		if known[a] {
			left = append(left, a)
		}
	}
	some := func(list []string) []string { return list[:min(len(list), most)] }
	n := len(p.members)
	message := "members changed"
	if len(joined)+len(left) == 0 {
		message = "weights of members changed"
	}
	p.later(func() {
		p.eng.log.Info().Str("pool", p.name).Str("source", source).Int("peers", n).Int("joined", len(joined)).Int("left", len(left)).
			Strs("who_joined", some(joined)).Strs("who_left", some(left)).Msg(message)
	})
}

// waits reports whether NGINX is not to hear of the pool yet, because its sources have not told who is in it, or the first checks not how its peers are:
// an NGINX that runs knows that from the engine before this one. Once NGINX has heard of it, it never waits again.
func (p *livePool) waits(now float64) bool {
	if !p.pending {
		return false
	}
	for _, s := range p.sources {
		if !s.known {
			return len(p.roster) == 0 || now-p.bornAt < graceMS
		}
	}
	return p.conf.Check.Enabled && (p.probedAt == 0 || now-p.probedAt < checksMS) &&
		slices.ContainsFunc(p.members, func(m *member) bool { return m.probe == nil })
}

// showPending publishes that the pool waits no longer.
func (p *livePool) showPending(now float64) {
	if p.pending && !p.waits(now) {
		p.pending = false
		p.publish(p.snapshot(), now)
	}
}

// sourceFigures lists the sources, the static one when there are static peers or no others.
func (p *livePool) sourceFigures(now float64) []SourceFigures {
	all := []SourceFigures{}
	if n := len(p.conf.Peers); n > 0 || len(p.sources) == 0 {
		all = append(all, SourceFigures{Kind: static, Name: static, Peers: &n, Up: true})
	}
	for _, s := range p.sources {
		f := SourceFigures{Kind: s.from.Kind(), Name: s.from.Name(), Up: s.known && s.fault == ""}
		if s.known {
			n := len(s.peers)
			f.Peers = &n
		}
		if s.answeredAt > 0 {
			f.Age = finite(now - s.answeredAt)
		}
		if fault := s.fault; fault != "" { // a copy: the caller encodes it without the mutex
			f.Error, f.ErrorAge = &fault, finite(now-s.faultAt)
		}
		all = append(all, f)
	}
	return all
}

// inspectSources adds the sources that fail to the health, with what is served meanwhile, and that they name too many peers.
func (p *livePool) inspectSources(now float64, r *Report) {
	if p.over > 0 {
		r.add("discovery", p.name, fmt.Sprintf("the sources of pool %q name %d peers more than the %d that a pool may have: the last ones are left out", p.name, p.over, maxMembers))
	}
	for _, s := range p.sources {
		serves := fmt.Sprintf("its last %d peers stay", len(s.peers))
		switch {
		case !s.relied && len(p.leaving) > 0:
			serves = "it has named no peers yet, and those that the pool had before stay"
		case s.partly:
			serves = fmt.Sprintf("only in part, the rest of its answer counts: %d peers", len(s.peers))
		case s.known && len(s.peers) == 0:
			serves = "it names no peers"
		case !s.known && p.pending:
			serves = "it has never answered, and NGINX goes on with the peers it knows"
		case !s.known:
			serves = "it has never answered, and the pool has the peers of its other sources, or those it had before"
		}
		switch {
		case s.fault != "":
			lasted := time.Duration(now-s.faultAt) * time.Millisecond
			r.add("discovery", p.name, fmt.Sprintf("%s of pool %q has failed for %s; %s: %s", s.from.Name(), p.name, lasted.Round(time.Second), serves, s.fault))
		case !s.known && now-p.bornAt > graceMS:
			r.add("discovery", p.name, fmt.Sprintf("%s of pool %q: %s", s.from.Name(), p.name, serves))
		}
	}
}
