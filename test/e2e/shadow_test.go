package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/serve"
	"github.com/weirlb/weir/test/e2e/rig"
)

// Requests mirrored to a candidate whose answers go to nobody.

// shadowRig mirrors all GETs of pool api to pool next, whose one peer is n.
func shadowRig(t *testing.T, http ...string) *rig.Rig {
	t.Helper()
	return start(t, rig.Options{
		Config: "model: {file: none}",
		HTTP:   `map $request_method $weir_shadow { GET 1; default 0; }` + strings.Join(http, "\n"),
		Server: shadowLocation(),
		Pools: []rig.Pool{
			{Name: "api", Peers: []string{"a", "b"}, Location: "set $weir_shadow_uri $uri; mirror /shadow; mirror_request_body off;"},
			{Name: "next", Peers: []string{"n"}, Settings: "shadow_of: api\nretry: {tries: 1}\nconnect_timeout_ms: 200\n"},
		},
	})
}

// shadowLocation is where requests are mirrored to.
func shadowLocation() string {
	snippets := programs.Repo + "/nginx/"
	return `location = /shadow { proxy_pass http://next; include ` + snippets + `proxy.conf; include ` + snippets + `shadow.conf; }`
}

func shadowOf(r *rig.Rig) (f serve.ShadowFigures) {
	r.T.Helper()
	status, body := r.Engine.Get("/api/pools/next/shadow")
	if err := json.Unmarshal(body, &f); err != nil || status != 200 {
		r.T.Fatalf("%d %s %v", status, body, err)
	}
	return f
}

// wantNoneHeldUp fails the test when one in five took as long as a shadow's time-outs of 200 and 500 ms, which each would if clients waited.
// A busy machine holds up a few.
func wantNoneHeldUp(t *testing.T, shadow string, answers []rig.Answer) {
	t.Helper()
	took := make([]time.Duration, len(answers))
	for i, a := range answers {
		took[i] = a.Took
	}
	slices.Sort(took)
	if p := took[len(took)*4/5]; p > 190*time.Millisecond {
		t.Errorf("with a shadow of %s one in five waits for %v", shadow, p)
	}
}

func TestGETsAloneAreMirroredAndTheShadowIsComparedWithTheLivePool(t *testing.T) {
	t.Parallel()
	r := shadowRig(t)
	r.Backend("n").Set(`{"default":{"mean_ms":100},"slots":64}`) // no client waits for it, and no busy machine takes half of it for nothing
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
		if f.OfShadow.P50MS == nil || *f.OfShadow.P50MS < 95 || f.Versus.Ratio == nil || *f.Versus.Ratio < 2 {
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
		wantNoneHeldUp(t, fault, answers)
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
	var first, second rig.Answer
	for range 3 { // a busy machine may hold up one
		first, second = r.Do(get), r.Do(get)
		r.WantAll([]rig.Answer{first, second}, 200)
		if first.Took < 250*time.Millisecond {
			break
		}
		time.Sleep(time.Second) // the connection is free again
	}
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

// page is an answer as a client sees it, without what differs from one request to the next.
func page(t *testing.T, client *http.Client, method, url string) (text string, took time.Duration) {
	t.Helper()
	began := time.Now()
	resp, err := client.Do(request(t, method, url, nil))
	if err != nil {
		t.Errorf("%s %s: %v", method, url, err)
		return "", 0
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("%s %s: the body: %v", method, url, err)
	}
	took = time.Since(began)
	resp.Header.Del("Date")
	return fmt.Sprintln(resp.Proto, resp.Status, resp.Header, len(body), sum(body)), took
}

// The streams of an HTTP/2 connection do not wait for each other: a shadow that hangs holds up nothing, not the next request either.
func TestHTTP2ClientsSeeNothingOfAShadow(t *testing.T) {
	t.Parallel()
	addr, conf := programs.FreeAddr(t), programs.Repo+"/nginx/proxy.conf"
	r := shadowRig(t, "server { listen "+addr+" http2; "+shadowLocation()+
		" location /mirrored/ { set $weir_shadow_uri $uri; mirror /shadow; mirror_request_body off; proxy_pass http://api/; include "+conf+"; }"+
		" location /alone/ { proxy_pass http://api/; include "+conf+"; } }")
	r.Backend("b").Kill() // so that all answers are of one peer
	client := h2c()
	defer client.CloseIdleConnections()
	paths := []string{"status/404", "status/503", "bytes?n=300000", "early"}
	r.Backend("a").Set(`{"headers":{"X-Of-The-Application":"1"}}`)
	gets := 0
	for _, method := range []string{"GET", "HEAD", "POST"} {
		for _, path := range paths {
			want, _ := page(t, client, method, "http://"+addr+"/alone/"+path)
			got, _ := page(t, client, method, "http://"+addr+"/mirrored/"+path)
			if got != want || !strings.HasPrefix(want, "HTTP/2.0 ") {
				t.Errorf("%s %s is answered %s, without a shadow %s", method, path, got, want)
			}
			if method == "GET" {
				gets++
			}
		}
	}
	r.Eventually("the shadow has got the GETs and nothing else", func() error {
		if n := r.Backend("n").Stats().Requests; n != int64(gets) {
			return fmt.Errorf("%d requests of %d", n, gets)
		}
		return nil
	})
	for _, fault := range []string{`{"fail":{"status":500,"share":1}}`, `{"fail":null,"hang":1}`, `{"hang":0,"blackhole":true}`, `{"blackhole":false,"refuse":true}`} {
		r.Backend("n").Set(fault)
		const streams, each = 4, 10
		answers := make([]rig.Answer, streams*each)
		var all sync.WaitGroup
		for s := range streams {
			all.Go(func() {
				for i := s * each; i < (s+1)*each; i++ {
					var text string
					if text, answers[i].Took = page(t, client, "GET", "http://"+addr+"/mirrored/bytes?n=20000"); !strings.Contains(text, " 200 OK ") || !strings.Contains(text, " 20000 ") {
						t.Errorf("with a shadow of %s the client got %s", fault, text)
					}
				}
			})
		}
		all.Wait()
		wantNoneHeldUp(t, fault, answers)
	}
	if f := r.Engine.Figures("api", "a"); f.Failed() != 6 || f.Ejections != 0 {
		t.Errorf("the live peer is charged with more than its six 503s: %+v", f)
	}
	r.WantIdle()
}
