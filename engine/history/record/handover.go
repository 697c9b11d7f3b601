package record

import (
	"sync/atomic"

	"github.com/weirlb/weir/engine/history"
)

// handover carries the writer's last batch to the shipper as it is, so that a store that keeps up costs no decompressing and decoding,
// a quarter of what history takes of the engine's processor time. The spool has every batch all the same: what is not here, or was tried
// and failed, comes from there. At most two batches are in memory.
type handover struct {
	ready atomic.Pointer[history.Batch] // the last batch, numbered
	free  atomic.Pointer[history.Batch] // memory to be used again
}

// give copies a batch, whose memory the writer uses again.
func (h *handover) give(b *history.Batch) {
	to := h.free.Swap(nil)
	if to == nil {
		to = h.ready.Swap(nil) // nobody wanted it
	}
	if to == nil {
		to = &history.Batch{}
	}
	series, outcomes, rollups, events, metrics := to.Series[:0], to.Outcomes[:0], to.Rollups[:0], to.Events[:0], to.Metrics[:0]
	*to = *b
	to.Series, to.Outcomes = append(series, b.Series...), append(outcomes, b.Outcomes...)
	to.Rollups, to.Events, to.Metrics = append(rollups, b.Rollups...), append(events, b.Events...), append(metrics, b.Metrics...) // sketches are never changed
	h.ready.Store(to)
}

// take returns the batch of a number, nil when it is not here. The caller owns it until done.
func (h *handover) take(seq uint64) *history.Batch {
	b := h.ready.Swap(nil)
	switch {
	case b == nil || b.Seq == seq:
		return b
	case b.Seq > seq: // its turn comes
		if h.ready.CompareAndSwap(nil, b) {
			return nil
		}
	}
	h.free.Store(b)
	return nil
}

// done gives the memory back.
func (h *handover) done(b *history.Batch) {
	if b != nil {
		h.free.Store(b)
	}
}
