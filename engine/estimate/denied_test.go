package estimate

import (
	"testing"

	"github.com/weirlb/weir/engine/pool"
)

// deniedPool has two peers that answered 200 in 50 ms.
func deniedPool() (p *Pool, now float64) {
	p = New(Options{})
	p.SetPeers(0, []string{"a", "b", "c"})
	p.Class(0, "GET /x")
	for range 200 {
		for i := range 3 {
			now += 20
			p.Observe(now, Outcome{Peer: i, Class: 1, Status: 200, HeaderMS: 50, TotalMS: 50})
		}
	}
	p.Refresh(now)
	return p, now
}

func TestClientErrorsOfOnePeerDoNotMakeItQuick(t *testing.T) {
	for _, status := range []int{404, 401, 302} {
		oddAnswers(t, status)
	}
}

func oddAnswers(t *testing.T, status int) {
	p, now := deniedPool()
	before := p.Pair(1, 1)
	for range 300 {
		now += 20
		p.Observe(now, Outcome{Peer: 1, Class: 1, Status: status, HeaderMS: 1, TotalMS: 1})
		p.Observe(now, Outcome{Peer: 0, Class: 1, Status: 200, HeaderMS: 50, TotalMS: 50})
		p.Refresh(now)
	}
	if after := p.Pair(1, 1); after.ServiceMS < 0.9*before.ServiceMS {
		t.Errorf("quick answers of %d took the service time from %.1f to %.1f ms", status, before.ServiceMS, after.ServiceMS)
	}
	if rate := p.Peer(1).FailureRate; rate < 0.5 {
		t.Errorf("a peer that answers %d where others answer 200 has a failure rate of %.2f in its cost", status, rate)
	}
	for range 200 {
		now += 20
		p.Observe(now, Outcome{Peer: 1, Class: 1, Status: 200, HeaderMS: 50, TotalMS: 50})
	}
	if rate := p.Peer(1).FailureRate; rate > 0.5 {
		t.Errorf("after 200 good answers the rate is still %.2f", rate)
	}
}

// A class that is answered with 404 everywhere, by a scanner's doing or because that is how a cache says no, is a class like others.
func TestClientErrorsOfAllPeersAreOrdinaryAnswers(t *testing.T) {
	p, now := deniedPool()
	c := p.Class(now, "GET /missing")
	for range 300 {
		for i, ms := range []float64{4, 8, 4} {
			now += 20
			p.Observe(now, Outcome{Peer: i, Class: c, Status: 404, HeaderMS: ms, TotalMS: ms})
		}
		p.Refresh(now)
	}
	for i := range 3 {
		if rate := p.Peer(i).FailureRate; rate > 0.01 {
			t.Errorf("peer %d has a failure rate of %.2f for what all answer", i, rate)
		}
	}
	if a, b := p.Pair(0, c).ServiceMS, p.Pair(1, c).ServiceMS; !(b > 1.4*a) || a > 10 {
		t.Errorf("service times %.1f and %.1f ms, want about 4 and 8", a, b)
	}
}

func TestAFew404sAmong200sChangeNothing(t *testing.T) {
	p, now := deniedPool()
	for n := range 600 {
		now += 20
		o := Outcome{Peer: n % 3, Class: 1, Kind: pool.OK, Status: 200, HeaderMS: 50, TotalMS: 50}
		if n%15 == 0 {
			o.Status, o.HeaderMS, o.TotalMS = 404, 1, 1
		}
		p.Observe(now, o)
	}
	p.Refresh(now)
	for i := range 3 {
		if v, s := p.Peer(i), p.Pair(i, 1).ServiceMS; v.FailureRate > 0.01 || s < 45 || s > 55 {
			t.Errorf("peer %d: failure rate %.2f, service %.1f ms", i, v.FailureRate, s)
		}
	}
}
