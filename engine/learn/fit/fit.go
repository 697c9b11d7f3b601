// Package fit trains the network on what decisions came to.
//
// A row is the features of a decision as it was made, and the ratio of how long the request took to what the formulas expected. The
// network's answer z is the logarithm of the expected ratio. Response times scatter in proportion to their mean, so the loss is the
// deviance of an exponential with mean exp(z),
//
//	ratio x exp(-z) + z
//
// whose minimum is at the mean whatever the true distribution (a quasi-likelihood: McCullagh and Nelder, "Generalized linear models",
// 1989, chapter 9). Squared error would let the few longest requests decide everything.
//
// Optimised by Adam (Kingma and Ba 2015) with decoupled weight decay (Loshchilov and Hutter 2019) and a rate that falls to 0 by a
// cosine. Deterministic: a fit depends on net, rows, options and seed, not on the number of cores.
package fit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/weirlb/weir/engine/model"
)

// Rows is training data: len(Ratio) rows of In features.
type Rows struct {
	In    int
	X     []float32 // [row][feature]
	Ratio []float32 // > 0
}

// Len is the number of rows.
func (r *Rows) Len() int { return len(r.Ratio) }

// Add appends a row.
func (r *Rows) Add(x []float32, ratio float32) {
	r.X = append(r.X, x...)
	r.Ratio = append(r.Ratio, ratio)
}

// Row returns the features of row i.
func (r *Rows) Row(i int) []float32 { return r.X[i*r.In : (i+1)*r.In] }

// MostRatio is the largest ratio a row counts with.
const MostRatio = 30

// Options of a fit. The zero value of a field means its default.
type Options struct {
	Epochs int     // passes over the rows; default 3
	Batch  int     // rows a step; default 512
	Rate   float64 // of learning, at the start; default 2e-3
	Decay  float64 // of weights, per step and rate; default 1e-4
	Seed   uint64
	// Towards is a network of the same shape that the weights are drawn to instead of to 0, by Decay (L2-SP: Li, Grandvalet and
	// Davoine, "Explicit inductive bias for transfer learning with convolutional networks", 2018). nil = 0.
	Towards *model.Net
	// Step is called after each step, of Batch rows: whoever must not take a whole core pauses there; nil = nobody.
	Step func()
	// Progress is called after each part of an epoch with the share done, from 0 to 1, and the mean loss of late; nil = not.
	Progress func(done, loss float64)
}

func (o Options) sane() Options {
	if o.Epochs <= 0 {
		o.Epochs = 3
	}
	if o.Batch <= 0 {
		o.Batch = 512
	}
	if !(o.Rate > 0) {
		o.Rate = 2e-3
	}
	if !(o.Decay > 0) {
		o.Decay = 1e-4
	}
	return o
}

// ErrNoRows is returned when there is nothing to learn from.
var ErrNoRows = errors.New("no rows to learn from")

// Train improves net in place. On an error net may have changed; train a clone.
func Train(ctx context.Context, net *model.Net, rows *Rows, opt Options) error {
	opt = opt.sane()
	if rows.Len() == 0 {
		return ErrNoRows
	}
	if net.In() != rows.In || net.Out() != 1 {
		return fmt.Errorf("the network has %d inputs and %d outputs; rows have %d features and one answer", net.In(), net.Out(), rows.In)
	}
	scale := standardise(rows)
	var towards *model.Net
	if opt.Towards != nil {
		if !slices.Equal(opt.Towards.Sizes, net.Sizes) {
			return fmt.Errorf("the network has the sizes %v, the one it is drawn to %v", net.Sizes, opt.Towards.Sizes)
		}
		towards = opt.Towards.Clone()
		scale.into(towards)
	}
	scale.into(net)
	t := newTrainer(net, towards, opt)
	rnd := rand.New(rand.NewPCG(opt.Seed, 0x5eed))
	order := rnd.Perm(rows.Len())
	steps := (rows.Len() + opt.Batch - 1) / opt.Batch
	total := float64(steps * opt.Epochs)
	step := 0
	loss, seen := 0.0, 0.0
	for range opt.Epochs {
		rnd.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for at := 0; at < len(order); at += opt.Batch {
			if ctx.Err() != nil {
				scale.outOf(net)
				return fmt.Errorf("training: %w", ctx.Err())
			}
			batch := order[at:min(at+opt.Batch, len(order))]
			loss += t.step(rows, scale, batch, opt.Rate*0.5*(1+math.Cos(math.Pi*float64(step)/total)))
			seen += float64(len(batch))
			step++
			if opt.Step != nil {
				opt.Step()
			}
			if opt.Progress != nil && step%64 == 0 {
				opt.Progress(float64(step)/total, loss/seen)
				loss, seen = 0, 0
			}
		}
	}
	scale.outOf(net)
	if err := net.Check(); err != nil {
		return fmt.Errorf("training did not converge: %w", err)
	}
	return nil
}

// Loss is the mean loss of a network over rows; that of a network that answers 0 is the mean ratio.
func Loss(net *model.Net, rows *Rows) float64 {
	const block = 1024
	y := make([]float32, block)
	var s model.Scratch
	sum := 0.0
	for at := 0; at < rows.Len(); at += block {
		n := min(block, rows.Len()-at)
		net.Forward(rows.X[at*rows.In:(at+n)*rows.In], n, y[:n], &s)
		for i := range n {
			z := float64(y[i])
			sum += float64(min(rows.Ratio[at+i], MostRatio))*math.Exp(-z) + z
		}
	}
	return sum / float64(max(rows.Len(), 1))
}

// scaling is the mean of each feature and its standard deviation. While training, the first layer works on standardised features.
type scaling struct{ mean, dev []float32 }

func standardise(rows *Rows) *scaling {
	sum, squares := make([]float64, rows.In), make([]float64, rows.In)
	for i := range rows.Len() {
		for j, x := range rows.Row(i) {
			sum[j] += float64(x)
			squares[j] += float64(x) * float64(x)
		}
	}
	s := &scaling{make([]float32, rows.In), make([]float32, rows.In)}
	n := float64(rows.Len())
	for j := range rows.In {
		mean := sum[j] / n
		// A feature that never varied says nothing, and must not say much when it varies one day.
		s.mean[j], s.dev[j] = float32(mean), float32(max(math.Sqrt(max(squares[j]/n-mean*mean, 0)), 0.1))
	}
	return s
}

// into rewrites the first layer for standardised features, outOf for plain ones: the network is the same function before and after.
func (s *scaling) into(net *model.Net) {
	out := net.Sizes[1]
	for j := range s.mean {
		for k := range out {
			w := &net.W[0][j*out+k]
			net.B[0][k] += *w * s.mean[j]
			*w *= s.dev[j]
		}
	}
}

func (s *scaling) outOf(net *model.Net) {
	out := net.Sizes[1]
	for j := range s.mean {
		for k := range out {
			w := &net.W[0][j*out+k]
			*w /= s.dev[j]
			net.B[0][k] -= *w * s.mean[j]
		}
	}
}
