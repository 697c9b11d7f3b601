package observe

import "testing"

// 20,000 records/s arrive as about 40 batches of 512.
func BenchmarkDecodeCompact512(b *testing.B) {
	body := compact(b, batchOf(b, 512))
	var d Batch
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := d.DecodeCompact(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeNDJSON512(b *testing.B) {
	body, err := batchOf(b, 512).AppendNDJSON(nil)
	if err != nil {
		b.Fatal(err)
	}
	var d Batch
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := d.DecodeNDJSON(body); err != nil {
			b.Fatal(err)
		}
	}
}
