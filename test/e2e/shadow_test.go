package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/serve"
	"github.com/weirlb/weir/test/e2e/rig"
)

// Requests mirrored to a candidate whose answers go to nobody.

// shadowRig mirrors all GETs of pool api to pool next, whose one peer is n.
func shadowRig(t *testing.T) *rig.Rig {
	t.Helper()
	snippets := programs.Repo + "/nginx/"
	return start(t, rig.Options{
		Config: "model: {file: none}",
		HTTP:   `map $request_method $weir_shadow { GET 1; default 0; }`,
		Server: `location = /shadow { proxy_pass http://next; include ` + snippets + `proxy.conf; include ` + snippets + `shadow.conf; }`,
		Pools: []rig.Pool{
			{Name: "api", Peers: []string{"a", "b"}, Location: "set $weir_shadow_uri $uri; mirror /shadow; mirror_request_body off;"},
			{Name: "next", Peers: []string{"n"}, Settings: "shadow_of: api\nretry: {tries: 1}\nconnect_timeout_ms: 200\n"},
		},
	})
}

func shadowOf(r *rig.Rig) (f serve.ShadowFigures) {
	r.T.Helper()
	status, body := r.Engine.Get("/api/pools/next/shadow")
	if err := json.Unmarshal(body, &f); err != nil || status != 200 {
		r.T.Fatalf("%d %s %v", status, body, err)
	}
	return f
}

// slowest is the time that all but one in fifty took at most.
func slowest(answers []rig.Answer) time.Duration {
	took := make([]time.Duration, len(answers))
	for i, a := range answers {
		took[i] = a.Took
	}
	slices.Sort(took)
	return took[len(took)*98/100]
}

func TestGETsAloneAreMirroredAndTheShadowIsComparedWithTheLivePool(t *testing.T) {
	t.Parallel()
	r := shadowRig(t)
	r.Backend("n").Set(`{"default":{"mean_ms":20},"slots":64}`)
	const gets, posts = 60, 20
	answers := r.Send(gets, 8, rig.Request{Path: "/api/users/7?x=1", Fresh: true})
	r.WantAll(answers, 200)
	r.WantAll(r.Send(posts, 8, rig.Request{Path: "/api/users/7", Body: "some text", Fresh: true}), 200)
	for _, a := range answers {
		if a.Peer == "n" {
			t.Fatal("a client was answered by the shadow")
		}
	}
	r.Eventually("the shadow's answers are learned", func() error {
		f := shadowOf(r)
		if f.OfShadow.Requests != gets || f.OfLive.Requests != gets || f.OfShadow.Failures != 0 {
			return fmt.Errorf("%+v", f)
		}
		if f.OfShadow.P50MS == nil || *f.OfShadow.P50MS < 19 || f.Versus.Ratio == nil || *f.Versus.Ratio < 2 {
			t.Errorf("%+v", f)
		}
		return nil
	})
	for _, method := range []string{"GET", "POST"} {
		n := 0
		for _, class := range classesOf(r, "next") {
			if class == method+" /api/users/{n}" {
				n++
			}
		}
		if want := map[string]int{"GET": 1}[method]; n != want {
			t.Errorf("the shadow knows the classes %q", classesOf(r, "next"))
		}
	}
	if n := len(r.Engine.Samples("weir_shadow_ratio")); n != 3 {
		t.Errorf("%d series of the comparison", n)
	}
}

func classesOf(r *rig.Rig, pool string) (names []string) {
	r.T.Helper()
	var f serve.PoolFigures
	if _, body := r.Engine.Get("/api/pools/" + pool); json.Unmarshal(body, &f) != nil {
		r.T.Fatalf("%s", body)
	}
	for _, c := range f.Classes {
		names = append(names, c.Name)
	}
	return names
}

func TestClientsSeeNothingOfAShadowThatFailsHangsOrIsUnreachable(t *testing.T) {
	t.Parallel()
	r := shadowRig(t)
	get := rig.Request{Path: "/api/x", Fresh: true}
	r.WantAll(r.Send(20, 4, get), 200)
	for _, fault := range []string{`{"fail":{"status":500,"share":1}}`, `{"fail":null,"hang":1}`, `{"hang":0,"blackhole":true}`, `{"blackhole":false,"refuse":true}`} {
		r.Backend("n").Set(fault)
		answers := r.Send(100, 4, get)
		r.WantAll(answers, 200)
		// A shadow's time-outs are 200 and 500 ms.
		if p := slowest(answers); p > 150*time.Millisecond {
			t.Errorf("with a shadow of %s one in fifty waits for %v", fault, p)
		}
	}
	r.Eventually("the failures of the shadow are seen", func() error {
		if f := shadowOf(r); f.OfShadow.Failures < 200 || f.OfLive.Failures != 0 {
			return fmt.Errorf("%+v", f)
		}
		return nil
	})
	if n := len(r.NGINX.Status().Pools["api"].Peers); n != 2 {
		t.Errorf("pool api has %d peers", n)
	}
	r.WantIdle()
}

// NGINX reads the next request of a connection when the one before has ended, its mirrored part included. The time-outs of shadow.conf bound that.
func TestTheNextRequestOfAConnectionWaitsForAHangingShadowNoLongerThanItsTimeOut(t *testing.T) {
	t.Parallel()
	r := shadowRig(t)
	get := rig.Request{Path: "/api/x"}
	r.WantAll(r.Send(20, 1, get), 200)
	r.WantIdle()
	r.Backend("n").Set(`{"hang":1}`)
	first := r.Do(get)
	second := r.Do(get)
	r.WantAll([]rig.Answer{first, second}, 200)
	if first.Took > 250*time.Millisecond {
		t.Errorf("the first request took %v", first.Took)
	}
	t.Logf("the next request on the connection took %v", second.Took)
	if second.Took < 300*time.Millisecond {
		t.Errorf("the next request took %v: the page says that it waits for the shadow's 500 ms", second.Took)
	}
	if second.Took > 2*time.Second {
		t.Errorf("the next request took %v, longer than the shadow's time-out explains", second.Took)
	}
	if fresh := r.Do(rig.Request{Path: "/api/x", Fresh: true}); fresh.Status != 200 {
		t.Errorf("on a connection of its own: %d", fresh.Status)
	}
}
