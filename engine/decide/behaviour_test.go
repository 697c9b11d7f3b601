package decide_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/weirlb/weir/engine/decide"
)

func worlds(n int, unit float64) map[string]*world {
	one := []load{{"one", 1, 1, exponential}}
	heavy := []load{{"one", 1, 1, pareto22}}
	same := func(k int) (s []server) {
		for range 10 {
			s = append(s, server{slots: k, speed: 1})
		}
		return s
	}
	mixed := func(k int) (s []server) {
		for i := range 10 {
			s = append(s, server{slots: k, speed: 0.15 + 0.1*float64(i)})
		}
		return s
	}
	var affine []server
	for i := range 10 {
		switch {
		case i < 3:
			affine = append(affine, server{4, 1, map[string]float64{"light": 1.5, "mid": 1.5, "heavy": 0.3}})
		case i < 6:
			affine = append(affine, server{4, 1, map[string]float64{"light": 0.4, "heavy": 2}})
		default:
			affine = append(affine, server{4, 1, nil})
		}
	}
	three := []load{{"light", 0.6, 0.5, exponential}, {"mid", 0.35, 1, exponential}, {"heavy", 0.05, 8, pareto22}}
	moving := func(every float64) func(int, float64) float64 {
		return func(i int, u float64) float64 {
			if int(u/every)%10 == i {
				return 0.15
			}
			return 1
		}
	}
	w := map[string]*world{
		"equal.8":    {servers: same(4), classes: one, load: 0.8},
		"mixed1.5":   {servers: mixed(1), classes: heavy, load: 0.5},
		"mixed1.8":   {servers: mixed(1), classes: heavy, load: 0.8},
		"mixed1.92":  {servers: mixed(1), classes: heavy, load: 0.92},
		"mixed4.92":  {servers: mixed(4), classes: heavy, load: 0.92},
		"affine.8":   {servers: affine, classes: three, load: 0.8},
		"brown60.5":  {servers: same(4), classes: one, load: 0.5, speed: moving(60)},
		"brown60.8":  {servers: same(4), classes: one, load: 0.8, speed: moving(60)},
		"brown200.8": {servers: same(4), classes: one, load: 0.8, speed: moving(200)},
	}
	var big []server
	for i := range 200 {
		big = append(big, server{slots: 4, speed: []float64{1.3, 1, .7, .4}[i/50]})
	}
	w["large"] = &world{servers: big, load: 0.85, classes: []load{{"light", 0.8, 0.5, exponential}, {"heavy", 0.2, 3, exponential}}}
	for _, x := range w {
		x.n, x.skip, x.unit, x.explore = n, n/2, unit, 0
	}
	return w
}

func TestEarly(t *testing.T) {
	w := worlds(60000, 100)["mixed4.92"]
	r := newWeir(w, 1, &decide.Analytic{Delay: 0}, decide.Params{})
	x := &spy{r, 0}
	w.run(x, 1)
}

type spy struct {
	*weir
	n int
}

func (s *spy) tick(now float64, held []int) {
	s.weir.tick(now, held)
	if s.n++; s.n%40 != 0 {
		return
	}
	fmt.Printf("%.0f", now)
	for c := range 2 {
		fmt.Printf(" base %.3g (n %.0f cv %.1f)", s.est.ClassAt(c).BaseMS, s.est.ClassAt(c).Samples, s.est.ClassAt(c).CV2)
	}
	fmt.Println()
	for _, i := range []int{0, 3, 7, 8, 9} {
		v := s.est.Peer(i)
		fmt.Printf("   %d held %d speed %.3g slow %.3g K %.1f work %.3g n %.0f", i, held[i], v.Speed, v.SpeedSlow, v.Concurrency, v.WorkMS, v.Samples)
		for c := range 2 {
			fmt.Printf(" aff %.2f (%.0f)", s.est.Pair(i, c).Affinity, s.est.Pair(i, c).Samples)
		}
		fmt.Println()
	}
}

func TestTune(t *testing.T) {
	if os.Getenv("TUNE") == "" {
		t.Skip()
	}
	var unit float64 = 1000
	n := 100000
	fmt.Sscan(os.Getenv("UNIT"), &unit)
	fmt.Sscan(os.Getenv("N"), &n)
	delays := []float64{0.75}
	for _, name := range []string{"equal.8", "mixed1.5", "mixed1.8", "mixed1.92", "mixed4.92", "affine.8", "brown60.5", "brown60.8", "brown200.8", "large"} {
		if o := os.Getenv("ONLY"); o != "" && o != name {
			continue
		}
		w := worlds(n, unit)[name]
		lc := w.run(&leastConn{rand.New(rand.NewPCG(1, 3))}, 1)
		fmt.Printf("%-11s lc %.2f/%.1f ", name, lc.mean, lc.p99)
		for _, d := range delays {
			r := newWeir(w, 1, &decide.Analytic{Delay: d}, decide.Params{})
			x := w.run(r, 1)
			fmt.Printf("  d=%.1f %.2f/%.1f", d, x.mean, x.p99)
			if os.Getenv("V") != "" {
				fmt.Println()
				for i := 0; i < r.est.Peers(); i += max(1, r.est.Peers()/15) {
					v := r.est.Peer(i)
					fmt.Printf("   %d speed %.2f slow %.2f K %.1f work %.0f cv2 %.1f rate %.4f share %.3f", i, v.Speed, v.SpeedSlow, v.Concurrency, v.WorkMS, v.CV2, v.ArrivalRate, x.share[i])
					for c := 0; c <= len(w.classes); c++ {
						fmt.Printf(" %.2f", r.est.Pair(i, c).Affinity)
					}
					fmt.Println()
				}
				for c := 0; c <= len(w.classes); c++ {
					fmt.Printf("   class %+v\n", r.est.ClassAt(c))
				}
			}
		}
		fmt.Println()
	}
}
