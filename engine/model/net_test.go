package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// random is a network with no zero layer, so that every weight counts.
func random(sizes []int, rnd *rand.Rand) *Net {
	n := New(sizes, rnd)
	for _, v := range slices.Concat(n.W, n.B) {
		for i := range v {
			v[i] = float32(rnd.NormFloat64() * 0.5)
		}
	}
	return n
}

func seeded(a uint64) *rand.Rand { return rand.New(rand.NewPCG(a, 1)) }

func drawSizes(t *rapid.T) []int {
	return rapid.SliceOfN(rapid.IntRange(1, 20), 2, 5).Draw(t, "sizes")
}

// plain is the definition, one row, in float64.
func plain(n *Net, x []float32) []float64 {
	from := make([]float64, len(x))
	for i, v := range x {
		from[i] = float64(v)
	}
	for l := range n.W {
		to := make([]float64, n.Sizes[l+1])
		for j := range to {
			to[j] = float64(n.B[l][j])
			for k, v := range from {
				to[j] += v * float64(n.W[l][k*len(to)+j])
			}
			if l < len(n.W)-1 {
				to[j] = max(to[j], 0)
			}
		}
		from = to
	}
	return from
}

func inputs(rows, width int, rnd *rand.Rand) []float32 {
	x := make([]float32, rows*width)
	for i := range x {
		x[i] = float32(rnd.NormFloat64())
	}
	return x
}

func TestForwardIsTheDefinitionForAnyShapeAndBatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rnd := seeded(rapid.Uint64().Draw(t, "seed"))
		n := random(drawSizes(t), rnd)
		rows := rapid.IntRange(0, 150).Draw(t, "rows")
		x, y := inputs(rows, n.In(), rnd), make([]float32, rows*n.Out())
		var s Scratch
		n.Forward(x, rows, y, &s)
		for r := range rows {
			for j, want := range plain(n, x[r*n.In():(r+1)*n.In()]) {
				if got := float64(y[r*n.Out()+j]); math.Abs(got-want) > 1e-4*(1+math.Abs(want)) {
					t.Fatalf("row %d of %d, output %d: %v instead of %v", r, rows, j, got, want)
				}
			}
		}
	})
}

func TestARowsResultDoesNotDependOnTheRowsAroundIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rnd := seeded(rapid.Uint64().Draw(t, "seed"))
		n := random(drawSizes(t), rnd)
		rows := rapid.IntRange(1, 150).Draw(t, "rows")
		x, y := inputs(rows, n.In(), rnd), make([]float32, rows*n.Out())
		var s Scratch
		n.Forward(x, rows, y, &s)
		one := make([]float32, n.Out())
		r := rapid.IntRange(0, rows-1).Draw(t, "row")
		n.Forward(x[r*n.In():], 1, one, &s)
		if !slices.Equal(one, y[r*n.Out():(r+1)*n.Out()]) {
			t.Fatalf("alone %v, among others %v", one, y[r*n.Out():(r+1)*n.Out()])
		}
	})
}

func TestTilesGiveTheBitsOfThePortableLoops(t *testing.T) {
	if !haveTile {
		t.Skip("this processor has no tiles")
	}
	special := []float32{0, float32(math.Copysign(0, -1)), 1e-45, 3e38, float32(math.NaN()), float32(math.Inf(-1))}
	rapid.Check(t, func(t *rapid.T) {
		rnd := seeded(rapid.Uint64().Draw(t, "seed"))
		n := random(rapid.SliceOfN(rapid.OneOf(rapid.IntRange(1, 33), rapid.SampledFrom([]int{8, 16, 64})), 2, 5).Draw(t, "sizes"), rnd)
		rows := rapid.IntRange(0, 150).Draw(t, "rows")
		x := inputs(rows, n.In(), rnd)
		for i := range rapid.IntRange(0, len(x)/4).Draw(t, "special") {
			x[i*4] = special[rnd.IntN(len(special))]
		}
		got, want := make([]float32, rows*n.Out()), make([]float32, rows*n.Out())
		var s, q Scratch
		n.forward(x, rows, got, &s, true)
		n.forward(x, rows, want, &q, false)
		for i := range want {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) && !(math.IsNaN(float64(got[i])) && math.IsNaN(float64(want[i]))) {
				t.Fatalf("value %d of %d rows: %v by tiles, %v without", i, rows, got[i], want[i])
			}
		}
	})
}

func TestAnUntrainedNetworkAnswersZero(t *testing.T) {
	n := New([]int{5, 8, 3, 2}, seeded(1))
	y := []float32{7, 7, 7, 7}
	n.Forward(inputs(2, 5, seeded(2)), 2, y, &Scratch{})
	if !slices.Equal(y, make([]float32, 4)) {
		t.Fatal(y)
	}
	if variance := spread(New([]int{200, 200, 1}, seeded(1)).W[0]); math.Abs(variance-2.0/200) > 0.001 {
		t.Fatalf("the variance of hidden weights is %v instead of 2/200", variance)
	}
}

func spread(w []float32) (sum float64) {
	for _, v := range w {
		sum += float64(v) * float64(v)
	}
	return sum / float64(len(w))
}

func TestNaNAndInfinityInARowComeOut(t *testing.T) {
	n := random([]int{3, 4, 1}, seeded(3))
	for _, row := range n.W { // all weights positive, so that no unit is inactive
		for i := range row {
			row[i] = float32(math.Abs(float64(row[i])))
		}
	}
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
		x, y := make([]float32, 9), make([]float32, 3)
		x[4] = bad
		n.Forward(x, 3, y, &Scratch{})
		if i := FirstNotFinite(y); i != 1 {
			t.Errorf("%v in row 1: %v", bad, y)
		}
	}
}

func TestForwardAllocatesNothingOnceWarm(t *testing.T) {
	n := New([]int{32, 64, 32, 1}, seeded(1))
	x, y := inputs(100, 32, seeded(2)), make([]float32, 100)
	var s Scratch
	n.Forward(x, 1, y, &s)
	if allocs := testing.AllocsPerRun(10, func() { n.Forward(x, 100, y, &s) }); allocs != 0 {
		t.Fatalf("%v allocations", allocs)
	}
}

func TestForwardRefusesShortSlices(t *testing.T) {
	n := New([]int{2, 1}, seeded(1))
	for name, call := range map[string]func(){
		"input": func() { n.Forward(make([]float32, 3), 2, make([]float32, 2), &Scratch{}) }, "output": func() { n.Forward(make([]float32, 4), 2, make([]float32, 1), &Scratch{}) },
	} {
		func() {
			defer func() {
				if msg := fmt.Sprint(recover()); !strings.Contains(msg, "2 rows of 2 -> 1 need 4 and 2 values") {
					t.Errorf("short %s: %s", name, msg)
				}
			}()
			call()
		}()
	}
}

func TestACloneSharesNothing(t *testing.T) {
	n := random([]int{2, 3, 1}, seeded(1))
	c := n.Clone()
	if !n.Equal(c) {
		t.Fatal("a clone is not equal")
	}
	c.W[1][0]++
	if n.Equal(c) {
		t.Fatal("equal after a weight changed")
	}
	c = n.Clone()
	c.B[0][2]++
	if n.Equal(c) {
		t.Fatal("equal after a bias changed")
	}
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	nan := float32(math.NaN())
	for want, spoil := range map[string]func(n *Net){
		"at least two sizes":             func(n *Net) { n.Sizes = n.Sizes[:1] },
		"number 2 is 0":                  func(n *Net) { n.Sizes[1] = 0 },
		"number 1 is 5000":               func(n *Net) { n.Sizes[0] = 5000 },
		"20 layers; at most 16":          func(n *Net) { n.Sizes = make([]int, 21) },
		"weights for 1 and biases for 2": func(n *Net) { n.W = n.W[:1] },
		"layer 1 of 2 has 5 weights":     func(n *Net) { n.W[0] = n.W[0][:5] },
		"layer 2 of 2 has 0 biases":      func(n *Net) { n.B[1] = nil },
		"layer 1 of 2: the weight from input 1 to output 2 is NaN": func(n *Net) { n.W[0][5] = nan },
		"layer 2 of 2: the bias of output 0 is +Inf":               func(n *Net) { n.B[1][0] = float32(math.Inf(1)) },
	} {
		n := random([]int{2, 3, 1}, seeded(1))
		if err := n.Check(); err != nil {
			t.Fatal(err)
		}
		spoil(n)
		if err := n.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func BenchmarkForward(b *testing.B) {
	n := random([]int{32, 64, 32, 1}, seeded(1))
	for _, rows := range []int{10, 160, 3200} {
		b.Run(fmt.Sprintf("portable/rows=%d", rows), func(b *testing.B) {
			x, y := inputs(rows, 32, seeded(2)), make([]float32, rows)
			var s Scratch
			for b.Loop() {
				n.forward(x, rows, y, &s, false)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(rows), "ns/row")
		})
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			x, y := inputs(rows, 32, seeded(2)), make([]float32, rows)
			var s Scratch
			b.ReportAllocs()
			for b.Loop() {
				n.Forward(x, rows, y, &s)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(rows), "ns/row")
		})
	}
}
