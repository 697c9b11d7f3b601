// Package sqlrows is what the stores on SQL servers (postgres, mysql) have in common: names that become numbers.
package sqlrows

import "github.com/weirlb/weir/engine/history"

// NoID marks a name that the server refused, or that no store could hold.
const NoID = -1

// Names knows the ids of names that rows are about, so that a row costs no look-up. Not safe for concurrent use.
type Names[K comparable] struct {
	ids map[K]int32
	bad map[K]bool // that the server refuses
}

// IDs returns the id of each name, NoID where there is none; insert makes one, or finds the one that is there. refused tells an error
// about the name from one about the server.
func (n *Names[K]) IDs(keys []K, insert func(K) (int32, error), refused func(error) bool) ([]int32, error) {
	if n.ids == nil {
		n.ids, n.bad = map[K]int32{}, map[K]bool{}
	}
	var none K
	out := make([]int32, len(keys))
	for i, key := range keys {
		id, known := n.ids[key]
		switch {
		case key == none || n.bad[key]:
			id = NoID
		case !known:
			if len(n.ids)+len(n.bad) > history.MaxSeries {
				n.Forget()
			}
			var err error
			switch id, err = insert(key); {
			case err == nil:
				n.ids[key] = id
			case refused(err):
				id = NoID
				n.bad[key] = true
			default:
				return nil, err
			}
		}
		out[i] = id
	}
	return out, nil
}

// Forget drops all: a server that crashed may have lost what it had answered.
func (n *Names[K]) Forget() {
	clear(n.ids)
	clear(n.bad)
}
