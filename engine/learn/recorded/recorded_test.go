package recorded_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/learn/ope"
	"github.com/weirlb/weir/engine/learn/recorded"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/pool"
	"github.com/weirlb/weir/engine/sim/policy"
	"github.com/weirlb/weir/engine/sim/scenario"
	"github.com/weirlb/weir/engine/sim/world"
)

// keeper writes down what a balancer of the simulator does, as the engine's history would, and what its policy saw at each pick.
type keeper struct {
	l        *decide.Learned
	pick     []seen
	series   []history.Series
	outcomes []history.Outcome
	fine     bool // times to the microsecond
}

type seen struct {
	at         float64
	propensity float64
	cost       float64
	explored   bool
}

func (k *keeper) Picked(a *world.Attempt, row, at int, n float64, c decide.Choice) uint32 {
	x := make([]float32, decide.Inputs)
	k.pick = append(k.pick, seen{a.Now, c.Propensity, k.l.Features(row, at, n, x), c.Explored})
	return uint32(len(k.pick))
}

func (k *keeper) Ended(o *world.Outcome) {
	p := k.pick[o.Cookie-1]
	h := history.Outcome{
		AtMS: int64(math.Round(o.Now)), Series: uint32(o.Peer), Attempt: 1, Kind: uint8(pool.OK), Status: 200, Inflight: uint16(o.InFlight),
		Propensity: float32(p.propensity), TotalMS: float32(o.LatencyMS), HeaderMS: float32(o.LatencyMS), Load: -1, Rate: 1,
	}
	if k.fine {
		us := int64(math.Round(o.Now * 1000))
		h.AtMS, h.AtUS = us/1000, uint16(us%1000)
	}
	if p.explored {
		h.Flags = uint16(observe.Explored)
	}
	k.outcomes = append(k.outcomes, h)
}

const uneven = `
name: uneven
requests: 20000
warmup: 20000
arrivals: {load: 0.6}
classes: [{name: a, share: 1, service_ms: {mean: 100}}]
peers: [{slots: 4, speed: 1.2}, {slots: 4, speed: 0.5}, {slots: 4, speed: 0.8}, {slots: 2, speed: 1}]
`

// kept plays a world and returns what was kept of it.
func kept(t *testing.T, explore float64) *keeper { return keptOf(t, uneven, explore, false) }

func keptOf(t *testing.T, text string, explore float64, fine bool) *keeper {
	t.Helper()
	s, err := scenario.Parse("uneven.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{l: &decide.Learned{}, fine: fine}
	for i := range s.Peers {
		k.series = append(k.series, history.Series{Pool: "api", Peer: "10.0.0." + strconv.Itoa(i+1) + ":80", Class: "*"})
	}
	w := world.New(s, 1, policy.Weir(func(*world.Setup) policy.Variant {
		return policy.Variant{Policy: k.l, Explore: explore, Watch: k}
	}))
	if _, err := w.Run(nil); err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(k.outcomes, func(a, b history.Outcome) int { return int(a.AtMS - b.AtMS) })
	return k
}

func replayed(t *testing.T, k *keeper, opt recorded.Options, explore float64) *recorded.Replay {
	t.Helper()
	opt.Pool = func(string) recorded.Settings {
		return recorded.Settings{Rule: decide.Rule{Spread: 0.1, Explore: explore}}
	}
	r := recorded.New(opt)
	for at := 0; at < len(k.outcomes); at += 500 { // in blocks, as stores give them
		if err := r.Add(k.series, k.outcomes[at:min(at+500, len(k.outcomes))]); err != nil {
			t.Fatal(err)
		}
	}
	r.Finish()
	return r
}

func TestRecordedOutcomesGiveTheCostsThatPicksWereMadeOn(t *testing.T) {
	k := kept(t, 0.05)
	r := replayed(t, k, recorded.Options{}, 0.05)
	byTime := map[int64]seen{}
	for _, p := range k.pick {
		byTime[int64(math.Round(p.at*float64(1)))] = p
	}
	var off []float64
	best, n := 0, 0
	for _, d := range r.Decisions() {
		p, ok := byTime[int64(math.Round(d.At))]
		if !ok || float32(p.propensity) != float32(d.Propensity) {
			continue // starts are known to a millisecond: another pick
		}
		off = append(off, math.Abs(float64(d.Cost[d.Chosen])/p.cost-1))
		n++
		probability := make([]float64, len(d.Cost))
		costs := make([]float64, len(d.Cost))
		for i, c := range d.Cost {
			costs[i] = float64(c)
		}
		d.Rule.Distribution(costs, probability)
		if (probability[d.Chosen] > 0.1) == (p.propensity > 0.1) {
			best++
		}
	}
	if n < 5000 {
		t.Fatalf("%d decisions of %d outcomes could be compared: %+v", n, len(k.outcomes), r.Counts())
	}
	slices.Sort(off)
	if m, p90 := off[n/2], off[n*9/10]; m > 0.1 || p90 > 0.5 {
		t.Errorf("costs are off by %.3f in the median, %.3f at the 90th percentile", m, p90)
	}
	if share := float64(best) / float64(n); share < 0.85 {
		t.Errorf("the probability of the pick is found large or small as it was in %.3f of the decisions", share)
	}
}

func TestNoModelIsJudgedWhereRequestsToldTheirSize(t *testing.T) {
	k := kept(t, 0.1)
	for i := range k.outcomes {
		k.outcomes[i].Weight = 100
	}
	for heeded := range map[bool]bool{true: true, false: true} {
		r := recorded.New(recorded.Options{WarmMS: 1000, Pool: func(string) recorded.Settings {
			return recorded.Settings{Rule: decide.Rule{Spread: 0.1, Explore: 0.1}, Sizes: heeded}
		}})
		if err := r.Add(k.series, k.outcomes); err != nil {
			t.Fatal(err)
		}
		r.Finish()
		n, decisions := r.Counts(), len(r.Decisions())
		if (n.Sized > 1000) != heeded || (decisions > 1000) == heeded {
			t.Errorf("sizes heeded %t: %d decisions, %d left out for sizes", heeded, decisions, n.Sized)
		}
	}
}

// Where engines share the peers, what a request costs falls on requests that this history does not have.
func TestNoModelIsJudgedWhereOtherEnginesSentToThePeersToo(t *testing.T) {
	k := kept(t, 0.1)
	for _, engines := range []int{1, 3} {
		r := recorded.New(recorded.Options{WarmMS: 1000, Pool: func(string) recorded.Settings {
			return recorded.Settings{Rule: decide.Rule{Spread: 0.1, Explore: 0.1}, Balancers: engines}
		}})
		if err := r.Add(k.series, k.outcomes); err != nil {
			t.Fatal(err)
		}
		r.Finish()
		n, decisions := r.Counts(), len(r.Decisions())
		if shared := engines > 1; (n.Shared > 1000) != shared || (decisions > 1000) == shared {
			t.Errorf("%d engines: %d decisions, %d left out", engines, decisions, n.Shared)
		}
	}
}

func TestModelsAreToldApartByRecordedHistory(t *testing.T) {
	r := replayed(t, kept(t, 0.2), recorded.Options{}, 0.2)
	turned := model.New([]int{decide.Inputs, 1}, rand.New(rand.NewPCG(1, 1)))
	turned.W[0][slices.Index(decide.InputNames(), "log_cost")] = -2
	res, err := ope.Evaluate(context.Background(), turned.Predictor(), nil, r.Decisions(), ope.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !(res.Difference.Low > 0.05) {
		t.Errorf("a model that turns costs around is said to make %+v", res.Difference)
	}
	back, err := ope.Evaluate(context.Background(), nil, turned.Predictor(), r.Decisions(), ope.Options{})
	if err != nil || !(back.Difference.High < -0.05) {
		t.Errorf("the other way round: %+v, %v", back.Difference, err)
	}
	if rows := recorded.Rows(r.Decisions(), false); rows.Len() != len(r.Decisions()) || rows.In != decide.Inputs {
		t.Errorf("%d rows", rows.Len())
	}
}

func TestPeersThatLeftOrWereEjectedAreNotTakenForUsable(t *testing.T) {
	series := []history.Series{{Pool: "api", Peer: "10.0.0.1:80", Class: "*"}, {Pool: "api", Peer: "10.0.0.2:80", Class: "*"}, {Pool: "api", Peer: "10.0.0.3:80", Class: "*"}}
	r := recorded.New(recorded.Options{WarmMS: 1})
	const t0 = 1_700_000_000_000
	r.Health([]history.Event{{AtMS: t0 + 20_000, Kind: history.Health, Pool: "api", Subject: "10.0.0.2:80", To: "ejected"}})
	var list []history.Outcome
	for i := range 12_000 { // 100 a second for two minutes; the third is not used after the first second
		o := history.Outcome{AtMS: t0 + int64(i)*10, Series: 0, Attempt: 1, TotalMS: 5, HeaderMS: 5, Propensity: 0.5, Load: -1, Rate: 1}
		switch {
		case i < 100:
			o.Series = uint32(i % 3)
		case i < 2000:
			o.Series = uint32(i % 2)
		}
		list = append(list, o)
	}
	if err := r.Add(series, list); err != nil {
		t.Fatal(err)
	}
	r.Finish()
	for _, d := range r.Decisions() {
		if d.At > t0+21_000 && d.At < t0+22_000 && len(d.Cost) != 2 {
			t.Fatalf("with one of three ejected, %d were considered", len(d.Cost))
		}
	}
	first, last := r.Decisions()[200], r.Decisions()[len(r.Decisions())-1]
	if len(first.Cost) != 3 || len(last.Cost) != 1 {
		t.Errorf("at first %d peers, at last %d", len(first.Cost), len(last.Cost))
	}
}

func TestHistoryOutOfOrderSampledOrBrokenIsCounted(t *testing.T) {
	series := []history.Series{{Pool: "api", Peer: "10.0.0.1:80", Class: "*"}}
	r := recorded.New(recorded.Options{WarmMS: 1})
	o := func(at int64, rate float32) history.Outcome {
		return history.Outcome{AtMS: at, Attempt: 1, TotalMS: 5, Propensity: 1, Load: -1, Rate: rate}
	}
	if err := r.Add(series, []history.Outcome{o(1000, 1), o(90_000, 0.5), o(2000, 1), o(90_001, 1)}); err != nil {
		t.Fatal(err)
	}
	r.Finish()
	if r.Outcomes != 4 || r.Late != 1 || r.Sampled != 1 || r.Counts().Foreign != 1 {
		t.Errorf("%+v, late %d, sampled %d", r.Counts(), r.Late, r.Sampled)
	}
	if err := r.Add(series, []history.Outcome{{Series: 3}}); err == nil {
		t.Error("an outcome of no series was accepted")
	}
}

func TestWhatComesBeforeTheJudgedPartOnlyWarmsTheEstimators(t *testing.T) {
	k := kept(t, 0.05)
	middle := float64(k.outcomes[len(k.outcomes)/2].AtMS)
	r := replayed(t, k, recorded.Options{FromMS: middle}, 0.05)
	list := r.Decisions()
	if len(list) < len(k.outcomes)/3 {
		t.Fatalf("%d decisions of %d outcomes", len(list), len(k.outcomes))
	}
	for _, d := range list {
		if d.At < middle {
			t.Fatalf("a decision at %.0f, before %.0f", d.At, middle)
		}
	}
	if n := len(k.outcomes) - len(list) - int(r.Early); math.Abs(float64(n)) > 0.05*float64(len(k.outcomes)) {
		t.Errorf("%d outcomes, %d decisions, %d of before", len(k.outcomes), len(list), r.Early)
	}
}

// TestATableIsAsOldInTheReplayAsItIsInTheEngine: a peer turns slow; requests placed within LagMS of the first sign are decided on what was known before.
func TestATableIsAsOldInTheReplayAsItIsInTheEngine(t *testing.T) {
	costs := func(lag float64) (early, late float64) {
		series := []history.Series{{Pool: "api", Peer: "10.0.0.1:80", Class: "*"}, {Pool: "api", Peer: "10.0.0.2:80", Class: "*"}}
		r := recorded.New(recorded.Options{WarmMS: 1000, LagMS: lag})
		const t0, turn, n = 1_700_000_000_000, 60_000, 12_000
		var list []history.Outcome
		for i := range n { // each 10 ms one ends, at each in turn; the first turns from 10 to 200 ms
			o := history.Outcome{AtMS: t0 + int64(i)*10, Series: uint32(i % 2), Attempt: 1, TotalMS: 10, Propensity: 0.5, Load: -1, Rate: 1}
			if o.Series == 0 && i*10 >= turn {
				o.TotalMS = 200
			}
			o.HeaderMS = o.TotalMS
			list = append(list, o)
		}
		if err := r.Add(series, list); err != nil {
			t.Fatal(err)
		}
		r.Finish()
		found := func(from, to float64) float64 {
			sum, n := 0.0, 0.0
			for _, d := range r.Decisions() {
				if at := d.At - t0; at >= from && at < to && len(d.Cost) == 2 {
					sum, n = sum+float64(d.Cost[0]), n+1
				}
			}
			return sum / n
		}
		return found(turn+100, turn+400), found(turn+3000, turn+4000)
	}
	now, nowLater := costs(-1)
	old, oldLater := costs(400)
	if !(old < 0.8*now) || math.Abs(oldLater/nowLater-1) > 0.2 {
		t.Errorf("within 0.4 s of the turn the peer costs %.1f ms by tables of 0.4 s ago, %.1f by fresh ones; seconds later %.1f and %.1f", old, now, oldLater, nowLater)
	}
}

// TestAPauseOfNGINXIsNoSlownessOfPeers: NGINX stands still for a quarter of a second, as where its host has no processor for it. Nothing begins or ends, and
// what waited ends later. Without care a peer seems to take 2.6 s. (Longer pauses look like silence of the peers to the engine too.)
func TestAPauseOfNGINXIsNoSlownessOfPeers(t *testing.T) {
	series := []history.Series{{Pool: "api", Peer: "10.0.0.1:80", Class: "*"}, {Pool: "api", Peer: "10.0.0.2:80", Class: "*"}}
	const t0, pause, length, n = 1_700_000_000_000, 60_000, 250, 30_000
	run := func(paused bool) float64 {
		rnd := rand.New(rand.NewPCG(1, 1))
		r := recorded.New(recorded.Options{WarmMS: 1000})
		var list []history.Outcome
		for i := range n { // 250 a second
			start, took := float64(i*4), 10+30*rnd.Float64()
			if paused && start >= pause && start < pause+length {
				continue
			}
			end := start + took
			if paused && start < pause && end >= pause {
				end += length
			}
			list = append(list, history.Outcome{AtMS: t0 + int64(end), Series: uint32(i % 2), Attempt: 1, TotalMS: float32(end - start), HeaderMS: float32(end - start), Propensity: 0.5, Load: -1, Rate: 1})
		}
		slices.SortStableFunc(list, func(a, b history.Outcome) int { return int(a.AtMS - b.AtMS) })
		if err := r.Add(series, list); err != nil {
			t.Fatal(err)
		}
		r.Finish()
		worst := 0.0
		for _, d := range r.Decisions() {
			if at := d.At - t0; at > pause-500 && at < pause+length+1000 {
				worst = max(worst, float64(d.Cost[0]), float64(d.Cost[1]))
			}
		}
		return worst
	}
	if with, without := run(true), run(false); with > 4*without {
		t.Errorf("the dearest cost is %.0f ms with a pause, %.0f without", with, without)
	}
}

// TestMicrosecondsTellWhatWasInFlightAtFastServices: peers of 10 ms that together get 1,300 requests a second. The policy that served is judged by its
// own history: as far as the replay finds what it saw, its weights are 1 and every decision counts.
func TestMicrosecondsTellWhatWasInFlightAtFastServices(t *testing.T) {
	k := keptOf(t, strings.Replace(uneven, "mean: 100", "mean: 10", 1), 0.05, true)
	worth := func() float64 {
		r := replayed(t, k, recorded.Options{WarmMS: 5000, LagMS: -1}, 0.05)
		res, err := ope.Evaluate(context.Background(), nil, nil, r.Decisions(), ope.Options{Own: true})
		if err != nil {
			t.Fatal(err)
		}
		return res.Effective / float64(res.Decisions)
	}
	fine := worth()
	for i := range k.outcomes {
		k.outcomes[i].AtUS = 0
	}
	if coarse := worth(); fine < 1.5*coarse {
		t.Errorf("with microseconds a decision is worth %.3f of one, with milliseconds %.3f", fine, coarse)
	} else {
		t.Logf("%.3f and %.3f", fine, coarse)
	}
}
