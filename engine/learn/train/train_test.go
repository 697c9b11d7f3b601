package train

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/engine/sim/policy"
	"github.com/weirlb/weir/engine/sim/scenario"
	"github.com/weirlb/weir/engine/sim/world"
)

func small() Options { return Options{Seed: 3, Rounds: 1, Worlds: 30, Requests: 2500, Share: 0.4} }

func TestTrainingBeatsTheAnalyticCostsOnWorldsItHasNotSeen(t *testing.T) {
	if testing.Short() {
		t.Skip("under the race detector it takes ten times as long; the others here train too")
	}
	opt := small()
	opt.Imposed, opt.Worlds, opt.Requests = 0.75, 20, 5000
	// One world with different seeds: worlds of all kinds take hundreds until what is learned of some holds for others.
	opt.Scenarios = []*scenario.Scenario{{
		Name: "two speeds", Requests: 1, Warmup: 5000, Episodes: 1, Balancers: 1,
		Classes:  []scenario.Class{{Name: "a", Share: 1, MeanMS: 50, Dist: scenario.Exp}},
		Peers:    []scenario.Peer{{Slots: 4, Speed: 1, Affinity: []float64{1}}, {Slots: 4, Speed: 0.4, Affinity: []float64{1}}},
		Arrivals: []scenario.Step{{RatePerS: 100}},
	}}
	r, err := Run(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if r.Loss[0] > r.None-0.02 {
		t.Errorf("loss %.4f with the model, %.4f without", r.Loss[0], r.None)
	}
}

func TestTheModelDependsOnTheSeedAloneAndNotOnTheJobs(t *testing.T) {
	train := func(jobs int, seed uint64) *model.Net {
		opt := small()
		opt.Worlds, opt.Requests, opt.Jobs, opt.Seed, opt.Rounds = 4, 800, jobs, seed, 2
		r, err := Run(context.Background(), opt)
		if err != nil {
			t.Fatal(err)
		}
		return r.Net
	}
	one := train(1, 1)
	if !one.Equal(train(3, 1)) {
		t.Error("three jobs made another model than one")
	}
	if one.Equal(train(1, 2)) {
		t.Error("another seed made the same model")
	}
}

func TestTrainingGoesOnFromTheLastRound(t *testing.T) {
	opt := small()
	opt.Worlds, opt.Requests, opt.Rounds = 4, 800, 2
	stop := errors.New("stop")
	var saved *model.Net
	var so Result
	opt.Saved = func(_ int, net *model.Net, r *Result) error { saved, so = net, *r; return stop }
	if _, err := Run(context.Background(), opt); !errors.Is(err, stop) {
		t.Fatalf("an error of Saved: %v", err)
	}
	opt.Saved = nil
	whole, err := Run(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	opt.Start, opt.Round, opt.Before = saved, 1, so
	rest, err := Run(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if !whole.Net.Equal(rest.Net) {
		t.Error("a training that was stopped and resumed made another model")
	}
	if len(rest.Loss) != 2 {
		t.Errorf("it tells the losses %v of two rounds", rest.Loss)
	}
}

// Every random world can be played to its end, and nothing in it is outside what its comment promises.
func TestRandomWorldsAreSound(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := World(rand.New(rand.NewPCG(rapid.Uint64().Draw(r, "seed"), 1)), 300)
		if len(s.Peers) < 2 || len(s.Peers) > 30 || s.Balancers < 1 || s.Balancers > 8 {
			r.Fatalf("%d peers, %d balancers", len(s.Peers), s.Balancers)
		}
		sum := 0.0
		for _, c := range s.Classes {
			sum += c.Share
		}
		if sum < 0.999 || sum > 1.001 {
			r.Fatalf("the shares sum to %v", sum)
		}
		maker, err := policy.ByName("least_conn")
		if err != nil {
			r.Fatal(err)
		}
		res, err := world.New(s, 1, maker).Run(nil)
		if err != nil || res.Failed > 0 {
			r.Fatalf("%d failed: %v", res.Failed, err)
		}
	})
}

// On one slow and one fast peer of one slot each, a request to the slow one keeps its slot longer, and those behind it wait longer.
func TestReturnsCountWhatOthersWait(t *testing.T) {
	s := &scenario.Scenario{
		Name: "two", Requests: 1, Warmup: 4000, Episodes: 1, Balancers: 1,
		Classes:  []scenario.Class{{Name: "a", Share: 1, MeanMS: 50, Dist: scenario.Exp}},
		Peers:    []scenario.Peer{{Slots: 1, Speed: 1, Affinity: []float64{1}}, {Slots: 1, Speed: 0.5, Affinity: []float64{1}}},
		Arrivals: []scenario.Step{{RatePerS: 25}},
	}
	mean := func(imposed float64) float64 {
		rows, _, err := play(s, 1, nil, imposed, 1)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for _, x := range rows.Ratio {
			sum += float64(x)
		}
		if rows.In != decide.Inputs || rows.Len() < 3700 {
			t.Fatalf("%d rows of %d features", rows.Len(), rows.In)
		}
		return sum / float64(rows.Len())
	}
	own, both := mean(0), mean(1)
	if both < 1.3*own {
		t.Errorf("ratio %.2f of the own time, %.2f with what others waited, at load 0.83", own, both)
	}
}
