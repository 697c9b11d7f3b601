package backend

import (
	"context"
	"sync"
	"time"
)

// queue is a first-come-first-served queue in front of a number of workers, the peer of the scenario files. A request that has got a worker
// keeps it until its work is done at the speed of the moment: a change of speed also applies to what is being served, so a brown-out slows
// the requests it meets, not only those that start in it.
type queue struct {
	mu      sync.Mutex // guards all below
	slots   int        // 0 = as many as there are requests
	speed   float64
	running int
	waiting []chan struct{} // one per request, oldest first; closed when it gets a worker
	changed chan struct{}   // closed and replaced when the speed changes
}

func newQueue() *queue {
	return &queue{slots: 1, speed: 1, changed: make(chan struct{})}
}

// set changes workers and speed. Fewer workers than are busy take effect as requests finish.
func (q *queue) set(slots int, speed float64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if speed != q.speed {
		q.speed = speed
		close(q.changed)
		q.changed = make(chan struct{})
	}
	q.slots = slots
	q.admit()
}

// admit gives free workers to the oldest waiting requests. The caller holds mu.
func (q *queue) admit() {
	for len(q.waiting) > 0 && (q.slots == 0 || q.running < q.slots) {
		close(q.waiting[0])
		q.waiting = q.waiting[1:]
		q.running++
	}
}

// load returns the busy share of the workers and the requests held (being served and waiting).
func (q *queue) load() (utilisation float64, held int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.slots > 0 {
		utilisation = min(1, float64(q.running)/float64(q.slots))
	}
	return utilisation, q.running + len(q.waiting)
}

// serve waits for a worker and keeps it for workMS at speed 1; it returns how long each part took. ctx is the life of the backend, not of
// the request: a request given up by its client is worked off all the same, as in the scenario files.
func (q *queue) serve(ctx context.Context, workMS float64) (waited, served time.Duration) {
	arrived := time.Now()
	turn := make(chan struct{})
	q.mu.Lock()
	q.waiting = append(q.waiting, turn)
	q.admit()
	q.mu.Unlock()
	select {
	case <-turn:
	case <-ctx.Done():
		return time.Since(arrived), 0
	}
	started := time.Now()
	q.work(ctx, time.Duration(workMS*float64(time.Millisecond)))
	q.mu.Lock()
	q.running--
	q.admit()
	q.mu.Unlock()
	return started.Sub(arrived), time.Since(started)
}

func (q *queue) work(ctx context.Context, left time.Duration) {
	for left > 0 {
		q.mu.Lock()
		speed, changed := q.speed, q.changed
		q.mu.Unlock()
		var done <-chan time.Time // nil, so never, at speed 0
		if speed > 0 {
			done = time.After(time.Duration(float64(left) / speed))
		}
		from := time.Now()
		select {
		case <-done:
			return
		case <-changed:
			left -= time.Duration(float64(time.Since(from)) * speed)
		case <-ctx.Done():
			return
		}
	}
}
