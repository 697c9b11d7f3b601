package sketch

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func times(t *rapid.T, name string) []float64 {
	return rapid.SliceOfN(rapid.Float64Range(MinMS, MaxMS), 1, 400).Draw(t, name)
}

func of(values []float64) *Sketch {
	var s Sketch
	for _, v := range values {
		s.Add(v)
	}
	return &s
}

func exact(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(int(math.Ceil(q*float64(len(sorted)))), 1)-1]
}

func TestAQuantileIsWithinTheStatedErrorOfTheExactOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := times(t, "values")
		q := rapid.Float64Range(0, 1).Draw(t, "q")
		got, want := of(values).Quantile(q), exact(values, q)
		if math.Abs(got-want) > (Error+1e-9)*want {
			t.Fatalf("quantile %v is %v, exact %v", q, got, want)
		}
	})
}

func TestMergedSketchesAreTheSketchOfAllValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := times(t, "a"), times(t, "b")
		whole := of(append(slices.Clone(a), b...))
		merged := of(a)
		merged.Merge(of(b))
		var read Sketch
		for _, part := range []*Sketch{of(b), of(a)} {
			if err := read.MergeEncoded(part.Append(nil)); err != nil {
				t.Fatal(err)
			}
		}
		want := whole.Append(nil)
		if !bytes.Equal(merged.Append(nil), want) || !bytes.Equal(read.Append(nil), want) || read.Count() != whole.Count() {
			t.Fatal("the merge differs from the whole")
		}
	})
}

func TestValuesOutsideTheRangeAreCountedAtItsEnds(t *testing.T) {
	s := of([]float64{0, -1, math.NaN(), math.Inf(1), 1e300})
	if s.Count() != 5 || s.Quantile(0) > 2*MinMS || s.Quantile(1) < MaxMS/2 || s.Quantile(1) > 2*MaxMS {
		t.Errorf("%d counted, from %v to %v", s.Count(), s.Quantile(0), s.Quantile(1))
	}
	if !math.IsNaN((&Sketch{}).Quantile(0.5)) {
		t.Error("the quantile of nothing is a number")
	}
}

func TestCountsBeyondTwoBytesAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Sketch
		want := map[int32]uint64{}
		total := uint64(0)
		for range rapid.IntRange(1, 30).Draw(t, "n") {
			ms, n := rapid.Float64Range(1, 50).Draw(t, "ms"), rapid.Uint64Range(0, 70_000).Draw(t, "times")
			s.AddN(ms, n)
			want[bucket(ms)] += n
			total += n
		}
		for b, n := range s.each {
			if want[b] != n {
				t.Fatalf("bucket %d counts %d, want %d", b, n, want[b])
			}
		}
		if s.Count() != total {
			t.Fatalf("%d counted, want %d", s.Count(), total)
		}
	})
}

func TestAResetSketchCountsAnewWithoutAllocating(t *testing.T) {
	s := of([]float64{1, 2, 3})
	if n := testing.AllocsPerRun(100, func() { s.Reset(); s.Add(2) }); n != 0 || s.Count() != 1 {
		t.Errorf("%v allocations, %d counted", n, s.Count())
	}
}

func FuzzMergeEncoded(f *testing.F) {
	f.Add([]byte{})
	f.Add(of([]float64{1, 2, 1000}).Append(nil))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 1})
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 1, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		var s Sketch
		if s.MergeEncoded(data) == nil && s.Count() > 0 && math.IsNaN(s.Quantile(0.5)) {
			t.Error("a sketch without a median")
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	var s Sketch
	for i := 0; b.Loop(); i++ {
		s.Add(float64(i%1000) / 7)
	}
}
