package pool

import "math"

// Options are the rules of one pool. Zero turns a rule off where told; Defaults has the usual ones.
type Options struct {
	Consecutive  int     // failures in a row that eject; 0 = rule off
	FailureShare float64 // share of failures in the window that ejects, if the rest of the pool does better; 0 = rule off
	MinRequests  int     // results in the window before its share counts
	WindowMS     float64 // length of the failure window
	BaseMS       float64 // first ejection
	MaxMS        float64 // longest ejection
	MaxShare     float64 // of the pool that may be ejected at once; 0 = nobody is ejected
	Rise         int     // passed probes in a row that bring a down peer up
	Fall         int     // failed probes in a row that take a peer down
	SlowStartMS  float64 // ramp after joining or coming back; 0 = none
	RiskShare    float64 // of the pool whose share prediction may shrink at once; 0 = none
	RiskFloor    float64 // at full risk a peer's share is at most this part of an even share
	MinUsable    float64 // share of a tier's weight under which the next tier takes part, in (0, 1]
}

// Defaults returns the rules used when the operator says nothing.
func Defaults() Options {
	return Options{
		Consecutive: 5, FailureShare: 0.5, MinRequests: 20, WindowMS: 10_000, BaseMS: 1000, MaxMS: 60_000, MaxShare: 0.5,
		Rise: 2, Fall: 3, SlowStartMS: 10_000, RiskShare: 0.3, RiskFloor: 0.1, MinUsable: 0.7,
	}
}

// sane replaces what would make a rule meaningless (a window of no length, NaN).
func (o Options) sane() Options {
	d := Defaults()
	positive := func(v *float64, def float64) {
		if !(*v > 0) || math.IsInf(*v, 0) {
			*v = def
		}
	}
	positive(&o.WindowMS, d.WindowMS)
	positive(&o.BaseMS, d.BaseMS)
	positive(&o.RiskFloor, d.RiskFloor)
	positive(&o.MinUsable, d.MinUsable)
	o.RiskFloor, o.MinUsable = min(o.RiskFloor, 1), min(o.MinUsable, 1)
	if !(o.MaxMS >= o.BaseMS) {
		o.MaxMS = o.BaseMS
	}
	for _, v := range []*float64{&o.FailureShare, &o.MaxShare, &o.SlowStartMS, &o.RiskShare} {
		if !(*v > 0) || math.IsInf(*v, 0) {
			*v = 0
		}
	}
	o.MinRequests, o.Rise, o.Fall = max(o.MinRequests, 1), max(o.Rise, 1), max(o.Fall, 1)
	return o
}
