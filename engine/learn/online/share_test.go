package online_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/gate"
	"github.com/weirlb/weir/engine/learn/online"
	"github.com/weirlb/weir/engine/model"
)

// started is a site that serves by a network from the beginning.
func started(t *testing.T, opt online.Options) *site {
	s := newSite(t, opt)
	m := online.Model{ID: "start", Net: model.New([]int{decide.Inputs, 8, 1}, rand.New(rand.NewPCG(3, 3)))}
	s.loop.Start(s.now, m)
	s.use(m)
	return s
}

func TestWhatIsTrainedIsSharedInPlaceOfBeingJudged(t *testing.T) {
	var shared []online.Candidate
	opt := quick()
	opt.Share = func(c online.Candidate, base string, decisions int) {
		if len(shared) < 2 && base != "start" || decisions < 1000 {
			t.Errorf("base %q, %d decisions", base, decisions)
		}
		shared = append(shared, c)
	}
	s := started(t, opt)
	s.run(150_000)
	if len(shared) != 2 || strings.Join(s.steps, " ") != "trained trained" || s.serves.ID != "start" {
		t.Fatalf("%d were shared, %v, %s serves", len(shared), s.steps, s.serves.ID)
	}
	net, meta, err := model.Decode(shared[0].File)
	if err != nil || !net.Equal(shared[0].Net) || meta.Card["parent"] != "start" || model.ID(shared[0].File) != shared[0].ID {
		t.Errorf("%v %+v", err, meta)
	}

	// What several of them make together goes through every gate, and then serves.
	if !s.loop.Offer(s.ctx, s.now, shared[1].Net, map[string]string{"name": "average of 2 engines"}) {
		t.Fatal("it was not judged")
	}
	s.run(100_000)
	if got := strings.Join(s.steps[2:], " "); !strings.HasPrefix(got, "trained shadow promoted") {
		t.Fatalf("%s: %+v", got, s.events)
	}
	if s.serves.ID == "start" {
		t.Error("it does not serve")
	}
	if s.loop.Offer(s.ctx, s.now, shared[0].Net, map[string]string{}) && s.loop.View().Gate.Phase == gate.Watched {
		t.Error("another was judged while one is watched")
	}
}

func TestAnAverageThatIsWorseIsRefused(t *testing.T) {
	opt := quick()
	opt.Share = func(online.Candidate, string, int) {}
	s := started(t, opt)
	if s.loop.Offer(s.ctx, s.now, s.serves.Net, map[string]string{}) {
		t.Error("it was judged by no decisions")
	}
	s.run(100_000)
	worse := s.serves.Net.Clone()
	for i, name := range decide.InputNames() { // it takes the first peer, which truly is the slower, to be cheaper still
		if name == "log_cost" {
			for j := range 8 {
				worse.W[0][i*8+j], worse.B[0][j], worse.W[1][j] = 4, 2, 0.25
			}
		}
	}
	if !s.loop.Offer(s.ctx, s.now, worse, map[string]string{}) {
		t.Fatal("it was not judged")
	}
	if got := s.steps[len(s.steps)-1]; got != "refused" || s.serves.ID != "start" {
		t.Errorf("%v; %s serves", s.steps, s.serves.ID)
	}
	worse.B[0][0] = float32(math.NaN())
	s.run(1000)
	s.loop.Offer(s.ctx, s.now, worse, map[string]string{})
	if got := s.steps[len(s.steps)-1]; got != "refused" || s.serves.ID != "start" {
		t.Errorf("with NaN: %v; %s serves", s.steps, s.serves.ID)
	}
}

func TestWithoutAModelNothingIsShared(t *testing.T) {
	opt := quick()
	opt.Share = func(online.Candidate, string, int) {
		t.Error("what began at random was shared: others begin elsewhere")
	}
	s := newSite(t, opt)
	s.run(150_000)
	if len(s.steps) > 0 {
		t.Errorf("%v", s.steps)
	}
}
