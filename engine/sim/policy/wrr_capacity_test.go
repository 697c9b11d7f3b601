package policy

import "testing"

func TestWRRIsSmooth(t *testing.T) {
	w := &wrrCapacity{weight: []float64{5, 1, 1}, current: make([]float64, 3)}
	a := attempt(0, 0, 0, 0)
	for i, want := range []int32{0, 0, 1, 0, 2, 0, 0} { // the example in NGINX's source
		if got := w.Pick(a); got != want {
			t.Fatalf("pick %d is %d, want %d", i, got, want)
		}
	}
}

func TestWRRSharesByTheCapacityOfTheFile(t *testing.T) {
	s := parse(t, `
requests: 7000
arrivals: {load: 0.5}
classes:
  - {name: a, share: 0.5, service_ms: {mean: 100}}
  - {name: b, share: 0.5, service_ms: {mean: 100}}
peers: [{slots: 4, speed: 0.5}, {slots: 1, speed: 2, affinity: {a: 0.5, b: 1.5}}, {slots: 4, affinity: {a: 3}}]
`)
	r := run(t, s, 1, newWRRCapacity)
	for p, want := range []float64{2.0 / 6, 2.0 / 6, 2.0 / 6} {
		near(t, "share", float64(r.ByPeer[p])/7000, want, 0.01)
	}
}
