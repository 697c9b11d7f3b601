package decide

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirlb/weir/engine/estimate"
)

// admitted is the mean number and the throughput of a peer that takes requests only while it holds fewer than most: the stationary
// distribution of an M/M/K/most queue, by its sums.
func admitted(most, k int, rate, s float64) (number, throughput float64) {
	weight, all := 1.0, 1.0
	for n := 1; n <= most; n++ {
		weight *= rate * s / float64(min(n, k))
		all += weight
		number += float64(n) * weight
	}
	return number / all, rate * (1 - weight/all)
}

func TestTheIndexIsThePriceAtWhichOneMoreRequestIsWorthIt(t *testing.T) {
	const s = 20.0
	for _, k := range []int{1, 2, 4, 16, 64} {
		for _, load := range []float64{0.05, 0.5, 0.9, 1} {
			rate := load * float64(k) / s
			x := newIndex(float64(k), s, rate)
			for _, n := range []int{0, 1, k / 2, k - 1, k, k + 1, k + 3, k + 9} {
				fewerN, fewerX := admitted(n, k, rate, s)
				moreN, moreX := admitted(n+1, k, rate, s)
				if moreX-fewerX < 1e-9*rate || n+1-k > deep {
					continue // the definition is rounding, or goes no further
				}
				want := (moreN - fewerN) / (moreX - fewerX)
				if got := x.at(float64(n)); math.Abs(got-want) > 0.001*want {
					t.Errorf("%d slots, load %v, %d there: %.3f ms, by the definition %.3f", k, load, n, got, want)
				}
			}
		}
	}
}

func TestALoneSlotHasTheTriangularNumbers(t *testing.T) {
	x := newIndex(1, 10, 7) // of a pool with far more than it can serve
	for n, want := range []float64{10, 30, 60, 100, 150} {
		if got := x.at(float64(n)); math.Abs(got-want) > 0.01 {
			t.Errorf("%d there: %v, want %v", n, got, want)
		}
	}
}

// In an overload all queues are long, and the waits are to be alike then, however fast the peers are: the last of the queues ends the overload.
func TestDeepQueuesOfEqualPriceTakeEquallyLong(t *testing.T) {
	const length = 400.0
	slow, fast := newIndex(4, 100, 1), newIndex(4, 10, 1)
	price := slow.at(4 + length)
	n := 0.0
	for fast.at(n) < price {
		n++
	}
	if ratio := (n - 4) * 10 / (length * 100); ratio < 0.9 || ratio > 1.1 { // 0.32 by the square of the queue
		t.Errorf("the fast peer's queue takes %.2f of the time of the slow one's", ratio)
	}
}

func TestOwnTimeAndDelayRiseWithTheCountWhateverIsBelieved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := estimate.PeerView{
			Concurrency: rapid.Float64Range(1, 256).Draw(t, "slots"), WorkMS: rapid.Float64Range(0.001, 100_000).Draw(t, "service"),
			Unseen: rapid.SampledFrom([]float64{0, 0.5, 0.99}).Draw(t, "unseen"),
		}
		capacity := v.Concurrency / v.WorkMS
		v.TotalRate = rapid.Float64Range(0, 3).Draw(t, "load") * capacity
		var d delays
		d.of(&v, v.TotalRate+rapid.SampledFrom([]float64{0, 1, 1000}).Draw(t, "elsewhere")*capacity, 1)
		last := 0.0
		for n := 0.0; n < 3*v.Concurrency+20; n += 0.5 {
			x := d.at(n) + v.WorkMS*max(1, (n+1)/v.Concurrency)
			if !(x >= last-1e-9*(v.WorkMS+last)) || math.IsInf(x, 0) {
				t.Fatalf("%v at %v after %v", x, n, last)
			}
			last = x
		}
		if x := d.at(0); v.Unseen == 0 && x > v.WorkMS {
			t.Fatalf("an idle peer imposes %v of its service times", x/v.WorkMS)
		}
	})
}

// Balancers that see nothing of each other must not all wait until the fast peers' slots are full by their own count.
func TestRequestsThatAreNotSeenComeWhateverThePeerHolds(t *testing.T) {
	v := estimate.PeerView{Concurrency: 4, WorkMS: 10, TotalRate: 0.35}
	var alone, one delays
	alone.of(&v, 4, 1)
	v.Unseen = 0.9
	one.of(&v, 4, 1)
	if a, b := alone.at(1), one.at(1); a > 0.1 || b < 1.5 {
		t.Errorf("beside one request, of four slots: %.2f ms imposed where all is seen, %.2f of ten balancers", a, b)
	}
}
