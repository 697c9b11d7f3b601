package model

import "fmt"

// Predictor evaluates a network in Go, with memory of its own: for one goroutine at a time. ort.Session is the same by ONNX Runtime.
type Predictor struct {
	net     *Net
	scratch Scratch
}

// Predictor returns an evaluator of n. n must not be changed while it is used.
func (n *Net) Predictor() *Predictor { return &Predictor{net: n} }

// Predict writes the first output of each row of x into y.
func (p *Predictor) Predict(x []float32, rows int, y []float32) error {
	if p.net.Out() != 1 {
		return fmt.Errorf("the network has %d outputs; one is expected", p.net.Out())
	}
	if len(x) != rows*p.net.In() || len(y) != rows {
		return fmt.Errorf("%d features and room for %d answers for %d rows of %d features", len(x), len(y), rows, p.net.In())
	}
	p.net.Forward(x, rows, y, &p.scratch)
	if i := FirstNotFinite(y); i >= 0 {
		return fmt.Errorf("row %d: the network answered %v", i, y[i])
	}
	return nil
}
