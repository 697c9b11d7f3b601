package postgres

import (
	"slices"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/storetest"
)

// copied is what a server sends for outcomes.
func copied(list []history.Outcome) []byte {
	w := []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	for i := range list {
		o := &list[i]
		w = appendI64(appendI64(append(w, 0, 15), o.AtMS*1000+int64(o.AtUS)-epochUS), int64(o.Bytes))
		for _, x := range [...]int32{int32(o.Series), int32(o.Status), int32(o.Flags), int32(o.Inflight)} {
			w = appendI32(w, x)
		}
		for _, x := range [...]float32{o.Propensity, o.HeaderMS, o.TotalMS, o.Weight, o.PredictedMS, o.Load, o.Rate} {
			w = appendF32(w, x)
		}
		w = appendI16(appendI16(w, int16(o.Attempt)), int16(o.Kind))
	}
	return append(w, 0xff, 0xff)
}

func TestCopiedRowsAreReadInPiecesOfAnySize(t *testing.T) {
	want := storetest.Batch(1, 100, 3, 3).Outcomes
	data := copied(want)
	for size := 1; size <= len(data); size = size*3/2 + 1 {
		var r rowReader
		for piece := range slices.Chunk(data, size) {
			if n, err := r.Write(piece); err != nil || n != len(piece) {
				t.Fatalf("in pieces of %d: %d %v", size, n, err)
			}
		}
		if !r.ended || !slices.Equal(r.into, want) {
			t.Fatalf("in pieces of %d: ended %v, %d rows", size, r.ended, len(r.into))
		}
	}
	var cut rowReader
	if _, err := cut.Write(data[:len(data)-100]); err != nil || cut.ended {
		t.Errorf("what is cut off ended: %v %v", cut.ended, err)
	}
	for at, what := range map[int]string{0: "the signature", copyHead + 1: "the number of columns", copyHead + 2 + 3: "the first width", copyHead + 61: "a width", copyHead + 123: "the last width"} {
		broken := slices.Clone(data)
		broken[at]++
		var r rowReader
		if _, err := r.Write(broken); err == nil {
			t.Errorf("%s is wrong, and that is not told", what)
		}
	}
}

// Fresh rows: no VACUUM has been at them, nobody knows how they are distributed. Each slice read all of them.
func TestASliceOfFreshOutcomesIsReadByTheIndexOfTimes(t *testing.T) {
	open := opener(t, "")
	s := storetest.Ready(t, open).(*Store)
	for seq := range uint64(10) {
		b := storetest.Batch(seq+1, 20_000, 2, 2)
		for i := range b.Outcomes { // ten minutes each, in their order
			b.Outcomes[i].AtMS = storetest.Now() - int64(10-seq)*600_000 + int64(i)*30
		}
		if _, err := s.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	s.summarize(t.Context())
	p := slice{fromMS: storetest.Now() - 1_200_000, toMS: storetest.Now() - 600_000}
	for range 4 {
		if err := s.slice(t.Context(), &p); err != nil || len(p.outcomes) != 20_000 {
			t.Fatalf("%d outcomes, %v", len(p.outcomes), err)
		}
	}
	// The server counts rows that it read for whole tables apart from those by an index, a second late.
	seen := func() (whole, byIndex int64) {
		if err := s.pool.QueryRow(t.Context(), "SELECT sum(seq_tup_read)::bigint, sum(idx_tup_fetch)::bigint FROM pg_stat_user_tables WHERE relname LIKE 'weir_outcome%'").Scan(&whole, &byIndex); err != nil {
			t.Fatal(err)
		}
		return whole, byIndex
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		whole, byIndex := seen()
		if whole > 300_000 || byIndex > 200_000 { // the first time all 200,000, by summarize
			t.Fatalf("for four times 20,000 outcomes %d rows were read without the index, %d by it", whole, byIndex)
		}
		if byIndex >= 80_000 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the server does not count")
		}
	}
}
