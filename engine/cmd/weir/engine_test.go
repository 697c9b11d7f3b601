package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/history/record"
)

// output collects what a command writes; it may be read meanwhile.
type output struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func weir(args ...string) (code int, out, errs string) {
	var o, e output
	code = run(args, streams{&o, &e})
	return code, o.String(), e.String()
}

func within(t testing.TB, limit time.Duration, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if done() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// engine is `weir serve` running in this process.
type engine struct {
	t            *testing.T
	file, socket string
	admin        string // URL
	log          *output
	hup          chan os.Signal
	stop         context.CancelFunc
	ended        chan error
}

func yamlFor(socket, more string) string {
	if !strings.Contains(more, "history:") {
		more = "history: {dir: history}\n" + more // beside the file
	}
	if !strings.Contains(more, "model:") {
		more = "model: {file: none}\n" + more // these tests need no ONNX Runtime
	}
	return "socket: " + socket + "\nadmin: {listen: \"127.0.0.1:0\", token: \"0123456789abcdef\"}\n" + more
}

const onePool = `
pools:
  - name: api
    peers: ["10.0.0.1:80", "10.0.0.2:80"]
`

func start(t *testing.T, more string) *engine {
	t.Helper()
	dir := t.TempDir()
	e := &engine{
		t: t, file: filepath.Join(dir, "weir.yaml"), socket: filepath.Join(dir, "engine.sock"), log: &output{},
		hup: make(chan os.Signal, 1), ended: make(chan error, 1),
	}
	e.write(more)
	e.serve()
	return e
}

// serve starts the engine on the file as it is and waits until it runs.
func (e *engine) serve() {
	t := e.t
	t.Helper()
	var ctx context.Context
	ctx, e.stop = context.WithCancel(context.Background())
	go func() {
		e.ended <- (&serveCmd{Config: e.file, tune: func(o *record.Options) { o.WriteWithin, o.LastRetry = time.Second, 500*time.Millisecond }}).until(ctx, e.hup, streams{e.log, e.log})
	}()
	t.Cleanup(func() {
		e.stop()
		select {
		case <-e.ended:
		case <-time.After(10 * time.Second):
			t.Error("the engine does not end")
		}
	})
	within(t, 10*time.Second, "the engine runs", func() bool { return strings.Contains(e.log.String(), "engine is running") })
	for line := range strings.Lines(e.log.String()) {
		var event struct{ Message, Admin string }
		if json.Unmarshal([]byte(line), &event) == nil && event.Message == "engine is running" {
			e.admin = "http://" + event.Admin
		}
	}
}

func (e *engine) write(more string) {
	e.t.Helper()
	if err := os.WriteFile(e.file, []byte(yamlFor(e.socket, more)), 0o600); err != nil {
		e.t.Fatal(err)
	}
}

func (e *engine) peers(args ...string) (code int, out, errs string) {
	return weir(append([]string{"peers", "--admin", e.admin, "--token", "0123456789abcdef"}, args...)...)
}

// watchedPools asks the engine over its socket which pools and peers it has.
func (e *engine) has(text string) bool {
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", e.socket)
		},
	}}
	res, err := c.Get("http://weir/watch")
	if err != nil {
		return false
	}
	defer res.Body.Close()
	var b bytes.Buffer
	_, _ = b.ReadFrom(res.Body)
	return strings.Contains(b.String(), text)
}
