package serve

import (
	"fmt"
	"testing"

	"github.com/weirlb/weir/engine/observe"
)

// classes.top is what the tables hold: each other name, be it learned already or never heard, is decided by the row of "*".
func TestNamesBeyondTheTopClassesAreDecidedByTheSharedClass(t *testing.T) {
	const top = 3
	e := still(t, fmt.Sprintf("pools: [{name: api, peers: [\"10.0.0.1:80\"], classes: {top: %d}}]", top))
	for i := range 2 * top {
		e.Observe(outcomes(t, "api", fmt.Sprintf("GET /%d", i), "10.0.0.1:80", observe.OK, 10, 5))
	}
	refresh(t, e, "api")
	s := e.State().Pool("api")
	if at := s.Class([]byte("GET /unheard")); at != 0 || s.Class([]byte("*")) != 0 {
		t.Errorf("a name never heard has row %d", at)
	}
	rows := map[int]bool{}
	for i := range 2 * top {
		at := s.Class(fmt.Appendf(nil, "GET /%d", i))
		if own := i < top; own != (at > 0) || own && rows[at] { // as busy as one another: the first keep their places
			t.Errorf("name %d has row %d", i, at)
		}
		rows[at] = true
	}
}
