package fedavg

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/model"
	"pgregory.net/rapid"
)

func drawNet(t *rapid.T, sizes []int) *model.Net {
	n := model.New(sizes, rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)))
	for l := range n.W {
		for _, v := range [][]float32{n.W[l], n.B[l]} {
			for i := range v {
				v[i] = rapid.Float32Range(-1e6, 1e6).Draw(t, "weight")
			}
		}
	}
	return n
}

func weights(n *model.Net) (all []float64) {
	for l := range n.W {
		for _, v := range [][]float32{n.W[l], n.B[l]} {
			for _, x := range v {
				all = append(all, float64(x))
			}
		}
	}
	return all
}

func near(a, b []float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return math.Abs(x-y) <= 1e-6*max(math.Abs(x), math.Abs(y), 1) })
}

func average(t *rapid.T, base *model.Net, parts []Part) []float64 {
	n, err := Average(base, parts)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Check(); err != nil {
		t.Fatal(err)
	}
	return weights(n)
}

func TestAnAverageIsTheMeanWeighedBySamples(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := []int{rapid.IntRange(1, 3).Draw(t, "in"), rapid.IntRange(1, 3).Draw(t, "hidden"), 1}
		base := drawNet(t, sizes)
		var parts []Part
		for range rapid.IntRange(1, 5).Draw(t, "engines") {
			parts = append(parts, Part{"x", drawNet(t, sizes), rapid.Int64Range(1, 1e6).Draw(t, "samples")})
		}
		before := weights(parts[0].Net)
		got := average(t, base, parts)
		if !slices.Equal(before, weights(parts[0].Net)) {
			t.Fatal("a part was changed")
		}

		want := make([]float64, len(got))
		low, high := slices.Clone(weights(parts[0].Net)), slices.Clone(weights(parts[0].Net))
		total := 0.0
		for _, p := range parts {
			total += float64(p.Samples)
			for i, x := range weights(p.Net) {
				want[i] += float64(p.Samples) * x
				low[i], high[i] = min(low[i], x), max(high[i], x)
			}
		}
		for i := range want {
			want[i] /= total
			if slack := 1e-6 * max(math.Abs(low[i]), math.Abs(high[i])); got[i] < low[i]-slack || got[i] > high[i]+slack {
				t.Fatalf("weight %d is %v, outside %v to %v", i, got[i], low[i], high[i])
			}
		}
		scale := 1.0
		for i := range low {
			scale = max(scale, math.Abs(low[i]), math.Abs(high[i]))
		}
		if !closeBy(got, want, 1e-6*scale) {
			t.Fatalf("%v, want %v", got, want)
		}

		// The order counts for nothing, nor does a common factor of the counts.
		other := slices.Clone(parts)
		slices.Reverse(other)
		for i := range other {
			other[i].Samples *= 3
		}
		if again := average(t, base, other); !closeBy(got, again, 1e-6*scale) {
			t.Fatalf("%v, in another order %v", got, again)
		}
		// Engines that agree are not changed by averaging.
		same := []Part{parts[0], {"y", parts[0].Net.Clone(), 5}}
		if agreed := average(t, base, same); !near(agreed, before) {
			t.Fatalf("%v, of two that are the same %v", agreed, before)
		}
	})
}

func closeBy(a, b []float64, slack float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return math.Abs(x-y) <= slack })
}

func TestOneOfManySamplesOutweighsTheOthers(t *testing.T) {
	base := &model.Net{Sizes: []int{1, 1}, W: [][]float32{{0}}, B: [][]float32{{0}}}
	of := func(x float32) *model.Net {
		return &model.Net{Sizes: []int{1, 1}, W: [][]float32{{x}}, B: [][]float32{{-x}}}
	}
	n, err := Average(base, []Part{{"a", of(1), 300}, {"b", of(5), 100}})
	if err != nil || n.W[0][0] != 2 || n.B[0][0] != -2 {
		t.Errorf("%+v %v", n, err)
	}
}

func TestWhatIsNoPartIsRefused(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	base := model.New([]int{3, 2, 1}, rnd)
	nan := base.Clone()
	nan.W[0][4] = float32(math.NaN())
	inf := base.Clone()
	inf.B[1][0] = float32(math.Inf(1))
	short := base.Clone()
	short.W[0] = short.W[0][:3]
	for want, p := range map[string]Part{
		"there is no network":            {"a", nil, 5},
		"its layers are [3 4 1]":         {"a", model.New([]int{3, 4, 1}, rnd), 5},
		"its layers are [4 2 1]":         {"a", model.New([]int{4, 2, 1}, rnd), 5},
		"is NaN":                         {"a", nan, 5},
		"is +Inf":                        {"a", inf, 5},
		"has 3 weights":                  {"a", short, 5},
		"trained on 0 decisions":         {"a", base, 0},
		"trained on -1 decisions":        {"a", base, -1},
		"trained on 9223372036854775807": {"a", base, math.MaxInt64},
	} {
		if err := Check(base, p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		if n, err := Average(base, []Part{{"good", base, 5}, p}); err == nil || n != nil || !strings.Contains(err.Error(), "the network of a: ") {
			t.Errorf("averaged all the same: %v", err)
		}
	}
	if _, err := Average(base, nil); err == nil {
		t.Error("of nothing there is an average")
	}
}
