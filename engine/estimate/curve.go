package estimate

import "math"

// curve is how a peer's response time grows with the requests it holds: S for n < K, then S + (n + 1 - K) / K mean services.
//
// For each in-flight count at the pick it keeps the response times, decayed, and the size of the requests relative to the mean
// request of the peer. Response times scatter in proportion to their mean, so the fit is by the likelihood of an exponential with
// that mean, flattened:
//
//	log L(K) = - sum over samples of ( ln m + t / m ),  m = theta x (size + wait(n; K))
//
// with theta, the mean service time of the peer, profiled out. So K and theta come from one fit, and waiting is told from working
// afresh each time; nothing is stored in units of an estimate. The count at the pick does not depend on the size of the request
// itself, which makes this sound where a throughput per in-flight count is not: there a balancer that answers a departure with an
// arrival, and clocks a millisecond apart, are enough to swap the two. A processor-sharing peer has the same curve in the mean.
//
// What it cannot see: K above the highest n ever held. There the likelihood is flat, and the prior, which prefers small K, keeps the
// peer from being trusted with more than was tried.
type curve struct {
	// By level of the in-flight count at the pick: samples, their in-flight, response times at the long-run speed (ms), sizes
	// relative to the peer's mean request.
	count, held, sum, size [levels]float64

	post  [kGrid]float64 // posterior of K
	like  [kGrid]float64 // log likelihood, scratch of fit
	theta [kGrid]float64 // mean service time by K, ms
	k     float64        // geometric posterior mean
	mean  float64        // posterior mean of theta; 0 = no samples
	n     float64        // samples
	seen  float64        // samples ever: memory grows with it, so that what was learned while all was new is forgotten soon
	base  float64        // sum of what the requests take on a typical peer, ms

	// Throughput over the long run: time at each level, work finished. Their ratio is what drift compares with.
	time, mass [levels]float64
	work       float64 // service time finished, as expected of the long-run speed
	late       float64 // slot-time of residents that turned out to be work
}

const (
	exact  = 17 // levels 0..16 are single counts
	levels = exact + 18
	kGrid  = 24
	// dispersion flattens likelihoods: service times that vary more than exponential ones bring completions in bursts.
	dispersion = 1.5
	fitsAtOnce = 32
)

// level of an in-flight count: exact to 16, then steps of a factor 1.2.
func level(n float64) int {
	if n < exact {
		return int(n)
	}
	return min(exact+int(math.Log(n/exact)/math.Log(1.2)), levels-1)
}

// kAt is the i-th candidate of K.
func kAt(i int) float64 {
	return [kGrid]float64{1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128, 160, 200, 256}[i]
}

// kBase is the prior of K before anything is known: falling as 1/K over the (about logarithmic) grid.
func kBase(i int) float64 { return 1 / kAt(i) }

func (c *curve) hold(n, ms float64) {
	l := level(n)
	c.time[l] += ms
	c.mass[l] += n * ms
}

// add takes a response time at n others in flight, of a request of a size relative to the peer's mean, that takes base ms on a
// typical peer.
func (c *curve) add(n, ms, size, base float64) {
	l := level(n)
	c.count[l]++
	c.held[l] += n
	c.sum[l] += ms
	c.size[l] += size
	c.n++
	c.base += base
}

func (c *curve) decay(f float64) {
	if f >= 1 {
		return
	}
	for l := range c.time {
		c.time[l] *= f
		c.mass[l] *= f
		c.count[l] *= f
		c.held[l] *= f
		c.sum[l] *= f
		c.size[l] *= f
	}
	c.work *= f
	c.late *= f
	c.n *= f
	c.base *= f
}

// age forgets with time, so that a peer without traffic fades to the pool's typical and is tried again.
func (c *curve) age(part float64) { c.decay(math.Exp(-part)) }

// busy is the slot-time for a given K.
func (c *curve) busy(k float64) float64 {
	b := c.late
	for l := range c.time {
		if c.time[l] > 0 {
			b += c.time[l] * min(c.mass[l]/c.time[l], k)
		}
	}
	return b
}

// fit recomputes the posterior of K.
func (c *curve) fit(prior *[kGrid]float64) {
	best := math.Inf(-1)
	for i := range kGrid {
		k := kAt(i)
		logs, ratio := 0.0, 0.0
		for l := range levels {
			if n := c.count[l]; n > 1e-3 {
				m := c.size[l]/n + waiting(c.held[l]/n, k)
				logs += n * math.Log(m)
				ratio += c.sum[l] / m
			}
		}
		c.like[i], c.theta[i] = 0, 0
		if c.n > 1e-3 && ratio > 0 {
			c.theta[i] = ratio / c.n
			c.like[i] = -(logs + c.n*math.Log(c.theta[i])) / dispersion
		}
		best = max(best, c.like[i])
	}
	sum := 0.0
	for i := range kGrid {
		c.post[i] = math.Exp(max(c.like[i]-best, -60)) * prior[i]
		sum += c.post[i]
	}
	mean := 0.0
	c.mean = 0
	for i := range kGrid {
		c.post[i] /= sum
		c.mean += c.post[i] * c.theta[i]
		mean += c.post[i] * math.Log(kAt(i))
	}
	c.k = math.Exp(mean)
}

// waiting is how long a request that finds n others waits at K slots, in mean services.
func waiting(n, k float64) float64 { return max(n+1-k, 0) / k }

// wait is how long a request that finds n others waits, in mean service times of the peer.
func (c *curve) wait(n float64) float64 { return waiting(n, c.k) }

// concurrency refits K: of every peer in a small pool, of about fitsAtOnce in turn in a large one. The prior of each is what the pool shows: a mixture of all posteriors, with a share of the
// base prior so that nothing is ever ruled out.
func (p *Pool) concurrency() {
	var mix [kGrid]float64
	n := 0.0
	for i := range p.peers {
		c := &p.peers[i].curve
		w := min(c.n/100, 1)
		n += w
		for j := range kGrid {
			mix[j] += w * c.post[j]
		}
	}
	base := 0.0
	for j := range kGrid {
		base += kBase(j)
	}
	for j := range kGrid {
		p.kprior[j] = (mix[j] + (0.5+0.2*n)*kBase(j)/base) / (n + 0.5 + 0.2*n)
	}
	every := 1 + len(p.peers)/fitsAtOnce
	for i := range p.peers {
		if c := &p.peers[i].curve; i%every == p.turn%every || c.mean == 0 {
			c.fit(&p.kprior)
		}
	}
}
