package model

import "fmt"

// blockRows rows pass all layers before the next rows start: at 64 values a row both buffers of a block and the weights of a
// layer, 16 KB each, stay in the first-level cache.
const blockRows = 64

// tileRows is the number of rows that tile8x8 takes.
const tileRows = 8

// Scratch is the memory that Forward works in. The zero value is ready; it grows to what the widest network needs and stays
// there. One goroutine at a time may use it.
type Scratch struct {
	a, b []float32 // what a layer reads and what it writes
	pad  []float32 // the last rows of x, filled up to tileRows
}

func (s *Scratch) grow(n, pad int) {
	if cap(s.a) < n {
		s.a, s.b = make([]float32, n), make([]float32, n)
	}
	if cap(s.pad) < pad {
		s.pad = make([]float32, pad)
	}
	s.a, s.b, s.pad = s.a[:cap(s.a)], s.b[:cap(s.b)], s.pad[:cap(s.pad)]
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
	n.forward(x, rows, y, s, haveTile)
}

func (n *Net) forward(x []float32, rows int, y []float32, s *Scratch, tiles bool) {
	in, out := n.In(), n.Out()
	widest := 0
	for _, w := range n.Sizes[1:] {
		widest = max(widest, w)
	}
	s.grow(widest*blockRows, in*tileRows)
	last := len(n.W) - 1
	for r := 0; r < rows; r += blockRows {
		m := min(blockRows, rows-r)
		from := x[r*in : (r+m)*in]
		to, next := s.a, s.b
		for l := range last {
			wide, whole := n.Sizes[l+1], m
			if tiles {
				// Rows are added until tiles fill them; what is in them does not matter, and the last layer leaves them out.
				whole = m / tileRows * tileRows
				hidden(from, n.Sizes[l], n.W[l], n.B[l], to, whole, true)
				if whole < m {
					rest := from[whole*n.Sizes[l]:]
					if l == 0 {
						copy(s.pad, rest)
						rest = s.pad[:tileRows*in]
					}
					hidden(rest, n.Sizes[l], n.W[l], n.B[l], to[whole*wide:], tileRows, true)
				}
			} else {
				hidden(from, n.Sizes[l], n.W[l], n.B[l], to, m, false)
			}
			from, to, next = to, next, to
		}
		columns(from, n.Sizes[last], n.W[last], n.B[last], y[r*out:(r+m)*out], m, 0)
	}
}

// hidden computes y = ReLU(x W + b) for m rows; with tiles, m is a multiple of tileRows.
func hidden(x []float32, in int, w, b, y []float32, m int, tiles bool) {
	out := len(b)
	j := 0
	if tiles && out >= 8 {
		x, y = x[:m*in], y[:m*out] // tile8x8 checks no bounds
		w = w[:in*out]
		for ; j+8 <= out; j += 8 {
			for r := 0; r < m; r += tileRows {
				tile8x8(&x[r*in], in, &w[j], &b[j], out, &y[r*out+j])
			}
		}
		if j == out {
			return
		}
	}
	columns(x, in, w, b, y, m, j)
	for r := range m {
		row := y[r*out : (r+1)*out]
		for i, v := range row[j:] {
			row[j+i] = max(v, 0)
		}
	}
}

// columns computes the outputs from first on of y = x W + b for m rows.
func columns(x []float32, in int, w, b, y []float32, m, first int) {
	out := len(b)
	r := 0
	for ; r+2 <= m; r += 2 {
		x0, x1 := x[r*in:(r+1)*in], x[(r+1)*in:(r+2)*in]
		y0, y1 := y[r*out:(r+1)*out], y[(r+1)*out:(r+2)*out]
		j := first
		for ; j+4 <= out; j += 4 {
			tile2x4(x0, x1, w[j:], out, b[j:j+4], y0[j:j+4], y1[j:j+4])
		}
		for ; j < out; j++ {
			y0[j], y1[j] = dot2(x0, x1, w[j:], out, b[j])
		}
	}
	if r < m {
		x0, y0 := x[r*in:(r+1)*in], y[r*out:(r+1)*out]
		for j := first; j < out; j++ {
			y0[j], _ = dot2(x0, x0, w[j:], out, b[j])
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

// dot2 computes one output of two rows.
func dot2(x0, x1, w []float32, stride int, b float32) (a, c float32) {
	a, c = b, b
	x1 = x1[:len(x0)]
	at := 0
	for k, u := range x0 {
		t := w[at]
		a += float32(u * t)
		c += float32(x1[k] * t)
		at += stride
	}
	return a, c
}
