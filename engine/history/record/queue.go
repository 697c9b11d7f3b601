package record

import (
	"sync"

	"github.com/weirlb/weir/engine/history"
)

// queue holds what came since the writer looked last. When it is full the oldest makes room: what is new says more.
type queue struct {
	mu     sync.Mutex // guards the rest; held for a copy
	list   []Observed
	oldest int // where the oldest is, once the list is full
	spare  []Observed
	events []history.Event
	values []Measured
	moving int // rows that were taken and are not in the spool yet; they count as queued until they are given back
}

func (q *queue) add(list []Observed) (dropped int, half bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	before := len(q.list)
	if room := maxQueue - len(q.list); len(list) > room {
		q.list = append(q.list, list[:room]...)
		list = list[room:]
		dropped = len(list)
		for _, o := range list {
			q.list[q.oldest] = o
			q.oldest = (q.oldest + 1) % maxQueue
		}
	} else {
		q.list = append(q.list, list...)
	}
	return dropped, before < maxQueue/2 && len(q.list) >= maxQueue/2
}

func (q *queue) event(e history.Event) (dropped bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if dropped = len(q.events) >= maxEvents; dropped {
		q.events = q.events[1:]
	}
	q.events = append(q.events, e)
	return dropped
}

// measured adds a value of a server metric.
func (q *queue) measured(m Measured) (dropped bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if dropped = len(q.values) >= maxQueue; dropped {
		q.values = q.values[1:]
	}
	q.values = append(q.values, m)
	return dropped
}

// take empties the queue. The outcomes are in order from at on, around the end; they go back by give.
func (q *queue) take() (list []Observed, at int, events []history.Event, values []Measured) {
	q.mu.Lock()
	defer q.mu.Unlock()
	list, at, events, values = q.list, q.oldest, q.events, q.values
	q.moving = len(list) + len(events)
	q.list, q.spare, q.oldest, q.events, q.values = q.spare[:0], nil, 0, nil, nil
	return list, at, events, values
}

// give returns the memory of what take gave, which is in the spool now.
func (q *queue) give(list []Observed) {
	clear(list) // the texts must not outlive their batch
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spare, q.moving = list[:0], 0
}

// len counts the rows that are not in the spool.
func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.list) + len(q.events) + q.moving
}
