package policy

import "testing"

// The estimators' likelihoods are those of exponential service times of one mean. Taken at their word where light and heavy requests share a pool, or where one
// class scatters as much, they saw speeds of a tenth and slots that are not there: in the mean of these seeds 1.07, 1.03, 1.10 and .97 of least_conn's.
func TestRequestsOfVeryDifferentLengthMakeNoPeerLookSlow(t *testing.T) {
	const (
		equal    = "{count: 10, slots: 4}"
		mixed    = "{count: 2, slots: 4, speed: 0.2}, {count: 2, slots: 4, speed: 0.4}, {count: 2, slots: 4, speed: 0.6}, {count: 2, slots: 4, speed: 0.8}, {count: 2, slots: 4}"
		twoSorts = "{name: light, share: 0.95, service_ms: {mean: 5}}, {name: heavy, share: 0.05, service_ms: {mean: 1000}}"
		three    = "{name: light, share: 0.6, service_ms: {mean: 5}}, {name: mid, share: 0.3, service_ms: {mean: 20}}, {name: heavy, share: 0.1, service_ms: {mean: 200}}"
		scatters = "{service_ms: {mean: 50, dist: lognormal, cv: 4}}"
	)
	for name, w := range map[string]struct {
		load, classes, peers string
		most                 float64 // of least_conn's mean
	}{
		"one of twenty takes 200 times as long": {"0.7", twoSorts, equal, 1.045},
		"three classes":                         {"0.8", three, equal, 1.015},
		"one class that scatters":               {"0.7", scatters, equal, 1.06},
		"one that scatters, unlike peers":       {"0.7", scatters, mixed, 0.91},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inTheMean(t, w.most, 6, `
requests: 100000
warmup: 30000
arrivals: {load: `+w.load+`}
classes: [`+w.classes+`]
peers: [`+w.peers+`]
`)
		})
	}
}
