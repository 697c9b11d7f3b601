package estimate

import "math"

// curve is how a peer's response time grows with the requests it holds: S for n < K, then S + (n + 1 - K) / K mean services.
//
// Response times by in-flight count at the pick scatter in proportion to their mean, so the fit is by the likelihood of an exponential
// with that mean, flattened:
//
//	log L(K) = - sum over samples of ( ln m + t / m ),  m = theta x (own + wait(n; K) x mix)
//
// with theta, the peer's slowness, profiled out. own and mix are the request and the peer's mean request in
// mean requests of the pool: never in units of what is believed of the peer, or an error would feed on itself. The count at the pick does not depend
// on the size of the request itself, which makes this sound where a throughput per in-flight count is not: there a balancer that
// answers a departure with an arrival, and clocks a millisecond apart, are enough to swap the two. A processor-sharing peer has the
// same curve in the mean.
//
// What it cannot see: K above the highest n ever held. There the likelihood is flat, and the prior, which prefers small K, keeps the
// peer from being trusted with more than was tried.
type curve struct {
	post   [kGrid]float64 // posterior of K
	like   [kGrid]float64 // log likelihood, scratch of fit
	proof  float64        // log evidence of a K of its own
	k      float64        // geometric posterior mean, over the last while
	fits   float64        // ever: the first ones count more
	excess float64        // (cv2 - 1) / 2 of the peer's mix
	// how much more than exponential ones response times scatter (mix.scatter)
	scatter float64
	n       float64 // samples
	news    bool    // samples since the last fit
	seen    float64 // samples ever: memory grows with it, so that what was learned while all was new is forgotten soon

	picks, held [levels]float64 // by level: requests, and their in-flight counts
	// By level: response times at the long-run speed, by the drift of their time and by its mean over settleMS. The fit takes the latter. What drift
	// is now follows from K and the in-flight count: peers of 64 slots taken for 20 looked slow while they held few, and short answers of small
	// counts are what a peer of few slots has. In one start of eight that ended with 2.3 times the mean of least_conn.
	swift, steady [levels]float64

	// Throughput over the long run: time at each level, work finished. Their ratio is what drift compares with.
	time, mass [levels]float64
	done       [levels]float64 // work finished at each level, in mean requests of the pool
	work       float64         // finished, in mean requests of the pool
	late       float64         // slot-time of residents that turned out to be work
	sized      sized           // the same where requests tell their size
}

const (
	exact  = 8 // levels 0..7 are single counts
	levels = exact + 16
	kGrid  = 24
	// dispersion flattens likelihoods: service times that vary more than exponential ones bring completions in bursts.
	dispersion = 1.5
	fitsAtOnce = 32
)

// levelStep is the ratio of levels beyond the exact ones. A policy that keeps a peer just full shows its K only by how answers differ between nearly equal
// counts: with steps of 1.5 four peers of 100 slots, two speeds, were taken for 105 in one start and for 157 in another, .90 and 1.04 of least_conn's mean.
const levelStep = 1.25

// level of an in-flight count: exact to 7, then by steps.
func level(n float64) int {
	if n < exact {
		return int(n)
	}
	return min(exact+int(math.Log(n/exact)/math.Log(levelStep)), levels-1)
}

// kAt is the i-th candidate of K.
func kAt(i int) float64 {
	return [kGrid]float64{1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128, 160, 200, 256}[i]
}

// kBase is the prior of K before anything is known: falling as 1/K over the (about logarithmic) grid.
func kBase(i int) float64 { return kBases[i] }

var kBases = func() (b [kGrid]float64) {
	sum := 0.0
	for i := range b {
		b[i] = 1 / kAt(i)
		sum += b[i]
	}
	for i := range b {
		b[i] /= sum
	}
	return b
}()

func (c *curve) hold(n, ms float64) {
	l := level(n)
	c.time[l] += ms
	c.mass[l] += n * ms
}

// count notes an answered request that found n others, and its response time (ms, at the long-run speed, as swift and as steady).
func (c *curve) count(n, swift, steady float64) {
	l := level(n)
	c.picks[l]++
	c.held[l] += n
	c.swift[l] += swift
	c.steady[l] += steady
	c.n++
	c.news = true
}

// heldAt is the mean in-flight count of the requests of a level.
func (c *curve) heldAt(l int) float64 {
	if c.picks[l] > 0 {
		return c.held[l] / c.picks[l]
	}
	if l < exact {
		return float64(l)
	}
	return exact * math.Pow(levelStep, float64(l-exact)+0.5)
}

func (c *curve) decay(f float64) {
	if f >= 1 {
		return
	}
	for l := range c.time {
		c.time[l] *= f
		c.mass[l] *= f
		c.done[l] *= f
		c.picks[l] *= f
		c.held[l] *= f
		c.swift[l] *= f
		c.steady[l] *= f
	}
	c.work *= f
	c.late *= f
	c.sized.decay(f)
	c.n *= f
}

// age forgets with time, so that a peer without traffic fades to the pool's typical and is tried again.
func (c *curve) age(part float64) { c.decay(math.Exp(-part)) }

// busy is the slot-time for a given K.
func (c *curve) busy(k float64) float64 {
	b := c.late
	for l := range c.time {
		b += c.busyAt(l, k)
	}
	return b
}

func (c *curve) busyAt(l int, k float64) float64 {
	if c.time[l] > 0 {
		return c.time[l] * min(c.mass[l]/c.time[l], k)
	}
	return 0
}

// usual is the work finished in a ms of busy slot-time at each level, over the long run: that of all levels, so far as little was seen of one. Where K is right
// they are alike. Where it is too low, a peer that holds less than usual would look slow for that alone. Small counts are one level: they are off by one or two
// where outcomes are told late, and K is known there.
func (c *curve) usual(k, all, prior float64) (u [levels]float64) {
	done, busy := 0.0, 0.0
	for l := range u {
		if l >= exact {
			done, busy = 0, 0
		}
		done += c.done[l]
		busy += c.busyAt(l, k)
		u[l] = (done + prior) / (busy + prior/all)
	}
	for l := range exact {
		u[l] = u[exact-1]
	}
	return u
}

// settleMS is how long c.k and drift.steady take to follow.
const settleMS = 5_000

// fit recomputes the posterior of K from response times by level, the sums of which it sets right by what steady says.
func (c *curve) fit(t *levelSums, prior, base, told *[kGrid]float64, dt float64) {
	total := 0.0
	for l := range levels {
		total += t.count[l]
		if c.swift[l] > 0 {
			t.sum[l] *= c.steady[l] / c.swift[l]
		}
	}
	best := math.Inf(-1)
	for i := range kGrid {
		k := kAt(i)
		logs, ratio := 0.0, 0.0
		for l := range levels {
			if n := t.count[l]; n > 1e-3 {
				m := (t.own[l] + waiting(c.heldAt(l), k, c.excess)*t.mix[l]) / n
				logs += n * math.Log(m)
				ratio += t.sum[l] / m
			}
		}
		c.like[i] = told[i]
		if ratio > 0 {
			c.like[i] -= (logs + total*math.Log(ratio/total)) / (dispersion * max(c.scatter, 1))
		}
		best = max(best, c.like[i])
	}
	sum, own := 0.0, 0.0
	for i := range kGrid {
		like := math.Exp(max(c.like[i]-best, -60))
		c.post[i] = like * prior[i]
		sum += c.post[i]
		own += like * base[i]
	}
	c.proof = best + math.Log(own)
	if !(c.proof-c.proof == 0) { // what is no number must not reach the other peers
		c.like, c.post, sum, c.proof = [kGrid]float64{}, *prior, 1, 0
	}
	mean := 0.0
	for i := range kGrid {
		c.post[i] /= sum
		mean += c.post[i] * math.Log(kAt(i))
	}
	// A K is what a peer is. What it is believed to be sets the prices, those set where requests go, and that what is seen next: followed at once, a
	// bad guess of a few tables fed itself.
	c.fits++
	gain := min(max(2/(c.fits+1), dt/settleMS), 1)
	c.k *= math.Exp((mean - math.Log(c.k)) * gain)
}

// most is the K above which a tenth of the posterior lies; at least what K is taken for.
func (c *curve) most() float64 {
	above := 0.0
	for i := kGrid - 1; i > 0; i-- {
		if above += c.post[i]; above > 0.1 {
			return max(kAt(i), c.k)
		}
	}
	return max(kAt(0), c.k)
}

// waiting is how long a request that finds n others waits at k slots, in mean services. Departures come each 1/k services, but the
// first one after an arrival differs: what is in service is more often long than short, so its remaining time is (1 + cv2) / 2 mean
// services (the inspection paradox). excess is (cv2 - 1) / 2. Without it, short requests would look slow wherever long ones go.
func waiting(n, k, excess float64) float64 {
	queue := max(n+1-k, 0)
	return (queue + excess*min(queue, 1)) / k
}

func (c *curve) wait(n float64) float64 { return waiting(n, c.k, c.excess) }

// concurrency measures services and refits K: of every peer in a small pool, of about fitsAtOnce in turn in a large one; dt is the time since the last call.
// The prior of a peer's K is what the pool shows, in two ways: that all peers have the same K, so far as their answers together are likelier under one than under a K
// for each (Bayes factor; Kass and Raftery 1995), and a mixture of all posteriors. Without the first, peers that are alike read as anything from 3 to 10 slots for
// their first hundred answers.
//
// Below both lies what was believed of the pool over the last ten minutes. Where every request finds more than K there, as for minutes near saturation, the answers tell
// only the ratio of service and K. The prior that prefers few then took 16 slots for one, of a sixteenth of the service time, and such a peer looked slow whenever it held less.
func (p *Pool) concurrency(dt float64) {
	var mix, joint [kGrid]float64
	n, apart := 0.0, 0.0
	for i := range p.peers {
		c := &p.peers[i].curve
		w := min(c.n/100, 1)
		n += w
		apart += c.proof
		for j := range kGrid {
			mix[j] += w * c.post[j]
			joint[j] += c.like[j]
		}
	}
	var base [kGrid]float64
	known := dt * n / max(float64(len(p.peers)), 1)
	p.pastMS = min(p.pastMS+known, pastMS)
	for j := range kGrid {
		if n > 0 {
			p.past[j] += (mix[j]/n - p.past[j]) * min(known/p.pastMS, 1)
		}
		base[j] = (1-neverSure)*p.past[j] + neverSure*kBase(j)
		p.kprior[j] = (mix[j] + (0.5+0.2*n)*base[j]) / (n + 0.5 + 0.2*n)
	}
	_, together := sameK(&joint, nil, &base)
	same := 1 / (1 + math.Exp(min(max(apart-together, -60), 60)))
	every := 1 + len(p.peers)/fitsAtOnce
	for i := range p.peers {
		// What nothing was added to fits as before; from time to time it is looked at all the same, since the classes' bases move.
		if pe := &p.peers[i]; i%every == p.turn%every && (pe.curve.news || p.turn/every%16 == 0) {
			pe.curve.news = false
			pe.curve.excess, pe.curve.scatter = (min(pe.mix.cv2(), 4)-1)/2, pe.mix.scatter()
			if p.weighed() { // what is left of those in service is known by their sizes
				pe.curve.excess, pe.curve.scatter = max((min(pe.mix.within, 4)-1)/2, 0), max(pe.mix.within, 1)
			}
			t := p.split(pe)
			prior, _ := sameK(&joint, &pe.curve.like, &base)
			for j := range prior {
				prior[j] = same*prior[j] + (1-same)*p.kprior[j]
			}
			pe.curve.fit(&t, &prior, &base, &pe.others.k, dt*float64(every))
		}
	}
}

const (
	pastMS    = 600_000.0
	firstMS   = 20_000.0 // of that the prior of before counts
	neverSure = 0.1
)

// sameK is the posterior of the K of all peers, without the one whose log likelihood is given, and the log evidence of it.
func sameK(joint, without, base *[kGrid]float64) (post [kGrid]float64, proof float64) {
	best := math.Inf(-1)
	for j := range kGrid {
		post[j] = joint[j]
		if without != nil {
			post[j] -= without[j]
		}
		best = max(best, post[j])
	}
	sum := 0.0
	for j := range kGrid {
		post[j] = math.Exp(max(post[j]-best, -60)) * base[j]
		sum += post[j]
	}
	for j := range post {
		post[j] /= sum
	}
	return post, best + math.Log(sum)
}
