package record

import (
	"slices"
	"testing"

	"github.com/weirlb/weir/engine/history"
)

func TestTheLastBatchIsHandedOverAsItIsAndOthersComeFromTheSpool(t *testing.T) {
	var h handover
	b := &history.Batch{Writer: "w"}
	give := func(seq uint64) {
		b.Seq = seq
		b.Series = append(b.Series[:0], history.Series{Pool: "api", Peer: "p", Class: "c"})
		b.Outcomes = append(b.Outcomes[:0], history.Outcome{AtMS: int64(seq)}, history.Outcome{AtMS: int64(seq)})
		h.give(b)
		b.Series[0].Pool, b.Outcomes[0].AtMS = "changed", -1 // the writer uses its memory again
	}
	if h.take(1) != nil {
		t.Fatal("a batch before the first")
	}
	give(1)
	give(2)
	if h.take(1) != nil { // it was replaced, and 2 stays for its turn
		t.Error("1 is still here")
	}
	got := h.take(2)
	if got == nil || got.Writer != "w" || got.Series[0].Pool != "api" || !slices.Equal(got.Outcomes, []history.Outcome{{AtMS: 2}, {AtMS: 2}}) {
		t.Fatalf("%+v", got)
	}
	if h.take(2) != nil {
		t.Error("it is handed over twice")
	}
	give(3) // while 2 is being stored
	if got.Outcomes[0].AtMS != 2 {
		t.Error("what is being stored was changed")
	}
	h.done(got)
	if h.take(4) != nil || h.take(3) != nil {
		t.Error("an old one was not given up")
	}
	if allocs := testing.AllocsPerRun(10, func() { give(5); h.done(h.take(5)) }); allocs > 0 {
		t.Errorf("%v allocations a batch", allocs)
	}
}
