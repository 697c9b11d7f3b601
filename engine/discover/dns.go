package discover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/weirlb/weir/engine/config"
)

const (
	maxPeers   = 4096 // of a pool
	maxTargets = 256  // of SRV records in one answer
	// maxFailed questions may fail in one look; the rest are not asked. Hundreds of time-outs in turn would hold the look up.
	maxFailed = 4
	// slowest is how far apart looks may grow while the servers fail.
	slowest = 30 * time.Second
)

// DNS is the addresses of a name.
//
// It looks as soon as the TTL of the last answer is over, whether there is traffic or not, but no more often than each min_ttl_ms
// and at least each max_ttl_ms, up to a tenth later, so that many engines do not ask in step. While looks fail they grow apart,
// doubling, to half a minute or max_ttl_ms, whichever is less.
//
// A question that fails (time-out, SERVFAIL, REFUSED, an answer that is cut off) keeps its last good answer as long as it fails: a
// dead DNS server says nothing about the peers. An answer that says that there are none (NXDOMAIN, no records) is believed when it
// has been the answer for keep_empty_ms; when one of A and AAAA has records, the other's having none is believed at once. The same holds for each
// target of SRV records, beside others that have addresses.
type DNS struct {
	conf config.DNS
	ask  *resolver
	now  func() time.Time

	last    map[question]records // last good answers
	emptyAt time.Time            // since when the answer is that there are none; zero = it is not
	bare    map[string]time.Time // SRV targets that have no addresses, since when
}

// NewDNS makes a source that asks nobody before Run.
func NewDNS(conf config.DNS) *DNS {
	return &DNS{
		conf: conf, now: time.Now, last: map[question]records{},
		ask: newResolver(conf.Resolvers, time.Duration(conf.TimeoutMS)*time.Millisecond),
	}
}

// Kind is "dns".
func (d *DNS) Kind() string { return "dns" }

// Name is "dns NAME", with the type where that is not addresses, and the port.
func (d *DNS) Name() string {
	switch d.conf.Type {
	case config.RecordSRV:
		return "dns " + d.conf.Name + " srv"
	case config.RecordBoth:
		return fmt.Sprintf("dns %s:%d", d.conf.Name, d.conf.Port)
	}
	return fmt.Sprintf("dns %s:%d %s", d.conf.Name, d.conf.Port, d.conf.Type)
}

// Run looks until ctx ends.
func (d *DNS) Run(ctx context.Context, tell func(Update)) {
	floor := time.Duration(d.conf.MinTTLMS) * time.Millisecond
	ceiling := time.Duration(d.conf.MaxTTLMS) * time.Millisecond
	backoff := floor
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		u, ttl := d.look(ctx)
		if ctx.Err() != nil {
			return
		}
		tell(u)
		wait := min(max(ttl, floor), ceiling)
		if u.Err != nil {
			if !u.Known || backoff < wait {
				wait = backoff
			}
			backoff = min(2*backoff, max(min(slowest, ceiling), floor))
		} else {
			backoff = floor
		}
		timer.Reset(time.Duration(float64(wait) * (1 + 0.1*rand.Float64())))
	}
}

// look asks once. The TTL is the shortest of the answers.
func (d *DNS) look(ctx context.Context) (Update, time.Duration) {
	d.ask.sent = 0
	l := &looking{DNS: d, ctx: ctx, ttl: math.MaxInt64, used: map[question]bool{}, bareNow: map[string]time.Time{}}
	name := dns.Fqdn(d.conf.Name)
	switch d.conf.Type {
	case config.RecordSRV:
		l.services(name)
	case config.RecordA:
		l.add(l.addresses(name, dns.TypeA), d.conf.Port, 1, 0)
	case config.RecordAAAA:
		l.add(l.addresses(name, dns.TypeAAAA), d.conf.Port, 1, 0)
	default:
		l.add(l.addresses(name, dns.TypeA), d.conf.Port, 1, 0)
		l.add(l.addresses(name, dns.TypeAAAA), d.conf.Port, 1, 0)
	}
	for q := range d.last { // of SRV targets that are no more
		if !l.used[q] {
			delete(d.last, q)
		}
	}
	d.bare = l.bareNow
	u := l.update()
	for i := range u.Peers {
		u.Peers[i].Group = d.conf.Group
	}
	u.Queries = d.ask.sent
	return u, l.ttl
}

// looking is one look.
type looking struct {
	*DNS
	ctx    context.Context
	ttl    time.Duration
	fresh  bool // a question was answered
	used   map[question]bool
	peers  []found
	none   []error // definite answers that there is nothing
	failed []error
	bad    []error    // records that cannot be peers
	gone   []question // whose answer is that there are none: the last good one is forgotten when that is believed
	kept   []question // of these, those of targets whose last addresses stay for a while

	bareNow map[string]time.Time
}

// get answers a question, by its last good answer when it fails.
func (l *looking) get(q question) (records, bool) {
	l.used[q] = true
	if len(l.failed) >= maxFailed {
		got, ok := l.last[q]
		return got, ok
	}
	got, err := l.ask.ask(l.ctx, q)
	var none *errNone
	switch {
	case err == nil:
		l.fresh = true
		l.last[q] = got
		l.ttl = min(l.ttl, got.ttl)
		return got, true
	case errors.As(err, &none):
		l.none = append(l.none, err)
		l.gone = append(l.gone, q)
		return records{}, false
	}
	l.failed = append(l.failed, err)
	got, ok := l.last[q]
	return got, ok
}

func (l *looking) addresses(name string, qtype uint16) []netip.Addr {
	got, _ := l.get(question{name, qtype})
	return addressesOf(got.rrs)
}

func addressesOf(rrs []dns.RR) (found []netip.Addr) {
	for _, rr := range rrs {
		var a netip.Addr
		switch rr := rr.(type) {
		case *dns.A:
			a, _ = netip.AddrFromSlice(rr.A)
		case *dns.AAAA:
			a, _ = netip.AddrFromSlice(rr.AAAA)
		}
		if a = a.Unmap(); !slices.Contains(found, a) {
			found = append(found, a)
		}
	}
	return found
}

// add makes peers of addresses. One that cannot be a peer is told and left out.
func (l *looking) add(addrs []netip.Addr, port int, weight float64, priority int) {
	for _, a := range addrs {
		if len(l.peers) >= maxPeers {
			l.bad = append(l.bad, fmt.Errorf("the answer has more than the %d addresses that a pool may have; the others are left out", maxPeers))
			return
		}
		canonical, err := config.ParseAddress(netip.AddrPortFrom(a, uint16(port)).String())
		if err != nil {
			l.bad = append(l.bad, fmt.Errorf("the answer has %s, which cannot be a peer: %w", a, err))
			continue
		}
		l.peers = append(l.peers, found{Peer{Address: canonical, Weight: weight}, priority})
	}
}

// services reads SRV records (RFC 2782) and finds the addresses of their targets: in the answer itself, where servers may put
// them, else by asking.
func (l *looking) services(name string) {
	q := question{name, dns.TypeSRV}
	got, _ := l.get(q)
	var srvs []*dns.SRV
	for _, rr := range got.rrs {
		if s := rr.(*dns.SRV); dns.CanonicalName(s.Target) != "." {
			srvs = append(srvs, s)
		}
	}
	if len(got.rrs) > 0 && len(srvs) == 0 {
		l.none = append(l.none, fmt.Errorf("%s: the service is decidedly not available (target .)", q))
		l.gone = append(l.gone, q)
	}
	if len(srvs) > maxTargets {
		l.bad = append(l.bad, fmt.Errorf("%s: %d records, %d are used", q, len(srvs), maxTargets))
		slices.SortFunc(srvs, func(a, b *dns.SRV) int { return strings.Compare(a.String(), b.String()) })
		srvs = srvs[:maxTargets]
	}
	weights := weightsOf(srvs)
	found := map[string][]netip.Addr{} // by target
	fresh := false
	for i, s := range srvs {
		target := dns.CanonicalName(s.Target)
		addrs, asked := found[target]
		if !asked {
			var stale bool
			addrs, stale = l.target(target, got)
			found[target] = addrs
			fresh = fresh || len(addrs) > 0 && !stale
		}
		l.add(addrs, int(s.Port), weights[i], int(s.Priority))
	}
	if !fresh { // the name as a whole has no peers, and what was known of it stays or goes together
		l.peers, l.kept = nil, nil
	}
}

// target gives the addresses of an SRV record's target; stale: they are those that it had before it has none.
func (l *looking) target(name string, from records) (found []netip.Addr, stale bool) {
	both := [...]question{{name, dns.TypeA}, {name, dns.TypeAAAA}}
	ttl := l.ttl
	for _, q := range both {
		var glue []dns.RR
		for _, rr := range from.glue {
			if h := rr.Header(); dns.CanonicalName(h.Name) == name && h.Rrtype == q.qtype {
				glue = append(glue, rr)
				ttl = min(ttl, time.Duration(h.Ttl)*time.Second)
			}
		}
		if glue != nil { // the next answer may leave them out
			l.last[q], l.used[q] = records{rrs: glue}, true
			found = append(found, addressesOf(glue)...)
		}
	}
	if len(found) > 0 {
		l.ttl = ttl
		return found, false
	}
	gone := len(l.gone)
	for _, q := range both {
		found = append(found, l.addresses(q.name, q.qtype)...)
	}
	if len(l.gone)-gone < len(both) {
		return found, false
	}
	since, before := l.bare[name]
	if !before {
		since = l.now()
	}
	l.bareNow[name] = since
	for _, q := range both {
		found = append(found, addressesOf(l.last[q].rrs)...)
	}
	none := fmt.Errorf("%s, which SRV records name, has no addresses", strings.TrimSuffix(name, "."))
	keep := time.Duration(l.conf.KeepEmptyMS)*time.Millisecond - l.now().Sub(since)
	if len(found) == 0 || keep <= 0 {
		l.bad = append(l.bad, none)
		return nil, false
	}
	l.bad = append(l.bad, fmt.Errorf("%w; those known before stay for %s more", none, keep.Round(time.Second)))
	l.kept = append(l.kept, both[:]...)
	return found, true
}

// weightsOf makes weights of those of SRV records: relative to the mean of their priority, so that records which are all alike
// weigh 1, whatever number the server gives them. A weight of 0 means hardly ever, unless all have it.
func weightsOf(srvs []*dns.SRV) []float64 {
	type sum struct{ n, of float64 }
	sums := map[uint16]sum{}
	for _, s := range srvs {
		if s.Weight > 0 {
			x := sums[s.Priority]
			sums[s.Priority] = sum{x.n + 1, x.of + float64(s.Weight)}
		}
	}
	out := make([]float64, len(srvs))
	for i, s := range srvs {
		out[i] = 1
		if x := sums[s.Priority]; x.n > 0 {
			w := float64(s.Weight) * x.n / x.of
			out[i] = min(max(math.Round(w*100)/100, 0.01), 1000)
		}
	}
	return out
}

// update sums the look up.
func (l *looking) update() Update {
	peers := tiers(l.peers)
	problems := errors.Join(append(l.failed, l.bad...)...)
	switch {
	case len(peers) > 0:
		l.believe()
		l.emptyAt = time.Time{}
		return Update{Known: true, Peers: peers, Err: problems, Partly: problems != nil && l.fresh}
	case len(l.failed) > 0 || len(l.none) == 0:
		return Update{Err: problems} // nothing is known for sure
	}
	if l.emptyAt.IsZero() {
		l.emptyAt = l.now()
	}
	none := errors.Join(append(l.none, l.bad...)...)
	keep := time.Duration(l.conf.KeepEmptyMS) * time.Millisecond
	if since := l.now().Sub(l.emptyAt); since < keep {
		return Update{Err: fmt.Errorf("%w; the peers known before stay for %s more", none, (keep - since).Round(time.Second))}
	}
	l.believe()
	return Update{Known: true, Err: none}
}

// believe forgets the last good answers of questions that have none now.
func (l *looking) believe() {
	for _, q := range l.gone {
		if !slices.Contains(l.kept, q) {
			delete(l.last, q)
		}
	}
}

// found is a peer with the priority of its SRV record; 0 for plain addresses.
type found struct {
	Peer
	priority int
}

const maxTier = 15

// tiers makes tiers of priorities, 0 of the lowest number that is there, and one of peers with the same address: the one of the lowest
// priority, and there of the highest weight.
func tiers(all []found) []Peer {
	slices.SortFunc(all, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), strings.Compare(a.Address, b.Address), cmp.Compare(b.Weight, a.Weight))
	})
	peers := make([]Peer, 0, len(all))
	there := make(map[string]bool, len(all))
	tier := 0
	for i, f := range all {
		if i > 0 && f.priority != all[i-1].priority {
			tier = min(tier+1, maxTier)
		}
		if !there[f.Address] {
			there[f.Address] = true
			f.Tier, f.Backup = tier, tier > 0
			peers = append(peers, f.Peer)
		}
	}
	order(peers)
	return peers
}
