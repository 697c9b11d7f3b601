package serve

import (
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/observe"
)

// refused has an NGINX report what it refused, as if at this time of the engine's clock.
func refused(e *Engine, atMS float64, s observe.Shed) {
	e.hearLimits(atMS, &observe.Batch{Shed: []observe.Shed{s}}, *e.pools.Load())
}

// old is an engine that has run for an hour.
func old(t *testing.T) *Engine {
	t.Helper()
	e := still(t, threePeers)
	e.start = time.Now().Add(-time.Hour)
	return e
}

// ticking is the health of an engine which has just refreshed its tables.
func ticking(e *Engine) Report {
	e.lastTick.Store(int64(e.now()))
	return e.Report()
}

func sheds(e *Engine) bool {
	r := ticking(e)
	return r.Status == Degraded && len(r.Reasons) == 1 && r.Reasons[0].Code == "shedding" && r.Reasons[0].Pool == "api"
}

func TestHealthTellsWhenAPoolHasBeenSheddingForAWhile(t *testing.T) {
	e := old(t)
	now := e.now()
	refused(e, now-1000, observe.Shed{Pool: "api", Normal: 5})
	if sheds(e) {
		t.Error("requests were refused once: that is no while")
	}
	e = old(t)
	now = e.now()
	for ago := 20_000.0; ago >= 1000; ago -= 1000 {
		refused(e, now-ago, observe.Shed{Pool: "api", Low: 1, Full: 1})
	}
	if !sheds(e) {
		t.Errorf("after 19 s of refusals health is %+v", ticking(e))
	}
	if f, err := e.Pool("api"); err != nil || f.Shed != 40 || f.RateLimited != 0 {
		t.Errorf("%+v, %v", f, err)
	}
	// They stop: so does the reason, as soon as they have paused for longer than refusals do.
	e.start = e.start.Add(-(shedPauseMS + 2000) * time.Millisecond)
	if sheds(e) {
		t.Error("nothing is refused any more")
	}
	// What comes after a pause is another story.
	refused(e, e.now(), observe.Shed{Pool: "api", Normal: 1})
	if sheds(e) {
		t.Error("one refusal after a pause is no while")
	}
}

// above is a batch that tells of requests above a rate.
func above(pool string) *observe.Batch {
	return &observe.Batch{RateLimited: []observe.RateLimited{{Pool: pool, Count: 900}}}
}

func TestRefusalsAboveARateSayNothingOfThePool(t *testing.T) {
	e := old(t)
	now := e.now()
	for ago := 20_000.0; ago >= 0; ago -= 1000 {
		e.hearLimits(now-ago, above("api"), *e.pools.Load())
	}
	if r := ticking(e); r.Status != OK {
		t.Errorf("a client above its rate makes health %+v", r)
	}
	if f, err := e.Pool("api"); err != nil || f.Shed != 0 || f.RateLimited != 21*900 {
		t.Errorf("%+v, %v", f, err)
	}
	e.hearLimits(now, above("gone"), *e.pools.Load()) // a pool the engine does not have is passed over
}

func TestALimitIsDividedAmongTheNGINXThatHaveRequests(t *testing.T) {
	e := old(t)
	e.Apply(parse(t, `pools: [{name: api, peers: ["10.0.0.1:80"], limit: {adaptive: true}, max_inflight: 7}]`))
	e.hearLimits(e.now(), &observe.Batch{Limits: []observe.Limit{{Pool: "api", Max: 100, Base: 5}}}, *e.pools.Load())
	told := func() string {
		refresh(t, e, "api")
		_, s, _ := strings.Cut(settingsOf(e, "api"), `"limit":`)
		return s
	}
	if s := told(); !strings.HasPrefix(s, `{"max":100,`) {
		t.Errorf("nobody has requests: %s", s)
	}
	has := func(instance string, n int) {
		e.hear(e.now(), &observe.Batch{Instance: instance, Inflight: []observe.Inflight{{Pool: "api", Peer: "10.0.0.1:80", Count: n}}}, *e.pools.Load())
	}
	has("web1", 3)
	has("web3", 0) // as one says that has just started
	if s := told(); !strings.HasPrefix(s, `{"max":100,`) {
		t.Errorf("one has requests, another says that it has none: %s", s)
	}
	has("web2", 1)
	if s := told(); !strings.HasPrefix(s, `{"max":50,"normal":42.5,"low":30,"whole":100`) {
		t.Errorf("two have requests: %s", s)
	}
	// A part is kept through a pause, and given back when the other was silent for long.
	has("web2", 0)
	if s := told(); !strings.HasPrefix(s, `{"max":50,`) {
		t.Errorf("one pauses: %s", s)
	}
	e.start = e.start.Add(-(instanceSilentMS + 1000) * time.Millisecond)
	has("web1", 3)
	p, _ := e.pool("api")
	p.forget(e.now(), e.silent(e.now()))
	if s := told(); !strings.HasPrefix(s, `{"max":100,`) {
		t.Errorf("one has been silent: %s", s)
	}
}
