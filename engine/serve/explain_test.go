package serve

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/observe"
)

func TestAnExplanationHasTheCostsOfTheTableAndSaysWhyTheFirstIsFirst(t *testing.T) {
	e := still(t, threePeers)
	taught(t, e)
	if err := e.Models().Configure(config.Model{File: written(t, encoded(t, network(1), nil)), Library: config.LibraryBuiltin}); err != nil {
		t.Fatal(err)
	}
	s := taught(t, e)
	x, err := e.Explain("api", "nobody knows this one")
	if err != nil {
		t.Fatal(err)
	}
	if x.Class != "*" || x.Policy != "learned" || x.Model == nil || *x.Model != e.Models().Serving().ID || len(x.Peers) != 3 || x.Peers[0].Why != "" {
		t.Fatalf("%+v", x)
	}
	sum, last := 0.0, 0.0
	for _, p := range x.Peers {
		row := s.Table.Row(0, slices.Index(s.Table.Peers, p.Peer))
		if !same(p.Learned, row, 1e-5) || math.Abs(p.Cost/float64(row[0])-1) > 1e-5 {
			t.Errorf("%s costs %v, the table has %v", p.Peer, p.Learned, row)
		}
		if p.Correction == nil || math.Abs(*p.Correction*p.Analytic-p.Cost) > 1e-3*p.Cost || same(p.Curve, p.Learned, 0) || len(p.Values) != len(x.Features) {
			t.Errorf("%+v", p)
		}
		if !(p.Expected > 0 && p.Expected <= 1.001*p.Cost) {
			t.Errorf("%s is expected to take %v ms and costs %v", p.Peer, p.Expected, p.Cost)
		}
		if p.Cost < last {
			t.Errorf("%s is out of order", p.Peer)
		}
		last = p.Cost
		sum += p.Share
	}
	if math.Abs(sum-1) > 1e-9 {
		t.Errorf("the shares sum to %v", sum)
	}
	if !strings.HasPrefix(x.Reason, x.Peers[0].Peer+" with 0 in flight is expected to cost") {
		t.Errorf("reason %q", x.Reason)
	}
}

func TestAnExplanationNamesAPeerThatWorksAtAPartOfItsSpeed(t *testing.T) {
	e := still(t, "pools: [{name: api, peers: ['10.0.0.1:80', '10.0.0.2:80']}]")
	p, _ := e.pool("api")
	now := 1000.0
	learn := func(slow float32, rounds int) {
		for range rounds {
			now += 100
			for peer, ms := range map[string]float32{"10.0.0.1:80": 20, "10.0.0.2:80": 20 * slow} {
				b := outcomes(t, "api", "*", peer, observe.OK, 1, ms)
				p.learn(now, b, b.Records)
			}
			p.mu.Lock()
			p.est.Refresh(now)
			p.mu.Unlock()
		}
	}
	learn(1, 600)
	learn(5, 40)
	p.mu.Lock()
	p.fill(now)
	p.mu.Unlock()
	x, err := e.Explain("api", "*")
	if err != nil {
		t.Fatal(err)
	}
	if x.Peers[0].Peer != "10.0.0.1:80" || x.Model != nil || x.Peers[0].Correction != nil || x.Peers[0].Learned != nil || x.Policy != "analytic" {
		t.Errorf("%+v", x)
	}
	if !strings.Contains(x.Peers[1].Why, "10.0.0.2:80 works at 0.") || !strings.HasSuffix(x.Reason, x.Peers[1].Why) {
		t.Errorf("why %q, reason %q", x.Peers[1].Why, x.Reason)
	}
}

func TestThereIsAnExplanationOfAPoolThatCannotServe(t *testing.T) {
	e := still(t, "pools: [{name: bare, peers: []}, {name: api, peers: ['10.0.0.1:80', '10.0.0.2:80']}]")
	if x, err := e.Explain("bare", "*"); err != nil || x.Reason != "no peer is usable" || len(x.Peers) != 0 {
		t.Errorf("%+v %v", x, err)
	}
	if _, err := e.Explain("no", "*"); err == nil {
		t.Error("an unknown pool is explained")
	}
	e.Observe(outcomes(t, "api", "*", "10.0.0.1:80", observe.Refused, 20, 1))
	x, err := e.Explain("api", "*")
	if err != nil || x.Peers[0].Peer != "10.0.0.2:80" || x.Peers[1].Usable || x.Peers[1].Share != 0 || x.Reason != "10.0.0.2:80 is the only usable peer" {
		t.Errorf("%+v %v", x, err)
	}
	if len(x.Peers[0].Curve) != decide.GridPoints {
		t.Errorf("%+v", x.Peers[0])
	}
}
