package policy

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/weirlb/weir/engine/sim/world"
)

// prequal is Prequal in its asynchronous form (Wydrowski, Kleinberg, Rumble, Archer: "Load is not what you should
// balance: Introducing Prequal", NSDI 2024, section 4), with the parameters of the paper's testbed.
//
//   - Beside each query 3 probes go to random servers. A server answers with its requests in flight (RIF) and the latency
//     it expects at that number (world.Truth.Probe). Answers go to a pool of at most 16; a newer one from a server replaces
//     the older; the oldest makes room.
//   - A query takes from the pool by the hot-cold rule: a probe is hot when its RIF is above the 0.84 quantile of the RIFs
//     seen lately. Of the cold ones the lowest latency, when all are hot the lowest RIF. The chosen probe's RIF is raised by
//     one, for the query it just got. With fewer than 2 probes in the pool the server is random.
//   - Probes leave the pool after 1 s, after b_reuse uses, and one with each query: by turns the oldest and the worst (the
//     hot one of the highest RIF, or else the cold one of the highest latency).
//   - b_reuse = max(1, (1 + delta) / ((1 - m/n) x probes - removes)) with delta = 1, m the pool's size, n the servers;
//     rounded at random to a whole number of that mean. With so few servers that m is not below n the formula has no
//     meaning: every probe then replaces an older one, the pool is as fresh as it gets, and use alone removes none.
//
// How many RIFs "lately" are is left open in the paper: here the last 128. So are its measures against servers that fail fast,
// which are therefore not here: a failing server holds little and attracts.
type prequal struct {
	truth   *world.Truth
	rnd     *rand.Rand
	pool    []probe
	members []int32
	reuse   float64 // b_reuse; +Inf = without bound
	seen    rifWindow
	worst   bool // whose turn it is to leave
}

const (
	prequalPool     = 16
	prequalProbes   = 3
	prequalRemoves  = 1
	prequalMaxAge   = 1000 // ms
	prequalQuantile = 0.84
	prequalDelta    = 1.0
	prequalMinPool  = 2
)

type probe struct {
	peer    int32
	rif     int32
	latency float64 // ms
	at      float64
	uses    float64 // left
}

func newPrequal(s *world.Setup) world.Balancer {
	s.Truth.RecordLatencies()
	return &prequal{truth: s.Truth, rnd: s.Rand, reuse: reuseBudget(len(s.Scenario.Peers))}
}

func reuseBudget(servers int) float64 {
	net := (1-float64(prequalPool)/float64(servers))*prequalProbes - prequalRemoves
	if net <= 0 {
		return math.Inf(1)
	}
	return math.Max(1, (1+prequalDelta)/net)
}

// Pick implements world.Balancer.
func (q *prequal) Pick(a *world.Attempt) int32 {
	q.members = a.Present
	q.pool = slices.DeleteFunc(q.pool, func(p probe) bool {
		_, member := slices.BinarySearch(a.Present, p.peer)
		return !member || a.Now-p.at > prequalMaxAge
	})
	hot := q.seen.quantile(prequalQuantile)
	best := -1
	if len(q.pool) >= prequalMinPool {
		for i := range q.pool {
			if a.Untried(q.pool[i].peer) && (best < 0 || q.pool[i].better(&q.pool[best], hot)) {
				best = i
			}
		}
	}
	var to int32
	if best < 0 {
		to = one(a, q.rnd)
	} else {
		p := &q.pool[best]
		to = p.peer
		p.rif++
		if p.uses--; p.uses <= 0 {
			q.remove(best)
		}
	}
	q.shed(hot)
	return to
}

// better is the hot-cold lexicographic rule.
func (p *probe) better(than *probe, hot int32) bool {
	pHot, thanHot := p.rif > hot, than.rif > hot
	switch {
	case pHot != thanHot:
		return thanHot
	case pHot:
		return p.rif < than.rif
	default:
		return p.latency < than.latency
	}
}

func (q *prequal) remove(i int) { q.pool = slices.Delete(q.pool, i, i+1) }

// shed removes one probe, by turns the oldest and the worst.
func (q *prequal) shed(hot int32) {
	q.worst = !q.worst
	if len(q.pool) == 0 {
		return
	}
	out := 0 // the pool is in order of age
	if q.worst {
		for i := range q.pool {
			if q.pool[out].better(&q.pool[i], hot) {
				out = i
			}
		}
	}
	q.remove(out)
}

// Sent probes random members beside the query that was just sent.
func (q *prequal) Sent(now float64, _ int32) {
	var asked [prequalProbes]int32
	for n := range min(prequalProbes, len(q.members)) {
		peer := q.members[q.rnd.IntN(len(q.members))]
		for slices.Contains(asked[:n], peer) {
			peer = q.members[q.rnd.IntN(len(q.members))]
		}
		asked[n] = peer
		rif, latency := q.truth.Probe(peer)
		q.seen.add(rif)
		q.pool = slices.DeleteFunc(q.pool, func(p probe) bool { return p.peer == peer })
		if len(q.pool) == prequalPool {
			q.remove(0)
		}
		uses := q.reuse
		if !math.IsInf(uses, 1) {
			whole := math.Floor(uses)
			if q.rnd.Float64() < uses-whole {
				whole++
			}
			uses = whole
		}
		q.pool = append(q.pool, probe{peer: peer, rif: rif, latency: latency, at: now, uses: uses})
	}
}

// Done implements world.Balancer: Prequal learns from probes alone.
func (q *prequal) Done(*world.Outcome) {}

// rifWindow is the last rifSeen requests in flight that probes told, counted by value, so that a quantile is one scan of a
// few counters and not a sort.
type rifWindow struct {
	last   [rifSeen]int32
	n      int // ever added
	counts []int32
}

const (
	rifSeen = 128
	rifTop  = 4095 // larger values share its place
)

func (w *rifWindow) add(rif int32) {
	rif = min(rif, rifTop)
	at := w.n % rifSeen
	if w.n >= rifSeen {
		w.counts[w.last[at]]--
	}
	for int(rif) >= len(w.counts) {
		w.counts = append(w.counts, 0)
	}
	w.counts[rif]++
	w.last[at] = rif
	w.n++
}

// quantile gives the value of the nearest rank; above every value while there is none.
func (w *rifWindow) quantile(q float64) int32 {
	rank := int32(math.Ceil(q * float64(min(w.n, rifSeen))))
	for rif, n := range w.counts {
		if rank -= n; rank <= 0 && w.n > 0 {
			return int32(rif)
		}
	}
	return math.MaxInt32
}
