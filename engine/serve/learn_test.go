package serve

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/gate"
	"github.com/weirlb/weir/engine/learn/online"
	"github.com/weirlb/weir/engine/learn/replay"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/telemetry"
)

const learnPool = `
model: {library: builtin}
learn: {enabled: true, cpu_share: 1}
pools:
  - name: api
    control: 0.1
    explore: 0.05
    spread: 0.3
    peers: ["10.0.0.1:80", "10.0.0.2:80"]
`

// turned makes a model that turns the order of costs around, the more the larger by is.
func turned(by float32) *model.Net {
	n := model.New([]int{decide.Inputs, 1}, rand.New(rand.NewPCG(1, 1)))
	n.W[0][slices.Index(decide.InputNames(), "log_cost")] = -by
	return n
}

// learning starts an engine that learns, with a model.
func learning(t *testing.T, net *model.Net, tune func(*online.Options)) *Engine {
	t.Helper()
	conf := parse(t, learnPool)
	conf.Model.File = written(t, encoded(t, net, nil))
	e := New(conf, telemetry.NewLog(t.Output(), "warn"), telemetry.New())
	if err := e.Models().Configure(conf.Model); err != nil {
		t.Fatal(err)
	}
	e.Learn(conf.Learn, func(o *online.Options) {
		o.Seed, o.EveryMS, o.Least = 3, 3000, 1000
		o.Gate = gate.Options{Looks: 5, WatchMS: 3000, LeastControls: 50}
		tune(o)
	})
	e.Start()
	t.Cleanup(e.Close)
	return e
}

// nginx is an NGINX and two peers: class b takes five times as long on the second. It runs until the test ends.
type nginx struct {
	requests, failed atomic.Int64
	wrong            atomic.Pointer[string] // what was found wrong with a table
}

func (n *nginx) run(t *testing.T, e *Engine) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(stop); <-done })
	go func() {
		defer close(done)
		n.drive(e, stop)
	}()
}

type onTheWay struct {
	end  float64
	rec  observe.Record
	peer int
}

func (n *nginx) drive(e *Engine, stop <-chan struct{}) {
	rnd := rand.New(rand.NewPCG(1, 1))
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	held := make([]int, 2)
	var out []onTheWay
	var ended []onTheWay
	// What has ended by then is no more held. Asked for each request's own time: a machine that is busy lets many come due in one turn of the loop, and
	// where those saw each other's counts pile up, it was these that the policy went by, not how long the peers take.
	end := func(by float64) {
		left := out[:0]
		for _, o := range out {
			if o.end > by {
				left = append(left, o)
				continue
			}
			held[o.peer]--
			ended = append(ended, o)
		}
		out = left
	}
	batch := &observe.Batch{Instance: "web1", Pools: []string{"api"}, Classes: []string{"a", "b"}, Peers: []string{"10.0.0.1:80", "10.0.0.2:80"}}
	next, flush := e.now(), e.now()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		now := e.now()
		for ; next < now; next += 1 { // 1,000 a second
			end(next)
			s := e.State().Pool("api")
			r := observe.Record{Class: uint16(rnd.IntN(2)), Attempt: 1, Status: 200, Load: observe.None, PredictedMS: observe.None}
			cand := make([]decide.Candidate, len(s.Peers))
			for i := range cand {
				cand[i] = decide.Candidate{Usable: s.Peers[i].Usable, Admit: s.Peers[i].Admit, InFlight: float64(held[i])}
			}
			var c decide.Choice
			if rnd.Float64() < 0.1 {
				c = decide.TwoChoices(cand, nil, rnd)
				r.Flags = observe.Control
			} else if c = decide.Pick(s.Table, s.Class([]byte(batch.Classes[r.Class])), cand, decide.Rule{Explore: 0.05, Spread: 0.3}, rnd); c.Explored {
				r.Flags = observe.Explored
			}
			n.requests.Add(1)
			if c.Peer < 0 {
				n.failed.Add(1)
				continue
			}
			if !(c.Cost >= 0) {
				wrong := fmt.Sprintf("the cost is %v", c.Cost)
				n.wrong.Store(&wrong)
			}
			ms := 4 * (0.6 + 0.8*rnd.Float64())
			if r.Class == 1 && c.Peer == 1 {
				ms *= 5
			}
			r.Peer, r.Inflight, r.Propensity, r.TotalMS, r.HeaderMS = uint16(c.Peer), uint16(held[c.Peer]), float32(c.Propensity), float32(ms), float32(ms)
			held[c.Peer]++
			out = append(out, onTheWay{next + ms, r, c.Peer})
		}
		if now-flush < 20 {
			continue
		}
		flush = now
		batch.Records, batch.Inflight = batch.Records[:0], batch.Inflight[:0]
		end(now)
		for _, o := range ended {
			o.rec.AgeMS = float32(now - o.end)
			batch.Records = append(batch.Records, o.rec)
		}
		ended = ended[:0]
		for i, peer := range batch.Peers {
			batch.Inflight = append(batch.Inflight, observe.Inflight{Pool: "api", Peer: peer, Count: held[i]})
		}
		e.Observe(batch)
	}
}

// chronicle lists the events of the registry in short.
func chronicle(e *Engine) string {
	r := e.Models()
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, x := range r.events {
		all = append(all, x.Event+" "+x.By+": "+x.Detail)
	}
	return strings.Join(all, "\n")
}

func happened(e *Engine, event, by string) bool {
	r := e.Models()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.events, func(x ModelEvent) bool { return x.Event == event && x.By == by })
}

func TestACandidateIsTrainedJudgedAndServesWhileRequestsFlow(t *testing.T) {
	t.Parallel() // it waits, mostly
	e := learning(t, turned(0.3), func(o *online.Options) { o.Rate, o.Decay, o.MostMoved = 5e-3, 1, 0.4 })
	var n nginx
	n.run(t, e)
	first := e.Models().Serving().ID
	within(t, 90*time.Second, "a candidate that serves", func() bool { return happened(e, "promoted", learnerName) })
	if got := e.Models().Serving().ID; got == first {
		t.Errorf("%s still serves", got)
	}
	v := e.Learning()
	if !v.Enabled || v.Made == 0 || v.Decisions < 500 || v.Attempts.Replayed == 0 || v.CPUSeconds <= 0 {
		t.Errorf("%+v", v)
	}
	for _, want := range []string{"trained learning: fitted to", "proposed learning", "shadow learning", "promoted learning: 5 tables"} {
		if !strings.Contains(chronicle(e), want) {
			t.Errorf("no %q in\n%s", want, chronicle(e))
		}
	}
	if n.failed.Load() > 0 || n.wrong.Load() != nil || n.requests.Load() < 1000 {
		t.Errorf("%d of %d requests failed", n.failed.Load(), n.requests.Load())
	}
	for _, want := range []string{`weir_learn_phase{phase="watched"}`, "weir_learn_replay_decisions ", `weir_learn_attempts_total{result="replayed"}`} {
		if !strings.Contains(scrape(t, e), want) {
			t.Errorf("no %s", want)
		}
	}
}

// What works for 10 ms at a tenth of a core rests for 90 ms, and no longer than a second where the whole machine stood still.
func TestLearningRestsSoLongThatItKeepsItsShareOfACore(t *testing.T) {
	e := New(parse(t, learnPool), telemetry.NewLog(t.Output(), "warn"), telemetry.New())
	t.Cleanup(e.Close)
	for _, c := range []struct {
		share         float64
		worked, least time.Duration
	}{
		{0.1, 10 * time.Millisecond, 90 * time.Millisecond},
		{0.5, 40 * time.Millisecond, 40 * time.Millisecond},
		{0.01, time.Minute, time.Second},
	} {
		l := &Learner{eng: e}
		l.conf.CPUShare = c.share
		began := time.Now()
		l.working = began.Add(-c.worked)
		l.pause()
		if rested := time.Since(began); rested < c.least || rested > c.least+10*time.Second {
			t.Errorf("share %v, %v of work: %v of rest, want %v", c.share, c.worked, rested, c.least)
		}
		if told := time.Duration(l.worked.Load()); told < c.worked {
			t.Errorf("%v of work were told as %v", c.worked, told)
		}
		if l.working.Before(began.Add(c.least)) {
			t.Error("the rest counts as work")
		}
	}
}

func TestABadModelPromotedByHandIsRolledBackByItself(t *testing.T) {
	t.Parallel() // it waits, mostly
	e := learning(t, turned(0), func(o *online.Options) { o.Least = 1 << 30 })
	var n nginx
	n.run(t, e)
	good := e.Models().Serving().ID
	within(t, 20*time.Second, "some of the control slice", func() bool { return e.Learning().Controls > 200 })
	m, err := e.Models().Propose(encoded(t, turned(3), nil), "operator")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Models().Promote(m.ID, "operator", "for the sake of it"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	within(t, 180*time.Second, "a roll-back", func() bool { return happened(e, "rolled_back", learnerName) })
	t.Logf("after %s\n%s", time.Since(began).Round(100*time.Millisecond), chronicle(e))
	if got := e.Models().Serving(); got == nil || got.ID != good {
		t.Errorf("%+v serves, not %s", got, good)
	}
	if !strings.Contains(chronicle(e), "control slice") {
		t.Error("the reason does not name the control slice")
	}
	if n.failed.Load() > 0 || n.wrong.Load() != nil {
		t.Errorf("%d of %d requests failed", n.failed.Load(), n.requests.Load())
	}
}

func TestAnEngineThatDoesNotLearnKeepsNothingForIt(t *testing.T) {
	conf := parse(t, learnPool)
	conf.Learn.Enabled = false
	e := New(conf, telemetry.NewLog(t.Output(), "warn"), telemetry.New())
	t.Cleanup(e.Close)
	e.Learn(conf.Learn, nil)
	if e.learner != nil || e.Learning().Enabled {
		t.Error("it learns")
	}
	for _, p := range e.sorted() {
		if p.feed != nil {
			t.Error("a feed")
		}
	}
	if strings.Contains(scrape(t, e), "weir_learn") {
		t.Error("metrics of what is not")
	}
}

func TestAFeedKeepsWithinItsBoundsAndTellsWhatItLost(t *testing.T) {
	e := learningStill(t)
	refresh(t, e, "api") // the first table that the learner is shown
	for range 3 {
		e.Observe(outcomes(t, "api", "*", "10.0.0.1:80", observe.OK, feedAttempts/2, 5))
	}
	p, _ := e.pool("api")
	attempts, _, lost := p.feed.take()
	if len(attempts) != feedAttempts || lost != feedAttempts/2 {
		t.Errorf("%d kept, %d lost", len(attempts), lost)
	}
}

// learningStill is an engine whose learner has not been started.
func learningStill(t testing.TB) *Engine {
	t.Helper()
	conf := parse(t, learnPool)
	conf.Model.File = written(t, encoded(t, turned(0), nil))
	e := New(conf, telemetry.NewLog(t.Output(), "warn"), telemetry.New())
	t.Cleanup(e.Close)
	if err := e.Models().Configure(conf.Model); err != nil {
		t.Fatal(err)
	}
	e.Learn(conf.Learn, nil)
	return e
}

func TestPoolsThatComeLaterAreLearnedFromAndThoseOfTheP99AreNot(t *testing.T) {
	e := learningStill(t)
	conf := parse(t, learnPool+`
  - {name: late, peers: ["10.0.0.3:80"]}
  - {name: tail, objective: p99, peers: ["10.0.0.4:80"]}
  - {name: plain, policy: analytic, peers: ["10.0.0.5:80"]}
`)
	e.Apply(conf)
	for pool, peer := range map[string]string{"late": "10.0.0.3:80", "tail": "10.0.0.4:80", "plain": "10.0.0.5:80"} {
		e.Observe(outcomes(t, pool, "*", peer, observe.OK, 10, 5))
		refresh(t, e, pool)
		p, _ := e.pool(pool)
		attempts, frames, _ := p.feed.take()
		if want := pool == "late"; (len(attempts) == 10 && len(frames) > 0) != want || (len(attempts) > 0) != want {
			t.Errorf("%s: %d attempts, %d frames", pool, len(attempts), len(frames))
		}
	}
}

// Without frames of their time, decisions would be taken for ones made on the last frame there was.
func TestTheLearnerGetsFramesAndAttemptsTogether(t *testing.T) {
	e := learningStill(t)
	p, _ := e.pool("api")
	hinted := &observe.Batch{Instance: "web1"}
	for range 400 {
		if err := hinted.Add("api", "*", p.members[0].addr, observe.Record{
			Attempt: 1, Kind: observe.OK, Propensity: 1, HeaderMS: 8, TotalMS: 8, PredictedMS: observe.None, Load: observe.None, Weight: 2,
		}); err != nil {
			t.Fatal(err)
		}
	}
	// fed is what the learner gets of the batch, and of a refresh after it.
	fed := func(b *observe.Batch) (attempts int, frames []*replay.Frame) {
		e.Observe(b)
		p.mu.Lock()
		p.feed.framed = 0
		p.mu.Unlock()
		refresh(t, e, "api")
		a, frames, _ := p.feed.take()
		return len(a), frames
	}
	plain := outcomes(t, "api", "*", p.members[0].addr, observe.OK, 10, 5)
	fed(plain)
	if n, frames := fed(plain); n != 10 || len(frames) == 0 || frames[len(frames)-1].Sized {
		t.Errorf("with the model %d attempts, %d frames", n, len(frames))
	}
	fed(hinted)
	if n, frames := fed(hinted); n != 400 || len(frames) == 0 || !frames[len(frames)-1].Sized {
		t.Errorf("where requests tell their size %d attempts, %d frames", n, len(frames))
	}
	many := make([]string, 4096)
	for i := range many {
		many[i] = fmt.Sprintf("%q", fmt.Sprintf("10.0.%d.%d:80", i/256, i%256))
	}
	e.Apply(parse(t, strings.Replace(learnPool, `"10.0.0.1:80", "10.0.0.2:80"`, strings.Join(many, ", "), 1)))
	for c := range 20 {
		fed(outcomes(t, "api", fmt.Sprint("c", c), "10.0.0.1:80", observe.OK, 2, 5))
	}
	if n, frames := fed(plain); n != 0 || len(frames) != 0 {
		t.Errorf("of a pool that is too large for a model %d attempts, %d frames", n, len(frames))
	}
}

func BenchmarkRefresh16x20Learning(b *testing.B) {
	for _, on := range []bool{false, true} {
		b.Run(fmt.Sprint("learn=", on), func(b *testing.B) {
			peers := make([]string, 16)
			for i := range peers {
				peers[i] = fmt.Sprintf("%q", fmt.Sprintf("10.0.1.%d:80", i))
			}
			conf := parse(b, "model: {library: builtin}\nlearn: {enabled: "+fmt.Sprint(on)+"}\npools: [{name: api, peers: ["+strings.Join(peers, ",")+"]}]")
			conf.Model.File = written(b, encoded(b, model.New([]int{decide.Inputs, 32, 32, 1}, rand.New(rand.NewPCG(1, 1))), nil))
			e := New(conf, telemetry.NewLog(b.Output(), "warn"), telemetry.New())
			b.Cleanup(e.Close)
			if err := e.Models().Configure(conf.Model); err != nil {
				b.Fatal(err)
			}
			e.Learn(conf.Learn, nil)
			for c := range 20 {
				for i := range peers {
					e.Observe(outcomes(b, "api", fmt.Sprint("c", c), strings.Trim(peers[i], `"`), observe.OK, 5, 5))
				}
			}
			p, _ := e.pool("api")
			now := e.now()
			b.ReportAllocs()
			for b.Loop() {
				now += 100
				p.mu.Lock()
				p.fill(now)
				p.unlock()
				if p.feed != nil {
					attempts, frames, _ := p.feed.take()
					p.feed.give(attempts, frames, 0)
				}
			}
		})
	}
}

func TestTheConfigurationSaysHowLongANewModelIsWatched(t *testing.T) {
	conf := parse(t, strings.Replace(learnPool, "cpu_share: 1", "cpu_share: 1, watch_ms: 12345", 1))
	e := New(conf, telemetry.NewLog(t.Output(), "warn"), telemetry.New())
	t.Cleanup(e.Close)
	var got float64
	e.Learn(conf.Learn, func(o *online.Options) { got = o.Gate.WatchMS })
	if got != 12345 {
		t.Errorf("%v ms", got)
	}
}
