// Package ort runs models by ONNX Runtime, a shared library that is loaded when the program runs (dlopen), so the program
// starts and serves without it. It is the one package of Weir that needs cgo; built without, it compiles, and Load says
// what is missing.
//
// The life of it: Find the library, Load it, Open a model, Predict, Close both.
package ort

import "errors"

// ErrClosed is what predictions of a closed session give.
var ErrClosed = errors.New("the session is closed")

// ErrNoCgo is what Load gives in a program that was built without cgo.
var ErrNoCgo = errors.New("this program was built without cgo, so it cannot load ONNX Runtime; build it with CGO_ENABLED=1 and a C compiler")

// agree tells whether two evaluations of the same network are the same up to rounding: to 1e-5 of size, which is the size of what
// was added up, or 1 if that is less. ONNX Runtime adds in another order and fuses products and sums, so the last bits differ.
func agree(a, b, size float32) bool {
	d := float64(a) - float64(b)
	return max(d, -d) <= 1e-5*max(1, float64(size))
}
