package replay_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/learn/replay"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/pool"
)

// rig is a pool with a policy and its recorder.
type rig struct {
	est    *estimate.Pool
	policy decide.Learned
	table  decide.Table
	peers  []string
	rec    *replay.Recorder
	store  *replay.Store
	rnd    *rand.Rand
}

func newRig(t *testing.T, peers int, opt replay.Options) *rig {
	t.Helper()
	r := &rig{est: estimate.New(estimate.Options{}), rec: replay.NewRecorder(opt), store: replay.NewStore(0, 0), rnd: rand.New(rand.NewPCG(1, 1))}
	for i := range peers {
		r.peers = append(r.peers, fmt.Sprintf("10.0.0.%d:80", i+1))
	}
	r.est.SetPeers(0, r.peers)
	return r
}

// answers teaches the estimators.
func (r *rig) answers(ms ...float64) {
	for i := range 400 {
		for p := range r.peers {
			r.est.Observe(float64(i), estimate.Outcome{Peer: p, Kind: pool.OK, TotalMS: ms[p%len(ms)], ReportedLoad: -1, ReportedInFlight: -1})
		}
	}
}

func (r *rig) frame(now float64, change func(*replay.Shown)) *replay.Frame {
	r.est.Refresh(now)
	r.policy.Fill(now, r.est, decide.Params{}, &r.table)
	s := replay.Shown{}
	for range r.peers {
		s.Usable, s.Admit, s.Weight = append(s.Usable, true), append(s.Admit, 1), append(s.Weight, 1)
	}
	if change != nil {
		change(&s)
	}
	f := replay.NewFrame(now, r.est, &r.policy, s)
	r.rec.Frame(f)
	return f
}

func ok(peer string, start, end float64) replay.Attempt {
	return replay.Attempt{Start: start, End: end, Peer: peer, Number: 1, Propensity: 0.5}
}

func TestAFrameGivesBackTheFeaturesAndCostsOfItsTable(t *testing.T) {
	r := newRig(t, 3, replay.Options{})
	r.answers(10, 20, 40)
	f := r.frame(500, nil)
	want, got := make([]float32, decide.Inputs), make([]float32, decide.Inputs)
	for p := range r.peers {
		for _, n := range []float64{0, 0.5, 1, 3, 8, 200, 256, 400} {
			a, b := r.policy.Features(0, p, n, want), f.Row(0, p, n, got)
			if math.Abs(a-b) > 1e-9*a {
				t.Errorf("peer %d with %v: cost %v instead of %v", p, n, b, a)
			}
			if a, b := r.policy.Time(0, p, n), f.Time(0, p, n); a != b || !(a > 0) {
				t.Errorf("peer %d with %v: expected to take %v instead of %v", p, n, b, a)
			}
			for j := range want {
				if want[j] != got[j] {
					t.Errorf("peer %d with %v: feature %s is %v instead of %v", p, n, decide.InputNames()[j], got[j], want[j])
				}
			}
		}
	}
}

func TestAFrameUnpacksToWhatThePolicySaw(t *testing.T) {
	r := newRig(t, 3, replay.Options{})
	r.answers(10, 20, 40)
	f := r.frame(500, nil)
	want := r.policy.Matrix()
	var got decide.Matrix
	for range 2 { // the second time into used memory
		f.Matrix(&got)
		if got.Classes != want.Classes || got.Peers != want.Peers || !slices.Equal(got.X, want.X) || !slices.Equal(got.Cost, want.Cost) || !slices.Equal(got.Time, want.Time) {
			t.Fatal("the frame differs")
		}
	}
}

func TestADecisionHasWhatAllPeersHeldWhenItWasMade(t *testing.T) {
	r := newRig(t, 3, replay.Options{})
	r.answers(10)
	f := r.frame(500, nil)
	// At 1000 the second peer holds two, one of which began before the frame, and a third ended just before; the third holds a stream.
	r.rec.Ended(ok(r.peers[1], 400, 1100))
	r.rec.Ended(ok(r.peers[1], 990, 1001))
	r.rec.Ended(ok(r.peers[1], 990, 999))
	r.rec.Ended(replay.Attempt{Start: 980, End: 1500, Peer: r.peers[2], Number: 1, Flags: replay.Stream})
	a := ok(r.peers[0], 1000, 1012)
	a.Inflight = 5 // as its NGINX said
	r.rec.Ended(a)
	r.rec.Settle(5000, r.rnd, r.store, nil)
	var d *replay.Decision
	for i := range r.store.All() {
		if r.store.All()[i].At == 1000 {
			d = &r.store.All()[i]
		}
	}
	if d == nil {
		t.Fatalf("not replayed: %+v", r.rec.Counts())
	}
	row := make([]float32, decide.Inputs)
	for p, n := range []float64{5, 2, 1} {
		if cost := float32(f.Row(0, p, n, row)); d.Cost[p] != cost {
			t.Errorf("peer %d: cost %v, with %v in flight it is %v", p, d.Cost[p], n, cost)
		}
		for j := range row {
			if d.Row(p)[j] != row[j] {
				t.Errorf("peer %d, feature %d: %v instead of %v", p, j, d.Row(p)[j], row[j])
			}
		}
	}
	if want := f.Time(0, 0, 5); d.Time != want || math.Abs(float64(d.Ratio())-12/want) > 1e-6 {
		t.Errorf("expected to take %v instead of %v, ratio %v", d.Time, want, d.Ratio())
	}
	if !d.Exact || d.Chosen != 0 || d.Own != 12 || d.Propensity != 0.5 {
		t.Errorf("%+v", d)
	}
}

func TestTheReturnHasTheDelayImposedOnThoseBehind(t *testing.T) {
	r := newRig(t, 1, replay.Options{Imposed: 0.75})
	r.est.SetBalancers(1) // answers that come in turns have a pattern
	// One slot: later ones wait. Teach it by answers that grow with the count.
	for i := range 3000 {
		n := i % 4
		r.est.Observe(float64(i), estimate.Outcome{Kind: pool.OK, InFlight: n, TotalMS: 10 * float64(n+1), ReportedLoad: -1, ReportedInFlight: -1})
		if i%100 == 0 {
			r.est.Refresh(float64(i))
		}
	}
	r.frame(3000, nil)
	if k := r.est.Peer(0).Concurrency; math.Round(k) != 1 {
		t.Fatalf("K was learned as %v", k)
	}
	r.rec.Ended(ok(r.peers[0], 10_000, 10_100)) // serves 100 ms, two wait behind it
	r.rec.Ended(ok(r.peers[0], 10_050, 10_110))
	r.rec.Ended(ok(r.peers[0], 10_060, 10_120))
	r.rec.Settle(20_000, r.rnd, r.store, nil)
	all := r.store.All()
	if len(all) != 3 {
		t.Fatalf("%d decisions, %+v", len(all), r.rec.Counts())
	}
	// Without the first: the second starts at once (50 ms earlier), the third at 10060 (50 ms earlier).
	if d := all[0]; math.Abs(d.Imposed-100) > 1e-6 || math.Abs(d.Return-175) > 1e-6 {
		t.Errorf("imposed %v, return %v; 100 and 175 are right", d.Imposed, d.Return)
	}
	if d := all[2]; d.Imposed != 0 || d.Return != 60 {
		t.Errorf("the last one imposed %v, return %v", d.Imposed, d.Return)
	}
}

func TestFlagsAreThoseOfTheWire(t *testing.T) {
	for on, want := range map[observe.Flags]replay.Flags{
		observe.Explored: replay.Explored, observe.Control: replay.Control, observe.Stream: replay.Stream, observe.Local: replay.Other,
		observe.Panic: replay.Other, observe.Control | observe.Stream: replay.Control | replay.Stream, 0: 0,
	} {
		if got := replay.FlagsOf(on); got != want {
			t.Errorf("%b is %b, not %b", on, got, want)
		}
	}
}

func TestAnAttemptWaitsForThoseBehindIt(t *testing.T) {
	r := newRig(t, 1, replay.Options{})
	r.answers(10)
	r.frame(500, nil)
	r.rec.Ended(ok(r.peers[0], 600, 610))
	r.rec.Settle(700, r.rnd, r.store, nil)
	if r.store.Len() != 0 {
		t.Error("replayed although those behind it may still be there")
	}
	r.rec.Settle(600+r.rec.Lag()+1, r.rnd, r.store, nil)
	r.rec.Settle(600+r.rec.Lag()+2, r.rnd, r.store, nil)
	if r.store.Len() != 1 {
		t.Errorf("%d decisions", r.store.Len())
	}
}

func TestWhatCannotBeReplayedIsCounted(t *testing.T) {
	r := newRig(t, 2, replay.Options{})
	r.answers(10)
	r.frame(1000, func(s *replay.Shown) { s.Usable[1] = false })
	r.rec.Ended(ok(r.peers[0], 900, 1010)) // before the first frame
	r.rec.Ended(ok(r.peers[1], 1001, 1010))
	r.rec.Ended(ok("10.9.9.9:80", 1001, 1010))
	for i, change := range []func(a *replay.Attempt){
		func(a *replay.Attempt) { a.Kind = pool.Abort },
		func(a *replay.Attempt) { a.Kind = pool.IdleRace },
		func(a *replay.Attempt) { a.Flags = replay.Stream },
		func(a *replay.Attempt) { a.Flags = replay.Other },
		func(a *replay.Attempt) { a.Number = 2 },
	} {
		a := ok(r.peers[0], 1001+float64(i), 1020)
		change(&a)
		r.rec.Ended(a)
	}
	r.rec.Settle(10_000, r.rnd, r.store, nil)
	want := replay.Counts{Attempts: 8, NoFrame: 1, NoPeer: 2, NoReturn: 3, Foreign: 2}
	if got := r.rec.Counts(); got != want || r.store.Len() != 0 {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestAttemptsOnPeersThatAreSharedTeachNothing(t *testing.T) {
	r := newRig(t, 2, replay.Options{})
	r.est.SetBalancers(3)
	r.answers(10)
	r.frame(500, nil)
	r.rec.Ended(ok(r.peers[0], 600, 610))
	r.rec.Settle(10_000, r.rnd, r.store, nil)
	want := replay.Counts{Attempts: 1, Shared: 1}
	if got := r.rec.Counts(); got != want || r.store.Len() != 0 {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestAFailureCostsItsTimeThePenaltyAndTheRequestAgain(t *testing.T) {
	r := newRig(t, 2, replay.Options{})
	r.answers(10)
	f := r.frame(1000, nil)
	a := ok(r.peers[0], 1001, 1002)
	a.Kind = pool.Refused
	r.rec.Ended(a)
	r.rec.Settle(10_000, r.rnd, r.store, nil)
	d := r.store.All()[0]
	if want := 1 + f.Penalty + float64(d.Cost[0]); !d.Failed || math.Abs(d.Return-want) > 1e-9 {
		t.Errorf("return %v, want %v: %+v", d.Return, want, d)
	}
}

func TestWhoWasConsideredIsNotClaimedWhileAShareIsHeldBack(t *testing.T) {
	r := newRig(t, 2, replay.Options{})
	r.answers(10)
	r.frame(1000, func(s *replay.Shown) { s.Admit[1] = 0.3 })
	r.rec.Ended(ok(r.peers[0], 1001, 1011))
	r.rec.Settle(10_000, r.rnd, r.store, nil)
	if d := r.store.All()[0]; d.Exact || len(d.Cost) != 1 || len(d.X) != decide.Inputs {
		t.Errorf("%+v", d)
	}
}

func TestTheStoreAndTheRingKeepWithinTheirBounds(t *testing.T) {
	s := replay.NewStore(100, 50_000)
	for i := range 1000 {
		s.Add(replay.Decision{At: float64(i), X: make([]float32, 10*(1+i%50))})
		if s.Len() > 100 || s.Bytes() > 50_000 {
			t.Fatalf("%d decisions of %d bytes", s.Len(), s.Bytes())
		}
	}
	all := s.All()
	if s.Added != 1000 || s.Dropped != uint64(1000-len(all)) || all[len(all)-1].At != 999 {
		t.Errorf("added %d, dropped %d, %d kept, newest of %v", s.Added, s.Dropped, len(all), all[len(all)-1].At)
	}
	r := newRig(t, 4, replay.Options{FrameBytes: 20_000})
	r.answers(10)
	for i := range 200 {
		r.frame(1000+100*float64(i), nil)
	}
	r.rec.Ended(ok(r.peers[0], 1050, 1060))
	r.rec.Settle(100_000, r.rnd, r.store, nil)
	if c := r.rec.Counts(); c.NoFrame != 1 {
		t.Errorf("the ring still had the first frame: %+v", c)
	}
	if gap := r.rec.SpacingMS(); gap < 50 || gap > 1000 {
		t.Errorf("frames are to be %v ms apart", gap)
	}
}

func TestAtAHighRateDecisionsAreASampleAndLongAttemptsAreInIt(t *testing.T) {
	r := newRig(t, 1, replay.Options{Open: 5000, PerS: 50})
	r.answers(10)
	r.frame(0, nil)
	rnd := rand.New(rand.NewPCG(5, 5))
	long, n := 0, 0
	var waiting []replay.Attempt
	for now := 1000.0; now < 60_000; now++ {
		for range 5 { // 5,000 a second: the room is full after one
			total := 1.0
			if rnd.Float64() < 0.1 {
				total = 400
			}
			waiting = append(waiting, ok(r.peers[0], now, now+total))
		}
		left := waiting[:0]
		for _, a := range waiting {
			if a.End <= now {
				r.rec.Ended(a)
			} else {
				left = append(left, a)
			}
		}
		waiting = left
		if int(now)%100 == 0 {
			r.frame(now, nil)
		}
		if r.rec.Due(now) {
			r.rec.Settle(now, r.rnd, r.store, nil)
		}
	}
	for _, d := range r.store.All() {
		n++
		if d.Own > 100 {
			long++
		}
	}
	if share := float64(long) / float64(n); math.Abs(share-0.1) > 0.02 || n < 500 || n > 4000 {
		t.Errorf("%d decisions, %.3f of them long; a tenth is right. %+v", n, share, r.rec.Counts())
	}
}

func TestAChoiceByAffinityIsForeignToAnyPolicy(t *testing.T) {
	if f := replay.FlagsOf(observe.Bound); f&replay.Other == 0 {
		t.Errorf("flags %b", f)
	}
}
