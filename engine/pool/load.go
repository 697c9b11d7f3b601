package pool

// Load is what comes to a peer and what it can do, by the estimators.
type Load struct {
	Rate    float64 // requests a ms that come to it, through all balancers
	Serves  float64 // requests a ms that it serves with all slots busy
	Slots   float64 // requests that it works on at a time; > 0
	Most    float64 // the same at most: slots are known once all of them were busy, and not before
	Waiting float64 // requests there that wait for a slot
}

const (
	// worksOff is in how many mean services of theirs peers are to have worked off what waits there.
	worksOff = 3
	// A peer is needed where the others would be busier than this without it, and until they would not be busier than that.
	neededFrom, neededUntil = 0.8, 0.7
	// servesNothingMS is how long a needed peer must have failed without a break to be ejected all the same, and servesNothing how often in
	// consecutive rules.
	servesNothingMS, servesNothing = 1000, 2
	// shortEjection is the longest ejection, in base times, while the others cannot carry so much of the traffic. What fails for a moment must not be
	// missed for a minute of back-off then, though to try a peer costs two requests.
	shortEjection, quiteShort = 4, 0.2
	// trialsPerMS is how often one is tried that comes back from an ejection, until it answers: those of a peer that hangs are all lost.
	trialsPerMS = 0.002
)

// Loads tells of each peer what comes to it and what it can do. Tell it before Advance.
func (h *Health) Loads(of func(i int) Load) {
	for i := range h.peers {
		h.peers[i].load = of(i)
	}
}

// shortage is the part of the pool's traffic that its peers past their slow start cannot carry, in [0, 1): what comes and what waits there already,
// over what they serve. Those that ramp may have that much, however cold they are. Where nobody is warm nobody is held back, and
// those that ramp are who carries it: so it is after all peers failed, when those that are still ejected are missed the most.
func (h *Health) shortage() float64 {
	rate, capacity, waiting, slots, warm := 0.0, 0.0, 0.0, 0.0, false
	for i := range h.peers {
		warm = warm || h.peers[i].usable && !h.peers[i].ramping
	}
	for i := range h.peers {
		p := &h.peers[i]
		rate += p.load.Rate
		if !p.usable || warm && p.ramping {
			continue
		}
		slots += p.load.Slots
		capacity += p.load.Serves
		waiting += p.load.Waiting
	}
	if !(capacity > 0) {
		return 0
	}
	rate += waiting * capacity / (worksOff * slots)
	return max(1-capacity/max(rate, capacity), 0)
}

// need works out which peers the pool cannot do without: the other healthy ones, backups included, would be busier than neededFrom with what comes and
// what waits at them. What waits at the peer itself is left out, since it waits there too when the peer hangs. Slots count as at most they may be: a
// pool that was never busy does not show how many there are, and is not short of them.
//
// Such a peer is judged by other rules, since what sets peers aside for their failures ends there in a pool where all of them fail:
//   - Where the others could not carry the traffic at all, a time-out is the queue's. The busiest peer times out first; without it the others are busier,
//     and are next; and what was given up is worked off all the same. Two workers at a load of .92 lost 90 % of their requests to that, with a time-out of 33 services;
//     least_conn, which sets nobody aside, 2 %. So did ten at .7 after one moment of 1.5.
//   - Who still answers some requests is worth more than nothing: it is ejected only when it answered none for a second and twice as often as the
//     consecutive rule asks for. One that cannot be reached is ejected as any other, and so is one that hangs while the others could carry the traffic.
//   - Prediction takes no share from it for failures; for slowness it does, since what it holds waits.
func (h *Health) need() {
	rate, capacity, waiting, slots := 0.0, 0.0, 0.0, 0.0
	for i := range h.peers {
		p := &h.peers[i]
		rate += p.load.Rate
		if p.healthy() {
			capacity += p.load.most()
			slots += p.load.Most
			waiting += p.load.Waiting
		}
	}
	for i := range h.peers {
		p := &h.peers[i]
		bar := neededFrom
		if p.needed {
			bar = neededUntil
		}
		p.needed, p.missed = false, false
		if p.healthy() && rate > 0 {
			others, wait := capacity-p.load.most(), 0.0
			if left := slots - p.load.Most; left > 0 {
				wait = (waiting - p.load.Waiting) * others / (worksOff * left)
			}
			p.needed, p.missed = others*bar < rate+wait, others < rate+wait
		}
	}
}

// Needed reports whether the pool cannot do without one of its peers.
func (h *Health) Needed() bool {
	for i := range h.peers {
		if h.peers[i].needed {
			return true
		}
	}
	return false
}

// most is what a peer serves at most.
func (l *Load) most() float64 {
	if l.Slots > 0 {
		return l.Serves * l.Most / l.Slots
	}
	return 0
}

// Excuses reports whether a failure of a kind is no fault of peer i but of the load on its pool: a time-out, where the others could not carry the traffic
// without it. Result takes no account of it then.
func (h *Health) Excuses(i int, kind Kind) bool {
	return kind == Timeout && h.has(i) && h.peers[i].missed
}

// dispensable reports whether the pool is no worse off without p, on which a request just failed.
func (h *Health) dispensable(p *peer, kind Kind) bool {
	most := servesNothing * h.opt.Consecutive
	if most == 0 {
		most = servesNothing * Defaults().Consecutive
	}
	return !p.needed || kind == Timeout || kind.Unreachable() || p.row >= most && h.now-p.rowFrom >= servesNothingMS
}
