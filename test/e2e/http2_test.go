package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

// h2c is a client that speaks HTTP/2 without TLS.
func h2c() *http.Client {
	p := &http.Protocols{}
	p.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: p}}
}

func TestHTTP2ClientsAreServedAsOthers(t *testing.T) {
	t.Parallel()
	addr := programs.FreeAddr(t)
	r := start(t, rig.Options{
		Tap: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a --slots 0", "b --slots 0"}}},
		HTTP: "server { listen " + addr + " http2; client_max_body_size 0; location /api/ { proxy_pass http://api/; include " + programs.Repo + "/nginx/proxy.conf; } " +
			"location /upload/ { proxy_request_buffering off; proxy_pass http://api/; include " + programs.Repo + "/nginx/proxy.conf; } }",
	})
	client := h2c()
	defer client.CloseIdleConnections()
	body := pattern(2_000_000)
	status, text := send(t, client, request(t, http.MethodPut, "http://"+addr+"/api/x", io.NopCloser(bytes.NewReader(body))))
	if a := seen(t, text); status != 200 || a.BodySHA256 != sum(body) || a.Proto != "HTTP/1.1" {
		t.Errorf("an upload: status %d, the backend saw %+v", status, a)
	}
	status, text = send(t, client, request(t, http.MethodPut, "http://"+addr+"/upload/x", io.NopCloser(bytes.NewReader(body))))
	if a := seen(t, text); status != 200 || a.BodySHA256 != sum(body) || !a.Chunked {
		t.Errorf("an upload that is sent on as it comes: status %d, the backend saw %+v", status, a)
	}
	r.WaitRecords(1, class("PUT /api/x b+"))
	r.WaitRecords(1, class("PUT /upload/x")) // its length is not known, nor that it has a body (docs/classes.md)
	for _, b := range []string{"a", "b"} {
		r.Backend(b).Set(answersIn(300))
	}
	const streams = 20
	done := make(chan error, streams)
	began := time.Now()
	for range streams {
		go func() {
			resp, err := client.Get("http://" + addr + "/api/x")
			if err == nil {
				_ = resp.Body.Close()
				if resp.StatusCode != 200 || resp.ProtoMajor != 2 {
					err = fmt.Errorf("%s %s", resp.Proto, resp.Status)
				}
			}
			done <- err
		}()
	}
	for range streams {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(began); took > streams*300*time.Millisecond/2 {
		t.Errorf("%d requests of 300 ms on one connection took %v: they waited for each other", streams, took)
	}
	wantPlain(r, r.WaitRecords(streams+2, func(rig.Record) bool { return true }))

	// a client that resets its stream leaves as one that closes its connection
	for _, b := range []string{"a", "b"} {
		r.Backend(b).Set(standStill)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_, err := client.Do(request(t, http.MethodGet, "http://"+addr+"/api/x", nil).WithContext(ctx))
		done <- err
	}()
	wantTotal(r, 1)
	cancel()
	if err := <-done; err == nil {
		t.Error("an answer of peers that stand still")
	}
	r.WaitRecords(1, func(rec rig.Record) bool { return rec.Kind == rig.KindAbort })
	wantNoFailures(r, "a", "b")
}
