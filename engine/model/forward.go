package model

import "fmt"

// blockRows rows pass all layers before the next rows start: at 64 values a row both buffers of a block and the weights of a
// layer, 16 KB each, stay in the first-level cache.
const blockRows = 64

// Scratch is the memory that Forward works in. The zero value is ready; it grows to what the widest network needs and stays
// there. One goroutine at a time may use it.
type Scratch struct{ a, b []float32 }

func (s *Scratch) grow(n int) {
	if cap(s.a) < n {
		s.a, s.b = make([]float32, n), make([]float32, n)
	}
	s.a, s.b = s.a[:cap(s.a)], s.b[:cap(s.b)]
}

// Forward evaluates the network for rows inputs at a time: x holds rows times Sizes[0] values, row after row, y receives
// rows times Sizes[last]. x and y must not overlap. It allocates nothing once the scratch has grown. It panics when x or
// y is too short, as indexing would.
//
// The sum of an output runs over its inputs in order, rounded to float32 after every product and every sum (no fused
// multiply-add), so the result is the same to the bit on every processor and for every batch size: a training run is
// repeatable elsewhere. A NaN or infinity in x comes out as such, or is lost behind a weight of an inactive unit; callers
// that do not trust x check it before.
func (n *Net) Forward(x []float32, rows int, y []float32, s *Scratch) {
	in, out := n.In(), n.Out()
	if rows < 0 || len(x) < rows*in || len(y) < rows*out {
		panic(fmt.Sprintf("model: %d rows of %d -> %d need %d and %d values; there are %d and %d", rows, in, out, rows*in, rows*out, len(x), len(y)))
	}
	widest := 0
	for _, w := range n.Sizes[1:] {
		widest = max(widest, w)
	}
	s.grow(widest * blockRows)
	last := len(n.W) - 1
	for r := 0; r < rows; r += blockRows {
		m := min(blockRows, rows-r)
		from := x[r*in : (r+m)*in]
		to, next := s.a, s.b
		for l := range last {
			to = to[:m*n.Sizes[l+1]]
			layer(from, n.Sizes[l], n.W[l], n.B[l], to, m, true)
			from, to, next = to, next, to[:cap(to)]
		}
		layer(from, n.Sizes[last], n.W[last], n.B[last], y[r*out:(r+m)*out], m, false)
	}
}

// layer computes y = x W + b for m rows, and ReLU when asked.
func layer(x []float32, in int, w, b, y []float32, m int, relu bool) {
	out := len(b)
	r := 0
	for ; r+2 <= m; r += 2 {
		x0, x1 := x[r*in:(r+1)*in], x[(r+1)*in:(r+2)*in]
		y0, y1 := y[r*out:(r+1)*out], y[(r+1)*out:(r+2)*out]
		j := 0
		for ; j+4 <= out; j += 4 {
			tile2x4(x0, x1, w[j:], out, b[j:j+4], y0[j:j+4], y1[j:j+4])
		}
		for ; j < out; j++ {
			y0[j], y1[j] = dot(x0, w[j:], out, b[j]), dot(x1, w[j:], out, b[j])
		}
	}
	for ; r < m; r++ {
		x0, y0 := x[r*in:(r+1)*in], y[r*out:(r+1)*out]
		for j := range y0 {
			y0[j] = dot(x0, w[j:], out, b[j])
		}
	}
	if relu {
		for i, v := range y[:m*out] {
			y[i] = max(v, 0)
		}
	}
}

// tile2x4 computes four outputs of two rows with eight sums in registers; each weight is loaded once for both rows.
func tile2x4(x0, x1, w []float32, stride int, b, y0, y1 []float32) {
	b, y0, y1 = b[:4], y0[:4], y1[:4]
	a0, a1, a2, a3 := b[0], b[1], b[2], b[3]
	c0, c1, c2, c3 := a0, a1, a2, a3
	x1 = x1[:len(x0)]
	at := 0
	for k, u := range x0 {
		v := x1[k]
		t := w[at : at+4 : at+4]
		// The conversions forbid fusing: see Forward.
		a0 += float32(u * t[0])
		a1 += float32(u * t[1])
		a2 += float32(u * t[2])
		a3 += float32(u * t[3])
		c0 += float32(v * t[0])
		c1 += float32(v * t[1])
		c2 += float32(v * t[2])
		c3 += float32(v * t[3])
		at += stride
	}
	y0[0], y0[1], y0[2], y0[3] = a0, a1, a2, a3
	y1[0], y1[1], y1[2], y1[3] = c0, c1, c2, c3
}

// dot computes one output of one row.
func dot(x, w []float32, stride int, sum float32) float32 {
	at := 0
	for _, u := range x {
		sum += float32(u * w[at])
		at += stride
	}
	return sum
}
