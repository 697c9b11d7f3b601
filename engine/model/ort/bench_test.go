//go:build cgo

package ort

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkPredict is one refresh of a pool: 3200 rows are 16 peers x 20 classes x 10 counts.
func BenchmarkPredict(b *testing.B) {
	lib := library(b)
	n, m := network([]int{32, 64, 32, 1}, 1)
	s := open(b, lib, n, m)
	for _, rows := range []int{10, 160, 1024, 3200} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			x, y := values(rows*32, rand.New(rand.NewPCG(1, 1))), make([]float32, rows)
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Predict(x, rows, y); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(rows), "ns/row")
		})
	}
}
