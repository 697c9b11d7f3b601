package observe

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func drawBatch(t *rapid.T) *Batch {
	b := &Batch{}
	name := rapid.StringN(0, -1, MaxName)
	pools := rapid.SliceOfN(name, 1, 3).Draw(t, "pools")
	classes := rapid.SliceOfN(name, 1, 4).Draw(t, "classes")
	peers := rapid.SliceOfN(name, 1, 4).Draw(t, "peers")
	time := rapid.Float32Range(0, math.MaxFloat32)
	optional := rapid.OneOf(rapid.Just(None), time)
	for range rapid.IntRange(0, 20).Draw(t, "records") {
		r := Record{
			Attempt: rapid.Uint8Min(1).Draw(t, "attempt"), Kind: Kind(rapid.Uint8Max(7).Draw(t, "kind")),
			Status: rapid.Uint16().Draw(t, "status"), Flags: Flags(rapid.Uint16().Draw(t, "flags")),
			Inflight: rapid.Uint16().Draw(t, "inflight"), Reported: Reported(rapid.Uint16().Draw(t, "reported")), Propensity: rapid.Float32Range(math.SmallestNonzeroFloat32, 1).Draw(t, "propensity"),
			HeaderMS: optional.Draw(t, "header"), TotalMS: time.Draw(t, "total"), Weight: time.Draw(t, "weight"),
			PredictedMS: optional.Draw(t, "predicted"), AgeMS: time.Draw(t, "age"), Bytes: rapid.Uint32().Draw(t, "bytes"),
			Load: optional.Draw(t, "load"), Work: rapid.SampledFrom([]float32{0, 0, 1.5, 1e6}).Draw(t, "work"),
		}
		err := b.Add(rapid.SampledFrom(pools).Draw(t, "pool"), rapid.SampledFrom(classes).Draw(t, "class"),
			rapid.SampledFrom(peers).Draw(t, "peer"), r)
		if err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func same(a, b *Batch) string {
	if len(a.Records) != len(b.Records) {
		return fmt.Sprintf("%d records became %d", len(a.Records), len(b.Records))
	}
	for i := range a.Records {
		x, y := a.Records[i], b.Records[i]
		if a.Pools[x.Pool] != b.Pools[y.Pool] || a.Classes[x.Class] != b.Classes[y.Class] || a.Peers[x.Peer] != b.Peers[y.Peer] {
			return fmt.Sprintf("record %d changed its names", i)
		}
		x.Pool, x.Class, x.Peer = y.Pool, y.Class, y.Peer
		if x != y {
			return fmt.Sprintf("record %d: %+v became %+v", i, a.Records[i], y)
		}
	}
	return ""
}

func TestEveryBatchComesBackFromBothFormsAsItWas(t *testing.T) {
	var reused Batch
	rapid.Check(t, func(t *rapid.T) {
		b := drawBatch(t)
		b.Instance, b.Worker, b.Generation, b.Dropped = rapid.StringN(0, -1, MaxName).Draw(t, "instance"), rapid.IntRange(0, 1000).Draw(t, "worker"), rapid.IntRange(0, 1<<22).Draw(t, "generation"), rapid.Uint64Max(1<<53).Draw(t, "dropped")
		for range rapid.IntRange(0, 3).Draw(t, "inflight") {
			b.Inflight = append(b.Inflight, Inflight{"p", rapid.StringN(0, -1, MaxName).Draw(t, "p"), rapid.IntRange(0, math.MaxInt32).Draw(t, "n")})
		}
		count := rapid.IntRange(0, math.MaxInt32)
		for range rapid.IntRange(0, 3).Draw(t, "shed") {
			b.RateLimited = append(b.RateLimited, RateLimited{"p", count.Draw(t, "rate")})
			b.Shed = append(b.Shed, Shed{"p", count.Draw(t, "high"), count.Draw(t, "normal"), count.Draw(t, "low"), count.Draw(t, "full")})
		}
		body, err := b.AppendCompact(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := reused.DecodeCompact(body); err != nil {
			t.Fatalf("compact: %v", err)
		}
		if d := same(b, &reused); d != "" {
			t.Fatalf("compact: %s", d)
		}
		if !slices.Equal(reused.Shed, b.Shed) || !slices.Equal(reused.RateLimited, b.RateLimited) {
			t.Fatalf("refused: %+v became %+v", b, &reused)
		}
		if reused.Instance != b.Instance || reused.Worker != b.Worker || reused.Generation != b.Generation || reused.Dropped != b.Dropped || len(reused.Inflight) != len(b.Inflight) ||
			(len(b.Inflight) > 0 && !reflect.DeepEqual(reused.Inflight, b.Inflight)) {
			t.Fatalf("header: %+v became %+v", b, &reused)
		}
		if body, err = b.AppendNDJSON(nil); err != nil {
			t.Fatal(err)
		}
		if err := reused.DecodeNDJSON(body); err != nil {
			t.Fatalf("readable: %v", err)
		}
		if d := same(b, &reused); d != "" {
			t.Fatalf("readable: %s", d)
		}
	})
}

func TestDecodingAllocatesNothingOnceTheNamesAreKnown(t *testing.T) {
	b := batchOf(t, 512)
	body := compact(t, b)
	lines, err := b.AppendNDJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	var d Batch
	for name, decode := range map[string]func() error{
		"compact":  func() error { return d.DecodeCompact(body) },
		"readable": func() error { return d.DecodeNDJSON(lines) },
	} {
		if n := testing.AllocsPerRun(20, func() {
			if err := decode(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations for a batch of 512", name, n)
		}
	}
}
