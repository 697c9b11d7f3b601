package world

import "math"

// due is one thing that happens at a time.
type due struct {
	at float64 // ms
	id int32
}

// heap is a 4-ary min-heap by time: half the levels of a binary one, and four children share a cache line. Equal times
// come out in an order that depends only on what was put in.
type heap []due

// first gives the earliest time, +Inf when empty.
func (h heap) first() float64 {
	if len(h) == 0 {
		return math.Inf(1)
	}
	return h[0].at
}

func (h *heap) push(d due) {
	*h = append(*h, d)
	h.up(len(*h) - 1)
}

func (h heap) up(i int) {
	d := h[i]
	for i > 0 {
		parent := (i - 1) / 4
		if h[parent].at <= d.at {
			break
		}
		h[i] = h[parent]
		i = parent
	}
	h[i] = d
}

func (h *heap) pop() due {
	top := (*h)[0]
	last := len(*h) - 1
	(*h)[0] = (*h)[last]
	*h = (*h)[:last]
	if last > 0 {
		h.down(0)
	}
	return top
}

// replaceFirst is pop and push in one.
func (h heap) replaceFirst(d due) {
	h[0] = d
	h.down(0)
}

func (h heap) down(i int) {
	d := h[i]
	for {
		child := 4*i + 1
		if child >= len(h) {
			break
		}
		least := child
		for c := child + 1; c < min(child+4, len(h)); c++ {
			if h[c].at < h[least].at {
				least = c
			}
		}
		if d.at <= h[least].at {
			break
		}
		h[i] = h[least]
		i = least
	}
	h[i] = d
}
