package policy

import "testing"

// What others held in an overload was usual for a hundred reports after it, and of a peer that is avoided there are few reports: 1.20 of least_conn's mean.
func TestBalancersComeBackToAPeerThatWasOverloaded(t *testing.T) {
	t.Parallel()
	inTheMean(t, 1.12, 3, `
requests: 60000
warmup: 20000
balancers: 8
arrivals: {load: 0.77}
classes: [{service_ms: {mean: 63}}]
peers: [{count: 2, slots: 5, reports: orca}]
events:
  - {peer: 0, from_s: 5, for_s: 5, every_s: 20, speed: 0.4}
`)
}

// Balancers that read the same report of two peers all went to the one that held less, for as long as a table lives: 1.2 times least_conn's mean.
func TestBalancersThatReadTheSameReportsDoNotAllGoTheSameWay(t *testing.T) {
	for name, w := range map[string]struct {
		slots string
		most  float64 // of least_conn's mean
	}{
		"one slot":   {"1", 1.12},
		"five slots": {"5", 1.07},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inTheMean(t, w.most, 3, `
requests: 60000
warmup: 20000
balancers: 8
arrivals: {load: 0.92}
classes: [{service_ms: {mean: 63}}]
peers: [{count: 2, slots: `+w.slots+`, reports: orca}]
`)
		})
	}
}

// What a peer has left to do was reckoned from one's own requests, as if it worked on nothing else: 1.2 to 1.4 times least_conn's mean where requests tell their
// size and several balancers share the peers.
func TestBalancersThatShareThePeersDoNotGoByTheSizesOfTheirOwnRequests(t *testing.T) {
	for name, balancers := range map[string]string{"two": "2", "four": "4"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inTheMean(t, 1.05, 8, `
requests: 40000
warmup: 20000
balancers: `+balancers+`
arrivals: {load: 0.85}
classes:
  - {name: light, share: 0.6, weight_hint: true, service_ms: {mean: 5}}
  - {name: mid, share: 0.35, weight_hint: true, service_ms: {mean: 15, dist: lognormal, cv: 1}}
  - {name: heavy, share: 0.05, weight_hint: true, service_ms: {mean: 100, dist: pareto, shape: 2.2}}
peers: [{count: 8, reports: orca}]
`)
		})
	}
}
