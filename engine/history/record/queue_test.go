package record

import (
	"testing"

	"github.com/weirlb/weir/engine/history"
)

// Rows on their way from the queue to the spool are in neither. Who waits until "nothing is queued, nothing is in the spool" would
// otherwise read a store that lacks the last quarter of a second.
func TestRowsThatMoveToTheSpoolCountAsQueued(t *testing.T) {
	var q queue
	q.add(make([]Observed, 3))
	q.event(history.Event{})
	list, _, _, _ := q.take()
	if got := q.len(); got != 4 {
		t.Errorf("%d rows are queued while 4 are moving", got)
	}
	q.add(make([]Observed, 2))
	if got := q.len(); got != 6 {
		t.Errorf("%d rows are queued while 4 are moving and 2 wait", got)
	}
	q.give(list)
	if got := q.len(); got != 2 {
		t.Errorf("%d rows are queued after 4 have moved and 2 wait", got)
	}
}

func TestValuesOfServerMetricsPastTheBoundPushOutTheOldest(t *testing.T) {
	var q queue
	dropped := 0
	for i := range maxQueue + 100 {
		if q.measured(Measured{Value: float64(i)}) {
			dropped++
		}
	}
	_, _, _, values := q.take()
	if dropped != 100 || len(values) != maxQueue || values[0].Value != 100 || values[maxQueue-1].Value != maxQueue+99 {
		t.Errorf("%d dropped, %d left", dropped, len(values))
	}
}
