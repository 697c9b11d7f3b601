package decide

import (
	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/pool"
)

// worksOff is in how many mean services of theirs peers are to have worked off what waits there.
const worksOff = 3

// Short is the part of a pool's traffic that its peers past their slow start cannot carry, in [0, 1): what comes and what waits there already, over what
// they can serve. of tells of each peer how it is and what is known of it.
func Short(peers int, of func(i int) (pool.View, estimate.PeerView)) float64 {
	rate, capacity, waiting, slots := 0.0, 0.0, 0.0, 0.0
	for i := range peers {
		h, v := of(i)
		rate += v.TotalRate
		if !h.Usable || h.State == pool.SlowStart {
			continue
		}
		slots += v.Concurrency
		capacity += v.Concurrency / v.WorkMS
		waiting += max(float64(v.InFlight)+v.Others-v.Concurrency, 0)
	}
	if !(capacity > 0) {
		return 0 // nobody is held back then
	}
	rate += waiting * capacity / (worksOff * slots)
	return max(1-capacity/max(rate, capacity), 0)
}
