package api

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/record"
	"github.com/weirlb/weir/engine/history/stores"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/serve"
	"github.com/weirlb/weir/engine/telemetry"
)

const twoPools = `
refresh_ms: 20
pools:
  - name: api
    peers: ["10.0.0.1:80", "10.0.0.2:80", "[::1]:9001", "unix:/run/app.sock"]
  - {name: bare, peers: []}
`

// rig is a running engine with both listeners.
type rig struct {
	t      testing.TB
	eng    *serve.Engine
	socket *Server
	admin  *Server
	path   string
	token  *Token
	log    locked
	keeper *record.Recorder // nil = no history
}

func parse(t testing.TB, text string) *config.Config {
	t.Helper()
	c, _, err := config.Parse("weir.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// locked lets the log be read while the engine writes it.
type locked struct {
	ch chan struct{}
	b  *strings.Builder
}

func (l locked) Write(p []byte) (int, error) {
	l.ch <- struct{}{}
	defer func() { <-l.ch }()
	return l.b.Write(p)
}

func (r *rig) logged() string {
	r.log.ch <- struct{}{}
	defer func() { <-r.log.ch }()
	return r.log.b.String()
}

func start(t testing.TB, text string) *rig { return startWith(t, text, false) }

// startKeeping is start with a history.
func startKeeping(t testing.TB, text string) *rig { return startWith(t, text, true) }

func startWith(t testing.TB, text string, keep bool) *rig {
	t.Helper()
	r := &rig{t: t, path: filepath.Join(t.TempDir(), "engine.sock"), token: &Token{}, log: locked{make(chan struct{}, 1), &strings.Builder{}}}
	r.eng = serve.New(parse(t, text), telemetry.NewLog(r.log, "info"), telemetry.New())
	if keep {
		dir := t.TempDir()
		r.keeper = record.New(record.Options{
			Dir: dir, SpoolBytes: 1 << 20, Log: r.eng.Log(), Tel: r.eng.Metrics().History(),
			Open: func(ctx context.Context) (history.Store, error) { return stores.Open(ctx, config.History{Dir: dir}) },
		})
		r.keeper.Start()
		t.Cleanup(func() { _ = r.keeper.Close(context.Background()) })
		r.eng.Keep(r.keeper)
		within(t, 10*time.Second, "the store is open", func() bool { _, err := r.keeper.Store(); return err == nil })
	}
	r.eng.Start()
	t.Cleanup(r.eng.Close)
	var err error
	if r.socket, err = NewSocket(r.eng, config.Socket{Path: r.path, Mode: 0o660}); err != nil {
		t.Fatal(err)
	}
	if r.admin, err = NewAdmin(r.eng, "127.0.0.1:0", r.token); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		_ = r.socket.Shutdown(ctx)
		_ = r.admin.Shutdown(ctx)
	})
	return r
}

// client speaks to the socket whatever the host in the URL.
func (r *rig) client() *http.Client {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", r.path)
	}}
	r.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a *answer) into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		t.Fatalf("%v in %q", err, a.body)
	}
}

func do(t testing.TB, c *http.Client, method, url, body string, header ...string) *answer {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &answer{res.StatusCode, res.Header, string(got)}
}

// ask sends a request to the socket.
func (r *rig) ask(method, path, body string, header ...string) *answer {
	r.t.Helper()
	return do(r.t, r.client(), method, "http://weir"+path, body, header...)
}

// manage sends a request to the admin listener.
func (r *rig) manage(method, path, body string, header ...string) *answer {
	r.t.Helper()
	return do(r.t, http.DefaultClient, method, "http://"+r.admin.Addr().String()+path, body, header...)
}

// twoModels loads a model and proposes another, whose id it returns.
func (r *rig) twoModels() string {
	r.t.Helper()
	file := func(seed uint64) []byte {
		net := model.New([]int{decide.Inputs, 4, 1}, rand.New(rand.NewPCG(seed, 1)))
		b, err := model.Encode(net, model.Meta{Features: decide.InputNames(), Heads: []string{decide.Head}, Card: map[string]string{"name": "test"}})
		if err != nil {
			r.t.Fatal(err)
		}
		return b
	}
	path := filepath.Join(r.t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, file(1), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := r.eng.Models().Configure(config.Model{File: path, Library: config.LibraryBuiltin}); err != nil {
		r.t.Fatal(err)
	}
	m, err := r.eng.Models().Propose(file(2), "test")
	if err != nil {
		r.t.Fatal(err)
	}
	return m.ID
}

const ndjson = "application/x-ndjson"

// learn tells of n attempts.
func (r *rig) learn(pool, class, peer string, kind observe.Kind, n int) {
	r.t.Helper()
	b := &observe.Batch{Instance: "web1"}
	for range n {
		err := b.Add(pool, class, peer, observe.Record{
			Attempt: 1, Kind: kind, Propensity: 1, HeaderMS: 5, TotalMS: 5, PredictedMS: observe.None, Load: observe.None,
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	body, err := b.AppendCompact(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if a := r.ask("POST", "/observe", string(body), "Content-Type", compactType); a.status != 200 {
		r.t.Fatalf("%d %s", a.status, a.body)
	}
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
