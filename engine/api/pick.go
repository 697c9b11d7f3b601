package api

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/jsonwrite"
	"github.com/weirlb/weir/engine/serve"
)

// scratch is what a pick needs and the next one can have again: 5,000 a second left 60 MB of garbage a second, and each collection a few calls late.
type scratch struct {
	rnd        *rand.Rand
	candidates []decide.Candidate
	others     []alternative
	out        []byte
}

func newScratch() scratch {
	return scratch{rnd: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())), others: []alternative{}}
}

// picked is one chosen peer, and why.
type picked struct {
	Peer         string        `json:"peer"`
	PredictedMS  float64       `json:"predicted_ms"`
	Propensity   float64       `json:"propensity"`
	Explored     bool          `json:"explored"`
	Size         float64       `json:"size"` // times the usual of its class that the request is taken for, by its weight
	Reason       string        `json:"reason"`
	Alternatives []alternative `json:"alternatives"`
}

// alternative is another peer of the pool, usable or not.
type alternative struct {
	Peer        string  `json:"peer"`
	PredictedMS float64 `json:"predicted_ms"`
	State       string  `json:"state"`
	Usable      bool    `json:"usable"`
}

// choose picks as NGINX would, by the same table and rule. Alternatives are in the order of their predicted cost. The result is valid until the question is
// put back.
func choose(s *serve.Snapshot, row int, q *question) (picked, bool) {
	q.candidates = s.Candidates(q.candidates[:0], q.inflight)
	candidates, size := q.candidates, s.Table.Size(row, q.weight)
	choice := decide.PickSized(s.Table, row, size, candidates, decide.Rule{Explore: s.Settings.Explore, Spread: s.Settings.Spread}, q.rnd)
	if choice.Peer < 0 {
		return picked{}, false
	}
	q.others = q.others[:0]
	for i := range s.Peers {
		if i == choice.Peer {
			continue
		}
		peer := &s.Peers[i]
		q.others = append(q.others, alternative{
			Peer: peer.Addr, PredictedMS: s.Table.Price(row, i, candidates[i].InFlight, candidates[i].Work, size), State: peer.State, Usable: peer.Usable,
		})
	}
	slices.SortStableFunc(q.others, func(a, b alternative) int { return cmp.Compare(a.PredictedMS, b.PredictedMS) })
	return picked{
		Peer: s.Peers[choice.Peer].Addr, PredictedMS: choice.Cost, Propensity: choice.Propensity, Explored: choice.Explored, Size: size,
		Reason: decide.ReasonSized(s.Table, row, size, candidates, choice), Alternatives: q.others,
	}, true
}

// append appends the pick as JSON.
func (p *picked) append(dst []byte) []byte {
	dst = jsonwrite.String(append(dst, `{"peer":`...), p.Peer)
	dst = jsonwrite.Number(append(dst, `,"predicted_ms":`...), p.PredictedMS)
	dst = jsonwrite.Number(append(dst, `,"propensity":`...), p.Propensity)
	dst = strconv.AppendBool(append(dst, `,"explored":`...), p.Explored)
	dst = jsonwrite.Number(append(dst, `,"size":`...), p.Size)
	dst = jsonwrite.String(append(dst, `,"reason":`...), p.Reason)
	dst = append(dst, `,"alternatives":[`...)
	for i := range p.Alternatives {
		a := &p.Alternatives[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = jsonwrite.String(append(dst, `{"peer":`...), a.Peer)
		dst = jsonwrite.Number(append(dst, `,"predicted_ms":`...), a.PredictedMS)
		dst = jsonwrite.String(append(dst, `,"state":`...), a.State)
		dst = append(strconv.AppendBool(append(dst, `,"usable":`...), a.Usable), '}')
	}
	return append(dst, "]}"...)
}
