package serve

import "math"

// recent keeps what happened on one peer in about the last minute: how many attempts, and how long the answered ones took.
// It is for people; the estimators have their own memory. Not safe for concurrent use; the zero value is ready.
//
// Time is cut into slots; the slot in progress and the twelve before it are kept. Latencies are counted in buckets that
// grow by a fifth, so a quantile read off them is within 10 % or so of the true one, at 4 KB a peer.
type recent struct {
	slots [recentSlots]slot
	at    int64 // number of the slot in progress
}

type slot struct {
	attempts uint32
	buckets  [latencyBuckets]uint32
}

const (
	slotMS         = 5000
	recentSlots    = 13
	latencyBuckets = 80
	firstBucketMS  = 0.1 // upper bound of bucket 0; the last one ends at 180 s and takes all above
	bucketGrowth   = 1.2
)

// advance drops the slots that are too old at now.
func (r *recent) advance(now float64) {
	at := int64(now / slotMS)
	if at <= r.at {
		return
	}
	for n := max(r.at+1, at-recentSlots+1); n <= at; n++ {
		r.slots[n%recentSlots] = slot{}
	}
	r.at = at
}

// add counts an attempt; ms is its latency, negative when it has none that says something.
func (r *recent) add(now, ms float64) {
	r.advance(now)
	s := &r.slots[r.at%recentSlots]
	s.attempts++
	if ms >= 0 {
		s.buckets[bucketOf(ms)]++
	}
}

func bucketOf(ms float64) int {
	if ms <= firstBucketMS {
		return 0
	}
	i := math.Ceil(math.Log(ms/firstBucketMS) / math.Log(bucketGrowth))
	return int(min(i, latencyBuckets-1))
}

// attempts counts those of the slot in progress and of the n before it.
func (r *recent) attempts(now float64, n int) (sum int) {
	r.advance(now)
	for k := max(r.at-int64(n), 0); k <= r.at; k++ {
		sum += int(r.slots[k%recentSlots].attempts)
	}
	return sum
}

// quantiles returns latencies that the given shares of the answered attempts stayed below, NaN without any.
func (r *recent) quantiles(now float64, shares ...float64) []float64 {
	r.advance(now)
	var sum [latencyBuckets]uint64
	total := uint64(0)
	for i := range r.slots {
		for b, n := range r.slots[i].buckets {
			sum[b] += uint64(n)
			total += uint64(n)
		}
	}
	out := make([]float64, len(shares))
	for i, q := range shares {
		out[i] = quantile(&sum, total, q)
	}
	return out
}

func quantile(sum *[latencyBuckets]uint64, total uint64, q float64) float64 {
	if total == 0 {
		return math.NaN()
	}
	want, seen := q*float64(total), 0.0
	for b, n := range sum {
		if seen+float64(n) >= want && n > 0 {
			upper := firstBucketMS * math.Pow(bucketGrowth, float64(b))
			lower := 0.0
			if b > 0 {
				lower = upper / bucketGrowth
			}
			return lower + (upper-lower)*(want-seen)/float64(n)
		}
		seen += float64(n)
	}
	return firstBucketMS * math.Pow(bucketGrowth, latencyBuckets-1)
}
