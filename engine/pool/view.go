package pool

// View is what others may know of one peer.
type View struct {
	Addr      string
	State     State
	Usable    bool    // may get traffic now (panic rule applied)
	Admit     float64 // (0, 1]: the probability with which NGINX considers the peer
	Weight    float64
	Reason    string  // why it is in this state, for people
	SinceMS   float64 // when it entered the state
	UntilMS   float64 // when the state's timer ends (ejected, slow start); 0 = none
	Ejections int     // since it joined
	Risk      float64 // last prediction, 0..1
	Shrunk    bool    // admit is lower for it
	Drained   bool    // the operator's wish, whatever the state
	Tier      int
	Needed    bool // the others would be too busy without it
	OnTrial   bool // back from an ejection and yet to answer: considered so rarely only as finding out takes
	Fit       bool // drained or standing by, but neither down nor ejected: it could still serve clients that are bound to it
}

// Transition is one change of state. A peer that joins or leaves makes none.
type Transition struct {
	AtMS     float64
	Addr     string
	From, To State
	Reason   string
}

// maxTransitions bounds what is kept for a reader that never comes; the oldest are dropped.
const maxTransitions = 1024

// View returns what is known of peer i as of the last event or Advance.
func (h *Health) View(i int) View {
	p := &h.peers[i]
	v := View{
		Addr: p.addr, State: p.state, Usable: p.usable, Admit: p.admit, Weight: p.weight, Reason: p.reason, SinceMS: p.since,
		Ejections: p.ejections, Risk: p.risk, Shrunk: p.shrinks, Drained: p.drained, Tier: p.tier,
		Needed: p.needed, OnTrial: p.onTrial,
		Fit: (p.drained || p.standby) && !p.down && p.ejectedUntil == 0,
	}
	switch p.state {
	case Ejected:
		v.UntilMS = p.ejectedUntil
	case SlowStart:
		v.UntilMS = p.rampFrom + h.opt.SlowStartMS
	}
	return v
}

// Transitions appends the changes of state since the last call to dst and forgets them. At most 1024 are kept.
func (h *Health) Transitions(dst []Transition) []Transition {
	dst = append(dst, h.log...)
	h.log = h.log[:0]
	return dst
}
