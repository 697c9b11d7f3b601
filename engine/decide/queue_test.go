package decide_test

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/estimate"
)

// A small queue simulation: peers are first-come-first-served queues in front of K slots, arrivals are Poisson, sizes are drawn
// from one stream whatever the policy. It proves what the policy does; engine/sim is the full one.

type load struct {
	name  string
	share float64
	mean  float64
	draw  func(*rand.Rand) float64 // of mean 1
}

type server struct {
	slots    int
	speed    float64
	affinity map[string]float64 // factor on service time
}

type world struct {
	servers []server
	classes []load
	load    float64                            // share of capacity
	unit    float64                            // ms of mean work 1
	speed   func(i int, units float64) float64 // factor on the speed now; nil = 1
	fails   func(i int, units float64) bool    // a request that starts now fails after 0.1 units
	n, skip int
	explore float64
}

type job struct {
	class   int
	size    float64
	arrived float64
	held    int // others there at the pick
	peer    int
	failed  bool
	end     float64
	order   int
}

type ends []*job

func (h ends) Len() int { return len(h) }
func (h ends) Less(a, b int) bool {
	return h[a].end < h[b].end || h[a].end == h[b].end && h[a].order < h[b].order
}
func (h ends) Swap(a, b int) { h[a], h[b] = h[b], h[a] }
func (h *ends) Push(x any)   { *h = append(*h, x.(*job)) }
func (h *ends) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// router picks a peer; done and tick feed the learning ones.
type router interface {
	pick(w *world, j *job, held []int, queued [][]*job) int
	done(now float64, w *world, j *job)
	tick(now float64, held []int)
}

type result struct {
	mean, p99 float64
	failed    int
	share     []float64
}

func (w *world) affinity(i, c int) float64 {
	if f, ok := w.servers[i].affinity[w.classes[c].name]; ok {
		return f
	}
	return 1
}

func (w *world) run(r router, seed uint64) result {
	rnd := rand.New(rand.NewPCG(seed, 1))
	capacity := 0.0 // work units a unit of time, by the class mix
	for i := range w.servers {
		mean := 0.0
		for c := range w.classes {
			mean += w.classes[c].share * w.classes[c].mean * w.affinity(i, c)
		}
		capacity += float64(w.servers[i].slots) * w.servers[i].speed / mean
	}
	n := len(w.servers)
	held, busy, queued := make([]int, n), make([]int, n), make([][]*job, n)
	share := make([]float64, n)
	var active ends
	var times []float64
	failed, order := 0, 0
	start := func(j *job, now float64) {
		s := w.servers[j.peer]
		speed := s.speed
		if w.speed != nil {
			speed *= w.speed(j.peer, now/w.unit)
		}
		ms := j.size * w.affinity(j.peer, j.class) / speed * w.unit
		if w.fails != nil && w.fails(j.peer, now/w.unit) {
			j.failed, ms = true, 0.1*w.unit
		}
		busy[j.peer]++
		j.end = now + ms
		heap.Push(&active, j)
	}
	next, tick := rnd.ExpFloat64()/(w.load*capacity)*w.unit, 100.0
	for order < w.n+w.skip || len(active) > 0 {
		switch {
		case len(active) > 0 && active[0].end <= min(next, tick):
			j := heap.Pop(&active).(*job)
			held[j.peer]--
			busy[j.peer]--
			if q := queued[j.peer]; len(q) > 0 {
				queued[j.peer] = q[1:]
				start(q[0], j.end)
			}
			r.done(j.end, w, j)
			if j.order >= w.skip {
				if j.failed {
					failed++
				} else {
					times = append(times, (j.end-j.arrived)/w.unit)
				}
			}
		case tick <= next:
			r.tick(tick, held)
			tick += 100
		default:
			if order >= w.n+w.skip {
				next = math.Inf(1)
				continue
			}
			u, c := rnd.Float64(), 0
			for u > w.classes[c].share && c < len(w.classes)-1 {
				u -= w.classes[c].share
				c++
			}
			j := &job{class: c, size: w.classes[c].mean * w.classes[c].draw(rnd), arrived: next, order: order}
			order++
			j.peer = r.pick(w, j, held, queued)
			j.held = held[j.peer]
			held[j.peer]++
			share[j.peer] += 1 / float64(w.n+w.skip)
			if busy[j.peer] < w.servers[j.peer].slots {
				start(j, next)
			} else {
				queued[j.peer] = append(queued[j.peer], j)
			}
			next += rnd.ExpFloat64() / (w.load * capacity) * w.unit
		}
	}
	slices.Sort(times)
	sum := 0.0
	for _, t := range times {
		sum += t
	}
	return result{mean: sum / float64(len(times)), p99: times[len(times)*99/100], failed: failed, share: share}
}

// leastConn takes the fewest in flight, ties at random.
type leastConn struct{ rnd *rand.Rand }

func (l *leastConn) pick(_ *world, _ *job, held []int, _ [][]*job) int {
	best, ties := 0, 0
	for i, h := range held {
		if h < held[best] {
			best, ties = i, 1
		} else if h == held[best] {
			if ties++; l.rnd.IntN(ties) == 0 {
				best = i
			}
		}
	}
	return best
}
func (*leastConn) done(float64, *world, *job) {}
func (*leastConn) tick(float64, []int)        {}

// weir is the product: estimators and the analytic table, refreshed each 100 ms, in-flight counts live.
type weir struct {
	est    *estimate.Pool
	policy decide.Policy
	par    decide.Params
	table  decide.Table
	cand   []decide.Candidate
	rnd    *rand.Rand
	row    []int
}

func newWeir(w *world, seed uint64, policy decide.Policy, par decide.Params) *weir {
	r := &weir{est: estimate.New(estimate.Options{}), policy: policy, par: par, rnd: rand.New(rand.NewPCG(seed, 2))}
	var addrs []string
	for i := range w.servers {
		addrs = append(addrs, fmt.Sprintf("10.0.0.%d:80", i+1))
	}
	r.est.SetPeers(0, addrs)
	r.cand = make([]decide.Candidate, len(addrs))
	for c := range w.classes {
		r.est.Class(0, w.classes[c].name)
	}
	r.tick(0, make([]int, len(addrs)))
	return r
}

func (r *weir) pick(w *world, j *job, held []int, _ [][]*job) int {
	for i := range held {
		r.cand[i] = decide.Candidate{InFlight: float64(held[i]), Usable: true}
	}
	return decide.Pick(&r.table, r.row[j.class], r.cand, decide.Rule{Explore: w.explore, Spread: 0.1}, r.rnd).Peer
}

func (r *weir) done(now float64, w *world, j *job) {
	o := estimate.Outcome{
		Peer: j.peer, Class: r.est.Class(now, w.classes[j.class].name), InFlight: j.held, TotalMS: now - j.arrived,
		HeaderMS: now - j.arrived, ReportedLoad: -1,
	}
	if j.failed {
		o.Kind = 5
	}
	r.est.Observe(now, o)
}

func (r *weir) tick(now float64, held []int) {
	for i, n := range held {
		r.est.InFlight(now, i, n)
	}
	r.est.Refresh(now)
	r.policy.Fill(now, r.est, r.par, &r.table)
	r.row = r.row[:0]
	for _, c := range r.table.Classes[1:] {
		r.row = append(r.row, r.table.Class(c))
	}
}

func exponential(r *rand.Rand) float64 { return r.ExpFloat64() }

// pareto22 is a Pareto of shape 2.2 and mean 1.
func pareto22(r *rand.Rand) float64 { return 1.2 / 2.2 * math.Pow(1-r.Float64(), -1/2.2) }
