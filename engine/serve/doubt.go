package serve

import "github.com/weirlb/weir/engine/pool"

// doubtEvery is how often a peer's change to suspect and back is told. One that fails half of its requests is suspect and up again with every few
// of them: four such peers made 40 lines and events a second of 2,000 requests.
const doubtEvery = 60_000 // ms

// doubt is what was told of a peer's changes to suspect and back.
type doubt struct {
	told     float64 // ms of the last change to suspect that was; 0 = none
	leftOut  int     // changes to suspect since
	unspoken bool    // the last one was left out, and so is the change back
}

// tells reports whether a change of state is to be told, and how many like it were left out before.
func (d *doubt) tells(t pool.Transition) (tell bool, leftOut int) {
	switch {
	case t.To == pool.Suspect && d.told > 0 && t.AtMS-d.told < doubtEvery:
		d.leftOut++
		d.unspoken = true
		return false, 0
	case t.To == pool.Suspect:
		leftOut = d.leftOut
		*d = doubt{told: t.AtMS}
		return true, leftOut
	case t.From == pool.Suspect && d.unspoken && (t.To == pool.Up || t.To == pool.SlowStart):
		return false, 0
	}
	return true, 0
}
