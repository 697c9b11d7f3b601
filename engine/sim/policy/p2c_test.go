package policy

import "testing"

func TestP2CTakesTheBetterOfTwoDraws(t *testing.T) {
	b := build(peers(t, "[{count: 4}]"), newP2C)
	got := shares(b, attempt(0, 0, 1, 2, 3), 80_000)
	// The best of two independent draws of four has rank k with probability ((5-k)^2 - (4-k)^2) / 16.
	for p, want := range []float64{7.0 / 16, 5.0 / 16, 3.0 / 16, 1.0 / 16} {
		near(t, "share", got[p], want, 0.01)
	}
}
