package decide

import (
	"fmt"
	"math"

	"github.com/weirlb/weir/engine/estimate"
)

// Predictor evaluates a model: rows of Inputs features each in x, one value a row into y. model/ort and model have one each.
type Predictor interface {
	Predict(x []float32, rows int, y []float32) error
}

// Learned corrects the analytic policy by a model: cost = analytic cost x exp(z), z the model's answer for (peer, class, in-flight).
//
// A correction instead of a cost of its own: an untrained model is the analytic policy, the model needs to know only what that gets
// wrong, and a bounded z bounds what a bad model can do. Costs keep the promise of Table: finite, positive, not falling in in-flight.
//
// Where requests tell their sizes (Table.Sized) its network has no say, only the Price it may bring: it does not know the size of the request, so it would correct all sizes alike. In the
// Park world that made the 99th percentile 3020 ms of 2910. Nor has it where the 99th percentile is to be kept low (P99): it was taught to keep the mean low,
// and one took back a third of what that objective gains (mixed-4slot-92 .757 of least_conn's p99 instead of .740).
//
// When the model fails (an error, a number that is none) the table is the analytic one, and Fault tells why.
type Learned struct {
	Analytic Analytic
	Model    Predictor // nil: no correction, the features are still made
	// Forget makes features class by class and keeps none: Features, Time and Matrix may not be called. Of 200 peers and 50 classes they are
	// 11 MB, and only learning asks for them.
	Forget bool

	x, y    []float32
	base    []float32           // the analytic costs of the last table
	views   []estimate.PeerView // by peer
	best    []float64           // by class: the lowest analytic cost at the last in-flight samples
	load    float64             // of the pool
	classes int
	peers   int
	sized   bool
	silent  bool
	fault   error
}

// Trust bounds the correction: a cost is between exp(-Trust) and exp(Trust) times the analytic one.
const Trust = 1.5

// own is the number of features made here, beside those of the estimators.
const own = 10

// Inputs is the number of features of a row.
const Inputs = estimate.Features + own

// InputNames returns the names of the features, in order.
func InputNames() []string {
	names := estimate.FeatureNames()
	return append(names[:],
		"log_n",          // ln(1 + in-flight)
		"log_n_per_slot", // ln((in-flight + 1) / K)
		"log_cost",       // ln of the analytic cost over the pool's mean service time
		"log_cost_rise",  // ln of the analytic cost over that at 0 in flight
		"log_size",       // ln of the class's service time on the peer over that of the peer's mix
		"log_n_news",     // ln((1 + in-flight) / (1 + in-flight at the last sample))
		"pool_load",      // mean of the peers' utilisation, by their capacity, in [0, 2]
		"log_peers",      // ln of the number of peers
		"log_others",     // ln(1 + requests of other balancers there, by its reports)
		"log_to_best",    // ln of the analytic cost over the lowest of any peer at its last in-flight sample
	)
}

// Head is the name of the one output of a model: z.
const Head = "log_cost_ratio"

// Name returns "learned".
func (l *Learned) Name() string { return "learned" }

// Fault tells why the last table was made without the model; nil when it was made with it, or there is none.
func (l *Learned) Fault() error { return l.fault }

// mostRows is the largest table that a model is asked for, in rows: 1,200 peers and 50 classes. Its answers take 0.2 s of one core, in which the
// pool takes no outcomes; NGINX waits a second for them. Of 4,096 peers they took several, on a busy machine.
const mostRows = 1 << 20

// Large tells that a table of so many classes and peers is too large for a model: the analytic policy makes it, in a tenth of the time.
func Large(classes, peers int) bool { return classes*peers*GridPoints > mostRows }

// Silent tells that the model has no say in the last table: it is the analytic one.
func (l *Learned) Silent() bool { return l.silent }

// Priced tells that the last table was made with a price of its model's own.
func (l *Learned) Priced() bool { return l.sized && l.Analytic.Price != (Price{}) }

// Fill implements Policy.
func (l *Learned) Fill(now float64, est *estimate.Pool, par Params, t *Table) {
	l.Analytic.Times = !l.Forget
	l.Analytic.Fill(now, est, par, t)
	l.fault = nil
	l.survey(est, t)
	l.sized = t.Sized()
	l.silent = l.sized || par.Objective == P99 || Large(len(t.Classes), len(t.Peers))
	model := l.Model
	if l.silent {
		model = nil
	}
	step := max(len(t.Classes), 1) // classes at a time
	if l.Forget {
		if model == nil {
			return
		}
		step = 1
	} else {
		l.base = append(l.base[:0], t.Cost...)
	}
	if len(t.Peers) == 0 {
		return
	}
	if cap(l.y) < len(t.Cost) {
		l.y = make([]float32, len(t.Cost))
	}
	l.y = l.y[:len(t.Cost)]
	rows := step * l.peers * GridPoints
	for c := 0; c < l.classes; c += step {
		l.features(now, est, t, c, c+step)
		if model == nil {
			continue
		}
		if l.fault = model.Predict(l.x, rows, l.y[c*l.peers*GridPoints:][:rows]); l.fault != nil {
			return
		}
	}
	if model == nil {
		return
	}
	for i, z := range l.y {
		if !(z-z == 0) {
			l.fault = fmt.Errorf("the model answered %v for class %q on %s", z, t.Classes[i/(l.peers*GridPoints)], t.Peers[i/GridPoints%l.peers])
			return
		}
	}
	Correct(t.Cost, l.y, est.LoadRatio())
}

// Correct multiplies analytic costs over [class][peer][grid] by the exponentials of a model's answers, within Trust, and keeps them from
// falling as the in-flight count rises. No model has met load that it cannot see, so its correction counts the less, the more of it there is, and not
// at all from half as much again as one's own on; load is estimate.Pool.LoadRatio. Ten balancers, mean of the best classical rule: 1.046 so, 1.054 by the
// inverse square of the ratio (five seeds, learning online).
func Correct(cost, z []float32, load float64) {
	part := max(1-2*(load-1), 0)
	for at := 0; at+GridPoints <= len(cost); at += GridPoints {
		last := 0.0
		for g := range GridPoints {
			z := min(max(float64(z[at+g])*part, -Trust), Trust)
			last = max(bounded(float64(cost[at+g])*math.Exp(z)), last)
			cost[at+g] = float32(last)
		}
	}
}

// survey takes what the features of all rows have in common.
func (l *Learned) survey(est *estimate.Pool, t *Table) {
	l.classes, l.peers = len(t.Classes), len(t.Peers)
	l.views = l.views[:0]
	load, capacity := 0.0, 0.0
	for i := range t.Peers {
		v := est.Peer(i)
		l.views = append(l.views, v)
		load += v.ArrivalRate
		capacity += v.Concurrency / v.WorkMS
	}
	l.load = min(load/max(capacity, 1e-9), 2)
	l.best = l.best[:0]
	for c := range t.Classes {
		best := math.Inf(1)
		for i := range t.Peers {
			best = min(best, t.At(c, i, float64(l.views[i].InFlight)))
		}
		l.best = append(l.best, best)
	}
}

// features makes the rows of the classes from and up to but not to: [class][peer][grid], like the costs.
func (l *Learned) features(now float64, est *estimate.Pool, t *Table, from, to int) {
	n := (to - from) * l.peers * GridPoints * Inputs
	if cap(l.x) < n {
		l.x = make([]float32, n)
	}
	l.x = l.x[:n]
	work := est.WorkMS()
	peers := math.Log(float64(max(l.peers, 1)))
	var many [GridPoints]float64
	for g, n := range Grid() {
		many[g] = math.Log1p(float64(n))
	}
	var base [estimate.Features]float32
	listed := est.Listed()
	for i := range t.Peers {
		v := &l.views[i]
		held, others, slots := math.Log1p(float64(v.InFlight)), math.Log1p(v.Others), math.Log(v.Concurrency)
		for c := from; c < to; c++ {
			est.Feature(now, i, listed[c], &base)
			size := ln(est.Pair(i, listed[c]).ServiceMS / v.WorkMS)
			row := t.Row(c, i)
			at := ((c-from)*l.peers + i) * GridPoints * Inputs
			idle, best := ln(float64(row[0])/work), ln(l.best[c]/work)
			for g := range GridPoints {
				x := l.x[at+g*Inputs : at+(g+1)*Inputs]
				copy(x, base[:])
				cost := ln(float64(row[g]) / work)
				for j, f := range [own]float64{
					many[g], many[g] - slots, cost, cost - idle, size, many[g] - held, l.load, peers, others, cost - best,
				} {
					x[estimate.Features+j] = float32(f)
				}
			}
		}
	}
}

func ln(x float64) float64 { return min(max(math.Log(max(x, 1e-9)), -8), 8) }

// Features writes the features of class row c on peer p with n in flight, as of the last Fill, and returns the analytic cost (ms):
// linear between grid points, as costs are.
func (l *Learned) Features(c, p int, n float64, dst []float32) float64 {
	m := l.Matrix()
	return m.Row(c, p, n, dst)
}

// Matrix is what the last Fill saw: features and analytic costs over [class][peer][grid]. It is the policy's own memory, valid until
// the next Fill: whoever keeps it copies.
type Matrix struct {
	Classes, Peers int
	X              []float32 // rows of Inputs
	Cost           []float32 // analytic, ms
	Time           []float32 // what a request is expected to take, ms
}

// Matrix returns that of the last Fill.
func (l *Learned) Matrix() Matrix { return Matrix{l.classes, l.peers, l.x, l.base, l.Analytic.time} }

// Time is what a request of class row c is expected to take on peer p that has n in flight, by the formulas, ms: what Features tells the cost of.
func (l *Learned) Time(c, p int, n float64) float64 {
	j, beyond := Between(n)
	return Along(l.Analytic.time[(c*l.peers+p)*GridPoints+j:], beyond)
}

// Along is what lies this far from the first of two values to the second, and past it.
func Along(row []float32, f float64) float64 {
	low := float64(row[0])
	return low + (float64(row[1])-low)*f
}

// Between tells which grid points n lies between, the lower one's index and how far from it as a fraction: above 1 past the last.
func Between(n float64) (lower int, f float64) {
	grid := Grid()
	j := 1
	for j < GridPoints-1 && n > float64(grid[j]) {
		j++
	}
	lo, hi := float64(grid[j-1]), float64(grid[j])
	return j - 1, max((n-lo)/(hi-lo), 0)
}

// Row is Learned.Features of the matrix.
func (m *Matrix) Row(c, p int, n float64, dst []float32) float64 {
	j, beyond := Between(n)
	row := (c*m.Peers+p)*GridPoints + j
	f := float32(min(beyond, 1))
	a, b := m.X[row*Inputs:(row+1)*Inputs], m.X[(row+1)*Inputs:(row+2)*Inputs]
	for i := range Inputs {
		dst[i] = a[i] + (b[i]-a[i])*f
	}
	return Along(m.Cost[row:], beyond)
}
