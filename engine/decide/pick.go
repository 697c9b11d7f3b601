package decide

import (
	"fmt"
	"math/rand/v2"
)

// Candidate is a peer as a pick sees it, in the table's order.
type Candidate struct {
	InFlight float64 // held now, without the request to be placed
	Usable   bool
	Admit    float64 // probability to be considered; not > 0, or > 1, means 1
}

// Choice is a pick.
type Choice struct {
	Peer       int     // -1 when no candidate is usable
	Cost       float64 // predicted, ms
	Propensity float64 // probability of this pick, given who was considered
	Explored   bool    // drawn at random for the sake of learning
}

// tie is the relative band within which costs count as equal: below what the estimators can tell apart.
const tie = 1e-3

// Pick takes a peer for a request of class c: with probability explore any considered one, each alike, otherwise the cheapest,
// at random among ties.
//
// Considered are the usable peers, each with probability Admit, drawn anew for each request; if the draw leaves nobody, all
// usable ones are. The draw does not depend on costs, so the propensity is stated given the considered set: off-policy estimates
// that compare policies on the set that was considered stay unbiased, and it is exact without summing over all possible draws:
//
//	explore / considered + (1 - explore) / ties   for one of the cheapest
//	explore / considered                          for any other
//
// It costs O(peers) and allocates nothing. len(cand) must not be greater than the table's peers.
func Pick(t *Table, c int, cand []Candidate, explore float64, rnd *rand.Rand) Choice {
	seed := rnd.Uint64()
	best, considered := considerAll(t, c, cand, seed, false)
	if considered == 0 {
		if best, considered = considerAll(t, c, cand, seed, true); considered == 0 {
			return Choice{Peer: -1}
		}
		return choose(t, c, cand, seed, true, best, considered, explore, rnd)
	}
	return choose(t, c, cand, seed, false, best, considered, explore, rnd)
}

// considers draws whether peer i is considered. It is a function of the seed, so that several passes see the same draw.
func considers(x *Candidate, i int, seed uint64, all bool) bool {
	if !x.Usable {
		return false
	}
	if all || !(x.Admit > 0) || x.Admit >= 1 {
		return true
	}
	z := seed + uint64(i+1)*0x9e3779b97f4a7c15 // splitmix64 (Steele, Lea, Flood 2014)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return float64(z>>11)/(1<<53) < x.Admit
}

func considerAll(t *Table, c int, cand []Candidate, seed uint64, all bool) (best float64, considered int) {
	for i := range cand {
		if !considers(&cand[i], i, seed, all) {
			continue
		}
		if cost := t.At(c, i, cand[i].InFlight); considered == 0 || cost < best {
			best = cost
		}
		considered++
	}
	return best, considered
}

func choose(t *Table, c int, cand []Candidate, seed uint64, all bool, best float64, considered int, explore float64, rnd *rand.Rand) Choice {
	limit := best * (1 + tie)
	explored := explore > 0 && rnd.Float64() < explore
	at, ties, seen := -1, 0, 0
	for i := range cand {
		if !considers(&cand[i], i, seed, all) {
			continue
		}
		cheap := t.At(c, i, cand[i].InFlight) <= limit
		if cheap {
			ties++
		}
		// Reservoir sampling: each of those that qualify is kept alike.
		if explored {
			seen++
			if rnd.IntN(seen) == 0 {
				at = i
			}
		} else if cheap && rnd.IntN(ties) == 0 {
			at = i
		}
	}
	ch := Choice{Peer: at, Cost: t.At(c, at, cand[at].InFlight), Explored: explored}
	if explore > 0 {
		ch.Propensity = min(explore, 1) / float64(considered)
	}
	if ch.Cost <= limit {
		ch.Propensity += (1 - min(max(explore, 0), 1)) / float64(ties)
	}
	return ch
}

// LocalRule is what decides without a table, and for the control slice: the better of two different random usable peers by
// (in-flight + 1) / weight (Mitzenmacher 2001). Admit is honoured as in Pick. Cost is not a time here and stays 0.
func LocalRule(cand []Candidate, weights []float64, rnd *rand.Rand) Choice {
	seed := rnd.Uint64()
	all := false
	n := 0
	for i := range cand {
		if considers(&cand[i], i, seed, false) {
			n++
		}
	}
	if n == 0 {
		all = true
		for i := range cand {
			if cand[i].Usable {
				n++
			}
		}
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
			if considers(&cand[i], i, seed, all) {
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
		if i != a && considers(&cand[i], i, seed, all) {
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
		if cost := t.At(c, i, cand[i].InFlight); i != choice.Peer && (next < 0 || cost < nextCost) {
			next, nextCost = i, cost
		}
	}
	switch {
	case next < 0:
		return fmt.Sprintf("%s is the only usable peer", name)
	case nextCost < choice.Cost*(1-tie):
		return fmt.Sprintf("%s with %g in flight is expected to cost %.3g ms; %s would cost %.3g ms but its share is held back",
			name, held, choice.Cost, t.Peers[next], nextCost)
	case nextCost <= choice.Cost*(1+tie):
		return fmt.Sprintf("%s with %g in flight is expected to cost %.3g ms, as much as %s with %g; chosen at random among equals",
			name, held, choice.Cost, t.Peers[next], cand[next].InFlight)
	}
	return fmt.Sprintf("%s with %g in flight is expected to cost %.3g ms for %s, the lowest of %d usable peers; next is %s with %g in flight at %.3g ms",
		name, held, choice.Cost, t.Classes[c], usable, t.Peers[next], cand[next].InFlight, nextCost)
}
