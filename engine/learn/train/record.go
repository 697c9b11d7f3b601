package train

import (
	"math/rand/v2"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/fit"
	"github.com/weirlb/weir/engine/learn/returns"
	"github.com/weirlb/weir/engine/sim/policy"
	"github.com/weirlb/weir/engine/sim/scenario"
	"github.com/weirlb/weir/engine/sim/world"
)

// tape is what was recorded of one world, over all its balancers: everything the peers did, and some of the decisions.
type tape struct {
	logs    []returns.Log // by peer
	samples []sample
	x       []float32 // features by sample
	share   float64   // of the decisions that become samples
	rnd     *rand.Rand
}

// sample is one decision.
type sample struct {
	peer     int32
	at       int32   // in the peer's log; -1 = not answered
	cost     float64 // by the formulas, ms
	expected float64 // response time by the formulas, ms
	own      float64 // response time, ms
}

func newTape(s *scenario.Scenario, share float64, rnd *rand.Rand) *tape {
	t := &tape{logs: make([]returns.Log, len(s.Peers)), share: share, rnd: rnd}
	for i := range t.logs {
		t.logs[i].Slots = s.Peers[i].Slots
	}
	return t
}

// head records the decisions of one balancer.
type head struct {
	*tape
	policy *decide.Learned
	skip   int // picks from here on that are not recorded
}

// startPicks is how many picks a peer a balancer makes before any is recorded, but at most a quarter of its own. While nothing is known of a pool, requests take several times what is
// expected, at all peers alike. A model that had learned from those took each peer of which little is known for that much dearer than the others.
const startPicks = 100

// Picked implements policy.Watcher.
func (h *head) Picked(a *world.Attempt, row, at int, n float64, _ decide.Choice) uint32 {
	h.skip--
	if h.rnd.Float64() >= h.share || h.skip >= 0 {
		return 0
	}
	from := len(h.x)
	h.x = append(h.x, make([]float32, decide.Inputs)...)
	cost := h.policy.Features(row, at, n, h.x[from:])
	h.samples = append(h.samples, sample{at: -1, cost: cost, expected: h.policy.Time(row, at, n)})
	return uint32(len(h.samples))
}

// Ended implements policy.Watcher.
func (h *head) Ended(o *world.Outcome) {
	if o.Kind != world.OK {
		return
	}
	l := &h.logs[o.Peer]
	l.Arrived = append(l.Arrived, o.Now-o.LatencyMS)
	l.Service = append(l.Service, o.ServiceMS)
	if o.Cookie > 0 {
		s := &h.samples[o.Cookie-1]
		s.peer, s.at, s.own = o.Peer, int32(len(l.Arrived)-1), o.LatencyMS
	}
}

// play runs one world under the policy with the given model (nil: the analytic policy) and returns its decisions with what they cost.
// imposed is how much of the delay imposed on others counts beside the response time.
func play(s *scenario.Scenario, seed uint64, model func() decide.Predictor, imposed, share float64) (*fit.Rows, world.Result, error) {
	t := newTape(s, share, rand.New(rand.NewPCG(seed, 0x7a9e)))
	w := world.New(s, seed, policy.Weir(func(*world.Setup) policy.Variant {
		l := &decide.Learned{}
		if model != nil {
			l.Model = model()
		}
		return policy.Variant{Policy: l, Explore: explore, Watch: &head{t, l, min(startPicks*len(s.Peers), s.Total()/(4*s.Balancers))}}
	}))
	r, err := w.Run(nil)
	if err != nil {
		return nil, r, err
	}
	return t.rows(imposed), r, nil
}

// explore is the share of random picks while recording: more than in production, so that the model sees peers it would not pick.
const explore = 0.03

// rows turns the samples that were answered into training data: response times over what they were expected to be, or returns with the
// delay imposed over prices.
func (t *tape) rows(imposed float64) *fit.Rows {
	cost := make([]float64, len(t.samples))
	byPeer := make([][]int32, len(t.logs)) // samples by peer
	for i := range t.samples {
		if s := &t.samples[i]; s.at >= 0 {
			cost[i] = s.own
			byPeer[s.peer] = append(byPeer[s.peer], int32(i))
		}
	}
	for p := range t.logs {
		if imposed <= 0 {
			break
		}
		l := &t.logs[p]
		sampled := make([]int32, len(l.Arrived)) // by position in the log before sorting: sample + 1
		for _, i := range byPeer[p] {
			sampled[t.samples[i].at] = i + 1
		}
		order := l.Sort()
		delay := l.All(func(i int) bool { return sampled[order[i]] > 0 })
		for i, from := range order {
			if s := sampled[from]; s > 0 {
				cost[s-1] += imposed * delay[i]
			}
		}
	}
	rows := &fit.Rows{In: decide.Inputs}
	for i := range t.samples {
		s := &t.samples[i]
		if s.at < 0 {
			continue
		}
		expected := s.expected
		if imposed > 0 {
			expected = s.cost
		}
		rows.Add(t.x[i*decide.Inputs:(i+1)*decide.Inputs], float32(max(cost[i]/max(expected, 1e-6), 1e-4)))
	}
	return rows
}
