package e2e

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

// Case 10. The peers close idle connections after half a second, NGINX keeps them for 60 s, and a request comes each half second.
func TestTheIdleRaceIsNoFailure(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a --keep-alive 500ms", "b --keep-alive 500ms"}, Settings: "slow_start_ms: 0"}}})
	var mu sync.Mutex
	var gets, posts []rig.Answer
	var all sync.WaitGroup
	begin := time.Now()
	for client := range 16 {
		all.Go(func() {
			for n := range 7 {
				// The connections were last used half a second before, give or take some milliseconds.
				time.Sleep(time.Until(begin.Add(time.Duration(n)*500*time.Millisecond + time.Duration(rand.IntN(4000))*time.Microsecond)))
				q, list := rig.Request{Path: "/api/x"}, &gets
				if client%4 == 0 {
					q, list = rig.Request{Path: "/api/x", Body: "an order"}, &posts
				}
				a := r.Do(q)
				mu.Lock()
				*list = append(*list, a)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	r.WantAll(gets, 200)
	for _, a := range posts {
		if n := r.SeenAnywhere(a.ID); n > 1 || a.Err != nil || (a.Status == 200) != (n == 1) {
			t.Errorf("a POST was answered %d (%v) and arrived %d times", a.Status, a.Err, n)
		}
	}
	wantNoFailures(r, "a", "b")
}

// Case 10, the race made certain: the peer closes the connection on the second request.
func TestAConnectionClosedOnReuseIsNoFailureOfThePeer(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Workers: 1, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: "slow_start_ms: 0"}}})
	r.Backend("a").Set(`{"close_reused":true}`)
	r.Backend("b").Set(`{"close_reused":true}`)
	var records []rig.Record
	r.Eventually("kept connections are closed on use", func() error {
		r.WantAll([]rig.Answer{r.Do(rig.Request{Path: "/api/x"})}, 200)
		time.Sleep(350 * time.Millisecond) // a pause of 300 and more makes it a race
		records = r.Tap.Records(t)
		if n := rig.Count(records, func(rec rig.Record) bool { return rec.Kind == rig.KindIdleRace }); n < 3 {
			return fmt.Errorf("%d of %d attempts were races", n, len(records))
		}
		return nil
	})
	busy := 0
	for _, rec := range records {
		switch {
		case rec.Kind == rig.KindIdleRace && rec.HeaderMS != -1:
			t.Errorf("a race has no answer, but %+v", rec)
		case rec.Kind == rig.KindReset && rec.TotalMS >= 98: // of idle.lua's 100
			busy++
		}
	}
	if busy > 0 {
		t.Logf("on this machine %d connections broke too late to be told from others", busy)
		return
	}
	wantNoFailures(r, "a", "b")
}

// A peer whose process died behind a proxy takes connections and closes them. After a pause that looks like the idle race, which spares the peer; the request
// must not be spent on it all the same.
func TestAPeerThatBreaksEachConnectionAfterAPauseCostsNoRequest(t *testing.T) {
	t.Parallel()
	for _, settings := range []string{"slow_start_ms: 0\nexplore: 0.2\nspread: 1", "slow_start_ms: 0\naffinity: {by: hash, key: $arg_user}\n"} {
		r := start(t, rig.Options{Workers: 1, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b", "c"}, Settings: settings}}})
		for i := range 60 {
			r.WantAll([]rig.Answer{r.Do(rig.Request{Path: fmt.Sprintf("/api/x?user=%d", i)})}, 200)
		}
		r.Backend("a").Set(`{"reset":{"share":1,"after_bytes":-1}}`)
		before := r.NGINX.Peer("api", "a").Picks
		time.Sleep(350 * time.Millisecond) // a pause of 300 and more makes it a race
		var answers []rig.Answer
		for i := range 300 { // 20 of them by chance, however dear it is
			answers = append(answers, r.Do(rig.Request{Path: fmt.Sprintf("/api/x?user=%d", i)}))
		}
		r.WantAll(answers, 200)
		if r.NGINX.Peer("api", "a").Picks == before {
			t.Error("no request went to the peer that breaks")
		}
	}
}

// A request that may be tried once goes on as long as kept connections turn out to be closed. A peer that has many of them and closes each when it is used
// must not have it for good.
func TestAPeerThatClosesEachKeptConnectionKeepsNoRequestFromTheOthers(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Workers: 1, Pools: []rig.Pool{{
		Name: "api", Peers: []string{"a --slots 0", "b --slots 0"}, Settings: "slow_start_ms: 0\nretry: {tries: 1}\naffinity: {by: hash, key: $arg_user}",
	}}})
	r.Backend("a").Set(`{"default":{"mean_ms":20}}`)
	r.Backend("b").Set(`{"default":{"mean_ms":20}}`)
	var answers []rig.Answer
	for i := range 16 {
		r.WantAll(r.Send(40, 20, rig.Request{Path: fmt.Sprintf("/api/x?user=%d", i)}), 200) // some 20 connections to each are kept
	}
	r.Backend("a").Set(`{"close_reused":true}`)
	for i := range 16 {
		answers = append(answers, r.Do(rig.Request{Path: fmt.Sprintf("/api/x?user=%d", i)}))
	}
	r.WantAll(answers, 200)
	closed := 0
	for _, e := range r.NGINX.Logged(answers) {
		if len(e.Addrs()) > 2 {
			closed++
		}
	}
	if closed == 0 {
		t.Error("no request found two closed connections in a row: the test proved nothing")
	}
}

func wantNoFailures(r *rig.Rig, backends ...string) {
	r.T.Helper()
	time.Sleep(500 * time.Millisecond) // the last batch
	for _, rec := range r.Tap.Records(r.T) {
		if rec.Kind != rig.KindOK && rec.Kind != rig.KindIdleRace && rec.Kind != rig.KindAbort {
			r.T.Errorf("a failure is charged: %+v", rec)
		}
	}
	for _, name := range backends {
		if f, p := r.Engine.Figures("api", name), r.NGINX.Peer("api", name); f.Failed() != 0 || f.Ejections != 0 || p.Fails != 0 || p.SetAsideMS != 0 {
			r.T.Errorf("%s is charged: engine %+v, NGINX %+v", name, f, p)
		}
	}
}
