package estimate

import "math"

// hidden measures how much of the peers' load comes through other balancers, where peers do not report what they hold (others.go is for
// those that do).
//
// What a request costs those that come after it goes by all that come, whoever sends them. A balancer that takes its own load for
// all of it thinks that too little, and so do the others; together they crowd the fast peers. By simulation (twenty peers of four slots, two speeds, load
// 0.8), ten such had 1.02 of least_conn's mean response time, four had 1.14.
//
// A queue that others fill shows in one way: it lasts. Where all the load is one's own, an answer that took longer than the
// in-flight count explains says nothing of the peer's next request; where a queue is hidden, the next one may find it too. So what is
// measured is the correlation of two surprises, a surprise being response time over expected, less one: a request's, and that of the
// last answer the same peer gave before its pick, not long before. What else makes neighbours alike is kept out. A peer that is
// slow for long: by taking off its recent mean. What all peers share, as a database behind them: the correlation has to be more than
// twice that with the last answer of another peer. Chance: it has to be more than three standard errors, and counts whole from four and a half on. The
// standard error is that of sums over blocks of time (Liang and Zeger 1986): where one peer stood still once, a few pairs hold nearly all of the
// covariance, and by the number of pairs alone a pool of two quick peers showed a correlation of 0.4 at thirty standard errors.
//
// Four balancers are about what can be found out. On real NGINX in front of twenty peers the correlation was 0.037 of 24,000 pairs; a decayed mean of
// the peer's answers in place of the last one says no more, whatever its memory. So it takes 8,000 pairs to rise above chance, some 15,000 answers; with
// ten balancers a tenth of that. Where five standard errors were asked for it took 5 to 9 minutes at 120/s, and the fast peers were crowded meanwhile.
//
// In the same simulation the correlation is 0.05 where four balancers share the peers, 0.13 where ten do, 0.15 where twenty do, and at most 0.03 where there is
// one, brown-outs, drifting capacity and antagonists included.
type hidden struct {
	same, other correlation
	vary        float64          // decayed sum over the pairs of same: (1 + cv2) / 2 of what their peers serve
	answers     [poolEchoes]echo // of any peer
	head        int              // the newest
}

// echo is the surprise of an answer and when it came; at 0 = none. They are kept some time apart, so that those kept reach back before
// the pick of a request that ends now, however many end meanwhile.
type echo struct {
	at, surprise float64
	peer         int
}

const (
	poolEchoes = 64
	peerEchoes = 8

	echoFresh = 0.25 // of the peer's latency: the most that may lie between an answer and the pick it is compared with
	echoUsual = 30.0 // answers that a peer's usual surprise is a mean of
	echoBound = 5.0  // a surprise counts for at most so much
	// Answers of a peer before which its surprises are not counted, by what each tells of its K (peerEcho.known): until then they are errors of its curve, which
	// last as a queue does. With the first thirty left out, an engine alone in front of six uneven peers, whose requests were of 20, 60 and 320 ms, saw others in
	// 17 to 20 starts of 40, for 11 to 14 % of its first minute: and learned nothing from what was answered meanwhile. So it is 2 to 8 starts, and 0.2 to 2 %.
	// Four engines there find each other after 115 s instead of 60.
	echoKnown  = 80.0
	echoMemory = 100_000.0
	// Pairs below which nothing is said. The first answers surprise because services are not known yet: with 100, an engine that was alone saw others in its
	// first seconds on real NGINX in front of six uneven peers.
	echoFewest = 1000
	echoChance = 3.0   // standard errors of no correlation
	echoBlock  = 500.0 // ms; answers that lie farther apart are taken for independent
	echoBlocks = 16.0  // below that many the standard error is not known

	// ratioGain is the load of others, in units of one's own, for each unit of covariance, which is about the variance of the hidden wait over the square of the
	// response time: where answers hardly vary, what little is alike in them must not count. It was fitted where two, four, ten and twenty balancers share twenty
	// peers: what they are told changes where they send, and so the correlation. Mean and p99 of least_conn there are .98/.88, 1.04/.87, .86/.80, .72/.66;
	// told how many they are .97/.93, .98/.90, .85/.85, .71/.74.
	ratioGain = 130.0
	ratioMost = 64.0
	// A queue of requests that differ much varies more for the same load: the mean wait goes by (1 + cv2) / 2 of the services (Pollaczek and Khinchine), its
	// variance at high load by the square of that, and the response time that surprises are relative to by less than the wait does. This power of it is
	// taken off. In front of six uneven peers, one of which serves heavy requests badly, four engines read 12 to 19 and ten 25 to 32 without it; 7 and 15
	// with 1, 5 and 10 with 1.5, 4 and 7 with 2.
	ratioVary = 1.5
)

// peerEcho is a peer's usual surprise, and its last answers.
type peerEcho struct {
	usual, n float64
	known    float64 // answers ever; where response times scatter more than exponential ones, K is learned the slower, and each is worth less
	last     [peerEchoes]echo
	head     int
}

// correlation of pairs of numbers whose mean is 0, decayed.
type correlation struct {
	n, xy, xx, yy float64
	block, until  float64 // the sum of products in the block of time that is filling, and its end
	w, w2         float64 // of the blocks that are over: the sum of their weights, and of those squared
	squares       float64 // the sum of theirs, weighted and squared
}

func (c *correlation) add(now, x, y float64) {
	if now >= c.until {
		if c.until > 0 {
			c.squares += c.block * c.block
			c.w++
			c.w2++
		}
		c.block, c.until = 0, now+echoBlock
	}
	const keep = 1 - 1/echoMemory
	c.n, c.xy, c.xx, c.yy = c.n*keep+1, c.xy*keep+x*y, c.xx*keep+x*x, c.yy*keep+y*y
	c.w, c.w2, c.squares = c.w*keep, c.w2*keep*keep, c.squares*keep*keep
	c.block += x * y
}

// value is the correlation, its standard error where there is none, and the geometric mean of the two variances.
func (c *correlation) value() (r, chance, variance float64) {
	if c.n < echoFewest || c.w*c.w < echoBlocks*c.w2 || c.w2 == 0 || !(c.xx > 0 && c.yy > 0) {
		return 0, 1, 0
	}
	both := math.Sqrt(c.xx * c.yy)
	mean := c.xy / c.w
	among := max(c.squares-mean*mean*c.w2, 0)
	return c.xy / both, max(math.Sqrt(among)/both, 1/math.Sqrt(c.n)), both / c.n
}

// surprised takes the response time of a success of peer i that ended at now, and what was expected of it, ms.
func (p *Pool) surprised(now float64, i int, ms, expected float64) {
	pe, h := &p.peers[i], &p.hidden
	e := &pe.echo
	s := min(ms/expected-1, echoBound) - e.usual
	e.n = min(e.n+1, echoUsual)
	e.usual += s / e.n
	e.known += math.Pow(pe.mix.scatter(), -1.5)
	if e.known < echoKnown {
		return
	}
	picked := now - ms
	oldest := picked - echoFresh*pe.latency
	for k := range peerEchoes {
		if l := &e.last[(e.head+peerEchoes-k)%peerEchoes]; l.at <= picked {
			if l.at > max(oldest, 0) {
				h.same.add(now, s, l.surprise)
				h.vary = h.vary*(1-1/echoMemory) + (1+pe.mix.cv2())/2
			}
			break
		}
	}
	for k := range poolEchoes {
		if l := &h.answers[(h.head+poolEchoes-k)%poolEchoes]; l.at <= picked && l.peer != i {
			if l.at > max(oldest, 0) {
				h.other.add(now, s, l.surprise)
			}
			break
		}
	}
	if now-e.last[e.head].at >= pe.latency*2/peerEchoes {
		e.head = (e.head + 1) % peerEchoes
		e.last[e.head] = echo{now, s, i}
	}
	if now-h.answers[h.head].at >= pe.latency*4/poolEchoes {
		h.head = (h.head + 1) % poolEchoes
		h.answers[h.head] = echo{now, s, i}
	}
}

// SetBalancers tells how many engines send to the peers, this one included; 0 = to be found out.
func (p *Pool) SetBalancers(n int) { p.sharers = float64(max(n, 0)) }

// LoadRatio is how many times the load through this engine's own balancers the pool's peers have in all, as told or by the answers: 1 = no other load shows.
// Where the sizes of requests are known it is 1, unless told: what response times owe to those is no sign of others.
func (p *Pool) LoadRatio() float64 {
	if p.sharers > 0 {
		return p.sharers
	}
	if p.weighed() {
		return 1
	}
	same, chance, variance := p.hidden.same.value()
	other, _, _ := p.hidden.other.value()
	same += 0.5 / echoUsual // what taking off a mean of so many takes off it
	least := max(echoChance*chance, 2*other)
	if same <= least {
		return 1
	}
	usual := p.hidden.vary / p.hidden.same.n
	return min(1+ratioGain*same*variance/math.Pow(usual, ratioVary)*ramp(same, least, 1.5*least), ratioMost)
}

// loadRatio is that of a peer; 1 where it tells its load itself.
func (p *Pool) loadRatio(pe *peer) float64 {
	if pe.others.busyN > 0 {
		return 1
	}
	return p.LoadRatio()
}
