package policy

import (
	"math"

	"github.com/weirlb/weir/engine/sim/scenario"
	"github.com/weirlb/weir/engine/sim/world"
)

// peakEWMA picks the member with the lowest latency x (in-flight + 1) of all. The latency is Finagle's peak EWMA
// (finagle-core, loadbalancer/PeakEwma.scala; Linkerd uses the same): a higher sample replaces the average at once, a
// lower one is averaged in by 1 - e^(-age/tau), age being the time since the last. A member without history costs 0 while
// it holds nothing, and more than all others while it holds something. Failures count as latencies: Finagle leaves them
// to its failure accrual, so a fast failure attracts.
//
// It comes in two forms. `peak_ewma` has tau = 10 mean service times, so that worlds of 2 ms and of 20 s are alike to it,
// and its average rests between samples. `peak_ewma_finagle` is the code to the letter: tau is 10 s whatever the services
// take, and reading the average decays it towards 0, which is how it tries again a member that once was slow. The letter
// does better where 10 s are many services, and must not be given a shorter tau: with mixed speeds at half load and tau of
// 10 services its mean response is 28 services instead of 2.8, for an idle slow member soon reads as the fastest of all.
// Both choose among all members; Finagle and Linkerd compare two random ones.
type peakEWMA struct {
	choices choices
	peers   []average
	decays  bool // when read
}

// peakPenalty is added to a member without history that holds requests. Above any latency in ms.
const peakPenalty = 1e15

func newPeakEWMA(s *world.Setup) world.Balancer {
	return &peakEWMA{choices: newChoices(s.Rand), peers: averages(len(s.Scenario.Peers), ewmaTau(s.Scenario))}
}

// finagleTau is Finagle's default decay time, ms.
const finagleTau = 10_000

func newPeakEWMAFinagle(s *world.Setup) world.Balancer {
	return &peakEWMA{choices: newChoices(s.Rand), peers: averages(len(s.Scenario.Peers), finagleTau), decays: true}
}

// Pick implements world.Balancer.
func (e *peakEWMA) Pick(a *world.Attempt) int32 {
	e.choices.reset()
	for _, p := range a.Present {
		if !a.Untried(p) {
			continue
		}
		c := &e.peers[p]
		if e.decays {
			c.observe(a.Now, 0)
		}
		n := float64(a.InFlight[p])
		if c.ms == 0 && n > 0 {
			e.choices.offer(p, peakPenalty+n)
			continue
		}
		e.choices.offer(p, c.ms*(n+1))
	}
	return e.choices.pick()
}

// Done implements world.Balancer.
func (e *peakEWMA) Done(o *world.Outcome) {
	c := &e.peers[o.Peer]
	if o.LatencyMS > c.ms {
		c.ms, c.at = o.LatencyMS, o.Now
		return
	}
	c.observe(o.Now, o.LatencyMS)
}

// average is a mean of latencies that forgets by time: an exponentially weighted moving average over an unevenly spaced
// series (Eckner 2012).
type average struct {
	ms  float64
	at  float64 // of the last sample, ms
	tau float64 // ms
}

func averages(n int, tau float64) []average {
	a := make([]average, n)
	for i := range a {
		a[i].tau = tau
	}
	return a
}

func (c *average) observe(now, ms float64) {
	w := math.Exp(-math.Max(0, now-c.at) / c.tau)
	c.ms = c.ms*w + ms*(1-w)
	c.at = now
}

// ewmaTau is the time constant of the policies that average by time: 10 mean service times, over the classes at speed 1.
func ewmaTau(s *scenario.Scenario) float64 {
	mean := 0.0
	for _, c := range s.Classes {
		mean += c.Share * c.MeanMS
	}
	return 10 * mean
}
