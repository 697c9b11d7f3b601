package history

import (
	"fmt"
	"math/rand/v2"
)

// sample makes a batch of outcomes as traffic looks: 20 peers, 10 classes, half a second.
func sample(n int) *Batch {
	rnd := rand.New(rand.NewPCG(1, 2))
	b := &Batch{Writer: "w", Seq: 1, Instance: "weir1", AtMS: 1_700_000_000_000}
	for p := range 20 {
		for c := range 10 {
			b.Series = append(b.Series, Series{"api", fmt.Sprintf("10.0.0.%d:8080", p), fmt.Sprintf("GET /c%d/{n}", c)})
		}
	}
	for i := range n {
		ms := float32(5 + 20*rnd.ExpFloat64())
		b.Outcomes = append(b.Outcomes, Outcome{
			AtMS: b.AtMS + int64(i/20), AtUS: uint16(rnd.IntN(1000)), Series: rnd.Uint32N(200), Attempt: 1, Status: 200, Inflight: uint16(rnd.IntN(8)), Bytes: rnd.Uint32N(5000),
			Propensity: float32(1+rnd.IntN(4)) / 4, HeaderMS: ms, TotalMS: ms + rnd.Float32(), PredictedMS: 20 + rnd.Float32(), Load: -1, Rate: 1,
		})
	}
	return b
}
