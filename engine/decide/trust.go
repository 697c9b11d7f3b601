package decide

import (
	"math"

	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/pool"
)

// Absent is the trust of a peer that takes no part: nothing is compared with it.
const Absent = -1

const (
	knownAfter = 300 // answers of a peer after which its cost is its own alone; with 100 a backup whose first answers were slow by chance got 5 % of what it may have, in one of 15 starts
	failsOwn   = 0.2 // failure rate from which on it is, whatever it answered: nobody is taken for good on the strength of failures
)

// TrustIn is how far the costs of a peer are its own, for Table.Trust. Two kinds of peers get traffic without being known: backups, which
// stand by until they are needed, and then what is known of them was true long ago; and newcomers and those that return, in slow start. Of
// both the share is bounded by their admit. One on trial after an ejection is tried as often as that allows, whatever it did before: dear as it is for
// its failures it would else be left alone until the others' queues are as dear, and nobody hears that it is back.
func TrustIn(h pool.View, v estimate.PeerView) float64 {
	switch {
	case h.OnTrial && h.Usable:
		return 0
	case h.Tier > 0 && (h.Usable || h.Fit), h.State == pool.SlowStart && h.Usable:
		return min(max(v.Samples/knownAfter, v.FailureRate/failsOwn), 1)
	case !h.Usable:
		return Absent
	}
	return 1
}

// Trust changes the costs of peers that little is known about, which Fill prices by what is usual of the pool and, with a model, by what peers of
// which nothing is known turned out to be: dearer than those that are known to do well. That is right in the mean, and at light load it keeps a backup
// which is called in, and a newcomer, from being tried at all, since some known peer is cheaper. How much such a peer may get is bounded by its admit already, so it
// is taken for as good as the best until it shows otherwise (optimism in the face of uncertainty: Lai and Robbins 1985), and its own price counts as
// far as it is known:
//
//	cost = best x (own / best)^trust  where own > best
//
// trust[i] is between 0, nothing is known of peer i, and 1, its own cost stands; or Absent. best is the least cost of a peer that takes part, at the
// same in-flight count, before weights and zones, which are i's own. par is what the table was filled with. Returns whether any was changed.
func (t *Table) Trust(par Params, trust []float64) bool {
	some := false
	for _, x := range trust {
		some = some || x >= 0 && x < 1
	}
	if !some {
		return false
	}
	for c := range t.Classes {
		var best [GridPoints]float64
		for g := range best {
			best[g] = math.Inf(1)
			for i, x := range trust {
				if x >= 0 {
					best[g] = min(best[g], par.plain(i, float64(t.Row(c, i)[g])))
				}
			}
		}
		for i, x := range trust {
			if !(x >= 0 && x < 1) {
				continue
			}
			row := t.Row(c, i)
			last := float32(0)
			for g := range row {
				if own := par.plain(i, float64(row[g])); own > best[g] && best[g] > 0 {
					row[g] = float32(bounded(par.priced(i, best[g]*math.Pow(own/best[g], x))))
				}
				last = max(last, row[g]) // rows rise, rounding or not
				row[g] = last
			}
		}
	}
	return true
}

// plain is a cost of peer i without its weight and zone; priced puts them back.
func (p *Params) plain(i int, cost float64) float64 {
	factor, ms := p.away(i)
	return max(cost-ms, 0) * p.weight(i) / factor
}

func (p *Params) priced(i int, plain float64) float64 {
	factor, ms := p.away(i)
	return plain/p.weight(i)*factor + ms
}
