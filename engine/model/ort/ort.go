// Package ort runs models by ONNX Runtime, a shared library that is loaded when the program runs (dlopen), so the program
// starts and serves without it. It is the one package of Weir that needs cgo; built without, it compiles, and Load says
// what is missing.
//
// The life of it: Find the library, Load it, Open a model, Predict, Close both.
package ort

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrClosed is what predictions of a closed session give.
var ErrClosed = errors.New("the session is closed")

// agree tells whether two evaluations of the same network are the same up to rounding: to 1e-5 of size, which is the size of what
// was added up, or 1 if that is less. ONNX Runtime adds in another order and fuses products and sums, so the last bits differ.
func agree(a, b, size float32) bool {
	d := float64(a) - float64(b)
	return max(d, -d) <= 1e-5*max(1, float64(size))
}

// sameNames tells how the names in a model differ from those wanted.
func sameNames(what string, have, want []string) error {
	if slices.Equal(have, want) {
		return nil
	}
	only := func(a, b []string) string {
		var names []string
		for _, n := range a {
			if !slices.Contains(b, n) {
				names = append(names, n)
			}
		}
		if len(names) > 8 {
			names = append(names[:8], fmt.Sprintf("and %d more", len(names)-8))
		}
		return strings.Join(names, ", ")
	}
	var why []string
	if len(have) != len(want) {
		why = append(why, fmt.Sprintf("it has %d %ss, %d are wanted", len(have), what, len(want)))
	}
	if names := only(want, have); names != "" {
		why = append(why, "it lacks "+names)
	}
	if names := only(have, want); names != "" {
		why = append(why, "unknown here: "+names)
	}
	if why == nil {
		i := 0
		for have[i] == want[i] {
			i++
		}
		why = append(why, fmt.Sprintf("the order differs: %s %d is %s, and %s is wanted", what, i, have[i], want[i]))
	}
	return fmt.Errorf("%ss: %s", what, strings.Join(why, "; "))
}
