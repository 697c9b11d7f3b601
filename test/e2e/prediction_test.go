package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

// Predictive draining by what peers answer: one that is on its way to failing loses share while it still answers.

// Costs have no say in a request that is sent by chance. So what a peer gets of those tells what admission alone leaves it; the rest of its share is lost to its costs as well.
const oftenByChance = "slow_start_ms: 0\nexplore: 0.2\ncontrol: 0\n"

// byChance waits until NGINX has told of enough requests sent by chance, from one record on, and returns the part of them that the backend got. Of three peers alike
// each has a third.
func byChance(r *rig.Rig, from int, backend string) (share float64) {
	r.T.Helper()
	r.Eventually("enough requests were sent by chance", func() error {
		n, its := 0, 0
		for _, rec := range r.Tap.Records(r.T)[from:] {
			if rec.Flags&rig.FlagExplored != 0 {
				if n++; rec.Peer == r.Addr(backend) {
					its++
				}
			}
		}
		share = float64(its) / float64(max(1, n))
		if n < 200 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	return share
}

// wantHeldBack waits until the engine holds the backend back, and says so with the reason everywhere that it tells of admission.
func wantHeldBack(r *rig.Rig, backend string) {
	r.T.Helper()
	r.Eventually(backend+" is held back as one that is likely to fail soon", func() error {
		f := r.Engine.Figures("api", backend)
		series := fmt.Sprintf(`weir_peer_admit{pool="api",peer=%q} `, r.Addr(backend))
		told := r.Engine.Samples(series)
		if len(told) != 1 {
			r.T.Fatalf("%q: %q", series, told)
		}
		metric, err := strconv.ParseFloat(strings.TrimPrefix(told[0], series), 64)
		if err != nil {
			r.T.Fatal(err)
		}
		nginx := r.NGINX.Peer("api", backend).Admit
		if f.Admit > 0.6 || metric > 0.6 || nginx > 0.6 {
			return fmt.Errorf("admit is %v by the API, %v by the metrics, %v at NGINX; risk %v: %s", f.Admit, metric, nginx, f.Risk, f.Reason)
		}
		if f.Risk < 0.05 || !strings.Contains(f.Reason, "gets less, since it is likely to fail soon (risk 0.") {
			r.T.Errorf("admit is %v, with risk %v: %s", f.Admit, f.Risk, f.Reason)
		}
		return nil
	})
}

// wantLittle looks at where requests go from now on: few to a, of those sent by chance and of all. It ends the load and returns all answers.
func wantLittle(r *rig.Rig, load *rig.Load) []rig.Answer {
	r.T.Helper()
	from, sent := len(r.Tap.Records(r.T)), len(load.Answers())
	chance := byChance(r, from, "a")
	answers := load.Stop()
	late := answers[sent:]
	a, b, c := rig.Share(late, "a"), rig.Share(late, "b"), rig.Share(late, "c")
	r.T.Logf("of what was sent by chance a got %.2f, of all %.2f, b %.2f, c %.2f", chance, a, b, c)
	if chance > 0.23 {
		r.T.Errorf("held back a still got %.0f %% of what was sent by chance", 100*chance)
	}
	if a > min(b, c)/2 {
		r.T.Errorf("of all a got %.0f %%, its equals %.0f and %.0f %%", 100*a, 100*b, 100*c)
	}
	return answers
}

func TestAPeerThatGetsSlowerAndSlowerLosesShareBeforeItFails(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b", "c"}, Settings: oftenByChance}}})
	for _, b := range []string{"a", "b", "c"} {
		r.Backend(b).Set(answersIn(20))
	}
	load := r.StartLoad(6, 0, rig.Request{Path: "/api/x"})
	if share := byChance(r, 0, "a"); share < 0.2 {
		t.Errorf("among equal peers a got %.0f %% of what was sent by chance", 100*share)
	}
	for ms := 30; ms < 1000; ms += ms / 2 {
		r.Backend("a").Set(answersIn(ms))
		time.Sleep(400 * time.Millisecond)
	}
	wantHeldBack(r, "a")
	answers := wantLittle(r, load)
	r.WantAll(answers, 200)
	if f := r.Engine.Figures("api", "a"); f.Failed() != 0 || f.State != "up" {
		t.Errorf("a is %s after failures %v, where it failed nothing", f.State, f.Failures)
	}
}

// Ejection, which would end it, is off. That what is held back is no slower than before shows that NGINX goes by admission: one that answers ten times as late it leaves for
// more reasons.
func TestAPeerThatFailsMoreAndMoreLosesShareWhileItStillAnswers(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Pools: []rig.Pool{
		{Name: "api", Peers: []string{"a", "b", "c"}, Settings: oftenByChance + "eject: {consecutive: 0, failure_share: 0}"},
	}})
	for _, b := range []string{"a", "b", "c"} {
		r.Backend(b).Set(answersIn(10))
	}
	load := r.StartLoad(6, 0, rig.Request{Path: "/api/x"})
	if share := byChance(r, 0, "a"); share < 0.2 {
		t.Errorf("among equal peers a got %.0f %% of what was sent by chance", 100*share)
	}
	for share := 0.1; share < 0.65; share += 0.05 { // as quick as its answers: what is lost is lost to failures
		r.Backend("a").Set(fmt.Sprintf(`{"fail":{"status":500,"after_ms":10,"share":%g}}`, share))
		time.Sleep(400 * time.Millisecond)
	}
	wantHeldBack(r, "a")
	wantLittle(r, load)
	if f := r.Engine.Figures("api", "a"); f.Failed() == 0 || f.Failed()*10 > f.Attempts*7 || !f.Usable || f.Ejections != 0 {
		t.Errorf("a failed %d of %d attempts, usable %v, %d ejections", f.Failed(), f.Attempts, f.Usable, f.Ejections)
	}
}
