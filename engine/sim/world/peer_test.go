package world

import (
	"math"
	"testing"
)

// calm is a scenario in which nobody ever waits: what an outcome took is its own service.
const calm = `
requests: 3000
arrivals: {rate_per_s: 10}
classes: [{service_ms: {mean: 100, dist: fixed}}]
`

func TestAnEventReplacesTheSpeedOfWhatBeginsWhileItLasts(t *testing.T) {
	s := parse(t, calm+`
peers: [{slots: 100, speed: 0.8}]
events:
  - {peer: 0, from_s: 20, for_s: 10, every_s: 60, speed: 0.2}
`)
	slow := 0
	run(t, s, &chooser{done: func(o *Outcome) {
		begun := math.Mod((o.Now-o.LatencyMS)/1000, 60)
		want := 125.0
		if begun >= 20 && begun < 30 {
			want = 500
			slow++
		}
		if math.Abs(o.LatencyMS-want) > 1e-6 {
			t.Fatalf("begun at %v s of the minute it took %v ms, want %v", begun, o.LatencyMS, want)
		}
	}})
	if slow == 0 {
		t.Error("nothing was slow")
	}
}

func TestOfOverlappingSpeedsTheLowestHolds(t *testing.T) {
	s := parse(t, calm+`
peers: [{slots: 100}]
events:
  - {peer: 0, from_s: 10, for_s: 30, speed: 0.5}
  - {peer: 0, from_s: 20, for_s: 10, speed: 0.25}
  - {peer: 0, from_s: 25, for_s: 20, speed: 2}
`)
	run(t, s, &chooser{done: func(o *Outcome) {
		want := 100.0
		switch at := (o.Now - o.LatencyMS) / 1000; {
		case at >= 20 && at < 30:
			want = 400
		case at >= 10 && at < 40:
			want = 200
		case at >= 40 && at < 45:
			want = 50
		}
		if math.Abs(o.LatencyMS-want) > 1e-6 {
			t.Fatalf("at %v s it took %v ms, want %v", (o.Now-o.LatencyMS)/1000, o.LatencyMS, want)
		}
	}})
}

func TestAnEventThatRepeatsWithoutAPauseNeverPauses(t *testing.T) {
	s := parse(t, calm+`
peers: [{slots: 100}]
events:
  - {peer: 0, from_s: 0, for_s: 7, every_s: 7, speed: 0.5}
`)
	run(t, s, &chooser{done: func(o *Outcome) {
		if math.Abs(o.LatencyMS-200) > 1e-6 {
			t.Fatalf("took %v ms at %v", o.LatencyMS, o.Now)
		}
	}})
}

func TestAPeerWhoseFirstMembershipEventIsAJoinIsAbsentUntilThenAndStartsCold(t *testing.T) {
	s := parse(t, calm+`
peers: [{slots: 100}, {slots: 100}]
events:
  - {peer: 1, from_s: 5, for_s: 1, speed: 0.5}
  - {peer: 1, from_s: 50, join: true, warm_s: 40, cold_factor: 5}
`)
	last := func(a *Attempt) int32 { return a.Present[len(a.Present)-1] }
	cold := 0
	run(t, s, &chooser{pick: last, done: func(o *Outcome) {
		begun := (o.Now - o.LatencyMS) / 1000
		if (o.Peer == 1) != (begun >= 50) {
			t.Fatalf("peer %d was picked at %v s", o.Peer, begun)
		}
		want := 100.0
		if o.Peer == 1 && begun < 90 {
			want = 100 * (1 + 4*(90-begun)/40)
			cold++
		}
		if math.Abs(o.LatencyMS-want) > 1e-6 {
			t.Fatalf("at %v s it took %v ms, want %v", begun, o.LatencyMS, want)
		}
	}})
	if cold < 300 {
		t.Errorf("%d requests met a cold peer", cold)
	}
}

func TestALeavingPeerFinishesWhatItHoldsAndGetsNoMore(t *testing.T) {
	s := parse(t, `
requests: 3000
arrivals: {rate_per_s: 10}
classes: [{service_ms: {mean: 2000, dist: fixed}}]
peers: [{slots: 100}, {slots: 100}]
events:
  - {peer: 0, from_s: 30, for_s: 30, leave: true}
  - {peer: 1, from_s: 100, leave: true}
`)
	after := 0
	r := run(t, s, &chooser{pick: firstUntried, done: func(o *Outcome) {
		begun := (o.Now - o.LatencyMS) / 1000
		away := begun >= 30 && begun < 60
		if (o.Peer == 1) != away {
			t.Fatalf("peer %d was picked at %v s", o.Peer, begun)
		}
		if o.Peer == 0 && o.Now > 30_000 && o.Now < 32_000 {
			after++
		}
	}})
	if r.Failed != 0 || after == 0 {
		t.Errorf("%d failed; %d finished after the leave", r.Failed, after)
	}
}

func TestWhereJoinsAndLeavesOverlapTheOneThatStartedLastHolds(t *testing.T) {
	for name, test := range map[string]struct {
		events string
		away   func(s float64) bool
	}{
		"a leave within a leave": {
			"[{peer: 1, from_s: 20, for_s: 60, leave: true}, {peer: 1, from_s: 30, for_s: 10, leave: true}]",
			func(s float64) bool { return s >= 20 && s < 80 },
		},
		"leaves in turn": {
			"[{peer: 1, from_s: 20, for_s: 30, leave: true}, {peer: 1, from_s: 40, for_s: 30, leave: true}]",
			func(s float64) bool { return s >= 20 && s < 70 },
		},
		"a leave that ends after another began": {
			"[{peer: 1, from_s: 20, for_s: 50, leave: true}, {peer: 1, from_s: 30, join: true}, {peer: 1, from_s: 60, leave: true}]",
			func(s float64) bool { return s >= 20 && s < 30 || s >= 60 },
		},
		"joins in turn": {
			"[{peer: 1, from_s: 20, for_s: 30, join: true}, {peer: 1, from_s: 40, for_s: 30, join: true}]",
			func(s float64) bool { return s < 20 || s >= 70 },
		},
		"a join for good within a leave": {
			"[{peer: 1, from_s: 20, for_s: 30, leave: true}, {peer: 1, from_s: 40, join: true}]",
			func(s float64) bool { return s >= 20 && s < 40 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := parse(t, calm+"\npeers: [{slots: 100}, {slots: 100}]\nevents: "+test.events+"\n")
			last := func(a *Attempt) int32 { return a.Present[len(a.Present)-1] }
			run(t, s, &chooser{pick: last, done: func(o *Outcome) {
				begun := (o.Now - o.LatencyMS) / 1000
				if (o.Peer == 0) != test.away(begun) {
					t.Fatalf("peer %d was picked at %v s", o.Peer, begun)
				}
			}})
		})
	}
}

func TestAPeerThatJoinsAsItsLeaveEndsStartsCold(t *testing.T) {
	for _, events := range []string{
		"[{peer: 0, from_s: 20, for_s: 30, leave: true}, {peer: 0, from_s: 50, join: true, warm_s: 40, cold_factor: 5}]",
		"[{peer: 0, from_s: 50, join: true, warm_s: 40, cold_factor: 5}, {peer: 0, from_s: 20, for_s: 30, leave: true}]",
	} {
		s := parse(t, calm+"\npeers: [{slots: 100}, {slots: 100}]\nevents: "+events+"\n")
		run(t, s, &chooser{pick: firstUntried, done: func(o *Outcome) {
			begun := (o.Now - o.LatencyMS) / 1000
			want := 100.0
			if begun >= 50 && begun < 90 {
				want = 100 * (1 + 4*(90-begun)/40)
			}
			if math.Abs(o.LatencyMS-want) > 1e-6 {
				t.Fatalf("%s: at %v s it took %v ms, want %v", events, begun, o.LatencyMS, want)
			}
		}})
	}
}

func TestWithoutAnyMemberARequestFails(t *testing.T) {
	s := parse(t, calm+`
peers: [{slots: 100}]
events: [{peer: 0, from_s: 0, for_s: 60, leave: true}]
`)
	r := run(t, s, &chooser{})
	near(t, "failed", float64(r.Failed), 600, 0.15)
	if r.Requests != 3000 {
		t.Errorf("%d requests counted", r.Requests)
	}
}

func TestBalancersHearOfJoinsAndLeaves(t *testing.T) {
	s := parse(t, calm+`
peers: [{slots: 100}, {slots: 100}]
events: [{peer: 1, from_s: 10, for_s: 20, every_s: 50, join: true}]
`)
	m := &listener{}
	if _, err := New(s, 1, func(*Setup) Balancer { return m }).Run(nil); err != nil {
		t.Fatal(err)
	}
	if len(m.heard) < 10 {
		t.Fatalf("heard %v", m.heard)
	}
	for i, at := range m.heard {
		want := float64(i/2)*50_000 + 10_000
		if i%2 == 1 {
			want += 20_000
		}
		if math.Abs(math.Abs(at)-want) > 1e-6 || (at < 0) != (i%2 == 1) {
			t.Fatalf("heard %v", m.heard)
		}
	}
}

// listener notes joins as positive times, leaves as negative.
type listener struct {
	chooser
	heard []float64
}

func (l *listener) Joined(now float64, _ int32) { l.heard = append(l.heard, now) }
func (l *listener) Left(now float64, _ int32)   { l.heard = append(l.heard, -now) }

func TestAnORCAPeerReportsBusySlotsAndWhatItHoldsFromAllBalancers(t *testing.T) {
	s := parse(t, `
requests: 4000
balancers: 2
arrivals: {load: 0.9}
classes: [{service_ms: {mean: 100}}]
peers: [{slots: 4, reports: orca}, {slots: 4}]
`)
	held := [2]int32{}
	own := [2][2]int32{}
	full := false
	w := New(s, 1, func(set *Setup) Balancer {
		me := set.Balancer
		return &chooser{
			pick: func(a *Attempt) int32 {
				if a.InFlight[0] != own[me][0] || a.InFlight[1] != own[me][1] {
					t.Fatalf("balancer %d is told %v in flight, has %v", me, a.InFlight, own[me])
				}
				p := int32(set.Rand.IntN(2))
				held[p]++
				own[me][p]++
				return p
			},
			done: func(o *Outcome) {
				held[o.Peer]--
				own[me][o.Peer]--
				if o.Peer == 1 {
					if o.Utilisation != -1 || o.PeerInFlight != -1 {
						t.Fatalf("peer 1 reports %+v", o)
					}
					return
				}
				full = full || o.Utilisation == 1 && held[0] > 4
				if want := min(1, float64(held[0])/4); o.PeerInFlight != held[0] || o.Utilisation != want {
					t.Fatalf("reported %v and %d, want %v and %d", o.Utilisation, o.PeerInFlight, want, held[0])
				}
			},
		}
	})
	if _, err := w.Run(nil); err != nil {
		t.Fatal(err)
	}
	if !full {
		t.Error("the peer was never full")
	}
}
