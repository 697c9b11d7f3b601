package recorded_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/learn/recorded"
)

// BenchmarkReplay tells outcomes a second, at two rates: at the low one tables cost the most, at the high one outcomes.
func BenchmarkReplay(b *testing.B) {
	const peers, classes = 10, 5
	var series []history.Series
	for p := range peers {
		for c := range classes {
			series = append(series, history.Series{Pool: "api", Peer: fmt.Sprintf("10.0.0.%d:80", p), Class: fmt.Sprintf("GET /c%d", c)})
		}
	}
	for _, perS := range []int{20, 200, 2000} {
		b.Run(fmt.Sprintf("%d_per_s", perS), func(b *testing.B) {
			rnd := rand.New(rand.NewPCG(1, 1))
			const n = 200_000
			list := make([]history.Outcome, n)
			for i := range list {
				ms := float32(50 * rnd.ExpFloat64())
				list[i] = history.Outcome{
					AtMS: 1_700_000_000_000 + int64(i)*1000/int64(perS), Series: uint32(rnd.IntN(len(series))), Attempt: 1, Status: 200,
					TotalMS: ms, HeaderMS: ms, Propensity: 0.1, Load: -1, PredictedMS: -1, Rate: 1, Inflight: uint16(rnd.IntN(4)),
				}
			}
			for b.Loop() {
				r := recorded.New(recorded.Options{})
				for at := 0; at < n; at += 2000 {
					if err := r.Add(series, list[at:at+2000]); err != nil {
						b.Fatal(err)
					}
				}
				r.Finish()
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "outcomes/s")
		})
	}
}
