package pool

import (
	"fmt"
	"math"
)

// PeerSpec is one configured peer.
type PeerSpec struct {
	Addr   string
	Weight float64 // operator's weight; not > 0 means 1
	Tier   int     // 0 = primary, above = backups of that order, at most Tiers - 1
	// Checked says that active checks run on this peer. Joining a pool that already has peers, it then waits, down, for its
	// first passed probe: its port may open long after its name appears.
	Checked bool
}

// Health is the health of one pool's peers. Several facts are kept apart per peer (drained, down, ejected, ramping, failing)
// and the state is read off them in a fixed order, so no event can leave a peer stuck between two of them:
// draining (told) > down > ejected > draining (at a limit) > standby > slow start > suspect > up.
//
// The rules:
//   - Ejection, consecutive rule: each failure counts 1, a success forgives half of the count. At Consecutive the peer is
//     ejected. Forgiving half instead of all means a peer that fails three times in four is still out within ten failures.
//   - Ejection, share rule: at least MinRequests results in the window, a failure share of at least FailureShare, and at least
//     half way from the share of the rest of the pool to 1. When everybody fails alike, nobody is singled out.
//   - Cap: at most floor(MaxShare x peers) are ejected at once, but one is allowed when the pool has two peers or more
//     (as Envoy does). The last usable peer is never ejected.
//   - Length: BaseMS x 2^(level-1), at most MaxMS. The level rises with each ejection and falls by one for each quiet time of
//     WindowMS + 4 x the last length spent usable without failures enough to eject.
//   - Return: by timer, through slow start; two failures in a row eject again until a success came.
//   - Need: a peer without which the others would be too busy is ejected only when it serves nothing, and where they could not carry the traffic at all its
//     time-outs do not count; see need.
//   - Limit: a peer whose server metrics are at their limit is draining, as far as the cap, which ejected peers fill first, leaves
//     room. It comes back through slow start.
//   - Down: Fall failed probes in a row, or the first one of a peer that is up without a probe ever having said so, as all are when the engine starts; Rise
//     passed ones end it (the first pass of a peer is enough), and so does the end of the checks.
//   - Tiers: a healthy peer of a tier that is not needed stands by; see tiers.
//   - Panic: when health leaves no usable peer, all that are not draining are used; when only draining ones exist, those.
//
// Not safe for concurrent use; the pool's goroutine owns it.
type Health struct {
	opt   Options
	now   float64 // latest time seen; time never runs backwards
	peers []peer
	index map[string]int
	panic bool
	log   []Transition
	order []int // scratch of shrink
	tiers tiers
}

type peer struct {
	addr    string
	weight  float64
	tier    int
	drained bool
	standby bool // healthy, and its tier is not needed
	fresh   bool // joined since the last settle

	down       bool
	waiting    bool // down since it joined, no probe passed yet
	assumed    bool // up since an empty pool got it, not yet probed
	pass, fail int  // probes in a row

	ejectedUntil float64 // 0 = not ejected
	level        int     // of the back-off
	lastMS       float64 // length of the last ejection
	quietFrom    float64 // start of the quiet time that lowers the level
	ejections    int

	rampFrom float64 // start of slow start
	ramping  bool
	proved   bool // it answered a request since

	over    float64 // how far at its limit a server metric says it is; 0 = not
	overWhy string
	limited bool // out of traffic for that
	chosen  bool // scratch of limits

	count   float64 // failures in a row, halved by a success
	failing float64 // when the first of them ended, of those since the count was 0
	row     int     // failures since the last success
	rowFrom float64 // time of the first of them
	suspect bool
	window  window
	risk    float64
	load    Load
	needed  bool // the others would be too busy without it; see need
	missed  bool // the others could not carry the pool's traffic at all

	state   State
	since   float64
	reason  string
	usable  bool
	admit   float64
	shrinks bool // prediction lowers its admit now
	onTrial bool // its admit is that of one that has to answer first
	// returned is set from the end of an ejection to the next settle, which words the transition.
	returned bool
	spared   bool // the same for one that drained for its server metrics
	// unchecked is the same for one that was down when its checks ended.
	unchecked bool
}

// New returns the health of a pool without peers.
func New(opt Options) *Health {
	return &Health{opt: opt.sane(), index: map[string]int{}}
}

// SetOptions changes the rules; what is known of the peers stays.
func (h *Health) SetOptions(now float64, opt Options) {
	old := h.opt
	h.opt = opt.sane()
	if h.opt.WindowMS != old.WindowMS {
		for i := range h.peers {
			h.peers[i].window = window{}
		}
	}
	h.tick(now)
	for i := range h.peers { // MaxMS is the longest that an ejection lasts, also of one that began before it was so short
		if p := &h.peers[i]; p.ejectedUntil > 0 {
			p.ejectedUntil = min(p.ejectedUntil, h.now+h.opt.MaxMS)
		}
	}
	h.settle(now, "the rules changed")
}

// SetPeers makes specs the members of the pool, in that order. State follows the address; a removed peer is forgotten and one
// added again is new. Of two specs with one address the first wins. Peers that arrive in an empty pool are up at once, since
// nobody is there to carry the load while they ramp; with checks, until the first says otherwise.
func (h *Health) SetPeers(now float64, specs []PeerSpec) {
	h.tick(now)
	boot := len(h.peers) == 0
	h.tiers.any = false
	next := make([]peer, 0, len(specs))
	index := make(map[string]int, len(specs))
	for _, s := range specs {
		if _, twice := index[s.Addr]; twice {
			continue
		}
		index[s.Addr] = len(next)
		tier := min(max(s.Tier, 0), Tiers-1)
		h.tiers.any = h.tiers.any || tier > 0
		if i, ok := h.index[s.Addr]; ok {
			p := h.peers[i]
			p.weight, p.tier = sane(s.Weight), tier
			p.standby = false // rank tells, and has nothing to tell when the last backup was made a primary
			if !s.Checked {
				h.uncheck(&p)
			}
			next = append(next, p)
			continue
		}
		p := peer{addr: s.Addr, weight: sane(s.Weight), tier: tier, fresh: true, since: h.now, quietFrom: h.now, state: Up, reason: "joined"}
		if !boot {
			if s.Checked {
				p.down, p.waiting, p.state, p.reason = true, true, Down, "joined; waits for its first passed probe"
			} else if h.opt.SlowStartMS > 0 {
				p.ramping, p.rampFrom, p.state = true, h.now, SlowStart
			}
		}
		p.assumed = boot && s.Checked
		next = append(next, p)
	}
	h.peers, h.index = next, index
	h.settle(now, "the pool's members changed")
}

// uncheck forgets what probes said of a peer that none runs on any more: nothing else would ever bring it up again.
func (h *Health) uncheck(p *peer) {
	p.pass, p.fail, p.assumed = 0, 0, false
	if p.down {
		p.down, p.waiting, p.unchecked = false, false, true
		h.ramp(p)
	}
}

func sane(weight float64) float64 {
	if weight > 0 && !math.IsInf(weight, 0) {
		return weight
	}
	return 1
}

// Len returns the number of peers.
func (h *Health) Len() int { return len(h.peers) }

// Index returns the position of addr in the last SetPeers, or -1.
func (h *Health) Index(addr string) int {
	if i, ok := h.index[addr]; ok {
		return i
	}
	return -1
}

func (h *Health) has(i int) bool { return i >= 0 && i < len(h.peers) }

// Result is passive evidence: how an attempt on peer i ended. Kinds without evidence are ignored, as is an index out of range.
// Results of a peer that is ejected or down are late news about what is known already, and ignored too.
//
// now is when the attempt ended. Each worker of NGINX sends its own results in batches, so those of one may be older than what another said before: an
// answer from before the first failure forgives nothing. It did, and of a peer that answered all with 500, which NGINX had set aside after five, the engine counted two:
// one worker's answers from before halved what the other had said.
func (h *Health) Result(now float64, i int, kind Kind) {
	if !h.has(i) || !kind.Known() || !kind.Evidence() || h.Excuses(i, kind) {
		return
	}
	h.tick(now)
	p := &h.peers[i]
	p.window.add(h.now, h.opt.WindowMS, kind.Failed())
	if p.ejectedUntil > 0 {
		return
	}
	if !kind.Failed() {
		p.proved = true
		if p.count != 0 && now < p.failing {
			return
		}
		p.row = 0
		if p.count != 0 {
			if p.count /= 2; p.count < 0.5 {
				p.count = 0
			}
			if p.suspect && p.count < 1 {
				p.suspect = false
				h.settle(now, "answers again")
			}
		}
		return
	}
	if p.count == 0 {
		p.failing = min(now, h.now)
	}
	p.count++
	if p.row++; p.row == 1 {
		p.rowFrom = h.now
	}
	why := ""
	switch share, n := p.window.share(h.now, h.opt.WindowMS); {
	case h.opt.Consecutive > 0 && p.count >= float64(h.opt.Consecutive):
		why = fmt.Sprintf("ejected: failures in a row reached %d, the last one %q", h.opt.Consecutive, kind)
	case h.opt.FailureShare > 0 && n >= h.opt.MinRequests && share >= h.opt.FailureShare && h.singledOut(i, share):
		why = fmt.Sprintf("ejected: %.0f %% of %d requests failed, the last one with %q", 100*share, n, kind)
	}
	if why != "" && h.mayEject(i) && h.dispensable(p, kind) {
		h.eject(p)
		h.settle(now, why)
		return
	}
	if !p.suspect && p.count >= 2 {
		p.suspect = true
		h.settle(now, fmt.Sprintf("failures in a row, the last one %q", kind))
	}
	p.quietFrom = h.now
}

// singledOut reports whether a failure share stands out of what the rest of the pool does in the same window.
func (h *Health) singledOut(i int, share float64) bool {
	bad, all := 0, 0
	for j := range h.peers {
		if j != i {
			b, a := h.peers[j].window.sum(h.now, h.opt.WindowMS)
			bad, all = bad+b, all+a
		}
	}
	if all == 0 {
		return true
	}
	rest := float64(bad) / float64(all)
	return rest < 0.9 && share >= rest+(1-rest)/2
}

// cap returns how many peers may be ejected at once.
func (h *Health) cap() int {
	n := len(h.peers)
	if n < 2 || h.opt.MaxShare <= 0 {
		return 0
	}
	return min(max(1, int(h.opt.MaxShare*float64(n))), n-1)
}

func (h *Health) mayEject(i int) bool {
	out, others := 0, 0
	for j := range h.peers {
		p := &h.peers[j]
		if p.ejectedUntil > 0 {
			out++
		}
		if j != i && p.present() {
			others++
		}
	}
	return out < h.cap() && others > 0
}

func (h *Health) eject(p *peer) {
	p.level++
	p.lastMS = min(h.opt.BaseMS*math.Pow(2, float64(p.level-1)), h.opt.MaxMS)
	if p.lastMS >= h.opt.MaxMS {
		p.level = min(p.level, 2+int(math.Log2(h.opt.MaxMS/h.opt.BaseMS)))
	}
	p.ejectedUntil = h.now + p.lastMS
	p.ejections++
	p.count, p.suspect, p.ramping = 0, false, false
}

// Probe is active evidence. Which answers pass is decided by the caller's written rule; here every answer is one or the other,
// so no status can freeze the counters.
func (h *Health) Probe(now float64, i int, pass bool) {
	if !h.has(i) {
		return
	}
	h.tick(now)
	p := &h.peers[i]
	assumed := p.assumed
	p.assumed = false
	if pass {
		p.pass, p.fail = p.pass+1, 0
		if p.down && (p.waiting || p.pass >= h.opt.Rise) {
			why := fmt.Sprintf("%d probes in a row passed", p.pass)
			if p.waiting {
				why = "first probe passed"
			}
			p.down, p.waiting, p.count, p.suspect = false, false, 0, false
			h.ramp(p)
			h.settle(now, why)
		}
		return
	}
	p.pass, p.fail = 0, p.fail+1
	switch {
	case p.down:
	case p.fail >= h.opt.Fall:
		p.down, p.ramping = true, false
		h.settle(now, fmt.Sprintf("%d probes in a row failed", p.fail))
	case assumed: // an engine that starts again would else send it requests for Fall checks, though its predecessor knew better
		p.down, p.waiting, p.ramping = true, true, false
		h.settle(now, "first probe failed")
	}
}

// Drain takes peer i out of traffic until Undrain.
func (h *Health) Drain(now float64, i int) {
	if h.has(i) {
		h.peers[i].drained = true
		h.settle(now, "drained by the operator")
	}
}

// Undrain ends Drain; the peer comes back through slow start. It does nothing to a peer that is not drained.
func (h *Health) Undrain(now float64, i int) {
	if h.has(i) && h.peers[i].drained {
		h.tick(now)
		h.peers[i].drained = false
		h.ramp(&h.peers[i])
		h.settle(now, "drain ended by the operator")
	}
}

// SetWeight sets the operator's weight of peer i; not > 0 means 1.
func (h *Health) SetWeight(now float64, i int, weight float64) {
	if h.has(i) {
		h.peers[i].weight = sane(weight)
	}
}

// Limit tells that a server metric of peer i is at its limit: over says how far (1 = just there) and why which; 0 ends it. The
// peer is in no state to take traffic, though it answers still.
func (h *Health) Limit(now float64, i int, over float64, why string) {
	if !h.has(i) {
		return
	}
	if !(over > 0) {
		over, why = 0, ""
	}
	p := &h.peers[i]
	if before := p.over; p.over != over || p.overWhy != why {
		p.over, p.overWhy = over, why
		if before > 0 || over > 0 {
			h.settle(now, "")
		}
	}
}

// Predict tells how likely peer i is to fail soon, 0..1. Its admit shrinks with it until the next prediction.
func (h *Health) Predict(now float64, i int, risk float64) {
	if h.has(i) {
		h.peers[i].risk = min(max(risk, 0), 1)
		if math.IsNaN(risk) {
			h.peers[i].risk = 0
		}
	}
}

// Advance runs the timers up to now and recomputes who is usable and how far. Call it each 100 ms or so, and before reading.
func (h *Health) Advance(now float64) { h.settle(now, "") }

// Panic reports whether the panic rule holds: health leaves no usable peer, so all that are not draining are used.
func (h *Health) Panic() bool { return h.panic }
