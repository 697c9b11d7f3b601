// Package decide turns what is known of a pool's peers into decision tables, and picks by them.
//
// It is pure: time and randomness are arguments, there is no I/O.
package decide

import (
	"math/rand/v2"

	"github.com/weirlb/weir/engine/estimate"
)

// GridPoints is the number of in-flight counts a table holds costs for.
const GridPoints = 10

// Grid returns those counts.
func Grid() [GridPoints]int { return [GridPoints]int{0, 1, 2, 4, 8, 16, 32, 64, 128, 256} }

// Table is the decision table of one pool: what it costs to send one more request of a class to a peer that holds n.
type Table struct {
	Classes []string  // row names; 0 is "*"
	Peers   []string  // addresses, in the pool's order
	Cost    []float32 // [class][peer][grid]; finite, > 0, not falling in in-flight
}

// Row returns the costs of class c on peer p over the grid.
func (t *Table) Row(c, p int) []float32 {
	at := (c*len(t.Peers) + p) * GridPoints
	return t.Cost[at : at+GridPoints : at+GridPoints]
}

// At returns the cost of one more request of class c on peer p that holds n: linear between grid points, past the last by its
// last slope, as NGINX does.
func (t *Table) At(c, p int, n float64) float64 { panic("todo") }

// Class returns the row of a class name; unknown names use 0.
func (t *Table) Class(name string) int { panic("todo") }

// Objective is what the operator wants to be small.
type Objective uint8

const (
	Mean Objective = iota // mean response time
	P99                   // the tail
)

// Params are a pool's settings that shape its costs.
type Params struct {
	Objective Objective
	Weights   []float64 // operator's weight per peer; nil or <= 0 means 1
}

// Policy fills decision tables.
type Policy interface {
	Name() string
	// Fill overwrites t with the costs as of now. It reuses t's memory and allocates nothing when the shape stays.
	Fill(now float64, est *estimate.Pool, par Params, t *Table)
}

// Analytic is the classical policy: expected response time from the estimators, with failures, and the delay a request imposes.
type Analytic struct {
	Delay float64 // how much of the delay imposed on later requests is charged; 0 = default, negative = none
	buf   []float64
}

// Name returns "analytic".
func (a *Analytic) Name() string { return "analytic" }

// Fill implements Policy.
func (a *Analytic) Fill(now float64, est *estimate.Pool, par Params, t *Table) { panic("todo") }

// Candidate is a peer as a pick sees it, in the table's order.
type Candidate struct {
	InFlight float64
	Usable   bool
	Admit    float64 // probability to be considered; <= 0 means 1
}

// Choice is a pick.
type Choice struct {
	Peer       int     // -1 when no candidate is usable
	Cost       float64 // predicted, ms
	Propensity float64 // probability of this pick, given who was admitted
	Explored   bool
}

// Pick takes the lowest cost for class c among the usable candidates.
func Pick(t *Table, c int, cand []Candidate, explore float64, rnd *rand.Rand) Choice { panic("todo") }

// LocalRule is what decides without a table: the better of two random usable peers by (in-flight + 1) / weight.
func LocalRule(cand []Candidate, weights []float64, rnd *rand.Rand) Choice { panic("todo") }

// Reason says in one sentence why choice was made.
func Reason(t *Table, c int, cand []Candidate, choice Choice) string { panic("todo") }
