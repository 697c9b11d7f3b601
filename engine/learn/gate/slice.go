package gate

import "github.com/weirlb/weir/engine/learn/blocks"

// Slice compares requests of the control slice with those that a model placed. Both see the same hours, so what is compared is
// blocks of time: as these fill up, neighbours are merged, and a slice has the same size whether it is of a minute or of a day.
type Slice struct {
	from, length float64 // ms: of the first block, and of each
	list         []blocks.Block
	controls     float64
	open         bool
}

const (
	sliceBlocks  = 64
	firstBlockMS = 1000
)

// most bounds what one request counts with, in mean response times: one must not decide.
const most = 30

// Reset begins anew at now.
func (s *Slice) Reset(now float64) {
	*s = Slice{from: now, length: firstBlockMS, list: s.list[:0], open: true}
}

// Add takes in a request that was placed at a time: its response time in parts of the pool's mean. Those of before Reset do not
// count.
func (s *Slice) Add(placed float64, control bool, value float64) {
	if !s.open || placed < s.from || !(value >= 0) {
		return
	}
	for (placed-s.from)/s.length >= sliceBlocks {
		n := 0
		for i := 0; i < len(s.list); i += 2 {
			b := s.list[i]
			if i+1 < len(s.list) {
				for a := range 2 {
					b.Sum[a] += s.list[i+1].Sum[a]
					b.N[a] += s.list[i+1].N[a]
				}
			}
			s.list[n] = b
			n++
		}
		s.list = s.list[:n]
		s.length *= 2
	}
	at := int((placed - s.from) / s.length)
	for len(s.list) <= at {
		s.list = append(s.list, blocks.Block{})
	}
	arm := 0
	if control {
		arm = 1
		s.controls++
	}
	s.list[at].Sum[arm] += min(value, most)
	s.list[at].N[arm]++
}

// Controls is how many requests of the control slice there were.
func (s *Slice) Controls() float64 { return s.controls }

// Estimate is the mean of the model's requests less that of the control slice's. With few blocks that have any of the slice there is
// no interval.
func (s *Slice) Estimate(level float64) blocks.Estimate {
	e := blocks.Difference(s.list, level, uint64(len(s.list)))
	with := 0
	for _, b := range s.list {
		if b.N[1] > 0 {
			with++
		}
	}
	if with < blocks.Least {
		e.Blocks = min(e.Blocks, with)
	}
	return e
}
