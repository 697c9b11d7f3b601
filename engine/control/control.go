// Package control compares the requests that a pool's policy placed with those of the control slice, which a classical rule placed.
//
// Which slice a request falls into is drawn at random, so both see the same mix of classes, clients and hours, and what differs is the
// rule. Both use the same peers at the same time: the ratio says what the policy does for a request beside the rule's on queues that the
// policy keeps, not how a pool without Weir would do.
//
// Pure: time is an argument. Not safe for concurrent use.
package control

import "math"

// Slice tells the two apart.
type Slice uint8

// The slices.
const (
	Policy  Slice = iota // placed by the pool's policy, its exploration included
	Control              // placed by the classical rule
)

// Options of a comparison. The zero value has the defaults.
type Options struct {
	BlockMS  float64 // length of a block of time; 0 = 5 s
	MemoryMS float64 // time after which what was seen counts 1/e; 0 = an hour, negative = forever
}

// Comparison is the running comparison.
//
// Times in queues depend on one another over seconds, so the interval is not computed from requests as if they were independent, but
// from blocks of time: the ratio of means is a ratio of sums over blocks, and its variance is that of the blocks' residuals by
// linearisation (Cochran 1977, section 2.11), for both slices at once, since a busy block is busy for both. A block's weight fades with
// its age.
type Comparison struct {
	opt     Options
	block   block   // the one that is filling
	until   float64 // its end, ms
	started bool

	sum   block // first moments, fading
	cross [4][4]float64
	w, w2 float64 // sum of the weights of blocks, and of their squares

	seen [2]tally
}

// block is the sums over one block of time: for each slice the number of answered attempts and their times.
type block [4]float64

const (
	policyN = iota
	policyMS
	controlN
	controlMS
)

// tally is what is known of one slice beside the sums.
type tally struct {
	failed   float64 // fading, as all here
	buckets  [buckets]float32
	attempts uint64 // ever
	failures uint64
}

// Buckets of times: 4 % wide, from 0.1 ms to about 20 minutes.
const (
	lowest  = 0.1
	growth  = 1.04
	buckets = 416
)

// New makes a comparison without evidence.
func New(opt Options) *Comparison {
	if !(opt.BlockMS > 0) {
		opt.BlockMS = 5000
	}
	if opt.MemoryMS == 0 {
		opt.MemoryMS = 3_600_000
	}
	return &Comparison{opt: opt}
}

// Add takes in an attempt that ended at now (ms): how long it took, or that it failed, whose time says nothing then.
func (c *Comparison) Add(now float64, s Slice, ms float64, failed bool) {
	c.Advance(now)
	t := &c.seen[s]
	t.attempts++
	if failed {
		t.failures++
		t.failed++
		return
	}
	if !(ms >= 0) || math.IsInf(ms, 0) {
		return
	}
	c.block[2*s]++
	c.block[2*s+1] += ms
	t.buckets[bucketOf(ms)]++
}

func bucketOf(ms float64) int {
	return min(max(int(math.Log(max(ms, lowest)/lowest)/math.Log(growth)), 0), buckets-1)
}

// Advance closes the block when it is over. Add does so too; it is for quiet times before Result.
func (c *Comparison) Advance(now float64) {
	if !c.started {
		c.started, c.until = true, now+c.opt.BlockMS
		return
	}
	if now < c.until {
		return
	}
	c.close()
	// Empty blocks only fade.
	passed := 1 + math.Floor((now-c.until)/c.opt.BlockMS)
	c.until += passed * c.opt.BlockMS
	if c.opt.MemoryMS > 0 {
		c.fade(math.Exp(-passed * c.opt.BlockMS / c.opt.MemoryMS))
	}
}

func (c *Comparison) close() {
	if c.block == (block{}) {
		return
	}
	for i, x := range c.block {
		c.sum[i] += x
		for j, y := range c.block {
			c.cross[i][j] += x * y
		}
	}
	c.w++
	c.w2++
	c.block = block{}
}

func (c *Comparison) fade(f float64) {
	for i := range c.sum {
		c.sum[i] *= f
		for j := range c.cross[i] {
			c.cross[i][j] *= f * f
		}
	}
	c.w *= f
	c.w2 *= f * f
	for s := range c.seen {
		t := &c.seen[s]
		t.failed *= f
		for i := range t.buckets {
			t.buckets[i] *= float32(f)
		}
	}
}

// Figures are those of one slice. NaN = not known.
type Figures struct {
	Attempts, Failures uint64  // since the comparison began
	MeanMS             float64 // of answered attempts, the recent ones counting more
	P99MS              float64 // within 4 %
	FailureShare       float64
}

// Result is what the comparison says. NaN = not known yet.
type Result struct {
	Policy, Control Figures
	// Ratio of the means, policy over control: below 1 the policy is faster. Low and High are the ends of its 95 % interval; they
	// need six blocks, and twenty answers of the control slice.
	Ratio, Low, High float64
	P99Ratio         float64
	Blocks           float64 // how many blocks of time it rests on, the faded ones counting less
}

const (
	minBlocks  = 6
	minControl = 20
)

// Result computes the result; the block that is filling counts for the figures, not yet for the interval.
func (c *Comparison) Result() Result {
	sum := c.sum
	for i, x := range c.block {
		sum[i] += x
	}
	r := Result{Policy: c.seen[Policy].figures(sum[policyN], sum[policyMS]), Control: c.seen[Control].figures(sum[controlN], sum[controlMS])}
	r.Ratio, r.P99Ratio = r.Policy.MeanMS/r.Control.MeanMS, r.Policy.P99MS/r.Control.P99MS
	if c.w2 > 0 {
		r.Blocks = c.w * c.w / c.w2
	}
	r.Low, r.High = interval(c.sum, c.cross, r.Blocks)
	return r
}

// interval computes the ends of the 95 % interval of the ratio of means, from the sums over blocks, the sums of their products and their number;
// NaN when they are too few.
func interval(sum block, cross [4][4]float64, blocks float64) (low, high float64) {
	if blocks < minBlocks || sum[controlN] < minControl || !(sum[policyN] > 0 && sum[policyMS] > 0 && sum[controlMS] > 0) {
		return math.NaN(), math.NaN()
	}
	// The residual of a block is linear in its sums: (ms - mean n) / total ms of one slice less the same of the other.
	ratio := (sum[policyMS] / sum[policyN]) / (sum[controlMS] / sum[controlN])
	a := [4]float64{policyN: -1 / sum[policyN], policyMS: 1 / sum[policyMS], controlN: 1 / sum[controlN], controlMS: -1 / sum[controlMS]}
	variance := 0.0
	for i := range a {
		for j := range a {
			variance += a[i] * a[j] * cross[i][j]
		}
	}
	variance *= blocks / (blocks - 1)
	half := student975(blocks-1) * math.Sqrt(max(variance, 0))
	return ratio * math.Exp(-half), ratio * math.Exp(half)
}

func (t *tally) figures(n, ms float64) Figures {
	f := Figures{Attempts: t.attempts, Failures: t.failures, MeanMS: ms / n, P99MS: t.quantile(0.99), FailureShare: t.failed / (t.failed + n)}
	return f
}

func (t *tally) quantile(q float64) float64 {
	all := 0.0
	for _, n := range t.buckets {
		all += float64(n)
	}
	if !(all > 0) {
		return math.NaN()
	}
	rest := all * (1 - q)
	for i := buckets - 1; i >= 0; i-- {
		if rest -= float64(t.buckets[i]); rest < 0 {
			return lowest * math.Pow(growth, float64(i)+0.5)
		}
	}
	return lowest
}

// student975 is the 97.5 % quantile of Student's t, by the expansion in 1/f (Abramowitz and Stegun 26.7.5); within 1 % from 4 on.
func student975(f float64) float64 {
	const z = 1.959964
	z3, z5, z7 := z*z*z, z*z*z*z*z, z*z*z*z*z*z*z
	return z + (z3+z)/(4*f) + (5*z5+16*z3+3*z)/(96*f*f) + (3*z7+19*z5+17*z3-15*z)/(384*f*f*f)
}
