package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/weirlb/weir/test/backend"
	"github.com/weirlb/weir/test/e2e/rig"
)

// What clients and backends say to each other passes through Weir as it passes through plain NGINX, and is measured to the instant that
// tells of the peer: to the end of an answer, to the header of a stream.

// pattern is a body whose every part differs, so that what is lost, doubled or swapped shows.
func pattern(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

func sum(body []byte) string {
	if len(body) == 0 {
		return ""
	}
	h := sha256.Sum256(body)
	return hex.EncodeToString(h[:])
}

// seen decodes what the backend tells of a request.
func seen(t *testing.T, body string) (a backend.Answer) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Fatalf("the backend's answer: %v: %.200q", err, body)
	}
	return a
}

// send does one request by a client and reads the answer.
func send(t *testing.T, client *http.Client, req *http.Request) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), rig.Patience)
	defer cancel()
	resp, err := client.Do(req.WithContext(ctx))
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: the body: %v", req.Method, req.URL, err)
	}
	return resp.StatusCode, string(text)
}

func request(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// unbuffered is a location that sends a request's body on while it arrives.
func unbuffered() string {
	return "client_max_body_size 0; location /upload/ { proxy_request_buffering off; proxy_pass http://api/; include " + programs.Repo + "/nginx/proxy.conf; }"
}

// class fits the records of the class.
func class(name string) func(rig.Record) bool {
	return func(rec rig.Record) bool { return rec.Class == name }
}

func wantPlain(r *rig.Rig, records []rig.Record) {
	r.T.Helper()
	for _, rec := range records {
		if rec.Kind != rig.KindOK || rec.Flags&rig.FlagStream != 0 || rec.Attempt != 1 || rec.HeaderMS < 0 || rec.HeaderMS > rec.TotalMS {
			r.T.Errorf("a plain answer is reported as %+v", rec)
		}
	}
}

func TestUploadsPassUnchanged(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Server: unbuffered(), Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}}})
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	n := 0
	for _, size := range []int{0, 10, 20_000, 3_000_000} {
		for _, path := range []string{"/api/x", "/upload/x"} {
			for _, chunked := range []bool{false, true} {
				body := pattern(size)
				req := request(t, http.MethodPut, "http://"+r.NGINX.Addr+path, bytes.NewReader(body))
				if chunked {
					req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), -1
				}
				status, text := send(t, client, req)
				n++
				a := seen(t, text)
				if status != 200 || a.BodyBytes != int64(size) || a.BodySHA256 != sum(body) {
					t.Errorf("PUT %s with %d bytes, chunked %v: status %d, the backend saw %d bytes with sum %s", path, size, chunked, status, a.BodyBytes, a.BodySHA256)
				}
				if want := chunked && path == "/upload/x"; a.Chunked != want && size > 1000 { // one that has arrived whole gets a length
					t.Errorf("PUT %s with %d bytes, chunked %v: to the backend it was chunked %v, want %v", path, size, chunked, a.Chunked, want)
				}
			}
		}
	}
	wantPlain(r, r.WaitRecords(n, func(rig.Record) bool { return true }))
}

// The peer answers while the client still sends.
func TestAnAnswerBeforeTheEndOfTheRequestReachesTheClient(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Server: unbuffered(), Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}}})
	for _, path := range []string{"/api/early", "/upload/early"} {
		for _, size := range []int{1000, 200_000, 3_000_000} {
			a := r.Do(rig.Request{Path: path, Body: string(pattern(size))})
			if want := "too large for " + a.Peer + "\n"; a.Status != http.StatusRequestEntityTooLarge || a.Body != want {
				t.Errorf("%s: status %d %q, error %v", path, a.Status, a.Body, a.Err)
			}
			if n := r.SeenAnywhere(a.ID); n != 1 {
				t.Errorf("%s: it arrived %d times", path, n)
			}
		}
	}
	for _, rec := range r.WaitRecords(6, func(rig.Record) bool { return true }) {
		if rec.Kind != rig.KindOK || rec.Status != 413 {
			t.Errorf("it is reported as %+v", rec)
		}
	}
}

func TestTheAnswerToHEADHasALengthAndNoBody(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Workers: 1, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}}})
	c := r.NGINX.Dial()
	_ = c.SetDeadline(time.Now().Add(rig.Patience))
	in := bufio.NewReader(c)
	for range 6 { // on one connection: a body, if there were one, would be taken for the next answer
		_, _ = fmt.Fprint(c, "HEAD /api/bytes?n=5000 HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodHead})
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 200 || resp.ContentLength != 5000 {
			t.Errorf("status %d, length %d", resp.StatusCode, resp.ContentLength)
		}
	}
	for _, rec := range r.WaitRecords(6, class("HEAD /api/bytes")) {
		if rec.Kind != rig.KindOK || rec.Bytes != 0 || rec.HeaderMS < 0 {
			t.Errorf("it is reported as %+v", rec)
		}
	}
	wantNoFailures(r, "a", "b")
}

func TestAClientThatExpects100ContinueGetsIt(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{NoEngine: true, Server: unbuffered(), Pools: []rig.Pool{{Name: "api", Peers: []string{"a"}}}})
	body := pattern(50_000)
	for _, path := range []string{"/api/echo", "/upload/echo"} {
		c := r.NGINX.Dial()
		_ = c.SetDeadline(time.Now().Add(rig.Patience))
		in := bufio.NewReader(c)
		_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", path, len(body))
		line, err := in.ReadString('\n') // nothing of the body is sent before this
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
			t.Fatalf("%s: %q, %v", path, line, err)
		}
		_, _ = in.ReadString('\n')
		_, _ = c.Write(body)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		if a := seen(t, string(text)); resp.StatusCode != 200 || a.BodySHA256 != sum(body) || a.Header.Get("Expect") != "" {
			t.Errorf("%s: status %d, the backend saw %d bytes, Expect %q", path, resp.StatusCode, a.BodyBytes, a.Header.Get("Expect"))
		}
	}
}

// A client that sends or reads slowly says nothing about the peer.
func TestSlowClientsAreNotTakenForSlowPeers(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: "slow_start_ms: 0"}}})
	const parts, pause = 30, 50 * time.Millisecond // 1.5 s
	uploaded := make(chan error, 1)
	up := r.NGINX.Dial()
	go func() {
		uploaded <- func() error {
			_ = up.SetDeadline(time.Now().Add(rig.Patience))
			_, _ = fmt.Fprintf(up, "POST /api/slow-up HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", parts*10)
			for range parts {
				time.Sleep(pause)
				if _, err := io.WriteString(up, "0123456789"); err != nil {
					return err
				}
			}
			resp, err := http.ReadResponse(bufio.NewReader(up), nil)
			if err == nil && resp.StatusCode != 200 {
				err = fmt.Errorf("%s", resp.Status)
			}
			return err
		}()
	}()
	down := r.NGINX.Dial()
	_ = down.SetDeadline(time.Now().Add(rig.Patience))
	_, _ = fmt.Fprint(down, "GET /api/bytes?n=20000000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	_, _ = io.ReadFull(down, make([]byte, 1000))
	time.Sleep(parts * pause)
	if n, err := io.Copy(io.Discard, down); err != nil || n < 19_999_000 {
		t.Errorf("the slow reader got %d bytes, %v", n, err)
	}
	if err := <-uploaded; err != nil {
		t.Errorf("the slow sender: %v", err)
	}
	for _, name := range []string{"POST /api/slow-up", "GET /api/bytes"} {
		for _, rec := range r.WaitRecords(1, func(rec rig.Record) bool { return strings.HasPrefix(rec.Class, name) }) {
			if limit := float64(parts*pause/time.Millisecond) * 2 / 3; rec.Kind != rig.KindOK || rec.TotalMS > limit {
				t.Errorf("the peer was done at once, the client after 1.5 s; it is reported as %+v", rec)
			}
		}
	}
}

func TestALongPollIsAnAnswerThatTakesLong(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}}})
	r.WantAll(r.Begin(6, rig.Request{Path: "/api/poll?wait=600ms"}).Wait(), 200)
	records := r.WaitRecords(6, class("GET /api/poll"))
	wantPlain(r, records)
	for _, rec := range records {
		if rec.HeaderMS < 550 {
			t.Errorf("the header came after 600 ms; it is reported as %+v", rec)
		}
	}
}

func TestAWebSocketCarriesMessagesBothWaysAndEndsAsItsEndsSay(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{Tap: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}}})
	ctx, cancel := context.WithTimeout(t.Context(), rig.Patience)
	defer cancel()
	ws, resp, err := websocket.Dial(ctx, "ws://"+r.NGINX.Addr+"/api/ws", &websocket.DialOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("status %d", resp.StatusCode)
	}
	for i := range 10 {
		kind, message := websocket.MessageText, []byte(fmt.Sprint("message ", i))
		if i%2 == 1 {
			kind, message = websocket.MessageBinary, pattern(30_000)
		}
		if err := ws.Write(ctx, kind, message); err != nil {
			t.Fatal(err)
		}
		gotKind, got, err := ws.Read(ctx)
		if err != nil || gotKind != kind || !bytes.Equal(got, message) {
			t.Fatalf("message %d came back as %v of %d bytes, %v", i, gotKind, len(got), err)
		}
		time.Sleep(40 * time.Millisecond)
	}
	if err := ws.Close(websocket.StatusNormalClosure, "done"); err != nil {
		t.Errorf("closing: %v", err) // the other end's closing frame did not come
	}
	for _, rec := range r.WaitRecords(1, func(rec rig.Record) bool { return rec.Status == 101 }) {
		if rec.Kind != rig.KindOK || rec.Flags&rig.FlagStream == 0 || rec.HeaderMS < 0 || rec.TotalMS-rec.HeaderMS < 390 {
			t.Errorf("0.4 s of WebSocket are reported as %+v", rec)
		}
	}
}

func TestEventsReachTheClientWhileTheStreamRuns(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{NoEngine: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}}})
	c := r.NGINX.Dial()
	_ = c.SetDeadline(time.Now().Add(rig.Patience))
	_, _ = fmt.Fprint(c, "GET /api/sse?n=4&every=250ms HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	in, events := bufio.NewScanner(resp.Body), 0
	var first, last time.Time
	for in.Scan() {
		if strings.HasPrefix(in.Text(), "data: ") {
			if last = time.Now(); events == 0 {
				first = last
			}
			events++
		}
	}
	if events != 4 || last.Sub(first) < 400*time.Millisecond {
		t.Errorf("%d events, the last %v after the first, want 4 over 0.75 s", events, last.Sub(first))
	}
}

// Case 30. A trace goes on with the client's header, over retries too; none is invented beside it.
func TestATraceparentIsContinuedAndNeverDoubled(t *testing.T) {
	t.Parallel()
	r := start(t, rig.Options{NoEngine: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a", "b"}}}})
	r.Backend("b").Set(`{"refuse":true}`)
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	retried := 0
	for range 20 {
		a := r.Do(rig.Request{Path: "/api/echo", Header: map[string]string{"Traceparent": "00-" + trace + "-00f067aa0ba902b7-01", "Tracestate": "vendor=1,other=2"}})
		if a.Status != 200 {
			t.Fatalf("status %d, %v", a.Status, a.Err)
		}
		h := seen(t, a.Body).Header
		if p := h.Values("Traceparent"); len(p) != 1 || !strings.HasPrefix(p[0], "00-"+trace+"-") {
			t.Errorf("the backend got traceparent %q", p)
		}
		if s := h.Values("Tracestate"); len(s) != 1 || s[0] != "vendor=1,other=2" {
			t.Errorf("the backend got tracestate %q", s)
		}
		if len(r.NGINX.Logged([]rig.Answer{a})[0].Addrs()) > 1 {
			retried++
		}
	}
	if retried == 0 {
		t.Error("no request was retried: the test proved less than it should")
	}
}

// NGINX's own rule: POST, PATCH and LOCK that have been sent are not sent again, unless proxy_next_upstream says non_idempotent.
func TestOnlyRequestsThatMayBeRepeatedAre(t *testing.T) {
	t.Parallel()
	proxy := "include " + programs.Repo + "/nginx/proxy.conf;"
	r := start(t, rig.Options{
		Pools:  []rig.Pool{{Name: "api", Peers: []string{"a", "b"}, Settings: "eject: {consecutive: 0, failure_share: 0}\nretry: {min_per_s: 1000}"}},
		Server: "location /again/ { proxy_pass http://api/; proxy_next_upstream error timeout non_idempotent; " + proxy + " }",
	})
	for _, b := range []string{"a", "b"} {
		r.Backend(b).Set(`{"reset":{"share":1,"after_bytes":-1}}`)
	}
	for path, methods := range map[string]string{"/api/x": "GET HEAD PUT DELETE OPTIONS post patch lock", "/again/x": "GET PUT POST PATCH LOCK"} {
		for method := range strings.FieldsSeq(methods) {
			want := 2
			if method == strings.ToLower(method) {
				want = 1
			}
			a := r.Do(rig.Request{Path: path, Method: strings.ToUpper(method)})
			if n := r.SeenAnywhere(a.ID); a.Status != 502 || n != want {
				t.Errorf("%s %s: status %d, arrived %d times, want 502 and %d", method, path, a.Status, n, want)
			}
		}
	}
}

// Case 11. Two pools with one address: what is said to one name must not go over a connection that was opened for the other.
func TestPoolsWithOneAddressShareNoConnection(t *testing.T) {
	t.Parallel()
	certificate, key := rig.Certificate(t, "one.test", "two.test")
	location := func(path, pool, name string) string {
		return fmt.Sprintf(`location /%s/ {
      proxy_pass https://%s/; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host %s;
      proxy_ssl_server_name on; proxy_ssl_name %s; proxy_ssl_verify on; proxy_ssl_trusted_certificate %s;
    }`, path, pool, name, name, certificate)
	}
	peer := "a --tls-cert " + certificate + " --tls-key " + key
	r := start(t, rig.Options{
		Tap: true, Workers: 1,
		Pools:  []rig.Pool{{Name: "one", Peers: []string{peer}}, {Name: "two", Peers: []string{peer}}, {Name: "three", Peers: []string{peer}}},
		Server: location("tls1", "one", "one.test") + location("tls2", "two", "two.test") + location("tls3", "three", "three.test"),
	})
	hostOf, reused := map[int64]string{}, 0
	for i := range 60 {
		path, host := "/tls1/x", "one.test"
		if i%2 == 1 {
			path, host = "/tls2/x", "two.test"
		}
		a := r.Do(rig.Request{Path: path})
		if a.Status != 200 {
			t.Fatalf("%s: status %d, %v", path, a.Status, a.Err)
		}
		s := seen(t, a.Body)
		if s.SNI != host || s.Host != host {
			t.Errorf("%s: the backend saw SNI %q and host %q", path, s.SNI, s.Host)
		}
		if other, ok := hostOf[s.Conn]; ok && other != host {
			t.Errorf("connection %d served %s and %s", s.Conn, other, host)
		}
		hostOf[s.Conn] = host
		if s.ConnSeq > 1 {
			reused++
		}
	}
	if reused < 40 {
		t.Errorf("%d of 60 requests went over a kept connection: the test proved nothing", reused)
	}
	wantPlain(r, r.WaitRecords(60, func(rig.Record) bool { return true }))

	// a peer whose certificate is for other names is none
	if a := r.Do(rig.Request{Path: "/tls3/x"}); a.Status != 502 {
		t.Errorf("a peer with a certificate for other names: status %d", a.Status)
	}
	for _, rec := range r.WaitRecords(1, func(rec rig.Record) bool { return rec.Pool == "three" }) {
		if rec.Kind != rig.KindRefused {
			t.Errorf("a failed handshake is reported as %+v", rec)
		}
	}
}
