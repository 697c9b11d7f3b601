package train

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/sim/scenario"
)

// sized is a pool whose requests tell their size: two speeds, one slot, sizes that scatter.
func sized() *scenario.Scenario {
	s := &scenario.Scenario{
		Name: "sized", Requests: 400, Warmup: 800, Episodes: 4, Balancers: 1,
		Classes: []scenario.Class{{Name: "a", Share: 1, MeanMS: 50, Dist: scenario.Pareto, Shape: 1.6, WeightHint: true}},
	}
	for _, speed := range []float64{0.2, 0.5, 0.8, 1.1} {
		s.Peers = append(s.Peers, scenario.Peer{Slots: 1, Speed: speed, Affinity: []float64{1}})
	}
	s.Arrivals = []scenario.Step{{RatePerS: 0.9 * s.CapacityPerS()}}
	return s
}

func TestATunedPriceIsBetterThanTheDefaultWhereItWasTuned(t *testing.T) {
	opt := TuneOptions{Seed: 2, Scenarios: []*scenario.Scenario{sized()}, Tries: 16, Jobs: 2}
	r, err := Tune(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Tries) != opt.Tries || !(r.Score.worth() < -0.01) || r.Price == decide.DefaultPrice() {
		t.Fatalf("%d prices tried, the best: %+v of %+v", len(r.Tries), r.Price, r.Score)
	}
	left := 0
	for i, s := range r.Tries {
		if slices.Contains(r.Tries[:i], s) {
			t.Errorf("try %d has what an earlier one had to the last digit: %+v", i+1, s)
		}
		if s.better(Try{All: r.Score}) {
			t.Errorf("%+v was tried and is better than %+v", s.All, r.Score)
		}
		if s.All == (Score{}) {
			left++
		}
	}
	if left == 0 || left == len(r.Tries) {
		t.Errorf("%d of %d prices were left after the first seeds", left, len(r.Tries))
	}
	if _, err := decide.ReadPrice(r.Price.Map()); err != nil {
		t.Error(err)
	}
}

func TestTheTunedPriceDependsOnTheSeedAloneAndGoesOnFromItsScores(t *testing.T) {
	opt := TuneOptions{Seed: 3, Scenarios: []*scenario.Scenario{sized()}, Tries: 5, Jobs: 1}
	whole, err := Tune(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	opt.Jobs = 3
	stop := errors.New("stop")
	var kept []Try
	opt.Saved = func(so []Try) error {
		if kept = so; len(so) == 3 {
			return stop
		}
		return nil
	}
	if _, err := Tune(context.Background(), opt); !errors.Is(err, stop) {
		t.Fatalf("an error of Saved: %v", err)
	}
	opt.Before, opt.Saved = kept, nil
	rest, err := Tune(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if rest.Price != whole.Price || rest.Score != whole.Score {
		t.Errorf("interrupted %+v of %+v, at once %+v of %+v", rest.Price, rest.Score, whole.Price, whole.Score)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	opt.Before = nil
	if _, err := Tune(ctx, opt); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
