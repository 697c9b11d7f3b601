// Package model is the small network that predicts what sending a request to a peer costs, and its file form, ONNX.
//
// The network is evaluated here in plain Go, for the simulator, the trainer and every place without ONNX Runtime; package
// model/ort runs the same file by ONNX Runtime. Both agree to 1e-5. Nothing here reads clocks or uses cgo.
package model

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Bounds on what is accepted, so that a file cannot ask for more memory than a model of this kind ever needs.
const (
	MaxWidth  = 4096 // values in one layer
	MaxLayers = 16   // Gemm nodes
)

// Net is a multi-layer perceptron: ReLU after every layer but the last, which is linear.
//
// Sizes are the widths from input to output, at least two. Layer l maps Sizes[l] values to Sizes[l+1]:
// W[l] holds Sizes[l] rows of Sizes[l+1] weights, one row an input, which is ONNX's Gemm without transposition, and
// B[l] holds Sizes[l+1] biases. The owner may change weights in place (training does); Forward only reads them, so
// any number of goroutines may call it at a time when nobody writes.
type Net struct {
	Sizes []int
	W, B  [][]float32
}

// New returns a network whose hidden layers have He's initialisation (He et al. 2015: normal with variance 2/in, which keeps
// the variance through ReLU layers) and whose last layer is zero. So an untrained network answers 0 to everything, which
// as a correction to an analytic cost means: no correction. Training moves the last layer first, then the others.
//
// It panics on sizes that Check would refuse.
func New(sizes []int, rnd *rand.Rand) *Net {
	if err := CheckSizes(sizes); err != nil {
		panic("model.New: " + err.Error())
	}
	n := &Net{Sizes: slices.Clone(sizes)}
	for l := range len(sizes) - 1 {
		in, out := sizes[l], sizes[l+1]
		w := make([]float32, in*out)
		if l < len(sizes)-2 {
			scale := math.Sqrt(2 / float64(in))
			for i := range w {
				w[i] = float32(rnd.NormFloat64() * scale)
			}
		}
		n.W, n.B = append(n.W, w), append(n.B, make([]float32, out))
	}
	return n
}

// In is the number of values the network takes, Out the number it gives.
func (n *Net) In() int  { return n.Sizes[0] }
func (n *Net) Out() int { return n.Sizes[len(n.Sizes)-1] }

// Clone returns a copy that shares nothing with n.
func (n *Net) Clone() *Net {
	c := &Net{Sizes: slices.Clone(n.Sizes), W: make([][]float32, len(n.W)), B: make([][]float32, len(n.B))}
	for l := range n.W {
		c.W[l] = slices.Clone(n.W[l])
	}
	for l := range n.B {
		c.B[l] = slices.Clone(n.B[l])
	}
	return c
}

// Scaled returns the network whose answers are f times those of n.
func (n *Net) Scaled(f float64) *Net {
	c := n.Clone()
	last := len(c.W) - 1
	for _, v := range [][]float32{c.W[last], c.B[last]} {
		for i := range v {
			v[i] *= float32(f)
		}
	}
	return c
}

// Equal tells whether two networks have the same sizes and the same weights, bit for bit.
func (n *Net) Equal(o *Net) bool {
	bits := func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }
	layer := func(a, b []float32) bool { return slices.EqualFunc(a, b, bits) }
	return slices.Equal(n.Sizes, o.Sizes) && slices.EqualFunc(n.W, o.W, layer) && slices.EqualFunc(n.B, o.B, layer)
}

// Check tells what is wrong with a network: its shape, or weights that are not finite.
func (n *Net) Check() error {
	if err := CheckSizes(n.Sizes); err != nil {
		return err
	}
	layers := len(n.Sizes) - 1
	if len(n.W) != layers || len(n.B) != layers {
		return fmt.Errorf("sizes %v need %d layers; there are weights for %d and biases for %d", n.Sizes, layers, len(n.W), len(n.B))
	}
	for l := range layers {
		in, out := n.Sizes[l], n.Sizes[l+1]
		if len(n.W[l]) != in*out {
			return fmt.Errorf("layer %d of %d has %d weights; %d inputs x %d outputs need %d", l+1, layers, len(n.W[l]), in, out, in*out)
		}
		if len(n.B[l]) != out {
			return fmt.Errorf("layer %d of %d has %d biases for %d outputs", l+1, layers, len(n.B[l]), out)
		}
		if i := FirstNotFinite(n.W[l]); i >= 0 {
			return fmt.Errorf("layer %d of %d: the weight from input %d to output %d is %v", l+1, layers, i/out, i%out, n.W[l][i])
		}
		if i := FirstNotFinite(n.B[l]); i >= 0 {
			return fmt.Errorf("layer %d of %d: the bias of output %d is %v", l+1, layers, i, n.B[l][i])
		}
	}
	return nil
}

// CheckSizes says what is wrong with the sizes of a network, the input first; nil = nothing.
func CheckSizes(sizes []int) error {
	if len(sizes) < 2 {
		return errors.New("a network needs at least two sizes, input and output")
	}
	if len(sizes)-1 > MaxLayers {
		return fmt.Errorf("%d layers; at most %d are allowed", len(sizes)-1, MaxLayers)
	}
	for i, s := range sizes {
		if s < 1 || s > MaxWidth {
			return fmt.Errorf("sizes %v: number %d is %d; 1 to %d are allowed", sizes, i+1, s, MaxWidth)
		}
	}
	return nil
}

// FirstNotFinite returns the index of the first NaN or infinity, or -1.
func FirstNotFinite(v []float32) int {
	const exponent = 0xff << 23 // all ones in NaN and infinity, and in nothing else
	for i, x := range v {
		if math.Float32bits(x)&exponent == exponent {
			return i
		}
	}
	return -1
}
