package decide_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirlb/weir/engine/decide"
)

// flat is a table of one class whose costs do not depend on in-flight.
func flat(costs ...float64) (*decide.Table, []decide.Candidate) {
	t := &decide.Table{Classes: []string{"*"}}
	cand := make([]decide.Candidate, len(costs))
	for i, c := range costs {
		t.Peers = append(t.Peers, string(rune('a'+i)))
		for range decide.GridPoints {
			t.Cost = append(t.Cost, float32(c))
		}
		cand[i] = decide.Candidate{Usable: true, Admit: 1}
	}
	return t, cand
}

// shares picks often and returns the share and the stated propensity of each peer.
func shares(t *decide.Table, cand []decide.Candidate, rule decide.Rule, times int) (seen, told []float64) {
	rnd := rand.New(rand.NewPCG(1, 2))
	seen, told = make([]float64, len(cand)), make([]float64, len(cand))
	for range times {
		ch := decide.Pick(t, 0, cand, rule, rnd)
		seen[ch.Peer] += 1 / float64(times)
		told[ch.Peer] = ch.Propensity
	}
	return seen, told
}

func TestTenEqualPeersOneReadingALittleLowerShareTheTraffic(t *testing.T) {
	// Kong#14961
	table, cand := flat(50, 50, 50, 49, 50, 50, 50, 50, 50, 50)
	seen, _ := shares(table, cand, decide.Rule{Explore: 0.01, Spread: 0.1}, 50_000)
	for i, s := range seen {
		if s < 0.05 || s > 0.25 {
			t.Errorf("peer %d has a share of %.3f", i, s)
		}
	}
}

func TestSharesComeOutAsThePropensitiesSay(t *testing.T) {
	table, cand := flat(100, 103, 106, 150)
	seen, told := shares(table, cand, decide.Rule{Explore: 0.2, Spread: 0.1}, 200_000)
	sum := 0.0
	for i := range seen {
		if math.Abs(seen[i]-told[i]) > 0.006 {
			t.Errorf("peer %d: share %.4f, told %.4f", i, seen[i], told[i])
		}
		sum += told[i]
	}
	if math.Abs(sum-1) > 1e-9 {
		t.Errorf("propensities sum to %v", sum)
	}
	if math.Abs(told[3]-0.05) > 1e-9 {
		t.Errorf("a peer beyond the spread is picked by exploration only: %v, want 0.05", told[3])
	}
}

func TestWithoutSpreadOnlyTheLowestIsPicked(t *testing.T) {
	table, cand := flat(100, 100.1, 100)
	seen, _ := shares(table, cand, decide.Rule{}, 10_000)
	if seen[1] != 0 || math.Abs(seen[0]-0.5) > 0.03 {
		t.Errorf("shares %v, want half, none, half", seen)
	}
}

func TestAPickThatIsNotTheCheapestIsToldForWhatItIs(t *testing.T) {
	table, cand := flat(10, 10.5)
	if said := decide.Reason(table, 0, cand, decide.Choice{Peer: 1, Cost: 10.5}); !strings.Contains(said, "a would cost 10 ms with 0, so little less that the two share the requests") {
		t.Errorf("a peer of like cost: %s", said)
	}
	cand[0].Admit = 0.3
	if said := decide.Reason(table, 0, cand, decide.Choice{Peer: 1, Cost: 10.5}); !strings.Contains(said, "a would cost 10 ms but its share is held back") {
		t.Errorf("a peer that ramps up: %s", said)
	}
}

func TestAdmitBoundsTheShareWhateverTheCost(t *testing.T) {
	table, cand := flat(1, 100, 100)
	cand[0].Admit = 0.1
	seen, _ := shares(table, cand, decide.Rule{Spread: 0.1}, 50_000)
	if seen[0] < 0.08 || seen[0] > 0.12 {
		t.Errorf("share %.3f, want about 0.1", seen[0])
	}
	cand[1].Usable, cand[2].Usable = false, false
	if seen, _ = shares(table, cand, decide.Rule{}, 1000); math.Abs(seen[0]-1) > 1e-9 {
		t.Errorf("the only usable peer has a share of %.3f", seen[0])
	}
}

func TestABoundedShareSendsNothingToAPeerThatHangs(t *testing.T) {
	for _, x := range []struct {
		name       string
		costs      [2]float64
		held       [2]float64
		want, near float64 // share of the second, which is held back
	}{
		{"it hangs", [2]float64{1640, 50}, [2]float64{40, 4}, 1, 0},
		{"it holds no more than its part", [2]float64{1640, 50}, [2]float64{15, 4}, 0.25, 0.02},
		{"it is not that much dearer", [2]float64{400, 50}, [2]float64{40, 4}, 0.25, 0.02},
	} {
		table, cand := flat(x.costs[:]...)
		cand[0].InFlight, cand[1].InFlight, cand[1].Admit = x.held[0], x.held[1], 0.25
		if seen, _ := shares(table, cand, decide.Rule{}, 20000); math.Abs(seen[1]-x.want) > x.near+1e-9 {
			t.Errorf("%s: the other has %.2f, want %.2f", x.name, seen[1], x.want)
		}
	}
	// By its weight the newcomer costs a hundredth of the other, which is well.
	table, cand := flat(10, 0.1)
	cand[1].Admit, cand[1].Weight = 0.25, 100
	if seen, _ := shares(table, cand, decide.Rule{}, 20000); math.Abs(seen[1]-0.25) > 0.02 {
		t.Errorf("beside a peer of little weight: the other has %.2f, want 0.25", seen[1])
	}
	table, cand = flat(1640, 0.5)
	cand[0].InFlight, cand[1].InFlight, cand[1].Admit, cand[1].Weight = 40, 400, 0.25, 100
	if seen, _ := shares(table, cand, decide.Rule{}, 20000); seen[1] < 1-1e-9 {
		t.Errorf("beside a peer of little weight that hangs: the other has %.2f, want all", seen[1])
	}
	table, cand = flat(40, 10)
	table.Classes = append(table.Classes, "heavy")
	heavy, _ := flat(1640, 50)
	table.Cost = append(table.Cost, heavy.Cost...)
	cand[0].InFlight, cand[1].InFlight, cand[1].Admit = 40, 4, 0.25
	rnd, n := rand.New(rand.NewPCG(1, 2)), 0
	for range 20000 {
		n += decide.Pick(table, 1, cand, decide.Rule{}, rnd).Peer
	}
	if n > 5500 {
		t.Errorf("a peer that only one class finds dear is left: the other has %d of 20000", n)
	}
}

func TestAPickIsAlwaysOneOfTheUsableWithAPropensityAboveZero(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "peers")
		costs := make([]float64, n)
		for i := range costs {
			costs[i] = rapid.Float64Range(1e-3, 1e9).Draw(t, "cost")
		}
		table, cand := flat(costs...)
		usable := 0
		for i := range cand {
			cand[i].Usable = rapid.Bool().Draw(t, "usable")
			cand[i].Admit = rapid.Float64Range(0.001, 1).Draw(t, "admit")
			cand[i].InFlight = float64(rapid.IntRange(0, 1000).Draw(t, "inflight"))
			if cand[i].Usable {
				usable++
			}
		}
		rule := decide.Rule{Explore: rapid.Float64Range(0, 0.2).Draw(t, "explore"), Spread: rapid.Float64Range(0, 1).Draw(t, "spread")}
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		ch := decide.Pick(table, 0, cand, rule, rnd)
		if usable == 0 {
			if ch.Peer != -1 {
				t.Fatalf("picked %d of no usable peer", ch.Peer)
			}
			return
		}
		if ch.Peer < 0 || !cand[ch.Peer].Usable {
			t.Fatalf("picked %d", ch.Peer)
		}
		if !(ch.Propensity > 0 && ch.Propensity <= 1+1e-9) {
			t.Fatalf("propensity %v", ch.Propensity)
		}
	})
}

func TestAPickAllocatesNothing(t *testing.T) {
	table, cand := flat(1, 2, 3, 4)
	rnd := rand.New(rand.NewPCG(1, 2))
	if n := testing.AllocsPerRun(1000, func() { decide.Pick(table, 0, cand, decide.Rule{Explore: 0.01, Spread: 0.1}, rnd) }); n != 0 {
		t.Errorf("%v allocations a pick", n)
	}
}
