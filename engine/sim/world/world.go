// Package world is a discrete-event simulation of a pool of peers behind one or more balancers.
//
// A peer is a first-come-first-served queue in front of equal slots. A request's size is drawn when it arrives, before
// anyone decides anything; how long it takes is size x affinity x cold factor / speed of the peer that gets it, as they
// are when a slot begins with it. When a peer's speed changes, what its slots are working on keeps its pace.
//
// Time is float64 milliseconds from the start of the run. Nothing here reads a clock or a global random source: a run is
// a function of scenario, seed and policy. A World is used for one run, by one goroutine. Its loop allocates only while
// its arenas grow to the number of requests in the system.
package world

import (
	"math"
	"math/rand/v2"

	"github.com/weirlb/weir/engine/sim/scenario"
)

// Setup is what a policy's instance is made with.
type Setup struct {
	Scenario *scenario.Scenario
	Balancer int        // which instance, from 0
	Rand     *rand.Rand // its own stream
	Present  []int32    // the members at the start, ascending
	InFlight []int32    // by peer: what this balancer has in flight; the world's own, live
	Truth    *Truth     // what only oracles and probes may see
}

// World is one run: made by New, run once by Run.
type World struct {
	sc        *scenario.Scenario
	now       float64
	peers     []peer
	present   []int32 // members, ascending
	balancers []instance
	reqs      []request
	tried     [][]int32 // by request: peers already tried; empty until a retry
	free      int32     // head of the list of unused requests, -1 = none
	live      int       // requests in use
	service   heap      // when each busy slot is done, by request
	replies   heap      // when each failure is answered, by request
	ticks     heap      // by balancer
	deadlines ring
	timeline  timeline
	other     float64 // earliest of replies, ticks, deadlines and timeline

	arrivals *arrivals
	sizes    *sizer
	spread   *rand.Rand
	faults   *rand.Rand

	offset     float64 // of now over the clock of arrivals: time spent emptying queues between episodes
	truth      Truth
	deciding   int32 // the request Pick is being asked about
	attempt    Attempt
	outcome    Outcome
	measure    *tally // nil while nothing is measured
	byPeer     []int
	recordRIF  bool // someone probes: peers keep latencies by requests in flight
	trackSlots bool // someone wants Truth.Completion
}

// instance is one balancer.
type instance struct {
	policy   Balancer
	ticker   Ticker // nil when it is none; likewise the two below
	member   Member
	prober   Prober
	period   float64
	inFlight []int32 // by peer: attempts this balancer waits for
}

// request is one request from arrival until no peer works on it any more.
type request struct {
	arrived  float64
	sent     float64 // the current attempt
	began    float64 // a slot began with it
	size     float64
	weight   float64
	next     int32 // in its peer's queue, or in the list of unused requests
	gen      uint32
	peer     int32
	atPick   int32 // in-flight of the balancer at the pick
	atPeer   int32 // requests the peer held when it came
	cookie   uint32
	class    int32
	balancer int32
	number   int32 // of the attempt, from 1
	status   int32 // it will be answered with, when it fails; 0 = refused
	measured bool
	gone     bool // given up: the peer works it off, nobody waits
}

// New makes a world. policy is called once for each of the scenario's balancers.
func New(sc *scenario.Scenario, seed uint64, policy func(*Setup) Balancer) *World {
	w := &World{
		sc: sc, free: -1, deciding: -1,
		arrivals: newArrivals(sc.Arrivals, newStream(seed, streamArrivals)),
		sizes:    newSizer(sc, newStream(seed, streamSizes)),
		spread:   newStream(seed, streamSpread),
		faults:   newStream(seed, streamFaults),
		byPeer:   make([]int, len(sc.Peers)),
	}
	w.truth.w = w
	for i := range sc.Peers {
		w.peers = append(w.peers, newPeer(&sc.Peers[i]))
	}
	w.timeline = newTimeline(sc.Events)
	for i := range w.peers {
		w.peers[i].member = !w.timeline.absentAtStart(i)
	}
	w.listPresent()
	if w.timeline.at <= 0 {
		w.applyEvents()
	}
	for i := range sc.Balancers {
		b := instance{inFlight: make([]int32, len(w.peers))}
		b.policy = policy(&Setup{
			Scenario: sc, Balancer: i, Rand: newStream(seed, streamPolicy+i), Present: w.present, InFlight: b.inFlight,
			Truth: &w.truth,
		})
		b.ticker, _ = b.policy.(Ticker)
		b.member, _ = b.policy.(Member)
		b.prober, _ = b.policy.(Prober)
		if b.ticker != nil {
			// Independent balancers do not tick together: they are spread evenly over the period.
			b.period = b.ticker.PeriodMS()
			w.ticks.push(due{b.period * float64(i+1) / float64(sc.Balancers), int32(i)})
		}
		w.balancers = append(w.balancers, b)
	}
	return w
}

// progressEvery is how many arrivals pass between two calls of Run's progress function.
const progressEvery = 1 << 14

// Run simulates the whole scenario. progress, which may be nil, hears now and then how many requests have arrived since
// it was last called; when it returns an error, Run stops with it.
func (w *World) Run(progress func(arrived int) error) (Result, error) {
	if w.sc.Episodes == 1 {
		t := &tally{latencies: make([]float64, 0, w.sc.Requests)}
		if err := w.phase(w.sc.Warmup, nil, false, progress); err != nil {
			return Result{}, err
		}
		if err := w.phase(w.sc.Requests, t, true, progress); err != nil {
			return Result{}, err
		}
		return w.result([]*tally{t}), nil
	}
	if err := w.phase(w.sc.Warmup, nil, true, progress); err != nil {
		return Result{}, err
	}
	tallies := make([]*tally, w.sc.Episodes)
	for i := range tallies {
		tallies[i] = &tally{latencies: make([]float64, 0, w.sc.Requests)}
		w.nextEpisode()
		if err := w.phase(w.sc.Requests, tallies[i], true, progress); err != nil {
			return Result{}, err
		}
	}
	return w.result(tallies), nil
}

// result takes the median over episodes of each figure.
func (w *World) result(tallies []*tally) Result {
	r := Result{ByPeer: w.byPeer}
	var figures [5][]float64
	for _, t := range tallies {
		r.Requests += len(t.latencies) + t.failed
		r.Failed += t.failed
		for i, v := range t.figures() {
			figures[i] = append(figures[i], v)
		}
	}
	r.MeanMS, r.P50MS, r.P90MS = median(figures[0]), median(figures[1]), median(figures[2])
	r.P99MS, r.P999MS = median(figures[3]), median(figures[4])
	return r
}

// phase lets count requests arrive, measured into t unless it is nil, and with empty waits until nobody holds any.
func (w *World) phase(count int, t *tally, empty bool, progress func(int) error) error {
	w.measure = t
	told := 0
	w.refreshOther()
	for done := 0; done < count; {
		arrival := w.arrivals.next() + w.offset
		w.until(arrival)
		w.now = arrival
		w.arrive()
		if done++; done-told == progressEvery && progress != nil {
			if err := progress(done - told); err != nil {
				return err
			}
			told = done
		}
	}
	if !empty {
		// The requests of the warm-up that are still on their way do not count, those of the next phase do.
		return report(progress, count-told)
	}
	if w.sc.Episodes > 1 {
		w.timeline.frozen = true
		w.refreshOther()
	}
	for w.live > 0 {
		w.until(math.Min(w.service.first(), w.other))
	}
	return report(progress, count-told)
}

func report(progress func(int) error, n int) error {
	if progress == nil || n == 0 {
		return nil
	}
	return progress(n)
}

// nextEpisode lets the clock of events and arrivals go on.
func (w *World) nextEpisode() {
	w.offset = w.now - w.arrivals.clock
	w.timeline.frozen = false
}

// until lets everything happen that is due by t.
func (w *World) until(t float64) {
	for {
		if len(w.service) > 0 {
			if d := w.service[0]; d.at <= t && d.at <= w.other {
				w.now = d.at
				w.served(d.id)
				continue
			}
		}
		if w.other > t {
			return
		}
		w.now = w.other
		w.rare()
	}
}

// rare does one of the things that are not arrivals or completions.
func (w *World) rare() {
	switch w.now {
	case w.timeline.next() + w.offset:
		w.applyEvents()
	case w.replies.first():
		w.failed(w.replies.pop().id)
	case w.deadlines.first():
		if d := w.deadlines.pop(); w.reqs[d.id].gen == d.gen && !w.reqs[d.id].gone {
			w.giveUp(d.id)
		}
	case w.ticks.first():
		i := w.ticks[0].id
		b := &w.balancers[i]
		w.ticks.replaceFirst(due{w.now + b.period, i})
		b.ticker.Tick(w.now)
	}
	w.refreshOther()
}

func (w *World) refreshOther() {
	w.other = min(w.timeline.next()+w.offset, w.replies.first(), w.deadlines.first(), w.ticks.first())
}
