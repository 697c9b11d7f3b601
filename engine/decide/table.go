// Package decide turns what is known of a pool's peers into decision tables, and picks by them.
//
// It is pure: time and randomness are arguments, there is no I/O. NGINX applies the same rule to the same tables (docs/protocol.md);
// Pick here serves /decide and /api/route, the simulator, and the tests.
package decide

import "github.com/weirlb/weir/engine/estimate"

// GridPoints is the number of in-flight counts a table holds costs for. Two a doubling: costs turn up sharply where a peer's slots are full, and a
// straight line over a whole doubling blunts that. With one a doubling, 200 peers of 4 slots had .89 of least_conn's mean instead of .86.
const GridPoints = 17

// Grid returns those counts.
func Grid() [GridPoints]int {
	return [GridPoints]int{0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256}
}

// Table is the decision table of one pool: what it costs to send one more request of a class to a peer that holds n.
type Table struct {
	Classes []string  // row names; 0 is "*"
	Peers   []string  // addresses, in the pool's order
	Cost    []float32 // [class][peer][grid]; finite, > 0, not falling in in-flight
	Work    Work      // empty where requests do not tell their size
}

// shape sets the table's rows and columns, reusing its memory; sizes is Params.Sizes.
func (t *Table) shape(est *estimate.Pool, sizes bool) {
	t.Classes, t.Peers = t.Classes[:0], t.Peers[:0]
	for _, c := range est.Listed() {
		t.Classes = append(t.Classes, est.ClassName(c))
	}
	for i := range est.Peers() {
		t.Peers = append(t.Peers, est.Addr(i))
	}
	n := len(t.Classes) * len(t.Peers) * GridPoints
	if cap(t.Cost) < n {
		t.Cost = make([]float32, n)
	}
	t.Cost = t.Cost[:n]
	if sizes && est.Hinted() {
		t.Work.shape(t)
		for c, idx := range est.Listed() {
			t.Work.Hint[c] = float32(est.Hint(idx))
		}
	} else {
		t.Work.clear()
	}
}

// Row returns the costs of class c on peer p over the grid.
func (t *Table) Row(c, p int) []float32 {
	at := (c*len(t.Peers) + p) * GridPoints
	return t.Cost[at : at+GridPoints : at+GridPoints]
}

// At returns the cost of one more request of class c on peer p that holds n: linear between grid points, past the last by its
// last slope, as NGINX does. Below 0 counts as 0.
func (t *Table) At(c, p int, n float64) float64 {
	row := t.Row(c, p)
	if !(n > 0) {
		return float64(row[0])
	}
	grid := Grid()
	j := 1
	for j < GridPoints-1 && n > float64(grid[j]) {
		j++
	}
	lo, hi := float64(grid[j-1]), float64(grid[j])
	a, b := float64(row[j-1]), float64(row[j])
	return a + (b-a)*(n-lo)/(hi-lo)
}

// Class returns the row of a class name; unknown names use 0.
func (t *Table) Class(name string) int {
	for c, have := range t.Classes {
		if have == name {
			return c
		}
	}
	return 0
}
