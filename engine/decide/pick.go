package decide

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Candidate is a peer as a pick sees it, in the table's order.
type Candidate struct {
	InFlight float64 // held now, without the request to be placed
	Work     float64 // left to do of what is held, in mean requests of the pool (Progress.Left); 0 = not known. Only read in tables with sizes
	Usable   bool
	Admit    float64 // probability to be considered; not > 0, or > 1, means 1
	Weight   float64 // by which its costs were divided, the operator's and its zone's; not > 0 means 1
}

// Choice is a pick.
type Choice struct {
	Peer       int     // -1 when no candidate is usable
	Cost       float64 // predicted, ms
	Propensity float64 // probability of this pick, given who was considered
	Explored   bool    // drawn at random for the sake of learning
}

// tie is the relative band within which Reason calls costs equal: below what the estimators can tell apart.
const tie = 1e-3

// Rule is how a pick leaves the path of the lowest cost.
type Rule struct {
	Explore float64 // probability of a uniform draw among the considered
	Spread  float64 // relative cost above the lowest from which a peer is not picked any more; 0 = exact ties only
}

// weight is what a candidate counts in the draw whose cost is c when the lowest is best. Peers of like cost share the
// traffic, the nearer the more: an argmin would send all of it to the one that reads a little lower for as long as a table lives.
func (r Rule) weight(c, best float64) float64 {
	if c <= best {
		return 1
	}
	if !(r.Spread > 0) {
		return 0
	}
	w := 1 - (c-best)/(best*r.Spread)
	return max(w, 0) * max(w, 0)
}

// Pick takes a peer for a request of class c: with probability Explore any considered one, each alike, otherwise one by its
// weight (Rule.weight). lua/resty/weir/choose.lua (by_table) is the same rule.
//
// Considered are the usable peers whose Admit is above a number drawn anew for each request; if that leaves nobody, all
// usable ones are; and so they are when all that are considered hang (hangs). But for that the draw does not depend on costs, so the propensity is stated given the considered set: off-policy estimates
// that compare policies on the set that was considered stay unbiased, and it is exact without summing over all possible draws:
//
//	Explore / considered + (1 - Explore) * weight / sum of weights
//
// It costs O(peers) and allocates nothing. len(cand) must not be greater than the table's peers.
func Pick(t *Table, c int, cand []Candidate, rule Rule, rnd *rand.Rand) Choice {
	return PickSized(t, c, 1, cand, rule, rnd)
}

// PickSized is Pick for a request that is size times the usual of its class (estimate.Pool.Size). One that is larger than usual does not
// explore: what a random pick costs grows with the size, what it teaches does not. In the Park world that takes 6 % off the 99th
// percentile.
func PickSized(t *Table, c int, size float64, cand []Candidate, rule Rule, rnd *rand.Rand) Choice {
	if size > 1 {
		rule.Explore = 0
	}
	draw := rnd.Float64()
	best, considered := lowest(t, c, size, cand, draw)
	if considered == 0 || hangs(t, cand, draw) {
		draw = -1 // below every Admit
		if best, considered = lowest(t, c, size, cand, draw); considered == 0 {
			return Choice{Peer: -1}
		}
	}
	return choose(t, c, size, cand, draw, best, considered, rule, rnd)
}

// considers reports whether a candidate is considered by a request that drew this number.
func (x *Candidate) considers(draw float64) bool {
	return x.Usable && (draw < x.Admit || !(x.Admit > 0) || x.Admit >= 1)
}

func lowest(t *Table, c int, size float64, cand []Candidate, draw float64) (best float64, considered int) {
	for i := range cand {
		if !cand[i].considers(draw) {
			continue
		}
		if cost := t.Price(c, i, cand[i].InFlight, cand[i].Work, size); considered == 0 || cost < best {
			best = cost
		}
		considered++
	}
	return best, considered
}

// far is how many times as much as the cheapest a peer that hangs costs.
const far = 10

// hangs reports whether every peer that is considered hangs: it costs far times as much as the cheapest usable one, which is held back by its Admit,
// and holds more than that one by counts alone, with a weight of Admit. So a wrong table cannot flood a newcomer, and a bounded share does not
// send all that is above it to a peer that no longer answers. Costs are those of the shared class: a peer that takes ten times as long for some
// class, and is full of another, does not hang. And they are without the weights, by counts with them: of two peers that are well, one with ten times
// the weight of the other costs a tenth. lua/resty/weir/hung.lua has the same rule, for tiers too.
func hangs(t *Table, cand []Candidate, draw float64) bool {
	const shared = 0
	price := func(i int) float64 {
		return t.Price(shared, i, cand[i].InFlight, cand[i].Work, 1) * cand[i].weight()
	}
	at, cost := -1, math.Inf(1)
	for i := range cand {
		if !cand[i].Usable || cand[i].considers(draw) {
			continue
		}
		if p := price(i); p < cost {
			at, cost = i, p
		}
	}
	if at < 0 {
		return false
	}
	bound := (cand[at].InFlight + 1) / (cand[at].weight() * cand[at].Admit) // Admit is in (0, 1): it is held back
	for i := range cand {
		if cand[i].considers(draw) && (price(i) < far*cost || (cand[i].InFlight+1)/cand[i].weight() <= bound) {
			return false
		}
	}
	return true
}

func (x *Candidate) weight() float64 {
	if x.Weight > 0 {
		return x.Weight
	}
	return 1
}

func choose(t *Table, c int, size float64, cand []Candidate, draw, best float64, considered int, rule Rule, rnd *rand.Rand) Choice {
	explore := min(max(rule.Explore, 0), 1)
	explored := explore > 0 && rnd.Float64() < explore
	nth := 0
	if explored {
		nth = rnd.IntN(considered)
	}
	ch := Choice{Peer: -1, Explored: explored}
	sum := 0.0
	for i := range cand {
		if !cand[i].considers(draw) {
			continue
		}
		cost := t.Price(c, i, cand[i].InFlight, cand[i].Work, size)
		w := rule.weight(cost, best)
		sum += w
		take := false
		if explored {
			take = nth == 0
			nth--
		} else if w > 0 { // weighted reservoir sampling: the last one to be taken has been kept with probability w / sum
			take = w == sum || rnd.Float64()*sum < w
		}
		if take {
			ch.Peer, ch.Cost = i, cost
		}
	}
	ch.Propensity = explore/float64(considered) + (1-explore)*rule.weight(ch.Cost, best)/sum
	return ch
}

// TwoChoices is what decides for the control slice: the better of two different random usable peers by (in-flight + 1) / weight
// (Mitzenmacher 2001). Admit is honoured as in Pick. Cost is not a time here and stays 0.
func TwoChoices(cand []Candidate, weights []float64, rnd *rand.Rand) Choice {
	draw := rnd.Float64()
	n := 0
	for range 2 {
		for i := range cand {
			if cand[i].considers(draw) {
				n++
			}
		}
		if n > 0 {
			break
		}
		draw = -1
	}
	if n == 0 {
		return Choice{Peer: -1}
	}
	first, second := rnd.IntN(n), 0
	if n > 1 {
		if second = rnd.IntN(n - 1); second >= first {
			second++
		}
	} else {
		second = first
	}
	nth := func(k int) int {
		for i := range cand {
			if cand[i].considers(draw) {
				if k == 0 {
					return i
				}
				k--
			}
		}
		return -1
	}
	score := func(i int) float64 {
		w := 1.0
		if i < len(weights) && weights[i] > 0 {
			w = weights[i]
		}
		return (cand[i].InFlight + 1) / w
	}
	a, b := nth(first), nth(second)
	if score(b) < score(a) {
		a = b
	}
	// The chosen one wins against those with a higher score, and half of the time (by order of drawing) against its equals.
	if n == 1 {
		return Choice{Peer: a, Propensity: 1}
	}
	beats, equals := 0, 0
	for i := range cand {
		if i != a && cand[i].considers(draw) {
			switch s := score(i); {
			case s > score(a):
				beats++
			case s == score(a):
				equals++
			}
		}
	}
	pairs := float64(n) * float64(n-1) / 2
	return Choice{Peer: a, Propensity: (float64(beats) + float64(equals)/2) / pairs}
}

// Reason says in one sentence why choice was made.
func Reason(t *Table, c int, cand []Candidate, choice Choice) string {
	return ReasonSized(t, c, 1, cand, choice)
}

// ReasonSized is Reason for a choice of PickSized.
func ReasonSized(t *Table, c int, size float64, cand []Candidate, choice Choice) string {
	if choice.Peer < 0 {
		return "no peer is usable"
	}
	name, held := t.Peers[choice.Peer], cand[choice.Peer].InFlight
	if choice.Explored {
		return fmt.Sprintf("%s with %g in flight was drawn at random to keep its estimates fresh; it is expected to cost %.3g ms",
			name, held, choice.Cost)
	}
	next, nextCost, usable := -1, 0.0, 0
	for i := range cand {
		if !cand[i].Usable {
			continue
		}
		usable++
		if cost := t.Price(c, i, cand[i].InFlight, cand[i].Work, size); i != choice.Peer && (next < 0 || cost < nextCost) {
			next, nextCost = i, cost
		}
	}
	switch {
	case next < 0:
		return fmt.Sprintf("%s is the only usable peer", name)
	case nextCost < choice.Cost*(1-tie) && cand[next].considers(1): // nobody was kept from it: Spread
		return fmt.Sprintf("%s with %g in flight is expected to cost %.3g ms; %s would cost %.3g ms with %g, so little less that the two share the requests, the cheaper one the more",
			name, held, choice.Cost, t.Peers[next], nextCost, cand[next].InFlight)
	case nextCost < choice.Cost*(1-tie):
		return fmt.Sprintf("%s with %g in flight is expected to cost %.3g ms; %s would cost %.3g ms but its share is held back",
			name, held, choice.Cost, t.Peers[next], nextCost)
	case nextCost <= choice.Cost*(1+tie):
		return fmt.Sprintf("%s with %g in flight is expected to cost %.3g ms, as much as %s with %g; chosen at random among equals",
			name, held, choice.Cost, t.Peers[next], cand[next].InFlight)
	}
	what := t.Classes[c]
	if size != 1 {
		what += fmt.Sprintf(" of %.3g times its usual size", size)
	}
	return fmt.Sprintf("%s with %g in flight is expected to cost %.3g ms for %s, the lowest of %d usable peers; next is %s with %g in flight at %.3g ms",
		name, held, choice.Cost, what, usable, t.Peers[next], cand[next].InFlight, nextCost)
}
