package backend

import "sync"

// ledgerSize bounds how many request ids a backend remembers; the oldest are forgotten first.
const ledgerSize = 1 << 17

// ledger counts how often each request id (X-Request-Id) arrived, so that a test can say "the backend saw the POST once".
type ledger struct {
	mu    sync.Mutex // guards all below
	count map[string]int
	order []string // a ring of the ids in count, in order of first arrival
	next  int      // the slot of order to be written next
}

func newLedger() *ledger {
	return &ledger{count: make(map[string]int)}
}

func (l *ledger) note(id string) {
	if id == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count[id]++; l.count[id] > 1 {
		return
	}
	if len(l.order) < ledgerSize {
		l.order = append(l.order, id)
		return
	}
	delete(l.count, l.order[l.next])
	l.order[l.next] = id
	l.next = (l.next + 1) % ledgerSize
}

func (l *ledger) seen(id string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[id]
}
