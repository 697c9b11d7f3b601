package sqlrows

import "github.com/weirlb/weir/engine/history"

// DropMetrics drops the rows of metrics that have no id, and those places of the ids.
func DropMetrics(b *history.Batch, ids *[]int32) (bad int) {
	kept, of := b.Metrics[:0], (*ids)[:0]
	for i, id := range *ids {
		if id != NoID {
			kept, of = append(kept, b.Metrics[i]), append(of, id)
		}
	}
	bad = len(b.Metrics) - len(kept)
	b.Metrics, *ids = kept, of
	return bad
}
