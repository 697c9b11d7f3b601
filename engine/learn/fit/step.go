package fit

import (
	"math"

	"github.com/weirlb/weir/engine/model"
)

// Adam's constants, as published.
const (
	beta1   = 0.9
	beta2   = 0.999
	epsilon = 1e-8
)

// trainer is the memory of one fit.
type trainer struct {
	net    *model.Net
	opt    Options
	act    [][]float32 // by layer: its input, one row
	grad   [][]float32 // by layer: of its output, one row
	params []param     // W and B of each layer
	steps  int
}

// param is one array of weights with its gradient and Adam's moments.
type param struct {
	v, g, m, s []float32
	to         []float32 // what it decays to; nil = 0
	decays     bool
}

// newTrainer makes one. towards, when not nil, draws biases too: they are as much a part of what is known as weights are.
func newTrainer(net, towards *model.Net, opt Options) *trainer {
	t := &trainer{net: net, opt: opt}
	for l := range net.W {
		t.act = append(t.act, make([]float32, net.Sizes[l]))
		t.grad = append(t.grad, make([]float32, net.Sizes[l+1]))
		for i, v := range [][]float32{net.W[l], net.B[l]} {
			n := len(v)
			p := param{v: v, g: make([]float32, n), m: make([]float32, n), s: make([]float32, n), decays: i == 0}
			if towards != nil {
				p.to, p.decays = [2][]float32{towards.W[l], towards.B[l]}[i], true
			}
			t.params = append(t.params, p)
		}
	}
	return t
}

// step takes one step down the gradient of a batch and returns the sum of its losses.
func (t *trainer) step(rows *Rows, s *scaling, batch []int, rate float64) float64 {
	for i := range t.params {
		clear(t.params[i].g)
	}
	loss := 0.0
	for _, i := range batch {
		x := rows.Row(i)
		in := t.act[0]
		for j := range in {
			in[j] = (x[j] - s.mean[j]) / s.dev[j]
		}
		z := float64(t.forward())
		z = min(max(z, -8), 8)
		r := float64(min(rows.Ratio[i], MostRatio)) * math.Exp(-z)
		loss += r + z
		t.backward(float32(min(max(1-r, -10), 1)))
	}
	t.adam(float32(1/float64(len(batch))), rate)
	return loss
}

// forward evaluates one row and keeps the inputs of all layers.
func (t *trainer) forward() float32 {
	last := len(t.net.W) - 1
	for l := range t.net.W {
		in, out := t.act[l], t.grad[l] // grad is free until backward
		copy(out, t.net.B[l])
		w := t.net.W[l]
		n := len(out)
		for j, x := range in {
			if x == 0 {
				continue
			}
			row := w[j*n : (j+1)*n]
			for k := range out {
				out[k] += x * row[k]
			}
		}
		if l == last {
			return out[0]
		}
		next := t.act[l+1]
		for k, v := range out {
			next[k] = max(v, 0)
		}
	}
	return 0
}

// backward adds one row's gradient, given that of the answer.
func (t *trainer) backward(d float32) {
	last := len(t.net.W) - 1
	t.grad[last][0] = d
	for l := last; l >= 0; l-- {
		in, out := t.act[l], t.grad[l]
		w, g, b := t.net.W[l], t.params[2*l].g, t.params[2*l+1].g
		n := len(out)
		for k, v := range out {
			b[k] += v
		}
		for j, x := range in {
			if x == 0 { // ReLU was shut: neither this weight nor what is below it moves
				if l > 0 {
					t.grad[l-1][j] = 0
				}
				continue
			}
			gr, wr := g[j*n:(j+1)*n], w[j*n:(j+1)*n]
			sum := float32(0)
			for k, v := range out {
				gr[k] += x * v
				sum += wr[k] * v
			}
			if l > 0 {
				t.grad[l-1][j] = sum
			}
		}
	}
}

func (t *trainer) adam(scale float32, rate float64) {
	t.steps++
	c1 := 1 - math.Pow(beta1, float64(t.steps))
	c2 := 1 - math.Pow(beta2, float64(t.steps))
	lr := float32(rate * math.Sqrt(c2) / c1)
	decay := float32(max(1-rate*t.opt.Decay, 0))
	for i := range t.params {
		p := &t.params[i]
		for k := range p.v {
			g := p.g[k] * scale
			p.m[k] = beta1*p.m[k] + (1-beta1)*g
			p.s[k] = beta2*p.s[k] + (1-beta2)*g*g
			switch {
			case p.to != nil:
				p.v[k] = p.to[k] + (p.v[k]-p.to[k])*decay
			case p.decays:
				p.v[k] *= decay
			}
			p.v[k] -= lr * p.m[k] / (float32(math.Sqrt(float64(p.s[k]))) + epsilon)
		}
	}
}
