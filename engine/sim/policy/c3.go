package policy

import "github.com/weirlb/weir/engine/sim/world"

// c3 ranks replicas as C3 does (Suresh, Canini, Schmid, Feldmann: "C3: Cutting Tail Latency in Cloud Data Stores via
// Adaptive Replica Selection", NSDI 2015, section 3.1). With each answer a server sends how long it worked on it and how
// many requests it holds. A client keeps moving averages of the response time R, the service time 1/mu and the queue q, and
// picks the lowest
//
//	R - 1/mu + q^3 / mu    with    q^ = 1 + os x w + q
//
// where os is what the client has outstanding there and w the number of clients, for whom it stands in. The cube makes
// long queues costly whatever the speed. The averages take 0.9 of each new value, as in the authors' Cassandra.
//
// Left out is C3's second half, the rate control and backpressure at the clients: nothing in a scenario makes a client
// hold requests back.
//
// Servers that take part in C3 are those with `reports: orca`: a balancer learns of a peer only what the peer reports. Of the others
// a client knows what it sees itself: nothing of the queue, and the response time for the service time, which leaves q^3 R. A
// failure carries no feedback and teaches only its response time.
type c3 struct {
	choices choices
	clients float64
	alpha   float64 // of a new value in the averages
	peers   []c3Peer
}

const c3Alpha = 0.9

type c3Peer struct {
	response, service, queue float64 // ms, ms, requests
}

func newC3(s *world.Setup) world.Balancer { return C3Changed(1, c3Alpha)(s) }

// C3Changed is C3 that is told another number of clients than there are, part of it but at least itself, and takes another part of
// each new value than 0.9.
func C3Changed(part, alpha float64) New {
	return func(s *world.Setup) world.Balancer {
		return &c3{
			choices: newChoices(s.Rand), clients: max(part*float64(s.Scenario.Balancers), 1), alpha: alpha, peers: make([]c3Peer, len(s.Scenario.Peers)),
		}
	}
}

func (c *c3) score(peer int32, outstanding int32) float64 {
	p := &c.peers[peer]
	q := 1 + float64(outstanding)*c.clients + p.queue
	return p.response - p.service + q*q*q*p.service
}

// Pick implements world.Balancer.
func (c *c3) Pick(a *world.Attempt) int32 {
	c.choices.reset()
	for _, p := range a.Present {
		if a.Untried(p) {
			c.choices.offer(p, c.score(p, a.InFlight[p]))
		}
	}
	return c.choices.pick()
}

// Done implements world.Balancer.
func (c *c3) Done(o *world.Outcome) {
	p := &c.peers[o.Peer]
	c.blend(&p.response, o.LatencyMS)
	switch {
	case o.Kind != world.OK:
	case o.PeerInFlight >= 0:
		c.blend(&p.service, o.ServiceMS)
		c.blend(&p.queue, float64(o.Queue))
	default:
		c.blend(&p.service, o.LatencyMS)
	}
}

func (c *c3) blend(into *float64, v float64) { *into = c.alpha*v + (1-c.alpha)**into }
