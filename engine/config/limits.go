package config

// Limit keeps what a whole pool holds to what it can work on.
type Limit struct {
	Adaptive Switch `key:"adaptive"`
	// Min and Max bound what is found; Max 0 = no bound.
	Min int `key:"min" range:"1..1000000"`
	Max int `key:"max" range:"0..1000000"`
	// Tolerance is how many times the latency without a queue is borne.
	Tolerance float64 `key:"tolerance" range:"1.1..10"`
	// Normal and Low are the parts of the limit that requests of these priorities may fill; those of high priority may fill all.
	Normal float64 `key:"normal" range:"0.01..1"`
	Low    float64 `key:"low" range:"0.01..1"`
}

// DefaultLimit is what a pool has that says nothing of it.
func DefaultLimit() Limit { return Limit{Min: 4, Tolerance: 1.5, Normal: 0.85, Low: 0.6} }

// limits checks what no single value shows.
func (d *decoder) limits(l *Limit, at func(keys ...string) place) {
	if l.Max > 0 && l.Min > l.Max {
		d.errorf(at("limit.min", "limit.max"), "limit.min (%d) must not exceed limit.max (%d)", l.Min, l.Max)
	}
	if l.Low > l.Normal {
		d.errorf(at("limit.low", "limit.normal"), "limit.low (%v) must not exceed limit.normal (%v): low priority is refused first", l.Low, l.Normal)
	}
}

// Cap is the most requests in flight that a peer may have; 0 = no bound.
func (s *Settings) Cap(p *Peer) int {
	if p.MaxInflight > 0 {
		return p.MaxInflight
	}
	return s.MaxInflight
}
