package fit_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/weirlb/weir/engine/learn/fit"
	"github.com/weirlb/weir/engine/model"
)

// sample makes rows whose mean ratio is exp(f(x)) and whose scatter is exponential.
func sample(n int, seed uint64, f func(x []float32) float64) *fit.Rows {
	rnd := rand.New(rand.NewPCG(seed, 1))
	rows := &fit.Rows{In: 3}
	for range n {
		x := []float32{rnd.Float32()*4 - 2, 10 + rnd.Float32(), 7}
		rows.Add(x, float32(math.Exp(f(x))*rnd.ExpFloat64()))
	}
	return rows
}

func bend(x []float32) float64 { return 0.5*math.Abs(float64(x[0])) - 0.4 + 0.3*float64(x[1]-10.5) }

func TestAFitFindsTheMeanOfWhatScatters(t *testing.T) {
	rows := sample(40_000, 1, bend)
	net := model.New([]int{3, 16, 16, 1}, rand.New(rand.NewPCG(1, 2)))
	before := fit.Loss(net, rows)
	if err := fit.Train(context.Background(), net, rows, fit.Options{Epochs: 4}); err != nil {
		t.Fatal(err)
	}
	if after := fit.Loss(net, rows); after > before-0.02 {
		t.Errorf("the loss went from %.4f to %.4f", before, after)
	}
	p := net.Predictor()
	y := make([]float32, 1)
	for _, x := range [][]float32{{-1.5, 10.2, 7}, {0, 10.5, 7}, {1.5, 10.8, 7}} {
		if err := p.Predict(x, 1, y); err != nil {
			t.Fatal(err)
		}
		if want := bend(x); math.Abs(float64(y[0])-want) > 0.1 {
			t.Errorf("at %v it answers %.3f; the truth is %.3f", x, y[0], want)
		}
	}
}

func TestAFitDependsOnTheSeedAlone(t *testing.T) {
	train := func(seed uint64) *model.Net {
		net := model.New([]int{3, 8, 1}, rand.New(rand.NewPCG(3, 3)))
		if err := fit.Train(context.Background(), net, sample(3000, 2, bend), fit.Options{Seed: seed}); err != nil {
			t.Fatal(err)
		}
		return net
	}
	a, b, other := train(1), train(1), train(2)
	if !a.Equal(b) {
		t.Error("the same seed gave two networks")
	}
	if a.Equal(other) {
		t.Error("the seed does not matter")
	}
}

func TestAFitStopsWhenToldAndRefusesWhatDoesNotFit(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	net := model.New([]int{3, 8, 1}, rand.New(rand.NewPCG(3, 3)))
	was := net.Clone()
	if err := fit.Train(ctx, net, sample(3000, 2, bend), fit.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	for l := range net.W { // standardised and back: the same function, up to rounding
		for i := range net.W[l] {
			if d := math.Abs(float64(net.W[l][i] - was.W[l][i])); d > 1e-5 {
				t.Fatalf("a fit that was stopped before its first step moved a weight by %v", d)
			}
		}
	}
	if err := fit.Train(context.Background(), net, &fit.Rows{In: 3}, fit.Options{}); !errors.Is(err, fit.ErrNoRows) {
		t.Errorf("no rows: %v", err)
	}
	if err := fit.Train(context.Background(), model.New([]int{4, 1}, rand.New(rand.NewPCG(1, 1))), sample(10, 1, bend), fit.Options{}); err == nil {
		t.Error("rows of three features were taken by a network of four inputs")
	}
}
