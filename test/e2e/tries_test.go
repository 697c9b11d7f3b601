package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weirlb/weir/test/e2e/rig"
)

// NGINX counts no try for a kept connection that turns out to be closed.
func TestTheTriesOfALocationHoldAlsoAfterKeptConnectionsThatWereClosed(t *testing.T) {
	t.Parallel()
	peers := []string{"a", "b", "c", "d"}
	r := start(t, rig.Options{Workers: 1, Pools: []rig.Pool{{
		Name: "api", Peers: peers, Settings: "slow_start_ms: 0\nretry: {tries: 7}\nexplore: 0.2\neject: {consecutive: 0}", Location: "proxy_next_upstream_tries 1;",
	}}})
	r.Eventually("each peer has a kept connection", func() error {
		r.WantAll(r.Send(10, 1, rig.Request{Path: "/api/x"}), 200)
		for _, b := range peers {
			if r.NGINX.Peer("api", b).Picks == 0 {
				return fmt.Errorf("%s has none", b)
			}
		}
		return nil
	})
	for _, b := range peers {
		r.Backend(b).Set(`{"reset":{"share":1,"after_bytes":-1}}`)
	}
	answers := r.Send(1, 1, rig.Request{Path: "/api/x"})
	r.WantAll(answers, 502)
	if e := r.NGINX.Logged(answers)[0]; len(e.Addrs()) > len(peers)+1 {
		t.Errorf("after no more than four closed connections there is one try; logged is %+v", e)
	}
}

// Weir keeps eight attempts of a request; where error pages and retries make more, the last is the one that is kept.
func TestTheLastOfManyAttemptsIsMeasuredAsItself(t *testing.T) {
	t.Parallel()
	server := "recursive_error_pages on; proxy_intercept_errors on;\n"
	for i := range 9 {
		server += fmt.Sprintf("location = /p%d { proxy_pass http://api/status/%d; error_page 404 410 = /p%d; }\n", i, 404+i%2*6, i+1)
	}
	r := start(t, rig.Options{
		Workers: 1, Tap: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}}}, Server: server + "location = /p9 { proxy_pass http://api/poll?wait=60ms; }",
	})
	r.WantAll([]rig.Answer{r.Do(rig.Request{Path: "/p0"})}, 200)
	last := r.WaitRecords(1, func(rec rig.Record) bool { return rec.Class == "GET /p9" })[0]
	if last.Kind != rig.KindOK || last.Status != 200 || last.HeaderMS < 50 {
		t.Errorf("the tenth attempt is told as %+v", last)
	}
}

// What became of a request in the pool it was first sent to takes nothing from what the pool has that an error page sends it to.
func TestAPoolBehindAnErrorPageHasTriesOfItsOwn(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{
		Pools: []rig.Pool{
			{Name: "api", Peers: []string{"a", "b"}, Location: "error_page 502 503 = @second; proxy_intercept_errors on;"},
			{Name: "second", Peers: []string{"c", "d"}, Settings: "retry: {tries: 2}"},
		},
		Server: "location @second { proxy_pass http://second; include " + programs.Repo + "/nginx/proxy.conf; }",
	})
	r.Backend("a").Set(`{"refuse":true}`)
	r.Backend("b").Set(`{"fail":{"status":503,"share":1}}`)
	r.Backend("c").Set(`{"reset":{"share":1,"after_bytes":-1}}`)
	answers := r.Send(30, 1, rig.Request{Path: "/api/x"})
	r.WantAll(answers, 200)
	retried := 0
	for _, e := range r.NGINX.Logged(answers) {
		if _, second, _ := strings.Cut(e.Addr, " : "); strings.Contains(second, ", ") {
			retried++
		}
	}
	if retried == 0 {
		t.Error("no request met the peer that breaks: the test proved nothing")
	}
}
