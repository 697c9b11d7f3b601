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
// When the model fails (an error, a number that is none) the table is the analytic one, and Fault tells why.
type Learned struct {
	Analytic Analytic
	Model    Predictor // nil: no correction, the features are still made

	x, y    []float32
	base    []float32 // the analytic costs of the last table
	held    []float64 // by peer: in flight at the last sample
	best    []float64 // by class: the lowest analytic cost at the last in-flight samples
	classes int
	peers   int
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

// Fill implements Policy.
func (l *Learned) Fill(now float64, est *estimate.Pool, par Params, t *Table) {
	l.Analytic.Fill(now, est, par, t)
	l.base = append(l.base[:0], t.Cost...)
	l.features(now, est, t)
	l.fault = nil
	if l.Model == nil || len(t.Peers) == 0 {
		return
	}
	rows := len(t.Cost)
	if cap(l.y) < rows {
		l.y = make([]float32, rows)
	}
	l.y = l.y[:rows]
	if l.fault = l.Model.Predict(l.x, rows, l.y); l.fault != nil {
		return
	}
	for i, z := range l.y {
		if !(z-z == 0) {
			l.fault = fmt.Errorf("the model answered %v for class %q on %s", z, t.Classes[i/(l.peers*GridPoints)], t.Peers[i/GridPoints%l.peers])
			return
		}
	}
	Correct(t.Cost, l.y)
}

// Correct multiplies analytic costs over [class][peer][grid] by the exponentials of a model's answers, within Trust, and keeps them from
// falling as the in-flight count rises.
func Correct(cost, z []float32) {
	for at := 0; at+GridPoints <= len(cost); at += GridPoints {
		last := 0.0
		for g := range GridPoints {
			z := min(max(float64(z[at+g]), -Trust), Trust)
			last = max(bounded(float64(cost[at+g])*math.Exp(z)), last)
			cost[at+g] = float32(last)
		}
	}
}

// features makes the rows: [class][peer][grid], like the costs.
func (l *Learned) features(now float64, est *estimate.Pool, t *Table) {
	l.classes, l.peers = len(t.Classes), len(t.Peers)
	if n := len(t.Cost) * Inputs; cap(l.x) < n {
		l.x = make([]float32, n)
	}
	l.x = l.x[:len(t.Cost)*Inputs]
	load, capacity := 0.0, 0.0
	l.held = l.held[:0]
	for i := range t.Peers {
		v := est.Peer(i)
		l.held = append(l.held, float64(v.InFlight))
		load += v.ArrivalRate
		capacity += v.Concurrency / v.WorkMS
	}
	load = min(load/max(capacity, 1e-9), 2)
	work := est.WorkMS()
	peers := math.Log(float64(max(l.peers, 1)))
	grid := Grid()
	l.best = l.best[:0]
	for c := range t.Classes {
		best := math.Inf(1)
		for i := range t.Peers {
			best = min(best, t.At(c, i, l.held[i]))
		}
		l.best = append(l.best, best)
	}
	var base [estimate.Features]float32
	for i := range t.Peers {
		v := est.Peer(i)
		held := math.Log1p(float64(v.InFlight))
		others := math.Log1p(v.Others)
		for c, idx := range est.Listed() {
			est.Feature(now, i, idx, &base)
			size := ln(est.Pair(i, idx).ServiceMS / v.WorkMS)
			row := t.Row(c, i)
			at := (c*l.peers + i) * GridPoints * Inputs
			for g, n := range grid {
				x := l.x[at+g*Inputs : at+(g+1)*Inputs]
				copy(x, base[:])
				many := math.Log1p(float64(n))
				for j, f := range [own]float64{
					many, many - math.Log(v.Concurrency), ln(float64(row[g]) / work), ln(float64(row[g] / row[0])),
					size, many - held, load, peers, others, ln(float64(row[g]) / l.best[c]),
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
}

// Matrix returns that of the last Fill.
func (l *Learned) Matrix() Matrix { return Matrix{l.classes, l.peers, l.x, l.base} }

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
	cost := float64(m.Cost[row])
	return cost + (float64(m.Cost[row+1])-cost)*beyond
}
