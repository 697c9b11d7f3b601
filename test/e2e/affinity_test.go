package e2e

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

// Sticky cookies and consistent hashing.

const (
	secretOld = "an old secret, long enough"
	secretNew = "a new secret, long enough"
	header    = `header_filter_by_lua_block { require("resty.weir").affinity() }`
)

// stickyValue is the cookie for a peer, made here by other code than NGINX's.
func stickyValue(secret, pool, addr string) string {
	mac := func(what string) []byte {
		h := hmac.New(sha1.New, []byte(secret))
		fmt.Fprintf(h, "weir %s\x00%s\x00%s", what, pool, addr)
		return h.Sum(nil)
	}
	return base64.RawURLEncoding.EncodeToString(mac("id")[:6]) + "." + base64.RawURLEncoding.EncodeToString(mac("peer"))
}

// withCookie is a request of a client that has this cookie.
func withCookie(pair string) rig.Request {
	return rig.Request{Path: "/api/x", Header: map[string]string{"Cookie": "other=1; " + pair + "; more=2"}, Fresh: true}
}

// given is the name=value of the cookie that an answer sets; empty when it sets none.
func given(a rig.Answer) string {
	for _, c := range a.Header.Values("Set-Cookie") {
		if strings.HasPrefix(c, "weir_") {
			pair, _, _ := strings.Cut(c, ";")
			return pair
		}
	}
	return ""
}

// bind has a new client bound to the named peer.
func bind(r *rig.Rig, peer string) (pair string) {
	r.T.Helper()
	r.Eventually("a new client comes to "+peer, func() error {
		a := r.Do(rig.Request{Path: "/api/x", Fresh: true})
		if pair = given(a); a.Status != 200 || pair == "" {
			r.T.Fatalf("a new client got %d and the cookie %q", a.Status, pair)
		}
		if a.Peer != peer {
			return fmt.Errorf("to %s", a.Peer)
		}
		return nil
	})
	return pair
}

// wantStay fails the test when one of n requests with the cookie is not answered by the peer, or is given another cookie.
func wantStay(r *rig.Rig, when, pair, peer string, n int) {
	r.T.Helper()
	for _, a := range r.Send(n, 4, withCookie(pair)) {
		if a.Status != 200 || a.Peer != peer || given(a) != "" {
			r.T.Fatalf("%s: a client of %s was answered %d by %q (%v) and given %q", when, peer, a.Status, a.Peer, a.Err, given(a))
		}
	}
}

// stickyRig has a pool api with sticky cookies.
func stickyRig(t *testing.T, settings string, peers ...string) *rig.Rig {
	t.Helper()
	r, _ := rotatingRig(t, settings, peers...)
	return r
}

// rotatingRig is stickyRig; write replaces the secrets, which NGINX reads at its next reload.
func rotatingRig(t *testing.T, settings string, peers ...string) (r *rig.Rig, write func(lines ...string)) {
	t.Helper()
	secret := t.TempDir() + "/secret"
	write = func(lines ...string) {
		t.Helper()
		if err := os.WriteFile(secret, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(secretOld)
	return start(t, rig.Options{
		NGINXEnv: []string{"WEIR_AFFINITY_SECRET_FILE=" + secret},
		Pools: []rig.Pool{{
			Name: "api", Peers: peers, Location: header,
			Settings: "explore: 0.2\ncontrol: 0.2\nslow_start_ms: 0\naffinity: {by: cookie, " + settings + "}\n",
		}},
	}), write
}

func TestASecretIsChangedWithoutLosingASession(t *testing.T) {
	t.Parallel()
	r, write := rotatingRig(t, "break_at: 0", "a", "b")
	pair := bind(r, "a")
	write("# the new one is believed everywhere before it signs", secretOld, secretNew)
	r.NGINX.Reload()
	wantStay(r, "with the new secret below", pair, "a", 20)
	write(secretNew, secretOld)
	r.NGINX.Reload()
	answers := r.Send(20, 4, withCookie(pair))
	for _, a := range answers {
		if want := "weir_api=" + stickyValue(secretNew, "api", r.Addr("a")); a.Peer != "a" || given(a) != want {
			t.Fatalf("with the new secret on top the client is on %s and given %q, want %q", a.Peer, given(a), want)
		}
	}
	pair = given(answers[0])
	write(secretNew)
	r.NGINX.Reload()
	wantStay(r, "with the new secret alone", pair, "a", 20)
}

func TestAStickySessionStaysThroughReloadAndRestartsAndFollowsTheAddress(t *testing.T) {
	t.Parallel()
	r := stickyRig(t, "break_at: 0, cookie: {ttl_ms: 3600000}", "a", "b", "c")
	first := r.Do(rig.Request{Path: "/api/x"})
	if c := first.Header.Get("Set-Cookie"); !strings.HasSuffix(c, "; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax") || strings.Contains(c, r.Addr(first.Peer)) {
		t.Errorf("the cookie is %q", c)
	}
	if got, want := given(first), "weir_api="+stickyValue(secretOld, "api", r.Addr(first.Peer)); got != want {
		t.Errorf("the cookie is %s, want %s", got, want)
	}
	sessions := map[string]string{}
	for _, peer := range []string{"a", "b", "c"} {
		sessions[peer] = bind(r, peer)
	}
	check := func(when string) {
		t.Helper()
		for peer, pair := range sessions {
			wantStay(r, when, pair, peer, 20)
		}
	}
	check("at first")
	if e := r.NGINX.Logged([]rig.Answer{r.Do(withCookie(sessions["a"]))})[0]; e.Policy != "affinity" {
		t.Errorf("the access log calls the rule %q", e.Policy)
	}
	r.NGINX.Reload()
	check("after a reload of NGINX")
	r.Engine.Stop()
	check("without the engine")
	r.SetPeers("api", "c", "b", "a")
	r.Engine.Start()
	r.WaitConnected()
	check("after a restart of the engine with the list turned round")
	r.NGINX.Stop()
	r.NGINX.Start()
	r.WaitConnected()
	check("after a restart of NGINX")
	status := r.Do(rig.Request{Path: "/weir-status"}).Body
	if !strings.Contains(status, `"affinity_secret":"file"`) || !strings.Contains(status, `"affinity":"cookie"`) {
		t.Errorf("/weir-status does not tell of it: %s", status)
	}
	_, api := r.Engine.Get("/api/pools/api")
	_, table := r.Engine.Post("/decide", "application/json", []byte(`{"pool":"api"}`))
	for where, text := range map[string]string{
		"/weir-status": status, "the engine's log": r.Engine.Log(), "NGINX's log": r.NGINX.ErrorLog(), "the API": string(api), "/decide": string(table),
	} {
		if strings.Contains(text, secretOld) {
			t.Errorf("%s shows the secret", where)
		}
	}
}

func TestAStickySessionFallsOverAndIsGivenAnotherCookie(t *testing.T) {
	t.Parallel()
	r := stickyRig(t, "break_at: 0", "a", "b", "c")
	pair := bind(r, "a")
	r.Backend("a").Kill()
	answers := r.Send(30, 4, withCookie(pair))
	r.WantAll(answers, 200)
	for _, a := range answers {
		if a.Peer == "a" || given(a) == "" || given(a) == pair {
			t.Fatalf("answered by %s, given %q", a.Peer, given(a))
		}
	}
	moved, to := given(answers[0]), answers[0].Peer
	wantStay(r, "after falling over", moved, to, 20)
	r.Backend("a").Start()
	r.Eventually("a client of a that never took the other cookie is on it again", func() error {
		if a := r.Do(withCookie(pair)); a.Peer != "a" {
			return fmt.Errorf("it is on %s", a.Peer)
		}
		return nil
	})
	wantStay(r, "after a came back", moved, to, 20)

	r.Backend("b").Set(`{"fail":{"status":500,"after_ms":1,"share":1}}`)
	if a := r.Do(withCookie("weir_api=" + stickyValue(secretOld, "api", r.Addr("b")))); a.Status != 500 || given(a) != "" {
		t.Errorf("a failing peer answered %d and bound the client by %q", a.Status, given(a))
	}
}

func TestForgedForeignAndOldCookiesBindNobody(t *testing.T) {
	t.Parallel()
	r := stickyRig(t, "break_at: 0", "a", "b")
	good := stickyValue(secretOld, "api", r.Addr("a"))
	for what, pair := range map[string]string{
		"of another secret":   "weir_api=" + stickyValue(secretNew, "api", r.Addr("a")),
		"of another pool":     "weir_api=" + stickyValue(secretOld, "web", r.Addr("a")),
		"of no peer":          "weir_api=" + stickyValue(secretOld, "api", "10.1.1.1:80"),
		"with an address":     "weir_api=" + r.Addr("a"),
		"changed at its end":  "weir_api=" + good[:len(good)-1] + "_",
		"cut":                 "weir_api=" + good[:20],
		"grown":               "weir_api=" + good + "A",
		"empty":               "weir_api=",
		"very long":           "weir_api=" + strings.Repeat("A", 3000),
		"with odd bytes":      "weir_api=\xff\xfe%00" + good[4:],
		"under another name":  "weir_apj=" + good,
		"without a name":      good,
		"of a's id, b's sign": "weir_api=" + good[:9] + stickyValue(secretOld, "api", r.Addr("b"))[9:],
	} {
		var answers []rig.Answer
		for range 10 { // where one peer is dearer, exploration and the control slice alone bring clients to it: a fifth
			answers = append(answers, r.Send(40, 4, withCookie(pair))...)
			if s := rig.Share(answers, "a"); s > 0 && s < 1 {
				break
			}
		}
		r.WantAll(answers, 200)
		if s := rig.Share(answers, "a"); s == 0 || s == 1 {
			t.Errorf("a cookie %s binds", what)
		}
		for _, a := range answers {
			if given(a) == "" {
				t.Errorf("a client with a cookie %s is given none", what)
				break
			}
		}
	}
	wantStay(r, "the good one", "weir_api="+good, "a", 20)
	wantStay(r, "the good one behind an old one", "weir_api="+stickyValue(secretOld, "api", "10.1.1.1:80")+"; weir_api="+good, "a", 20)
}

func TestADrainingPeerKeepsItsSessionsForATimeAndGetsNoNewOnes(t *testing.T) {
	t.Parallel()
	r := stickyRig(t, "break_at: 0, drain_ms: 3600000", "a", "b")
	pair := bind(r, "a")
	r.Engine.Patch(r.Engine.PeerPath("api", "a"), `{"drain":true}`)
	r.Eventually("NGINX knows of the drain", func() error {
		if s := r.NGINX.Peer("api", "a"); s.State != "draining" {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	fresh := r.Send(60, 4, rig.Request{Path: "/api/x"})
	r.WantAll(fresh, 200)
	if rig.Share(fresh, "a") != 0 {
		t.Error("a draining peer got new clients")
	}
	wantStay(r, "while draining", pair, "a", 30)
	r.Engine.WriteFile(strings.Replace(r.ConfigText(), "drain_ms: 3600000", "drain_ms: 1", 1))
	r.Eventually("its time is over and the session moves", func() error {
		if a := r.Do(withCookie(pair)); a.Peer != "b" || given(a) == "" {
			return fmt.Errorf("it is on %s", a.Peer)
		}
		return nil
	})
}

func TestABoundClientLeavesAPeerThatCostsTooMuch(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"cookie", "hash"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			r := start(t, rig.Options{
				Config: "model: {file: none}",
				Pools: []rig.Pool{{
					Name: "api", Peers: []string{"a --slots 0 --class *:20", "b --slots 0 --class *:20"}, Location: header,
					Settings: "slow_start_ms: 0\nexplore: 0.1\naffinity: {by: " + by + ", key: $arg_user, balance_factor: 0, break_at: 3}\n",
				}},
			})
			q := rig.Request{Path: "/api/x?user=joan"}
			if by == "cookie" {
				q = withCookie(bind(r, "a"))
			}
			home := r.Do(q).Peer
			everybody := r.StartLoad(2, 2*time.Millisecond, rig.Request{Path: "/api/x"})
			// On a busy machine one peer may seem three times as dear for a moment. Without affinity it is half of them: 80 of 100 never are.
			if s := rig.Share(r.Send(100, 4, q), home); s < 0.8 {
				t.Errorf("with equal peers the client was on its own for %.0f %%", 100*s)
			}
			r.Backend(home).Set(`{"default":{"mean_ms":400}}`)
			r.Eventually("the client leaves a peer that is twenty times as slow", func() error {
				if s := rig.Share(r.Send(10, 5, q), home); s > 0.3 {
					return fmt.Errorf("it is there for %.2f", s)
				}
				return nil
			})
			r.WantAll(everybody.Stop(), 200)
		})
	}
}

func hashRig(t *testing.T, settings string, peers ...string) *rig.Rig {
	t.Helper()
	return start(t, rig.Options{Workers: 2, Pools: []rig.Pool{{
		Name: "api", Peers: peers, Settings: "explore: 0.2\ncontrol: 0.2\nslow_start_ms: 0\naffinity: {by: hash, key: $arg_user, " + settings + "}\n",
	}}})
}

// homes sends each user once or more and gives whose peer is which; a user seen on two peers fails the test.
func homes(r *rig.Rig, users, times int) map[string]string {
	r.T.Helper()
	at := map[string]string{}
	for range times {
		for u := range users {
			name := fmt.Sprint("u", u)
			a := r.Do(rig.Request{Path: "/api/x?user=" + name, Fresh: true})
			if a.Status != 200 {
				r.T.Fatalf("%d %v", a.Status, a.Err)
			}
			if was := at[name]; was != "" && was != a.Peer {
				r.T.Fatalf("%s was on %s and on %s", name, was, a.Peer)
			}
			at[name] = a.Peer
		}
	}
	return at
}

func TestAKeyStaysOnItsPeerAndMembershipMovesOnlyWhatItMust(t *testing.T) {
	t.Parallel()
	r := hashRig(t, "break_at: 0", "a", "b", "c")
	r.StartBackend("d", false)
	before := homes(r, 60, 3)
	count := map[string]int{}
	for _, peer := range before {
		count[peer]++
	}
	if len(count) != 3 {
		t.Errorf("60 keys are on %v", count)
	}
	r.SetPeers("api", "d", "c", "b", "a")
	r.WaitConnected()
	after := homes(r, 60, 1)
	moved := 0
	for u, peer := range after {
		if peer != before[u] {
			if moved++; peer != "d" {
				t.Errorf("%s moved from %s to %s when d joined", u, before[u], peer)
			}
		}
	}
	if moved == 0 || moved > 35 {
		t.Errorf("%d of 60 keys moved to the fourth peer", moved)
	}
	r.Backend("d").Kill()
	r.Eventually("what was d's is where it was before", func() error {
		for u, peer := range homes(r, 60, 1) {
			if peer != before[u] {
				return fmt.Errorf("%s is on %s, was on %s", u, peer, before[u])
			}
		}
		return nil
	})
	if s := shareOf(r.Send(60, 4, rig.Request{Path: "/api/x"}), "a", "b", "c"); s != 1 {
		t.Errorf("without a key: %.2f are answered by peers that are there", s)
	}
}

func TestAHotKeySpillsOverWhenItsPeerHasItsBound(t *testing.T) {
	t.Parallel()
	r := hashRig(t, "break_at: 0, balance_factor: 1.5", "a", "b", "c")
	hot := rig.Request{Path: "/api/x?user=joan"}
	home := r.Do(hot).Peer
	for _, b := range []string{"a", "b", "c"} {
		r.Backend(b).Set(standStill)
	}
	held := r.Begin(30, hot)
	wantTotal(r, 30)
	for _, b := range []string{"a", "b", "c"} {
		r.Backend(b).Set(goOn)
	}
	on := map[string]int{}
	for _, a := range held.Wait() {
		if a.Status != 200 {
			t.Fatalf("%d %v", a.Status, a.Err)
		}
		on[a.Peer]++
	}
	// No peer holds more than 1.5 times its third of 30; two workers that pick at one instant may pass it by one each.
	for peer, n := range on {
		if n > 15+2 {
			t.Errorf("%s held %d of 30 requests of one key", peer, n)
		}
	}
	if on[home] < 8 {
		t.Errorf("the key's own peer had %d of 30: %v", on[home], on)
	}
	if s := rig.Share(r.Send(20, 1, hot), home); s != 1 {
		t.Errorf("afterwards the key is at home for %.2f", s)
	}
}
