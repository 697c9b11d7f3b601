package policy

import "testing"

// Where queues are deep at all peers, a price that goes on with their square lets those at slow peers last far longer: the 99th percentile was .55 to .63 of
// least_conn's here.
func TestAnOverloadEndsForSlowPeersWhenItEndsForFastOnes(t *testing.T) {
	t.Parallel()
	s := parse(t, `
requests: 60000
warmup: 20000
arrivals: {steps: [{for_s: 40, load: 0.7}, {for_s: 10, load: 1.3}]}
classes: [{service_ms: {mean: 100}}]
peers: [{count: 3, slots: 4, speed: 0.3}, {count: 3, slots: 4}, {count: 2, slots: 4, speed: 2}]
`)
	for seed := range uint64(3) {
		weir, least := run(t, s, seed, newWeir), run(t, s, seed, newLeastConn)
		if weir.P99MS > 0.5*least.P99MS || weir.MeanMS > least.MeanMS {
			t.Errorf("seed %d: mean %.0f and 99th percentile %.0f ms, least_conn %.0f and %.0f", seed, weir.MeanMS, weir.P99MS, least.MeanMS, least.P99MS)
		}
	}
}
