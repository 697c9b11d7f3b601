package gate

import (
	"math"

	"github.com/weirlb/weir/engine/decide"
)

// Moved is the share of the requests that would go elsewhere by other costs, with these in-flight counts, over classes alike: the
// total variation between the two rules' distributions. Tables have the same shape.
func Moved(served, other *decide.Table, held []float64, usable []bool, rule decide.Rule) float64 {
	classes, peers := len(served.Classes), len(served.Peers)
	if classes == 0 {
		return 0
	}
	var a, b []float64
	sum := 0.0
	for c := range classes {
		a, b = a[:0], b[:0]
		for p := range peers {
			if usable[p] {
				a, b = append(a, served.At(c, p, held[p])), append(b, other.At(c, p, held[p]))
			}
		}
		p, q := make([]float64, len(a)), make([]float64, len(a))
		rule.Distribution(a, p)
		rule.Distribution(b, q)
		for i := range p {
			sum += math.Abs(p[i]-q[i]) / 2
		}
	}
	return sum / float64(classes)
}
