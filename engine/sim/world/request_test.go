package world

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirlb/weir/engine/sim/scenario"
)

func TestAFailingPeerAnswersAfterItsTimeWhateverItsQueue(t *testing.T) {
	s := parse(t, calm+`
peers: [{slots: 1, speed: 0.1}]
events: [{peer: 0, from_s: 10, for_s: 30, fail: {status: 503, after_ms: 7}}]
`)
	failed := 0
	r := run(t, s, &chooser{done: func(o *Outcome) {
		if o.Kind == OK {
			return
		}
		failed++
		if o.Kind != Status || o.Status != 503 || math.Abs(o.LatencyMS-7) > 1e-6 {
			t.Fatalf("%+v", o)
		}
	}})
	if failed == 0 || r.Failed != failed || r.Requests != 3000 {
		t.Errorf("%d outcomes failed, %d requests of %d", failed, r.Failed, r.Requests)
	}
}

func TestOnlyTheShareOfAttemptsFails(t *testing.T) {
	s := parse(t, calm+`
peers: [{slots: 100}]
events: [{peer: 0, fail: {refuse: true, share: 0.25}}]
`)
	r := run(t, s, &chooser{done: func(o *Outcome) {
		if o.Kind != OK && (o.Kind != Refused || o.Status != 0 || o.LatencyMS != 0) {
			t.Fatalf("%+v", o)
		}
	}})
	near(t, "failed", float64(r.Failed), 750, 0.15)
	near(t, "mean of the answered", r.MeanMS, 100, 1e-9)
}

func TestARetryGoesToAnotherPeerAndItsLatencyCountsFromTheArrival(t *testing.T) {
	s := parse(t, calm+`
retries: 2
peers: [{slots: 100}, {slots: 100}, {slots: 100}]
events:
  - {peer: 0, fail: {status: 500, after_ms: 30}}
  - {peer: 1, fail: {status: 500, after_ms: 20}}
`)
	r := run(t, s, &chooser{pick: func(a *Attempt) int32 {
		if int(a.Number) != len(a.Tried)+1 {
			t.Fatalf("attempt %d after %v", a.Number, a.Tried)
		}
		return firstUntried(a)
	}})
	if r.Failed != 0 || r.ByPeer[0] != 3000 || r.ByPeer[1] != 3000 || r.ByPeer[2] != 3000 {
		t.Errorf("%+v", r)
	}
	near(t, "mean", r.MeanMS, 150, 1e-9)
}

func TestARequestFailsWhenItsRetriesOrItsPeersAreUsedUp(t *testing.T) {
	for name, c := range map[string]struct {
		retries string
		each    int
	}{"retries": {"retries: 1", 2}, "peers": {"retries: 9", 3}} {
		t.Run(name, func(t *testing.T) {
			s := parse(t, calm+c.retries+`
peers: [{}, {}, {}]
events:
  - {peer: 0, fail: {refuse: true}}
  - {peer: 1, fail: {refuse: true}}
  - {peer: 2, fail: {refuse: true}}
`)
			attempts := 0
			r := run(t, s, &chooser{pick: func(a *Attempt) int32 { attempts++; return firstUntried(a) }})
			if r.Failed != 3000 || attempts != c.each*3000 || !math.IsNaN(r.MeanMS) {
				t.Errorf("%d failed after %d attempts, mean %v", r.Failed, attempts, r.MeanMS)
			}
		})
	}
}

func TestAGivenUpRequestHasFailedAndIsWorkedOffAllTheSame(t *testing.T) {
	// Every request takes 100 ms of a slot at 20 a second: the queue only grows, so all but the first few are given up, and no
	// slot is freed by that.
	s := parse(t, `
requests: 2000
arrivals: {rate_per_s: 20}
classes: [{service_ms: {mean: 100, dist: fixed}}]
peers: [{slots: 1}]
timeout_ms: 1000
`)
	answered, givenUp := 0, 0
	r := run(t, s, &chooser{
		pick: func(a *Attempt) int32 {
			if a.InFlight[0] > 50 {
				t.Fatalf("%d in flight: given up requests are still counted", a.InFlight[0])
			}
			return 0
		},
		done: func(o *Outcome) {
			switch o.Kind {
			case OK:
				answered++
			case Timeout:
				givenUp++
				if math.Abs(o.LatencyMS-1000) > 1e-6 {
					t.Fatalf("given up after %v ms", o.LatencyMS)
				}
			}
		},
	})
	if answered+givenUp != 2000 || r.Failed != givenUp || answered > 100 {
		t.Errorf("%d answered, %d given up, %d failed", answered, givenUp, r.Failed)
	}
	if r.P999MS > 1000 {
		t.Errorf("an answer after %v ms counts", r.P999MS)
	}
}

func TestARetryDoesNotStartTheTimeOutAnew(t *testing.T) {
	s := parse(t, calm+`
retries: 1
timeout_ms: 500
peers: [{slots: 100}, {slots: 100, speed: 0.1}]
events: [{peer: 0, fail: {status: 500, after_ms: 400}}]
`)
	r := run(t, s, &chooser{pick: firstUntried, done: func(o *Outcome) {
		if o.Peer == 1 && (o.Kind != Timeout || math.Abs(o.LatencyMS-100) > 1e-6) {
			t.Fatalf("%+v", o)
		}
	}})
	if r.Failed != 3000 {
		t.Errorf("%d failed", r.Failed)
	}
}

func TestTheTruthOfACompletionIsExact(t *testing.T) {
	// First come first served: nothing that comes later can delay what is there, so the promise at the pick must be kept.
	s := parse(t, `
requests: 20000
arrivals: {load: 0.9}
classes:
  - {name: a, share: 0.8, service_ms: {mean: 50, dist: exp}}
  - {name: b, share: 0.2, service_ms: {mean: 300, dist: pareto, shape: 1.6}}
peers:
  - {slots: 1, speed: 0.7}
  - {slots: 3, speed: 1.2, affinity: {b: 2}}
  - {slots: 2, affinity: {a: 0.5}}
events: [{peer: 2, from_s: 20, join: true, warm_s: 60, cold_factor: 3}]
`)
	w := New(s, 1, func(set *Setup) Balancer {
		set.Truth.TrackBacklog()
		promised := []float64{}
		return &chooser{
			pick: func(a *Attempt) int32 {
				p := a.Present[set.Rand.IntN(len(a.Present))]
				a.Cookie = uint32(len(promised))
				promised = append(promised, set.Truth.Completion(p))
				return p
			},
			done: func(o *Outcome) {
				if want := promised[o.Cookie]; math.Abs(o.Now-want) > 1e-6 {
					t.Fatalf("done at %v, promised %v", o.Now, want)
				}
			},
		}
	})
	if _, err := w.Run(nil); err != nil {
		t.Fatal(err)
	}
}

func TestTheTruthOfACompletionFollowsAChangeOfSpeed(t *testing.T) {
	s := parse(t, `
requests: 20000
arrivals: {rate_per_s: 20}
classes: [{service_ms: {mean: 100, dist: exp}}]
peers: [{slots: 4}]
events: [{peer: 0, from_s: 2, for_s: 2, every_s: 4, speed: 0.4}]
`)
	checked := 0
	w := New(s, 1, func(set *Setup) Balancer {
		set.Truth.TrackBacklog()
		promised := []float64{}
		return &chooser{
			pick: func(a *Attempt) int32 {
				a.Cookie = uint32(len(promised))
				promised = append(promised, set.Truth.Completion(0))
				return 0
			},
			done: func(o *Outcome) {
				if math.Floor(o.Now/2000) != math.Floor((o.Now-o.LatencyMS)/2000) {
					return // the speed changed meanwhile
				}
				checked++
				if want := promised[o.Cookie]; math.Abs(o.Now-want) > 1e-6 {
					t.Fatalf("done at %v, promised %v", o.Now, want)
				}
			},
		}
	})
	if _, err := w.Run(nil); err != nil || checked < 5000 {
		t.Errorf("%d checked, %v", checked, err)
	}
}

func TestAProbeTellsWhatThePeerHoldsAndItsLatencyAtThatNumber(t *testing.T) {
	l := rifLatencies{}
	if got := l.at(3); got != 0 {
		t.Errorf("%v without any latency", got)
	}
	for i := range 40 {
		l.add(1, float64(100+i)) // the last 16: 124 .. 139
		l.add(5, 500)
	}
	for rif, want := range map[int32]float64{0: 131.5, 1: 131.5, 2: 131.5, 3: 131.5, 4: 500, 5: 500, 9: 500, 9999: 500} {
		if got := l.at(rif); got != want {
			t.Errorf("latency at %d is %v, want %v", rif, got, want)
		}
	}
}

// TestWhateverHappensEveryAttemptEndsOnceAndCountsReturnToZero draws whole worlds.
func TestWhateverHappensEveryAttemptEndsOnceAndCountsReturnToZero(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anyScenario(t)
		flying := make([][]int32, s.Balancers)
		started, ended := 0, 0
		clock := 0.0
		tick := func(now float64) {
			if now < clock {
				t.Fatalf("the clock went from %v back to %v", clock, now)
			}
			clock = now
		}
		w := New(s, rapid.Uint64().Draw(t, "seed"), func(set *Setup) Balancer {
			own := make([]int32, len(s.Peers))
			flying[set.Balancer] = own
			return &chooser{
				pick: func(a *Attempt) int32 {
					tick(a.Now)
					for p, n := range own {
						if a.InFlight[p] != n || n < 0 {
							t.Fatalf("told %v in flight, has %v", a.InFlight, own)
						}
					}
					var left []int32
					for _, p := range a.Present {
						if a.Untried(p) {
							left = append(left, p)
						}
					}
					if len(left) == 0 || a.Number > int32(s.Retries)+1 {
						t.Fatalf("asked for attempt %d with %v tried of %v", a.Number, a.Tried, a.Present)
					}
					p := left[set.Rand.IntN(len(left))]
					own[p]++
					started++
					return p
				},
				done: func(o *Outcome) {
					tick(o.Now)
					own[o.Peer]--
					ended++
					if o.LatencyMS < 0 || (s.TimeoutMS > 0 && o.LatencyMS > s.TimeoutMS*(1+1e-9)) {
						t.Fatalf("an attempt took %v ms", o.LatencyMS)
					}
				},
			}
		})
		r, err := w.Run(nil)
		if err != nil {
			t.Fatal(err)
		}
		if started != ended || w.live != 0 || r.Requests != s.Requests*s.Episodes || r.Failed > r.Requests {
			t.Fatalf("%d attempts, %d ended, %d requests left, %+v", started, ended, w.live, r)
		}
		for i := range w.peers {
			if p := &w.peers[i]; p.held != 0 || p.busy != 0 || p.head >= 0 {
				t.Fatalf("peer %d still holds %d", i, p.held)
			}
		}
		for _, own := range flying {
			for _, n := range own {
				if n != 0 {
					t.Fatalf("in flight at the end: %v", own)
				}
			}
		}
	})
}

func anyScenario(t *rapid.T) *scenario.Scenario {
	n := rapid.IntRange(1, 4).Draw(t, "peers")
	s := &scenario.Scenario{
		Name: "any", Requests: rapid.IntRange(1, 300).Draw(t, "requests"), Warmup: rapid.IntRange(0, 100).Draw(t, "warmup"),
		Episodes: rapid.IntRange(1, 3).Draw(t, "episodes"), Balancers: rapid.IntRange(1, 3).Draw(t, "balancers"),
		Arrivals: []scenario.Step{{RatePerS: rapid.Float64Range(1, 60).Draw(t, "rate")}},
		Classes:  []scenario.Class{{Name: "a", Share: 1, MeanMS: 100, Dist: scenario.Exp}},
		Retries:  rapid.IntRange(0, 3).Draw(t, "retries"),
	}
	if rapid.Bool().Draw(t, "times out") {
		s.TimeoutMS = rapid.Float64Range(1, 1000).Draw(t, "timeout")
	}
	for range n {
		s.Peers = append(s.Peers, scenario.Peer{
			Slots: rapid.IntRange(1, 3).Draw(t, "slots"), Speed: rapid.Float64Range(0.1, 2).Draw(t, "speed"),
			Affinity: []float64{rapid.Float64Range(0.5, 2).Draw(t, "affinity")}, ORCA: rapid.Bool().Draw(t, "orca"),
		})
	}
	for range rapid.IntRange(0, 5).Draw(t, "events") {
		e := scenario.Event{Peer: rapid.IntRange(0, n-1).Draw(t, "peer"), FromS: rapid.Float64Range(0, 5).Draw(t, "from")}
		if rapid.Bool().Draw(t, "ends") {
			e.ForS = rapid.Float64Range(0.01, 5).Draw(t, "for")
			if rapid.Bool().Draw(t, "repeats") {
				e.EveryS = e.ForS + rapid.Float64Range(0, 3).Draw(t, "pause")
			}
		}
		switch rapid.IntRange(0, 3).Draw(t, "what") {
		case 0:
			e.Speed = rapid.Float64Range(0.05, 3).Draw(t, "speed")
		case 1:
			e.Fail = &scenario.Fail{
				Status: 500, AfterMS: rapid.Float64Range(0, 2000).Draw(t, "after"), Share: rapid.Float64Range(0, 1).Draw(t, "share"),
			}
		case 2:
			e.Leave = true
		case 3:
			e.Join, e.WarmS, e.ColdFactor = true, rapid.Float64Range(0, 5).Draw(t, "warm"), rapid.Float64Range(0.5, 5).Draw(t, "cold")
		}
		s.Events = append(s.Events, e)
	}
	return s
}
