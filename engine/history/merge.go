package history

import (
	"cmp"
	"slices"
)

// Merger puts blocks of outcomes that overlap in time into the order of time. Blocks are added in the order of their first
// outcome; Flush hands on what no later block can precede. It holds what overlaps and no more. Not safe for concurrent use.
type Merger struct {
	pool     string
	from, to int64
	yield    func([]Series, []Outcome) error

	ids    map[Series]uint32
	series []Series
	held   []Outcome
	remap  []uint32
}

// NewMerger makes one that passes outcomes of a pool ("" = every) from fromMS up to toMS, not included.
func NewMerger(pool string, fromMS, toMS int64, yield func([]Series, []Outcome) error) *Merger {
	return &Merger{pool: pool, from: fromMS, to: toMS, yield: yield, ids: map[Series]uint32{}}
}

const notWanted = ^uint32(0)

// Add takes in a block.
func (m *Merger) Add(series []Series, outcomes []Outcome) {
	m.remap = m.remap[:0]
	for _, s := range series {
		id := notWanted
		if m.pool == "" || s.Pool == m.pool {
			known, ok := m.ids[s]
			if !ok {
				known = uint32(len(m.series))
				m.ids[s] = known
				m.series = append(m.series, s)
			}
			id = known
		}
		m.remap = append(m.remap, id)
	}
	for i := range outcomes {
		o := &outcomes[i]
		if id := m.remap[o.Series]; id != notWanted && o.AtMS >= m.from && o.AtMS < m.to {
			m.held = append(m.held, *o)
			m.held[len(m.held)-1].Series = id
		}
	}
}

// Flush yields what ended before beforeMS, in order. What is yielded is valid during the call.
func (m *Merger) Flush(beforeMS int64) error {
	byTime := func(a, b Outcome) int { return cmp.Compare(a.AtMS, b.AtMS) }
	if !slices.IsSortedFunc(m.held, byTime) {
		slices.SortStableFunc(m.held, byTime)
	}
	n, _ := slices.BinarySearchFunc(m.held, beforeMS, func(o Outcome, at int64) int { return cmp.Compare(o.AtMS, at) })
	if n == 0 {
		return nil
	}
	if err := m.yield(m.series, m.held[:n]); err != nil {
		return err
	}
	m.held = m.held[:copy(m.held, m.held[n:])]
	return nil
}
