package estimate

import (
	"testing"

	"github.com/weirlb/weir/engine/pool"
)

// Three peers refused some thousand connections. The one that answered first was twenty times cheaper than the others for minutes.
func TestWhatAnOutageTaughtEndsWithIt(t *testing.T) {
	p, now := deniedPool()
	refuse := func(n int) {
		for range n {
			now++
			for i := range 3 {
				p.Observe(now, Outcome{Peer: i, Class: 1, Kind: pool.Refused})
			}
		}
	}
	refuse(1000)
	if rate := p.Peer(0).FailureRate; rate < 0.9 {
		t.Errorf("a peer that refuses everything has a failure rate of %.2f", rate)
	}
	now++
	p.Observe(now, Outcome{Peer: 0, Class: 1, Status: 200, HeaderMS: 50, TotalMS: 50}) // it is back
	p.Returned(1)                                                                      // so may this one be: its ejection is over
	for i, most := range []float64{0.5, 0.5, 1} {
		if v := p.Peer(i); v.FailureRate > most || v.FailureSlow > most*0.1 && i < 2 {
			t.Errorf("peer %d: failure rate %.2f, in the long run %.2f", i, v.FailureRate, v.FailureSlow)
		}
	}
	refuse(100) // not over at all
	for i := range 3 {
		if rate := p.Peer(i).FailureRate; rate < 0.9 {
			t.Errorf("peer %d, out again: failure rate %.2f", i, rate)
		}
	}
}

func TestAPeerThatFailsNowAndThenIsRememberedForIt(t *testing.T) {
	p, now := deniedPool()
	for k := range 3000 {
		now += 20
		o := Outcome{Peer: 1, Class: 1, Status: 200, HeaderMS: 50, TotalMS: 50}
		if k%3 > 0 {
			o = Outcome{Peer: 1, Class: 1, Kind: pool.Status, Status: 500}
		}
		p.Observe(now, o)
	}
	if slow := p.Peer(1).FailureSlow; slow < 0.6 {
		t.Errorf("two of three requests fail, and in the long run it is taken for %.2f", slow)
	}
}
