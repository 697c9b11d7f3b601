package decide_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/estimate"
)

// hinting is a pool of one peer that works on one request at a time and one that works on four, 10 ms a request of weight 5 and in
// proportion for others, each with three requests in flight in the mean.
func hinting(hint bool) *estimate.Pool {
	rnd := rand.New(rand.NewPCG(1, 2))
	est := estimate.New(estimate.Options{})
	est.SetPeers(0, []string{"one", "four"})
	now := 0.0
	for range 3000 {
		now += 30
		for p, slots := range []float64{1, 4} {
			size, n := rnd.ExpFloat64(), rnd.IntN(7)
			work := 0.0
			for range n {
				work += rnd.ExpFloat64()
			}
			ms := 10 * size
			if queue := float64(n) + 1 - slots; queue > 0 {
				ms += 10 * work * queue / float64(n) / slots
			}
			o := estimate.Outcome{Peer: p, Class: est.Class(now, "GET /"), InFlight: n, TotalMS: ms, HeaderMS: ms, ReportedLoad: -1, ReportedInFlight: -1}
			if hint {
				o.Weight, o.Work = 5*size, work
			}
			est.Observe(now, o)
			est.InFlight(now, p, n)
		}
		est.Refresh(now)
	}
	return est
}

func TestATableHasSizesOnlyWhereRequestsTellTheirs(t *testing.T) {
	with, without := fill(hinting(true), decide.Params{Sizes: true}), fill(hinting(false), decide.Params{Sizes: true})
	if !with.Sized() || without.Sized() {
		t.Fatalf("sized: %t with hints, %t without", with.Sized(), without.Sized())
	}
	if fill(hinting(true), decide.Params{}).Sized() {
		t.Error("sized for one who does not heed sizes")
	}
	for n := range 10 {
		if a, b := without.Price(0, 0, float64(n), 7, 3), without.At(0, 0, float64(n)); a != b {
			t.Errorf("without sizes the price at %d is %v, the cost %v", n, a, b)
		}
	}
}

func TestALargerRequestCostsItsServiceMoreAndWaitsNoLonger(t *testing.T) {
	est := hinting(true)
	table := fill(est, decide.Params{Sizes: true})
	c := table.Class("GET /")
	if s := est.Size(est.Class(1e6, "GET /"), 15); s < 2.5 || s > 3.5 {
		t.Errorf("a weight of 15 where 5 is usual is %.2f times the usual", s)
	}
	for p := range 2 {
		for _, n := range []float64{0, 2, 6} {
			usual, ten := table.Price(c, p, n, n, 1), table.Price(c, p, n, n, 10)
			tiny := table.Price(c, p, n, n, 1e-6)
			if grow := (ten - usual) / 9; grow < 7 || tiny < 0 || tiny > usual-7 {
				t.Errorf("peer %d holding %v: %.1f ms for a request of size 1, %.1f of size 10, %.1f of none", p, n, usual, ten, tiny)
			}
		}
	}
}

func TestWhatIsHeldCountsByItsWorkBeyondThePeersSlots(t *testing.T) {
	table := fill(hinting(true), decide.Params{Sizes: true})
	c := table.Class("GET /")
	small, large := table.Price(c, 0, 2, 0.2, 1), table.Price(c, 0, 2, 20, 1)
	if wait := large - small; wait < 400 || wait > 1200 { // a ms of waiting counts four times
		t.Errorf("behind two requests of 20 together it costs %.0f ms, behind two of 0.2 %.0f", large, small)
	}
	if a, b := table.Price(c, 1, 2, 0.2, 1), table.Price(c, 1, 2, 20, 1); a != b {
		t.Errorf("with two slots free it costs %.1f ms beside small requests and %.1f beside large ones", a, b)
	}
	if a, b := table.Price(c, 1, 6, 1, 1), table.Price(c, 1, 6, 60, 1); b < a+50 {
		t.Errorf("with a queue it costs %.1f ms behind small requests and %.1f behind large ones", a, b)
	}
}

// singles is what is known of two peers that work on one request at a time, of which own is the part that is in proportion to a request's size,
// without a delay imposed.
func singles(own float32) decide.Work {
	return decide.Work{
		Own: []float32{own, own}, Load: []float32{1, 1}, Mean: []float32{1, 1}, Knee: []float32{1, 1}, Rate: []float32{0.1, 0.1}, Known: []float32{1, 1},
		Follow: []float32{0, 0}, Hint: []float32{1}, Whole: []float32{0, 0},
	}
}

func TestARequestPaysForTheDelayItImposesOnThoseBehindIt(t *testing.T) {
	table := &decide.Table{Classes: []string{"*"}, Peers: []string{"a", "b"}, Cost: make([]float32, 2*decide.GridPoints), Work: singles(1)}
	for g, n := range decide.Grid() {
		table.Cost[g], table.Cost[decide.GridPoints+g] = 10*float32(n+1), 10*float32(n+1)
	}
	table.Work.Follow = []float32{5, 5}
	table.Work.Whole = []float32{0.5, 0.8} // imposed, busy
	table.Work.Knee[1] = 3
	for _, c := range []struct {
		peer          int
		n, left, size float64
		want          float64
	}{
		{0, 0, 0, 1, 10 + 0.5*5},
		{0, 0, 0, 4, 40 + 0.5*4*4*5},
		{0, 2, 3, 4, 30 + 40 + 0.5*4*(30+4*5)}, // behind 3 mean requests of 10 ms
		{1, 0, 0, 4, 40 + 0.5*4*4*5*0.8*0.8},   // two more may come before anyone waits
		{1, 1, 5, 4, 10 + 40 + 0.5*4*(10+4*5*0.8)},
	} {
		if got := table.Price(0, c.peer, c.n, c.left, c.size); math.Abs(got-c.want) > 1e-4 {
			t.Errorf("peer %d, %v in flight with %v left, size %v: %.4f ms, want %.4f", c.peer, c.n, c.left, c.size, got, c.want)
		}
	}
}

func TestThePickSendsALargeRequestWhereItIsServedFastAndASmallOneWhereItNeedNotWait(t *testing.T) {
	table := &decide.Table{
		Classes: []string{"*"}, Peers: []string{"fast", "slow"}, Cost: make([]float32, 2*decide.GridPoints),
		Work: singles(1),
	}
	for g, n := range decide.Grid() {
		for p, ms := range []float32{10, 30} {
			table.Cost[p*decide.GridPoints+g] = ms * float32(n+1)
		}
	}
	cand := []decide.Candidate{{InFlight: 1, Work: 10, Usable: true}, {Usable: true}}
	rnd := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct {
		size float64
		to   int
	}{{1, 1}, {4, 1}, {6, 0}, {100, 0}} { // 100 + 10 s against 30 s
		if got := decide.PickSized(table, 0, c.size, cand, decide.Rule{}, rnd); got.Peer != c.to {
			t.Errorf("size %v went to %s", c.size, table.Peers[got.Peer])
		}
	}
}

func TestOnlyRequestsOfUpToTheUsualSizeExplore(t *testing.T) {
	table := &decide.Table{
		Classes: []string{"*"}, Peers: []string{"fast", "slow"}, Cost: make([]float32, 2*decide.GridPoints),
		Work: singles(0),
	}
	for g, n := range decide.Grid() {
		table.Cost[g], table.Cost[decide.GridPoints+g] = float32(n+1), 100*float32(n+1)
	}
	cand := []decide.Candidate{{Usable: true}, {Usable: true}}
	rnd := rand.New(rand.NewPCG(1, 1))
	for size, want := range map[float64]float64{0.5: 0.95, 1: 0.95, 1.5: 1} {
		explored := 0
		for range 1000 {
			c := decide.PickSized(table, 0, size, cand, decide.Rule{Explore: 0.1}, rnd)
			if c.Explored {
				explored++
			}
			if c.Peer == 0 && math.Abs(c.Propensity-want) > 1e-9 {
				t.Fatalf("size %v: the propensity of the cheap peer is %v, want %v", size, c.Propensity, want)
			}
		}
		if (explored > 0) != (want < 1) {
			t.Errorf("size %v: %d of 1000 explored", size, explored)
		}
	}
}
