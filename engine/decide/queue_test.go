package decide

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirlb/weir/engine/estimate"
)

// byDefinition is the delay imposed at n by the definition: the sums over the stationary distribution of an M/M/K queue.
func byDefinition(n, k int, rate, s float64) float64 {
	const most = 6000
	logs := make([]float64, most)
	for j := 1; j < most; j++ {
		logs[j] = logs[j-1] + math.Log(rate*s/float64(min(j, k)))
	}
	all, mean := 0.0, 0.0
	for j, l := range logs {
		p := math.Exp(l - logs[min(int(rate*s), k)])
		all += p
		mean += float64(j) * p
	}
	mean /= all
	sum := 0.0
	for j := range most { // over j > n, or, which is the same as both together are 0, less those up to n
		switch {
		case float64(n) < mean && j <= n:
			sum += math.Exp(logs[j]-logs[n]) * (mean - float64(j))
		case float64(n) >= mean && j > n:
			sum += math.Exp(logs[j]-logs[n]) * (float64(j) - mean)
		}
	}
	return sum/rate - s*max(1, float64(n+1)/float64(k))
}

func TestTheDelayImposedIsThatOfTheQueueForAnyNumberOfSlots(t *testing.T) {
	for _, k := range []int{1, 2, 4, 16, 64, 200} {
		for _, load := range []float64{0.05, 0.3, 0.6, 0.9} {
			const s = 20.0
			rate := load * float64(k) / s
			var q queue
			v := estimate.PeerView{Concurrency: float64(k), WorkMS: s, TotalRate: rate}
			q.of(&v, 1)
			for _, n := range []int{0, 1, k / 2, k - 1, k, k + 5, 2 * k} {
				want := max(byDefinition(n, k, rate, s), 0)
				if got := q.at(float64(n)); math.Abs(got-want) > 0.01*want+0.001*s {
					t.Errorf("%d slots, load %v, %d there: %.3f ms, by the definition %.3f", k, load, n, got, want)
				}
			}
		}
	}
}

// Of 64 slots rounding made 10^7 ms, of a K that is not whole thousands.
func TestTheDelayImposedRisesSmoothlyWhateverTheSlots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k, s, load := rapid.Float64Range(1, 256).Draw(t, "slots"), rapid.Float64Range(0.1, 10_000).Draw(t, "service"), rapid.Float64Range(0.001, 3).Draw(t, "load")
		var q queue
		v := estimate.PeerView{Concurrency: k, WorkMS: s, TotalRate: load * k / s}
		q.of(&v, 0.75)
		last := 0.0
		for n := range 2 * int(k) {
			d := q.at(float64(n))
			if !(d >= last-1e-9) {
				t.Fatalf("%v at %d after %v", d, n, last)
			}
			last = d
		}
		if d := q.at(0); d > 20*s {
			t.Fatalf("an idle peer imposes %v times its service time", d/s)
		}
	})
}
