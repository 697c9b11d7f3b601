package serve

import (
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/observe"
)

// full is a pool of two peers with one slot each that have had 190 requests of 5 ms a second for a while, of which some waited.
func full(t *testing.T) *Engine {
	t.Helper()
	e := still(t, `pools: [{name: api, peers: ["10.0.0.1:80", "10.0.0.2:80"]}]`)
	e.start = e.start.Add(-time.Minute)
	for age := float32(20_000); age > 0; {
		b := &observe.Batch{Instance: "web1"}
		for range 400 {
			for _, peer := range []string{"10.0.0.1:80", "10.0.0.2:80"} {
				n := uint16(age/5.3) % 4
				ms := 5 * float32(n+1)
				err := b.Add("api", "*", peer, observe.Record{
					Attempt: 1, Kind: observe.OK, Propensity: 1, AgeMS: age, Inflight: n, HeaderMS: ms, TotalMS: ms, PredictedMS: observe.None, Load: observe.None,
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			age = max(age-5.3, 0)
		}
		e.Observe(b)
	}
	for range 30 { // slots are learned little by little
		refresh(t, e, "api")
	}
	return e
}

func TestAPoolThatIsFullHoldsTimeOutsAgainstNobodyAndSaysWhoIsNeeded(t *testing.T) {
	e := full(t)
	if p := peerOf(t, e, "api", "10.0.0.1:80"); !p.Needed || !strings.Contains(string(e.State().Pool("api").Watch()), `"needed":true`) {
		t.Fatalf("the peer is published as %+v: %s", p, e.State().Pool("api").Watch())
	}
	e.Observe(outcomes(t, "api", "*", "10.0.0.1:80", observe.Timeout, 50, 500))
	if p := peerOf(t, e, "api", "10.0.0.1:80"); p.State != "up" {
		t.Errorf("after time-outs it is %s", p.State)
	}
	f, _ := e.Peer("api", "10.0.0.1:80")
	if f.FailureRate == nil || *f.FailureRate > 0.01 || f.Failures["timeout"] != 50 || !f.Needed {
		t.Errorf("its figures are %+v", f)
	}
	for _, want := range []string{`weir_pool_needed_peers{pool="api"} 2`, `weir_pool_overload_timeouts_total{pool="api"} 50`} {
		if text := scrape(t, e); !strings.Contains(text, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
	e.Observe(outcomes(t, "api", "*", "10.0.0.1:80", observe.Refused, 5, 1))
	if p := peerOf(t, e, "api", "10.0.0.1:80"); p.State != "ejected" {
		t.Errorf("after refusals it is %s", p.State)
	}
}
