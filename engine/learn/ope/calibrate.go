package ope

import (
	"cmp"
	"fmt"
	"slices"
	"sort"

	"github.com/weirlb/weir/engine/learn/replay"
)

// calibration tells what a decision at a price returns: the mean return of the decisions on record at like prices.
//
// A model's costs order peers; they are not expected returns. The analytic cost is the price at which a request is better served
// elsewhere (decide, Whittle's index), which behind a queue is many times what the answer takes and the delay it imposes. Taken as q it
// doubled the standard error of response times near saturation. Any function of what was known before the answer may be q; this one
// is fitted to some hundred decisions a bin, so what it takes of each into its own estimate is small. The means of bins are made to
// rise with the price (isotonic regression by pooling adjacent violators: Ayer, Brunk, Ewing, Reid and Silverman 1955).
type calibration struct {
	price, ret []float64 // ascending, ms: mean price and mean return of each bin
}

// priced is one decision on record: the current model's cost of the peer that was chosen, and the return, both in ms.
type priced struct{ price, ret float64 }

// mostBins of a calibration, each of leastBin decisions at least.
const (
	mostBins = 16
	leastBin = 100
)

// calibrate sorts list, which may not be empty.
func calibrate(list []priced) *calibration {
	slices.SortFunc(list, func(a, b priced) int { return cmp.Or(cmp.Compare(a.price, b.price), cmp.Compare(a.ret, b.ret)) })
	bins := max(min(len(list)/leastBin, mostBins), 1)
	c := &calibration{}
	var weight []float64
	for b := range bins {
		part := list[b*len(list)/bins : (b+1)*len(list)/bins]
		var price, ret float64
		for _, d := range part {
			price += d.price
			ret += d.ret
		}
		n := float64(len(part))
		c.price, c.ret, weight = append(c.price, price/n), append(c.ret, ret/n), append(weight, n)
		for i := len(c.ret) - 1; i > 0 && (c.ret[i] <= c.ret[i-1] || c.price[i] <= c.price[i-1]); i-- {
			both := weight[i-1] + weight[i]
			c.price[i-1] += (c.price[i] - c.price[i-1]) * weight[i] / both
			c.ret[i-1] += (c.ret[i] - c.ret[i-1]) * weight[i] / both
			weight[i-1] = both
			c.price, c.ret, weight = c.price[:i], c.ret[:i], weight[:i]
		}
	}
	return c
}

// at is the return expected at a price: linear between bins, and that of the first and the last beyond them. A price below all on
// record is more likely an error of the cheapest than a better peer.
func (c *calibration) at(price float64) float64 {
	n := len(c.price)
	i := sort.SearchFloat64s(c.price, price)
	switch i {
	case 0:
		return c.ret[0]
	case n:
		return c.ret[n-1]
	}
	part := (price - c.price[i-1]) / (c.price[i] - c.price[i-1])
	return c.ret[i-1] + part*(c.ret[i]-c.ret[i-1])
}

// calibrate tells by pool what prices of the current model returned.
func (e *evaluator) calibrate(used []*replay.Decision, opt *Options) (map[int32]*calibration, error) {
	list := map[int32][]priced{}
	for at := 0; at < len(used); at += batch {
		part := used[at:min(at+batch, len(used))]
		e.z = sized(e.z, len(part))
		clear(e.z)
		e.x = e.x[:0]
		if e.current != nil {
			for _, d := range part {
				e.x = append(e.x, d.Row(d.Chosen)...)
			}
			if err := e.current.Predict(e.x, len(part), e.z); err != nil {
				return nil, fmt.Errorf("evaluating the current model: %w", err)
			}
		}
		for i, d := range part {
			list[d.Pool] = append(list[d.Pool], priced{corrected(d.Cost[d.Chosen], e.z[i]), opt.cost(d)})
		}
	}
	by := make(map[int32]*calibration, len(list))
	for pool, l := range list {
		by[pool] = calibrate(l)
	}
	return by, nil
}
