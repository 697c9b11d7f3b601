package policy

import (
	"testing"

	"github.com/weirlb/weir/engine/sim/scenario"
	"github.com/weirlb/weir/engine/sim/world"
)

func TestWeirLearnsWhoIsSlow(t *testing.T) {
	s := parse(t, `
requests: 20000
warmup: 10000
arrivals: {load: 0.3}
classes: [{service_ms: {mean: 100}}]
peers: [{count: 3, slots: 4}, {slots: 4, speed: 0.2}]
`)
	r, least := run(t, s, 1, newWeir), run(t, s, 1, newLeastConn)
	if share := float64(r.ByPeer[3]) / 20_000; share > 0.1 {
		t.Errorf("the slow peer got a share of %.3f", share)
	}
	if r.MeanMS > 0.8*least.MeanMS {
		t.Errorf("mean %v, least_conn %v", r.MeanMS, least.MeanMS)
	}
}

func TestWeirLearnsWhoIsGoodAtWhat(t *testing.T) {
	s := parse(t, `
requests: 20000
warmup: 10000
arrivals: {load: 0.3}
classes:
  - {name: a, share: 0.5, service_ms: {mean: 100}}
  - {name: b, share: 0.5, service_ms: {mean: 100}}
peers: [{count: 2, slots: 4, affinity: {a: 0.2, b: 2}}, {count: 2, slots: 4, affinity: {a: 2, b: 0.2}}]
`)
	r, least := run(t, s, 1, newWeir), run(t, s, 1, newLeastConn)
	if r.MeanMS > 0.4*least.MeanMS {
		t.Errorf("mean %v, least_conn %v", r.MeanMS, least.MeanMS)
	}
}

func TestWeirLosesLittleToAPeerThatFailsFast(t *testing.T) {
	for name, fail := range map[string]string{"status": "{status: 500, after_ms: 1}", "refused": "{refuse: true}"} {
		t.Run(name, func(t *testing.T) {
			s := parse(t, `
requests: 20000
warmup: 1000
arrivals: {load: 0.5}
classes: [{service_ms: {mean: 100}}]
peers: [{count: 5, slots: 4}]
events: [{peer: 0, from_s: 20, fail: `+fail+`}]
`)
			r := run(t, s, 1, newWeir)
			least := run(t, s, 1, newLeastConn)
			if share := float64(r.Failed) / 20_000; share > 0.005 || r.Failed == 0 || least.Failed < 5000 {
				t.Errorf("%d failed, %d with least_conn", r.Failed, least.Failed)
			}
		})
	}
}

func TestWeirKeepsWhatItKnowsWhenOthersComeAndGo(t *testing.T) {
	s := parse(t, `
requests: 1
arrivals: {load: 0.5}
classes: [{name: a, service_ms: {mean: 100}}]
peers: [{count: 4, slots: 4}]
`)
	w := build(s, newWeir).(*weir)
	now := 0.0
	for range 3000 {
		for p := range int32(4) {
			latency := 50.0
			if p == 2 {
				latency = 400
			}
			w.Done(&world.Outcome{Now: now, Peer: p, LatencyMS: latency, Utilisation: -1, PeerInFlight: -1})
		}
		now += 50
		w.Tick(now)
	}
	cost := func(peer int32) float64 { return w.table.At(0, int(w.position[peer]), 0) }
	before := cost(2)
	w.Left(now, 0)
	if w.position[0] != -1 || len(w.members) != 3 {
		t.Fatalf("members %v after a leave", w.members)
	}
	w.Joined(now, 0)
	if len(w.members) != 4 || w.members[0] != 0 {
		t.Fatalf("members %v after a join", w.members)
	}
	// The delay it imposes is reckoned anew with the members, so its cost need not stay to the digit.
	if after := cost(2); after < before/2 || after < 5*cost(1) {
		t.Errorf("the slow peer's cost went from %v to %v, the fast one has %v", before, after, cost(1))
	}
}

func TestWeirHearsOfOutcomesOnlyWithTheNextBatchAndActsWithTheNextTable(t *testing.T) {
	s := peers(t, "[{count: 2, slots: 4}]")
	w := build(s, newWeir).(*weir)
	for range 50 {
		w.Done(&world.Outcome{Now: 10, Peer: 0, LatencyMS: 900, Utilisation: -1, PeerInFlight: -1})
		w.Done(&world.Outcome{Now: 10, Peer: 1, LatencyMS: 100, Utilisation: -1, PeerInFlight: -1})
	}
	if a, b := w.table.At(0, 0, 0), w.table.At(0, 1, 0); a != b {
		t.Fatalf("costs %v and %v before any batch", a, b)
	}
	w.Tick(50)
	if a, b := w.table.At(0, 0, 0), w.table.At(0, 1, 0); a != b || len(w.batch) != 0 {
		t.Fatalf("costs %v and %v before the next table, %d outcomes not sent", a, b, len(w.batch))
	}
	w.Tick(100)
	if a, b := w.table.At(0, 0, 0), w.table.At(0, 1, 0); a <= b {
		t.Fatalf("costs %v and %v", a, b)
	}
}

func TestWeirTakesTheEnginesWordOnWhoIsUsable(t *testing.T) {
	w := build(peers(t, "[{count: 3, slots: 4}]"), newWeir).(*weir)
	for i := range 30 {
		kind := world.Status // two of three fail: never five in a row, so the reflex keeps quiet
		if i%3 == 0 {
			kind = world.OK
		}
		w.Done(&world.Outcome{Now: float64(i), Peer: 1, Kind: kind, LatencyMS: 5, Utilisation: -1, PeerInFlight: -1})
		w.Done(&world.Outcome{Now: float64(i), Peer: 0, LatencyMS: 100, Utilisation: -1, PeerInFlight: -1})
		w.Done(&world.Outcome{Now: float64(i), Peer: 2, LatencyMS: 100, Utilisation: -1, PeerInFlight: -1})
	}
	w.Tick(50)
	if got := shares(w, attempt(60, 9, 0, 9), 1000); got[1] != 0 {
		t.Errorf("shares %v: the failing peer is not ejected", got)
	}
}

func TestWeirMakesUseOfWhatPeersReportOfOtherBalancersLoad(t *testing.T) {
	of := func(reports string) world.Result {
		return run(t, parse(t, `
requests: 10000
warmup: 10000
balancers: 6
arrivals: {load: 0.8}
classes: [{service_ms: {mean: 100}}]
peers: [{count: 4, slots: 4`+reports+`}, {count: 4, slots: 4, speed: 0.5`+reports+`}]
`), 1, newWeir)
	}
	if told, blind := of(", reports: orca"), of(""); told.MeanMS > 0.93*blind.MeanMS {
		t.Errorf("mean %.1f ms with reports, %.1f without", told.MeanMS, blind.MeanMS)
	}
}

func TestWeirMakesUseOfTheSizesRequestsTell(t *testing.T) {
	of := func(hint string) world.Result {
		return run(t, parse(t, `
requests: 10000
warmup: 10000
arrivals: {load: 0.8}
classes: [{service_ms: {mean: 100, dist: lognormal, cv: 3}, weight_hint: `+hint+`}]
peers: [{count: 3, slots: 1}, {count: 3, slots: 1, speed: 0.4}]
`), 1, newWeir)
	}
	if told, blind := of("true"), of("false"); told.MeanMS > 0.93*blind.MeanMS {
		t.Errorf("mean %.1f ms with sizes, %.1f without", told.MeanMS, blind.MeanMS)
	} else {
		t.Logf("mean %.1f ms with sizes, %.1f without", told.MeanMS, blind.MeanMS)
	}
}

// Heavy requests that others sent to the peer that serves them badly stay there for long. Taken for load like any other they read as 12 to 19 engines.
func TestEnginesInFrontOfUnevenPeersFindOutHowManyTheyAre(t *testing.T) {
	s, err := scenario.Load("../../../bench/scenarios/uneven-balancers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s.Requests, s.Warmup = 100_000, 1000
	for seed := range uint64(3) {
		var engines []*weir
		run(t, s, seed, func(set *world.Setup) world.Balancer {
			w := newWeir(set).(*weir)
			engines = append(engines, w)
			return w
		})
		sum := 0.0
		for _, w := range engines {
			sum += w.est.LoadRatio() / 4
		}
		if sum < 2 || sum > 9 {
			t.Errorf("seed %d: the load is said to be %.1f times the own, in the mean of four engines", seed, sum)
		}
	}
}

// While K is not known, answers surprise as they do where others fill the queues. In the mean of these starts others were seen for 14 % of the first minute, and
// nothing learned meanwhile.
func TestAnEngineAloneInFrontOfUnevenPeersSeesNoOthers(t *testing.T) {
	s := parse(t, `
requests: 15000
warmup: 100
arrivals: {rate_per_s: 250}
classes:
  - {name: light, share: 0.70, service_ms: {mean: 20, dist: exp}}
  - {name: page, share: 0.25, service_ms: {mean: 60, dist: exp}}
  - {name: heavy, share: 0.05, service_ms: {mean: 320, dist: pareto, shape: 2.2}}
peers: [{count: 3, slots: 4}, {slots: 4, speed: 0.4}, {slots: 4, affinity: {light: 0.5, heavy: 3}}, {slots: 4}]
events: [{peer: 5, from_s: 10, for_s: 5, every_s: 15, speed: 0.15}]
`)
	const seeds = 20
	part := 0.0
	for seed := range uint64(seeds) {
		var seer *looker
		run(t, s, seed, func(set *world.Setup) world.Balancer {
			seer = &looker{weir: newWeir(set).(*weir)}
			return seer
		})
		part += float64(seer.shared) / float64(seer.looks) / seeds
	}
	if part > 0.04 {
		t.Errorf("others were seen for %.3f of the time", part)
	}
}

// looker counts at each pick whether the load of others is believed in.
type looker struct {
	*weir
	looks, shared int
}

func (l *looker) Pick(a *world.Attempt) int32 {
	l.looks++
	if l.est.LoadRatio() > 1 {
		l.shared++
	}
	return l.weir.Pick(a)
}

// The first answers are those of short requests: beside them all peers looked slow, and who did not got everything of the next 100 ms.
func TestAFreshPoolIsNoWorseThanLeastConnWhileNothingIsKnown(t *testing.T) {
	for _, load := range []string{"0.4", "0.7"} {
		s := parse(t, `
requests: 500
arrivals: {load: `+load+`}
classes: [{service_ms: {mean: 20}}]
peers: [{count: 10, slots: 4}]
`)
		weir, least := 0.0, 0.0
		for seed := range uint64(20) {
			weir += run(t, s, seed, newWeir).MeanMS
			least += run(t, s, seed, newLeastConn).MeanMS
		}
		if weir > 1.15*least {
			t.Errorf("load %s: %.2f of least_conn's mean", load, weir/least)
		}
	}
}
