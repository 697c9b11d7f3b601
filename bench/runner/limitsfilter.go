package main

import (
	"math"
	"math/rand/v2"

	"github.com/weirlb/weir/engine/sim/world"
)

// filterBalancer believes about each peer what a Bayesian may who knows its slots, the mean and distribution (exponential) of its service times, and that its speed falls
// now and then, for a while, to an unknown part of the usual: a particle filter (Gordon, Salmond and Smith 1993), whose particles are a present speed
// and the speed that each slot's request was begun with. Every moment counts as evidence, also one in which nothing is answered. It picks by tables made each tableMS,
// as Weir does, of what is expected: the harmonic mean over the particles of the response time. Their arithmetic mean was worse in what it was tried in (brownout-80: .968 / .752
// and 1.130 / .800, lasting as it does).
type filterBalancer struct {
	rnd           *rand.Rand
	peers         []filtered
	begins, lasts float64 // mean time to a slow-down and of one, ms
	next          float64 // table, ms
}

const (
	particles  = 300
	slowest    = 0.1 // of the usual speed: slow-downs are to anything between
	moreJumps  = 8   // times as many particles turn slow as would; their weights make up for it
	tableMS    = 100
	tableCount = 64 // in-flight counts of a table
	filterStep = 20 // ms
)

type particle struct {
	speed float64   // over the usual
	pace  []float64 // the same of each slot, when its request was begun
}

// filtered is one peer. Requests have numbers of the balancer's; 0 = none.
type filtered struct {
	usual     float64 // service time, ms
	particles []particle
	weights   []float64
	scratch   []particle
	at        float64 // ms
	slots     []uint32
	queue     []uint32
	count     int
	last      uint32
	cost      [tableCount]float64
}

func newFilter(set *world.Setup, begins, lasts float64) *filterBalancer {
	f := &filterBalancer{rnd: set.Rand, begins: begins, lasts: lasts, peers: make([]filtered, len(set.Scenario.Peers))}
	for i, p := range set.Scenario.Peers {
		x := &f.peers[i]
		x.usual, x.slots = set.Scenario.MixMeanMS(i)/p.Speed, make([]uint32, p.Slots)
		x.particles, x.scratch = make([]particle, particles), make([]particle, particles)
		for j := range x.particles {
			x.particles[j] = particle{speed: 1, pace: make([]float64, p.Slots)}
			x.scratch[j].pace = make([]float64, p.Slots)
			x.weights = append(x.weights, 1./particles)
		}
	}
	return f
}

// Pick implements world.Balancer.
func (f *filterBalancer) Pick(a *world.Attempt) int32 {
	if a.Now >= f.next {
		f.next = a.Now + tableMS
		for _, p := range a.Present {
			f.peers[p].run(f, a.Now)
			f.peers[p].table()
		}
	}
	to := lowest(f.rnd, a.Present, func(p int32) float64 {
		x := &f.peers[p]
		n := min(x.count, tableCount-1)
		return x.cost[n] * float64(1+x.count-n)
	})
	x := &f.peers[to]
	x.run(f, a.Now)
	x.last++
	a.Cookie = x.last
	if x.count < len(x.slots) {
		x.begin(x.last)
	} else {
		x.queue = append(x.queue, x.last)
	}
	x.count++
	return to
}

// Done implements world.Balancer.
func (f *filterBalancer) Done(o *world.Outcome) {
	x := &f.peers[o.Peer]
	x.run(f, o.Now)
	slot := 0
	for x.slots[slot] != o.Cookie {
		slot++
	}
	for i := range x.particles {
		x.weights[i] *= x.particles[i].pace[slot]
	}
	x.slots[slot] = 0
	x.resample(f.rnd)
	if len(x.queue) > 0 {
		x.begin(x.queue[0])
		x.queue = append(x.queue[:0], x.queue[1:]...)
	}
	x.count--
}

// begin puts a request in a free slot, to be worked on at the present speed.
func (x *filtered) begin(id uint32) {
	slot := 0
	for x.slots[slot] != 0 {
		slot++
	}
	x.slots[slot] = id
	for i := range x.particles {
		x.particles[i].pace[slot] = x.particles[i].speed
	}
}

// run moves the belief on to now, without an answer until then.
func (x *filtered) run(f *filterBalancer, now float64) {
	for x.at < now {
		d := min(now-x.at, filterStep)
		x.at += d
		slows, more, recovers := d/f.begins, math.Min(0.5, moreJumps*d/f.begins), 1-math.Exp(-d/f.lasts)
		for i := range x.particles {
			p := &x.particles[i]
			x.weights[i] *= math.Exp(-x.works(p) * d / x.usual)
			switch {
			case p.speed < 1:
				if f.rnd.Float64() < recovers {
					p.speed = 1
				}
			case f.rnd.Float64() < more:
				p.speed = math.Pow(slowest, f.rnd.Float64())
				x.weights[i] *= slows / more
			default:
				x.weights[i] *= (1 - slows) / (1 - more)
			}
		}
		x.resample(f.rnd)
	}
}

// works is the speed of all busy slots together.
func (x *filtered) works(p *particle) float64 {
	sum := 0.0
	for s, id := range x.slots {
		if id != 0 {
			sum += p.pace[s]
		}
	}
	return sum
}

// resample has the weights sum to 1, and draws the particles anew where most of the weight is with few of them (systematic resampling).
func (x *filtered) resample(rnd *rand.Rand) {
	sum, squares := 0.0, 0.0
	for _, w := range x.weights {
		sum += w
	}
	for i := range x.weights {
		x.weights[i] /= sum
		squares += x.weights[i] * x.weights[i]
	}
	if 1/squares > 0.4*particles {
		return
	}
	at, upTo, from := rnd.Float64()/particles, x.weights[0], 0
	for i := range x.scratch {
		for at > upTo && from < particles-1 {
			from++
			upTo += x.weights[from]
		}
		x.scratch[i].speed = x.particles[from].speed
		copy(x.scratch[i].pace, x.particles[from].pace)
		at += 1. / particles
	}
	x.particles, x.scratch = x.scratch, x.particles
	for i := range x.weights {
		x.weights[i] = 1. / particles
	}
}

// table has what a request is expected to take that finds n others.
func (x *filtered) table() {
	slots := float64(len(x.slots))
	clear(x.cost[:])
	for i := range x.particles {
		p := &x.particles[i]
		now, later := x.works(p), slots*p.speed
		now += later * (slots - float64(min(x.count, len(x.slots)))) / slots // all slots busy
		wait, left := 0.0, 1.0                                               // left: of the requests in the slots now, those that still are after some departures
		for n := range x.cost {
			if n >= len(x.slots) {
				wait += x.usual / (now*left + later*(1-left))
				left *= 1 - 1/slots
			}
			x.cost[n] += x.weights[i] / (wait + x.usual/p.speed)
		}
	}
	for n := range x.cost {
		x.cost[n] = 1 / x.cost[n]
	}
}
