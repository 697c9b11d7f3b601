package online

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/gate"
	"github.com/weirlb/weir/engine/learn/replay"
	"github.com/weirlb/weir/engine/model"
)

type nobody struct{}

func (nobody) Propose(Candidate) (decide.Predictor, error) { return nil, nil }
func (nobody) Drop(string, string)                         {}
func (nobody) Promote(string, string) error                { return nil }
func (nobody) RollBack(string, string) (Model, error)      { return Model{}, nil }
func (nobody) Event(gate.Event)                            {}

// BenchmarkCandidate makes and judges a candidate of a full store: 20,000 decisions among ten peers.
func BenchmarkCandidate(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 1))
	net := model.New([]int{decide.Inputs, 32, 32, 1}, rnd)
	l := New(Options{Seed: 1}, nobody{})
	l.Start(0, Model{ID: "x", Net: net})
	for range 20_000 {
		d := replay.Decision{Exact: true, Propensity: 0.5, Scale: 1, Rule: decide.Rule{Spread: 0.1, Explore: 0.01}, Chosen: rnd.IntN(10)}
		for range 10 {
			d.Cost = append(d.Cost, 50+50*rnd.Float32())
			for range decide.Inputs {
				d.X = append(d.X, rnd.Float32())
			}
		}
		d.Return = float64(d.Cost[d.Chosen]) * rnd.ExpFloat64()
		l.store.Add(d)
	}
	for b.Loop() {
		l.gate = gate.New(gate.Options{})
		l.train(context.Background(), 0)
	}
}
