package policy

import (
	"fmt"
	"strings"
	"testing"
)

// Ten peers, each slow for some seconds in turn. While one that recovered kept a request or two that it had begun before, it was not tried; and how long a peer without
// requests was left alone was the same in all pools. So slow-downs of 1 s had 1.56 of least_conn's mean, of 2 s at a load of .8 1.11, and with one slot and those of 6 s
// the tail was longer than it need be.
func TestHowLongSlowDownsLastIsLearned(t *testing.T) {
	for name, w := range map[string]struct {
		load  float64
		every int // s
		speed float64
		most  float64 // of least_conn's mean
	}{
		"1 s":                  {0.7, 1, 0.1, 1.25},
		"2 s":                  {0.8, 2, 0.15, 1.05},
		"20 s":                 {0.7, 20, 0.15, 0.97},
		"6 s, hardly any left": {0.6, 6, 0.02, 0.96},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var events strings.Builder
			for i := range 10 {
				fmt.Fprintf(&events, "  - {peer: %d, from_s: %d, for_s: %d, every_s: %d, speed: %g}\n", i, i*w.every, w.every, 10*w.every, w.speed)
			}
			inTheMean(t, w.most, 4, fmt.Sprintf(`
requests: 100000
warmup: 50000
arrivals: {load: %g}
classes: [{service_ms: {mean: 100}}]
peers: [{count: 10, slots: 4}]
events:
%s`, w.load, events.String()))
		})
	}
}
