package policy

import "testing"

// A pool is given peers because it has too few. As long as newcomers were held to their slow start whatever waited elsewhere, and several at a time had one
// even share together, such a pool had three to nine times least_conn's mean.
func TestPeersThatJoinAPoolWhichHasTooFewTakeTheirPartAtOnce(t *testing.T) {
	for name, w := range map[string]struct {
		events string
		most   float64 // of least_conn's mean
	}{
		"warm": {`
  - {peer: 6, from_s: 20, join: true}
  - {peer: 7, from_s: 20, join: true}
  - {peer: 8, from_s: 20, join: true}
  - {peer: 9, from_s: 20, join: true}`, 1.1},
		"cold": {`
  - {peer: 6, from_s: 20, join: true, warm_s: 5, cold_factor: 3}
  - {peer: 7, from_s: 20, join: true, warm_s: 5, cold_factor: 3}
  - {peer: 8, from_s: 21, join: true, warm_s: 5, cold_factor: 3}
  - {peer: 9, from_s: 21, join: true, warm_s: 5, cold_factor: 3}`, 1.1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			atMost(t, w.most, 4, `
requests: 60000
warmup: 5000
arrivals: {load: 0.72}
classes: [{service_ms: {mean: 20}}]
peers: [{count: 10, slots: 4}]
events:`+w.events+"\n")
		})
	}
}
