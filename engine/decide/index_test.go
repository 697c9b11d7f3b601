package decide_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"
)

// true-parameter index
type index struct {
	rnd  *rand.Rand
	f    func(mu float64, k, n, lam float64) float64
	lam  []float64
	cnt  []float64
	last float64
	mode string
	beta float64
}

func (x *index) pick(w *world, j *job, held []int, _ [][]*job) int {
	best, bc, ties := 0, math.Inf(1), 0
	for i, h := range held {
		s := w.servers[i].speed
		if w.speed != nil {
			s *= w.speed(i, j.arrived/w.unit)
		}
		k := float64(w.servers[i].slots)
		c := x.f(s, k, float64(h), x.lam[i])
		if c < bc-1e-12 {
			best, bc, ties = i, c, 1
		} else if c <= bc+1e-12 {
			ties++
			if x.rnd.IntN(ties) == 0 {
				best = i
			}
		}
	}
	x.cnt[best]++
	return best
}
func (x *index) done(float64, *world, *job) {}
func (x *index) tick(now float64, held []int) {
	dt := (now - x.last) / 1000
	x.last = now
	g := 1 - math.Exp(-dt/200)
	for i := range x.cnt {
		x.lam[i] += (x.cnt[i]/dt - x.lam[i]) * g
		x.cnt[i] = 0
	}
}

func own(mu, k, n float64) float64 { return (1 + math.Max(n+1-k, 0)/k) / mu }

// d(n) of M/M/K
func dn(mu, k, n, lam float64) float64 {
	lam = min(lam, 0.95*k*mu)
	if lam < 1e-6 {
		return own(mu, k, n)
	}
	r := lam / (k * mu)
	// g
	term, sum, mean := 1.0, 1.0, 0.0
	i := 1.0
	for ; i < k; i++ {
		term *= lam / mu / i
		sum += term
		mean += i * term
	}
	term *= r
	sum += term / (1 - r)
	mean += term * (i/(1-r) + r/((1-r)*(1-r)))
	g := mean / sum
	beyond := func(n float64) float64 { return ((n-g)*r/(1-r) + r/((1-r)*(1-r))) / lam }
	if n >= k {
		return beyond(n)
	}
	d := beyond(k)
	for m := k; m > n; m-- {
		d = (lam*d - g + m) / (mu * min(m, k))
	}
	return d
}

func TestIndex(t *testing.T) {
	if os.Getenv("TUNE") == "" {
		t.Skip()
	}
	n := 100000
	type fn = func(mu, k, n, lam float64) float64
	fs := []struct {
		name string
		f    fn
	}{
		{"own", func(mu, k, n, lam float64) float64 { return own(mu, k, n) }},
		{"d.25", func(mu, k, n, lam float64) float64 { o := own(mu, k, n); return o + .25*(dn(mu, k, n, lam)-o) }},
		{"d.5", func(mu, k, n, lam float64) float64 { o := own(mu, k, n); return o + .5*(dn(mu, k, n, lam)-o) }},
		{"d1", func(mu, k, n, lam float64) float64 { return dn(mu, k, n, lam) }},
		{"l.5", func(mu, k, n, lam float64) float64 { return dn(mu, k, n, lam*.5) }},
		{"l.7", func(mu, k, n, lam float64) float64 { return dn(mu, k, n, lam*.7) }},
		{"l.85", func(mu, k, n, lam float64) float64 { return dn(mu, k, n, lam*.85) }},
	}
	for _, name := range []string{"mixed1.5", "mixed1.8", "mixed1.92", "mixed4.92", "brown60.8"} {
		w := worlds(n, 1000)[name]
		fmt.Printf("%-10s", name)
		for _, f := range fs {
			x := &index{rnd: rand.New(rand.NewPCG(5, 5)), f: f.f, lam: make([]float64, 10), cnt: make([]float64, 10)}
			for i := range x.lam {
				x.lam[i] = 0.5 * w.servers[i].speed * float64(w.servers[i].slots)
			}
			r := w.run(x, 1)
			fmt.Printf("  %s %.2f/%.1f", f.name, r.mean, r.p99)
		}
		fmt.Println()
	}
}
