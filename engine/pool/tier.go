package pool

import "fmt"

// Tiers are ranks of peers: tier 0 are the primaries, those above are backups. The rule is Envoy's priority levels with an over-provisioning
// factor of 1 / MinUsable: a tier can carry
//
//	h = min(1, usable weight / (MinUsable x weight of the tier))
//
// of the traffic, and what the tiers before cannot carry, 1 - sum h, is the most that a tier gets. A peer that ramps counts for as much as
// its ramp has come to, so traffic goes back to returning primaries as they warm up.
//
// Unlike Envoy, which sends that share there, Weir only admits it: a peer of a backup tier is considered with that probability
// (View.Admit), and the costs decide. A backup that is slower is used as far as the primaries are so loaded that it pays.
//
// A healthy peer of a tier that gets nothing stands by (Standby): not usable, but checked, priced, and there at once.
type tiers struct {
	any  bool // some peer is of a tier above 0
	have [Tiers]float64
	all  [Tiers]float64
	lack [Tiers]float64 // what the tiers before cannot carry
	up   [Tiers]int     // healthy peers
	size [Tiers]int
}

// Tiers is the number of tiers a pool may have.
const Tiers = 16

func (h *Health) rank() {
	t := &h.tiers
	*t = tiers{any: t.any}
	if !t.any {
		return
	}
	for i := range h.peers {
		p := &h.peers[i]
		t.size[p.tier]++
		t.all[p.tier] += p.weight
		if p.healthy() {
			t.up[p.tier]++
			t.have[p.tier] += p.weight * h.warmth(p)
		}
	}
	carried := 0.0
	for n := range t.lack {
		t.lack[n] = max(1-carried, 0)
		if t.lack[n] < 1e-6 { // rounding
			t.lack[n] = 0
		}
		if t.all[n] > 0 {
			carried += min(t.have[n]/(h.opt.MinUsable*t.all[n]), 1)
		}
	}
	for i := range h.peers {
		p := &h.peers[i]
		p.standby = p.healthy() && t.lack[p.tier] == 0
	}
}

// warmth is how much of its full share a peer may take by its ramp, in (0, 1].
func (h *Health) warmth(p *peer) float64 {
	if !p.ramping {
		return 1
	}
	return 0.1 + 0.9*min(max((h.now-p.rampFrom)/h.opt.SlowStartMS, 0), 1)
}

// before says in words how the tiers before this one stand.
func (h *Health) before(tier int) string {
	up, size := 0, 0
	for n := range tier {
		up, size = up+h.tiers.up[n], size+h.tiers.size[n]
	}
	return fmt.Sprintf("%d of %d peers of the tiers before are usable", up, size)
}

// Backups tells the share of the traffic that the peers of tiers above 0 may have, because the primaries cannot carry it.
func (h *Health) Backups() float64 {
	if !h.tiers.any || h.tiers.size[0] == 0 || h.panic {
		return 0
	}
	for n := 1; n < Tiers; n++ {
		if h.tiers.up[n] > 0 {
			return h.tiers.lack[n]
		}
	}
	return 0
}
