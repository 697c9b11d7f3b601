package decide_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirlb/weir/engine/decide"
)

// peerWith is a peer whose features are 0 but for these.
func peerWith(name string, features map[string]float64) *decide.Case {
	c := &decide.Case{Name: name, Slots: 4, Weight: 1, Features: make([]float32, decide.Inputs)}
	c.Features[slices.Index(decide.InputNames(), "samples_peer")] = 0.9
	for f, v := range features {
		c.Features[slices.Index(decide.InputNames(), f)] = float32(v)
	}
	return c
}

func TestWhatMakesAPeerDearerIsSaidInWords(t *testing.T) {
	first := peerWith("a", nil)
	first.InFlight = 2
	queue := peerWith("b", map[string]float64{"log_cost_rise": 1})
	queue.InFlight = 9
	doubted := peerWith("b", nil)
	doubted.Z = math.Log(1.5)
	heavy := peerWith("b", nil)
	heavy.Weight = 0.5
	for want, c := range map[string]*decide.Case{
		"b works at 0.3 of its usual speed":                                             peerWith("b", map[string]float64{"log_drift": math.Log(0.3)}),
		"b is usually 0.4 times as fast as a":                                           peerWith("b", map[string]float64{"log_speed_slow": math.Log(0.4)}),
		"this kind of request takes 3 times as long on b as on a, their speeds apart":   peerWith("b", map[string]float64{"log_affinity": math.Log(3)}),
		"b holds 9 for about 4 slots, a 2 for 4":                                        queue,
		"b fails 20 % of its requests":                                                  peerWith("b", map[string]float64{"fail_fast": 0.2}),
		"the model takes b for 1.5 times as dear as the formulas do, and a for 1 times": doubted,
		"b has weight 0.5, a 1":                                                         heavy,
		"little is known of b yet":                                                      peerWith("b", map[string]float64{"samples_peer": 0.01}),
		"b works at 0.2 of its usual speed; b is usually 0.5 times as fast as a":        peerWith("b", map[string]float64{"log_drift": math.Log(0.2), "log_speed_slow": math.Log(0.5), "log_affinity": 0.3}),
		"": peerWith("b", map[string]float64{"log_drift": 0.5}),
	} {
		if got := decide.Apart(first, c); got != want {
			t.Errorf("said %q, want %q", got, want)
		}
	}
}

func TestSharesAreThoseThatPicksHave(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "peers")
		table := decide.Table{Classes: []string{"*"}}
		var cand []decide.Candidate
		for i := range n {
			table.Peers = append(table.Peers, string(rune('a'+i)))
			cost := rapid.Float64Range(1, 1.3).Draw(t, "cost")
			for range decide.GridPoints {
				table.Cost = append(table.Cost, float32(cost))
			}
			cand = append(cand, decide.Candidate{Usable: rapid.IntRange(0, 4).Draw(t, "usable") > 0, Admit: 1})
		}
		rule := decide.Rule{Explore: rapid.Float64Range(0, 0.2).Draw(t, "explore"), Spread: rapid.SampledFrom([]float64{0, 0.1, 1}).Draw(t, "spread")}
		shares := decide.Shares(&table, 0, cand, rule)
		rnd := rand.New(rand.NewPCG(1, 1))
		for range 20 {
			c := decide.Pick(&table, 0, cand, rule, rnd)
			if c.Peer < 0 {
				if slices.Max(shares) != 0 {
					t.Fatalf("nobody is usable, shares %v", shares)
				}
				return
			}
			if math.Abs(shares[c.Peer]-c.Propensity) > 1e-9 {
				t.Fatalf("a pick has propensity %v, the shares are %v", c.Propensity, shares)
			}
		}
		sum := 0.0
		for _, s := range shares {
			sum += s
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Fatalf("shares %v", shares)
		}
	})
}

func TestTheLowestIsChosenWithoutChance(t *testing.T) {
	table := decide.Table{Classes: []string{"*"}, Peers: []string{"a", "b"}}
	for _, cost := range []float32{5, 3} {
		for range decide.GridPoints {
			table.Cost = append(table.Cost, cost)
		}
	}
	cand := []decide.Candidate{{Usable: true}, {Usable: true}}
	if c := decide.Lowest(&table, 0, cand); c.Peer != 1 || c.Cost != 3 || !strings.HasPrefix(decide.Reason(&table, 0, cand, c), "b with 0 in flight") {
		t.Errorf("%+v", c)
	}
	cand[1].Usable = false
	if c := decide.Lowest(&table, 0, cand); c.Peer != 0 {
		t.Errorf("%+v", c)
	}
	if c := decide.Lowest(&table, 0, cand[:0]); c.Peer != -1 {
		t.Errorf("%+v", c)
	}
}
