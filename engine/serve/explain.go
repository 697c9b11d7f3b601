package serve

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/weirlb/weir/engine/decide"
)

// Explanation is why requests of a class go where they go, by the estimates that the last table was made from: the answer of
// GET /api/explain.
type Explanation struct {
	Pool      string            `json:"pool"`
	Class     string            `json:"class"` // whose row is used: "*" for a class that has none
	Policy    string            `json:"policy"`
	Model     *string           `json:"model"` // whose correction is shown, also where the policy is the analytic one
	Objective string            `json:"objective"`
	Reason    string            `json:"reason"`   // one sentence: why the first is first
	Grid      []int             `json:"grid"`     // in-flight counts of the curves
	Features  []string          `json:"features"` // names, in the order of the model's input
	Peers     []PeerExplanation `json:"peers"`    // cheapest first, those that may not be used last
}

// PeerExplanation is one peer. Costs are of one more request at so many in flight, ms.
type PeerExplanation struct {
	Peer       string         `json:"peer"`
	State      string         `json:"state"`
	StateWhy   string         `json:"state_reason"`
	Usable     bool           `json:"usable"`
	Admit      float64        `json:"admit"`
	Weight     float64        `json:"weight"`
	Inflight   int            `json:"inflight"`
	Load       *float64       `json:"reported_load"`     // what the peer says of itself; null = nothing, or it is not used
	Held       *float64       `json:"reported_inflight"` // by its last report
	Elsewhere  *float64       `json:"elsewhere"`         // requests of other balancers there, as believed by the reports
	Expected   float64        `json:"expected_ms"`       // what it is expected to take at Inflight, by the policy; cost has what it costs others besides
	Cost       float64        `json:"cost_ms"`           // at Inflight, by the policy
	Analytic   float64        `json:"analytic_ms"`
	Correction *float64       `json:"correction"` // factor of the model on that; null = no model
	Share      float64        `json:"share"`      // probability to be picked, were every usable peer considered; with a split, of the requests of both sides
	Curve      []float32      `json:"analytic_curve"`
	Learned    []float32      `json:"learned_curve"` // null = no model
	Values     []float32      `json:"values"`        // of the features, at Inflight
	Metrics    []MetricFigure `json:"metrics"`       // what its server says of itself, now
	Why        string         `json:"why"`           // what makes it dearer than the first; "" for the first
}

// Explain explains the row of a class.
func (e *Engine) Explain(poolName, class string) (Explanation, error) {
	p, err := e.pool(poolName)
	if err != nil {
		return Explanation{}, err
	}
	eval := e.models.use()
	defer eval.release()
	p.mu.Lock()
	defer p.unlock()
	now := p.filledAt // what the estimators said when the table was made; a question changes nothing
	params := p.params()
	// A policy of its own: the pool's is not to be disturbed, and its model may be of another moment.
	l := &decide.Learned{}
	if eval != nil {
		l.Model, l.Analytic.Price = eval.predictor(), eval.model.Price
	}
	var table decide.Table
	l.Fill(now, p.est, params, &table)
	corrected := eval != nil && l.Fault() == nil && !l.Silent()
	row := table.Class(class)
	x := Explanation{
		Pool: p.name, Class: table.Classes[row], Policy: p.serving, Objective: string(p.conf.Objective),
		Features: decide.InputNames(), Peers: []PeerExplanation{},
	}
	if corrected {
		x.Model = &eval.model.ID
	}
	grid := decide.Grid()
	x.Grid = grid[:]
	cases := make([]decide.Case, len(p.members))
	decided := decide.Table{Classes: table.Classes[row : row+1], Peers: table.Peers}
	for i, m := range p.members {
		h, v := p.health.View(i), p.est.Peer(i)
		held := m.inflight.Load()
		values := make([]float32, decide.Inputs)
		base := l.Features(row, i, float64(held), values)
		one := PeerExplanation{
			Peer: m.addr, State: h.State.String(), StateWhy: stateWhy(&h), Usable: h.Usable, Admit: round3(h.Admit), Weight: h.Weight, Inflight: int(held),
			Analytic: base, Cost: base, Expected: l.Time(row, i, float64(held)), Values: values, Curve: make([]float32, decide.GridPoints),
			Metrics: p.metricFigures(p.eng.now(), m.addr),
		}
		for g, n := range grid {
			scratch := [decide.Inputs]float32{}
			one.Curve[g] = float32(l.Features(row, i, float64(n), scratch[:]))
		}
		one.Load, one.Held, _, _, one.Elsewhere = reported(&v)
		curve := one.Curve
		cases[i] = decide.Case{Name: m.addr, InFlight: float64(held), Slots: v.Concurrency, Weight: h.Weight, Features: values}
		if corrected {
			one.Learned = slices.Clone(table.Row(row, i))
			with := table.At(row, i, float64(held))
			f := with / base
			one.Correction = &f
			if p.serving == learned {
				one.Cost, curve = with, one.Learned
				one.Expected *= f
				cases[i].Z = math.Log(f)
			}
		}
		decided.Cost = append(decided.Cost, curve...)
		x.Peers = append(x.Peers, one)
	}
	if decided.Trust(params, p.trust()) {
		for i := range x.Peers {
			x.Peers[i].Cost = decided.At(0, i, float64(x.Peers[i].Inflight))
		}
	}
	p.rank(&x, &decided, cases)
	return x, nil
}

// rank orders the peers, and says why they are in that order.
func (p *livePool) rank(x *Explanation, t *decide.Table, cases []decide.Case) {
	candidates := make([]decide.Candidate, len(x.Peers))
	for i, peer := range x.Peers {
		candidates[i] = decide.Candidate{InFlight: float64(peer.Inflight), Usable: peer.Usable}
	}
	rule := decide.Rule{Explore: p.conf.Explore, Spread: p.conf.Spread}
	choice := decide.Lowest(t, 0, candidates)
	shares, split := p.shares(t, candidates, rule)
	for i, share := range shares {
		x.Peers[i].Share = share
	}
	order := make([]int, len(x.Peers))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if ua, ub := x.Peers[a].Usable, x.Peers[b].Usable; ua != ub {
			if ua {
				return -1
			}
			return 1
		}
		return cmp.Compare(x.Peers[a].Cost, x.Peers[b].Cost)
	})
	x.Reason = decide.Reason(t, 0, candidates, choice)
	peers := make([]PeerExplanation, len(order))
	for rank, i := range order {
		peers[rank] = x.Peers[i]
		if rank > 0 && choice.Peer >= 0 {
			peers[rank].Why = decide.Apart(&cases[choice.Peer], &cases[i])
		}
	}
	if len(peers) > 1 && peers[1].Usable && peers[1].Why != "" {
		x.Reason += ": " + peers[1].Why
	}
	x.Reason += split
	x.Peers = peers
}

// shares are the probabilities with which each peer is picked, and what is to be said of the pool's split, which sends requests to a side before
// costs are looked at: "" where there is none.
func (p *livePool) shares(t *decide.Table, all []decide.Candidate, rule decide.Rule) (shares []float64, split string) {
	s := p.splitNow()
	if !s.On() {
		return decide.Shares(t, 0, all, rule), ""
	}
	side := func(group bool) (of []float64, usable bool) {
		candidates := slices.Clone(all)
		for i := range candidates {
			candidates[i].Usable = candidates[i].Usable && (p.members[i].group == s.Group) == group
			usable = usable || candidates[i].Usable
		}
		return decide.Shares(t, 0, candidates, rule), usable
	}
	group, someGroup := side(true)
	rest, someRest := side(false)
	part := s.Share
	switch {
	case !bool(s.Fallback):
	case !someGroup:
		part = 0
	case !someRest:
		part = 1
	}
	for i := range group {
		group[i] = part*group[i] + (1-part)*rest[i]
	}
	return group, fmt.Sprintf("; %.4g %% of the requests go to group %s and choose among its peers alone, the others among the rest", 100*part, s.Group)
}
