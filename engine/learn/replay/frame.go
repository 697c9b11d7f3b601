package replay

import (
	"slices"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/estimate"
)

// Frame is what a pool's policy saw when it made a table: the features of every (class, peer, in-flight count), the analytic costs,
// and who could be picked. It is not changed once it is packed.
//
// Only the few features that depend on the in-flight count are kept for each of them, so a frame of 16 peers and 20 classes takes
// 110 KB instead of 350.
type Frame struct {
	At      float64 // ms; the table holds from then on
	Peers   []string
	Usable  []bool
	Group   []bool      // by peer: in the split's group; nil = no split, or not known
	Bounded bool        // some peer's share is held back (admit < 1): who was considered is not known
	Rule    decide.Rule // how picks leave the lowest cost
	Control float64     // share of the control slice
	Held    []float64   // in flight by peer, as last told
	Weight  []float64   // the operator's, by peer
	Slots   []float64   // estimated concurrency by peer
	Penalty float64     // what a failure costs beside its time, ms
	MeanMS  float64     // of recent answers of the pool
	Load    float64     // estimate.Pool.LoadRatio
	Sized   bool        // requests told their sizes
	row     []int16     // by class index of the estimators; 0 = "*"
	classes int         // rows
	fixed   []float32   // [class][peer][Inputs], at 0 in flight
	moving  []float32   // [class][peer][grid][len(columns)]
	columns []uint8     // features that depend on the in-flight count
	raw     []float32   // what fixed and moving are to be made of; nil = they are
	cost    []float32   // [class][peer][grid]
	time    []float32   // likewise
}

// Shown is what a frame is made of, beside the features.
type Shown struct {
	Usable  []bool
	Admit   []float64
	Group   []bool // nil = no split
	Weight  []float64
	Rule    decide.Rule
	Control float64
	Sized   bool // decide.Table.Sized
}

// MostValues bounds the features of one frame: 4 Mi values, as of 40 peers and 400 classes. Pools above are not recorded.
const MostValues = 4 << 20

// NewFrame copies what l saw in its last Fill; nil when that is too much.
func NewFrame(now float64, est *estimate.Pool, l *decide.Learned, s Shown) *Frame {
	m := l.Matrix()
	if len(m.X) > MostValues || m.Peers == 0 {
		return nil
	}
	f := &Frame{
		At: now, Rule: s.Rule, Control: s.Control, Usable: slices.Clone(s.Usable), Group: slices.Clone(s.Group), Weight: slices.Clone(s.Weight), classes: m.Classes,
		Penalty: est.SlowMS(), MeanMS: est.MeanMS(), Load: est.LoadRatio(), Sized: s.Sized, cost: slices.Clone(m.Cost), time: slices.Clone(m.Time), raw: slices.Clone(m.X),
	}
	for i := range m.Peers {
		v := est.Peer(i)
		f.Peers = append(f.Peers, v.Addr)
		f.Slots = append(f.Slots, v.Concurrency)
		f.Held = append(f.Held, float64(v.InFlight))
		f.Bounded = f.Bounded || s.Usable[i] && s.Admit[i] > 0 && s.Admit[i] < 1
	}
	for r, c := range est.Listed() {
		for len(f.row) <= c {
			f.row = append(f.row, 0)
		}
		f.row[c] = int16(r)
	}
	return f
}

// Pack makes the frame small. NewFrame only copies, since it is called with a pool's lock held; Recorder.Frame packs.
func (f *Frame) Pack() {
	if f.raw == nil {
		return
	}
	const in, grid = decide.Inputs, decide.GridPoints
	x := f.raw
	f.raw = nil
	var moves [in]bool
	rows := f.classes * len(f.Peers)
	f.fixed = make([]float32, 0, rows*in)
	for r := range rows {
		at := r * grid * in
		first := x[at : at+in]
		f.fixed = append(f.fixed, first...)
		for g := 1; g < grid; g++ {
			for j, v := range x[at+g*in : at+(g+1)*in] {
				if v != first[j] {
					moves[j] = true
				}
			}
		}
	}
	for j, yes := range moves {
		if yes {
			f.columns = append(f.columns, uint8(j))
		}
	}
	f.moving = make([]float32, 0, rows*grid*len(f.columns))
	for at := 0; at < len(x); at += in {
		for _, j := range f.columns {
			f.moving = append(f.moving, x[at+int(j)])
		}
	}
}

// Matrix unpacks the frame into m, whose memory is used again: whole tables can be made of it by any model.
func (f *Frame) Matrix(m *decide.Matrix) {
	const in, grid = decide.Inputs, decide.GridPoints
	m.Classes, m.Peers = f.classes, len(f.Peers)
	m.Cost = append(m.Cost[:0], f.cost...)
	m.Time = append(m.Time[:0], f.time...)
	m.X = m.X[:0]
	k := len(f.columns)
	for at := range len(f.cost) {
		r := at / grid
		m.X = append(m.X, f.fixed[r*in:(r+1)*in]...)
		row := m.X[at*in:]
		for i, col := range f.columns {
			row[col] = f.moving[at*k+i]
		}
	}
}

// bytes is what the frame holds in memory, about.
func (f *Frame) bytes() int {
	return 4*(len(f.fixed)+len(f.moving)+len(f.cost)+len(f.time)) + 2*len(f.row) + 48*len(f.Peers) + 200
}

// Row is decide.Learned.Features of the frame: class is the estimators' index, those not listed have the row of "*".
func (f *Frame) Row(class, peer int, n float64, dst []float32) (cost float64) {
	r := f.pair(class, peer)
	copy(dst[:decide.Inputs], f.fixed[r*decide.Inputs:])
	j, beyond := decide.Between(n)
	at := r*decide.GridPoints + j
	k := len(f.columns)
	a, b := f.moving[at*k:(at+1)*k], f.moving[(at+1)*k:(at+2)*k]
	part := float32(min(beyond, 1))
	for i, col := range f.columns {
		dst[col] = a[i] + (b[i]-a[i])*part
	}
	return decide.Along(f.cost[at:], beyond)
}

// Time is decide.Learned.Time of the frame; class as in Row.
func (f *Frame) Time(class, peer int, n float64) float64 {
	j, beyond := decide.Between(n)
	return decide.Along(f.time[f.pair(class, peer)*decide.GridPoints+j:], beyond)
}

// pair is the index of a class and a peer among them all.
func (f *Frame) pair(class, peer int) int {
	c := 0
	if class >= 0 && class < len(f.row) {
		c = int(f.row[class])
	}
	return c*len(f.Peers) + peer
}
