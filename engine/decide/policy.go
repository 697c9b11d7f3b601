package decide

import "github.com/weirlb/weir/engine/estimate"

// Objective is what the operator wants to be small.
type Objective uint8

const (
	Mean Objective = iota // mean response time
	P99                   // the tail: 99th percentile of response times
)

// Params are a pool's settings that shape its costs.
type Params struct {
	Objective Objective
	Sizes     bool      // who picks heeds Table.Work and reports Outcome.Work; without it a pool's hints shape no costs
	Weights   []float64 // operator's weight per peer; nil, missing or not > 0 means 1
	Away      []Away    // what the way to each peer adds; nil or missing means nothing
}

// Away is what a peer costs beyond its own time because it is in another zone: cost x (1 + Share) + MS. It is part of the cost at every
// in-flight count, so the near peers' costs rise to it as they fill up, and traffic spills over little by little.
type Away struct {
	Share float64 // of the cost; >= 0
	MS    float64 // >= 0
}

func (p *Params) away(i int) (factor, ms float64) {
	if i < len(p.Away) {
		a := p.Away[i]
		return 1 + max(a.Share, 0), max(a.MS, 0)
	}
	return 1, 0
}

func (p *Params) weight(i int) float64 {
	if i < len(p.Weights) && p.Weights[i] > 0 {
		return p.Weights[i]
	}
	return 1
}

// Policy fills decision tables. A policy is used by one goroutine at a time: it may keep scratch memory.
type Policy interface {
	Name() string
	// Fill overwrites t with the costs as of now. Call est.Refresh(now) before. It reuses t's memory and allocates nothing when
	// the shape stays, so a table that was published must be copied or replaced, not filled again.
	Fill(now float64, est *estimate.Pool, par Params, t *Table)
}
