package decide

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Case is one peer as a decision saw it: what Apart tells two of them apart by.
type Case struct {
	Name     string
	InFlight float64
	Slots    float64   // as learned
	Weight   float64   // the operator's
	Z        float64   // ln of the model's correction; 0 = none, or there is no model
	Features []float32 // Inputs of them, at InFlight
}

// Apart says in words what makes other dearer than first, the most important thing first, two at most; "" when nothing stands out.
//
// A cost is about a product (service time, which is base x affinity / speed; the rise by what is in flight; failures; weight; the
// model's correction), so the difference of two costs' logarithms is about the sum of the differences of its factors'. Each factor is
// a feature or close to one, and what it contributes is what it is ranked by.
func Apart(first, other *Case) string {
	at := newColumns()
	d := func(name string) float64 { return float64(other.Features[at[name]] - first.Features[at[name]]) }
	of := func(c *Case, name string) float64 { return float64(c.Features[at[name]]) }
	type cause struct {
		by   float64 // ln of the factor on the cost of other over that of first
		text string
	}
	failing := func(c *Case) float64 { return min(max(of(c, "fail_fast"), of(c, "fail_slow")), 0.99) }
	share := func(x float64) string { return fmt.Sprintf("%.2g", math.Exp(x)) }
	causes := []cause{
		{-d("log_drift"), fmt.Sprintf("%s works at %s of its usual speed", other.Name, share(of(other, "log_drift")))},
		{-d("log_speed_slow"), fmt.Sprintf("%s is usually %s times as fast as %s", other.Name, share(d("log_speed_slow")), first.Name)},
		{d("log_affinity"), fmt.Sprintf("this kind of request takes %s times as long on %s as on %s, their speeds apart", share(d("log_affinity")), other.Name, first.Name)},
		{d("log_cost_rise"), fmt.Sprintf("%s holds %g for about %.2g slots, %s %g for %.2g", other.Name, other.InFlight, other.Slots, first.Name, first.InFlight, first.Slots)},
		{math.Log(1-failing(first)) - math.Log(1-failing(other)), fmt.Sprintf("%s fails %.2g %% of its requests", other.Name, 100*failing(other))},
		{other.Z - first.Z, fmt.Sprintf("the model takes %s for %s times as dear as the formulas do, and %s for %s times", other.Name, share(other.Z), first.Name, share(first.Z))},
	}
	if first.Weight > 0 && other.Weight > 0 {
		causes = append(causes, cause{math.Log(first.Weight / other.Weight), fmt.Sprintf("%s has weight %g, %s %g", other.Name, other.Weight, first.Name, first.Weight)})
	}
	if of(first, "log_drift") > of(other, "log_drift")+noticeable && of(other, "log_drift") > -noticeable {
		causes[0].text = fmt.Sprintf("%s works at %s of its usual speed", first.Name, share(of(first, "log_drift")))
	}
	slices.SortStableFunc(causes, func(a, b cause) int {
		switch {
		case a.by > b.by:
			return -1
		case a.by < b.by:
			return 1
		}
		return 0
	})
	var said []string
	for _, c := range causes {
		// What is told second must matter as well: a third of the first.
		if c.by < noticeable || len(said) == 2 || c.by < causes[0].by/3 {
			break
		}
		said = append(said, c.text)
	}
	if unknown := of(other, "samples_peer"); len(said) == 0 && unknown < 0.1 {
		return fmt.Sprintf("little is known of %s yet", other.Name)
	}
	return strings.Join(said, "; ")
}

// noticeable is the ln of a factor from which on it is told.
const noticeable = 0.05

// newColumns finds features by name.
func newColumns() map[string]int {
	at := make(map[string]int, Inputs)
	for i, n := range InputNames() {
		at[n] = i
	}
	return at
}

// Lowest is the choice of the usable peer with the lowest cost, without chance. Peer is -1 when none is usable.
func Lowest(t *Table, c int, cand []Candidate) Choice {
	ch := Choice{Peer: -1, Propensity: 1}
	for i := range cand {
		if !cand[i].Usable {
			continue
		}
		if cost := t.At(c, i, cand[i].InFlight); ch.Peer < 0 || cost < ch.Cost {
			ch.Peer, ch.Cost = i, cost
		}
	}
	return ch
}

// Shares are the probabilities with which Pick takes each peer when every usable one is considered, by the rule's weights. They sum to 1,
// or to 0 when none is usable.
func Shares(t *Table, c int, cand []Candidate, rule Rule) []float64 {
	shares := make([]float64, len(cand))
	best := Lowest(t, c, cand)
	if best.Peer < 0 {
		return shares
	}
	sum, usable := 0.0, 0.0
	for i := range cand {
		if cand[i].Usable {
			shares[i] = rule.weight(t.At(c, i, cand[i].InFlight), best.Cost)
			sum += shares[i]
			usable++
		}
	}
	explore := min(max(rule.Explore, 0), 1)
	for i := range cand {
		if cand[i].Usable {
			shares[i] = explore/usable + (1-explore)*shares[i]/sum
		}
	}
	return shares
}
