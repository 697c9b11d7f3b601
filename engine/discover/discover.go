// Package discover finds out who is in a pool: from a file, from DNS, and from whatever else becomes a Source.
//
// A source tells whole sets, never differences, and never forgets on a failure: what it cannot find out stays as it was. So an
// outage of the source is not an outage of the pool. Who uses a source owns its goroutine (Run) and holds what it told.
package discover

import (
	"context"
	"slices"
	"strings"

	"github.com/weirlb/weir/engine/config"
)

// Peer is a member of a pool as a source tells it, its address canonical.
type Peer = config.Peer

// Update is what a source knows after one look.
type Update struct {
	// Peers is the whole set, ordered by address, when Known.
	Peers []Peer
	// Known is false when the look told nothing about the members: those told before stay.
	Known bool
	// Err says why the source cannot be relied on at present; nil = it works. With Known, some of the set, or all, is older than this look.
	Err error
	// Partly says that Err is about a part of Peers, or about what is no peer: the rest is as of this look.
	Partly bool
	// Queries were sent since the last update.
	Queries int
}

// Source is one place that members come from.
type Source interface {
	// Kind is a word for metrics: "file", "dns".
	Kind() string
	// Name says what is looked at, for people: "file /etc/weir/peers", "dns app.internal".
	Name() string
	// Run calls tell with every look's result, in its own goroutine and never twice at a time, until ctx ends; then it returns.
	Run(ctx context.Context, tell func(Update))
}

// order sorts by address, so that a set has one form however it was told.
func order(peers []Peer) {
	slices.SortFunc(peers, func(a, b Peer) int { return strings.Compare(a.Address, b.Address) })
}
