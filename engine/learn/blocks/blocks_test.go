package blocks_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/weirlb/weir/engine/learn/blocks"
)

// walk makes blocks of a series whose values depend on their neighbours, with a long tail: mean 1.
func walk(rnd *rand.Rand, n, per int, mean float64) []blocks.Block {
	list := make([]blocks.Block, n)
	level := 0.0
	for b := range list {
		for range per {
			level = 0.9*level + rnd.NormFloat64()*0.2
			list[b].Sum[0] += mean * math.Exp(level-0.105) * rnd.ExpFloat64()
			list[b].N[0]++
		}
	}
	return list
}

func TestAnIntervalHoldsTheTruthAsOftenAsItSays(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	long := blocks.Mean(walk(rnd, 4000, 200, 1), 0.9, 1) // the truth, nearly
	held, below := 0, 0
	const runs = 400
	for i := range runs {
		e := blocks.Mean(walk(rnd, 24, 200, 1), 0.9, uint64(i))
		switch {
		case e.Low > long.Value:
		case e.High < long.Value:
			below++
		default:
			held++
		}
	}
	if share := float64(held) / runs; share < 0.85 || share > 0.96 {
		t.Errorf("90 %% intervals held the truth in %.3f of the runs", share)
	}
	if share := float64(below) / runs; share > 0.09 {
		t.Errorf("%.3f of the intervals were below the truth, where the tail is", share)
	}
}

func TestADifferenceOfArmsThatShareTheirTimesIsSharperThanTheArms(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	list := make([]blocks.Block, 40)
	for b := range list {
		weather := math.Exp(0.5 * rnd.NormFloat64())
		for range 200 {
			for arm, mean := range []float64{1.1, 1} {
				list[b].Sum[arm] += weather * mean * rnd.ExpFloat64()
				list[b].N[arm]++
			}
		}
	}
	e, one := blocks.Difference(list, 0.95, 1), blocks.Mean(list, 0.95, 1)
	if !e.Known() || e.Low > 0.115 || e.High < 0.1 || e.High-e.Low > (one.High-one.Low)/2 {
		t.Errorf("difference %+v, one arm %+v", e, one)
	}
}

func TestFewBlocksGiveNoInterval(t *testing.T) {
	for _, n := range []int{0, 1, blocks.Least - 1} {
		if e := blocks.Mean(walk(rand.New(rand.NewPCG(3, 3)), n, 10, 1), 0.9, 1); e.Known() || !math.IsInf(e.High, 1) {
			t.Errorf("%d blocks: %+v", n, e)
		}
	}
	empty := make([]blocks.Block, 20)
	if e := blocks.Difference(empty, 0.9, 1); e.Known() {
		t.Errorf("empty blocks: %+v", e)
	}
}
