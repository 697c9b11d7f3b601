package fit_test

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/weirlb/weir/engine/learn/fit"
	"github.com/weirlb/weir/engine/model"
)

// far is the mean square difference of what two networks answer to rows.
func far(a, b *model.Net, rows *fit.Rows) float64 {
	y, z := make([]float32, rows.Len()), make([]float32, rows.Len())
	var s model.Scratch
	a.Forward(rows.X, rows.Len(), y, &s)
	b.Forward(rows.X, rows.Len(), z, &s)
	sum := 0.0
	for i := range y {
		sum += float64(y[i]-z[i]) * float64(y[i]-z[i])
	}
	return sum / float64(len(y))
}

func TestAFitStaysTheNearerToWhereItIsDrawnTheMoreItIs(t *testing.T) {
	known := model.New([]int{3, 16, 1}, rand.New(rand.NewPCG(1, 2)))
	if err := fit.Train(context.Background(), known, sample(20_000, 1, bend), fit.Options{}); err != nil {
		t.Fatal(err)
	}
	other := sample(5000, 2, func(x []float32) float64 { return bend(x) + 0.5 })
	last := math.Inf(1)
	for _, decay := range []float64{0.01, 50, 300} {
		net, steps := known.Clone(), 0
		opt := fit.Options{Rate: 3e-3, Decay: decay, Towards: known, Batch: 128, Step: func() { steps++ }}
		if err := fit.Train(context.Background(), net, other, opt); err != nil {
			t.Fatal(err)
		}
		d := far(net, known, other)
		if d > last*0.9 {
			t.Errorf("drawn by %v it went %v away, by less %v", decay, d, last)
		}
		last = d
		if steps != 3*40 {
			t.Errorf("%d steps were told", steps)
		}
	}
	if last > 0.15 {
		t.Errorf("drawn hardest it still went %v away", last)
	}
	if err := fit.Train(context.Background(), known.Clone(), other, fit.Options{Towards: model.New([]int{3, 8, 1}, rand.New(rand.NewPCG(1, 2)))}); err == nil {
		t.Error("another shape was accepted")
	}
}
