package policy

import (
	"testing"

	"github.com/weirlb/weir/engine/sim/world"
)

// Setting peers aside for what a full pool does to them ends in a pool that fails for good: the busiest peer times out first, the others get its share, and
// what they gave up they work off all the same. least_conn sets nobody aside.
func TestAFullPoolLosesNoMoreToTimeOutsThanWithLeastConn(t *testing.T) {
	for name, w := range map[string]struct {
		most  float64 // of what fails with least_conn
		world string
	}{
		// 90 % of the requests failed here, of least_conn's 2 %.
		"two workers of two speeds at .92": {1.5, `
requests: 30000
warmup: 10000
arrivals: {load: 0.92}
classes: [{service_ms: {mean: 5, dist: lognormal, cv: 0.9}}]
peers:
  - {slots: 1, speed: 0.6}
  - {slots: 1, speed: 1.1}
timeout_ms: 165
retries: 2
`},
		// 53 %, of 0.3 %.
		"peaks of 1.3": {1.5, `
requests: 30000
warmup: 10000
arrivals: {steps: [{for_s: 15, load: 0.6}, {for_s: 2, load: 1.3}]}
classes: [{service_ms: {mean: 20, dist: exp}}]
peers:
  - {count: 6, slots: 2, speed: 1}
  - {count: 4, slots: 2, speed: 0.6}
timeout_ms: 500
retries: 2
`},
		// One turns slow for good, which leaves the pool at .95.
		"one turns slow": {1.5, `
requests: 30000
warmup: 10000
arrivals: {load: 0.79}
classes: [{service_ms: {mean: 4, dist: exp}}]
peers: [{count: 4, slots: 1}]
events: [{peer: 1, from_s: 5, speed: 0.33}]
timeout_ms: 65
retries: 1
`},
		// One stops and goes, which makes it look as if it had many slots; so long as all of those counted as free ones the others were not needed, and 60 % failed.
		"one stops and goes": {5, `
requests: 40000
warmup: 1000
arrivals: {load: 0.8}
classes: [{service_ms: {mean: 10, dist: exp}}]
peers: [{count: 4, slots: 2}]
events:
  - {peer: 0, from_s: 0, for_s: 1, every_s: 1.5, speed: 0.1}
  - {peer: 0, from_s: 0.2, for_s: 1, every_s: 2, speed: 3}
  - {peer: 0, from_s: 1.5, for_s: 3, fail: {status: 500, after_ms: 1, share: 0.5}}
timeout_ms: 200
retries: 2
`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := parse(t, w.world)
			for seed := range uint64(4) {
				weir, least := run(t, s, seed, newWeir), run(t, s, seed, newLeastConn)
				t.Logf("seed %d: %d and %.1f ms, least_conn %d and %.1f", seed, weir.Failed, weir.MeanMS, least.Failed, least.MeanMS)
				if float64(weir.Failed) > w.most*float64(least.Failed)+100 {
					t.Errorf("seed %d: %d of %d requests failed, of least_conn's %d", seed, weir.Failed, weir.Requests, least.Failed)
				}
			}
		})
	}
}

// A peer that fails a part of its requests serves the others. Ejected, as many at a time as the cap lets, such peers left pools with too little:
// 30 times least_conn's mean.
func TestPeersThatFailSomeRequestsAreKeptWhereThePoolIsShortWithoutThem(t *testing.T) {
	atMost(t, 3, 4, `
requests: 40000
warmup: 5000
arrivals: {load: 0.85}
classes: [{service_ms: {mean: 13, dist: lognormal, cv: 0.7}}]
peers: [{count: 14, slots: 1}]
events:
  - {peer: 0, from_s: 5, for_s: 1, every_s: 4, fail: {status: 500, after_ms: 1, share: 0.3}}
  - {peer: 1, from_s: 6, for_s: 1, every_s: 4, fail: {status: 500, after_ms: 1, share: 0.3}}
  - {peer: 2, from_s: 7, for_s: 1, every_s: 4, fail: {status: 500, after_ms: 1, share: 0.3}}
  - {peer: 3, from_s: 8, for_s: 1, every_s: 4, fail: {status: 500, after_ms: 1, share: 0.3}}
  - {peer: 4, from_s: 5, for_s: 1, every_s: 4, fail: {status: 500, after_ms: 1, share: 0.3}}
  - {peer: 5, from_s: 6, for_s: 1, every_s: 4, fail: {status: 500, after_ms: 1, share: 0.3}}
retries: 2
`)
}

// One of four hangs: it is ejected for that, though the others are busy, and requests are tried elsewhere.
func TestAPeerThatHangsIsLeftInABusyPool(t *testing.T) {
	s := parse(t, `
requests: 30000
warmup: 10000
arrivals: {load: 0.6}
classes: [{service_ms: {mean: 20, dist: exp}}]
peers: [{count: 4, slots: 4}]
events: [{peer: 1, from_s: 20, speed: 0.0001}]
timeout_ms: 1000
retries: 1
`)
	for seed := range uint64(4) {
		var weir, least world.Result = run(t, s, seed, newWeir), run(t, s, seed, newLeastConn)
		t.Logf("seed %d: %d and %.1f ms, least_conn %d and %.1f", seed, weir.Failed, weir.MeanMS, least.Failed, least.MeanMS)
		if weir.Failed > 60 || weir.MeanMS > 60 {
			t.Errorf("seed %d: %d requests failed, mean %.1f ms; least_conn %d and %.1f", seed, weir.Failed, weir.MeanMS, least.Failed, least.MeanMS)
		}
	}
}
