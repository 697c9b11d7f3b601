package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Engine is the engine process.
type Engine struct {
	rig    *Rig
	proc   process
	config string // weir.yaml
	socket string
	admin  string // host:port
	web    *http.Client
	unix   *http.Client
}

func newEngine(r *Rig) *Engine {
	r.T.Helper()
	port, err := r.programs.freePort()
	if err != nil {
		r.T.Fatal(err)
	}
	e := &Engine{
		rig: r, config: filepath.Join(r.dir, "weir.yaml"), socket: filepath.Join(r.dir, "engine.sock"), admin: fmt.Sprintf("127.0.0.1:%d", port),
		proc: process{name: "engine", log: filepath.Join(r.dir, "engine.log")},
		web:  &http.Client{Timeout: Patience, Transport: &http.Transport{DisableKeepAlives: true}},
	}
	e.unix = &http.Client{Timeout: Patience, Transport: unixTransport(e.socket)}
	return e
}

func unixTransport(socket string) *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}
}

// WriteConfig writes weir.yaml for the members of the moment, by rename as editors and configuration managers do.
func (r *Rig) WriteConfig() {
	r.T.Helper()
	r.Engine.WriteFile(r.ConfigText())
}

// ConfigText is weir.yaml for the members of the moment.
func (r *Rig) ConfigText() string {
	var b strings.Builder
	fmt.Fprintf(&b, "socket: {path: %s}\nadmin: {listen: %q}\nlog: {level: debug}\nhistory: {dir: history}\n%s\npools:\n", r.Engine.socket, r.Engine.admin, r.opt.Config)
	for _, p := range r.opt.Pools {
		fmt.Fprintf(&b, "  - name: %s\n", p.Name)
		for line := range strings.Lines(strings.TrimSpace(p.Settings)) {
			fmt.Fprintf(&b, "    %s\n", strings.TrimRight(line, "\n"))
		}
		if len(r.members[p.Name]) == 0 {
			b.WriteString("    peers: []\n")
			continue
		}
		b.WriteString("    peers:\n")
		for _, m := range r.members[p.Name] {
			more := ""
			if s := p.PeerSettings[m]; s != "" {
				more = ", " + s
			}
			fmt.Fprintf(&b, "      - {address: %q%s}\n", r.Addr(m), more)
		}
	}
	return b.String()
}

// WriteFile replaces weir.yaml as a whole.
func (e *Engine) WriteFile(text string) {
	e.rig.T.Helper()
	if err := os.WriteFile(e.config+".new", []byte(text), 0o644); err != nil {
		e.rig.T.Fatal(err)
	}
	if err := os.Rename(e.config+".new", e.config); err != nil {
		e.rig.T.Fatal(err)
	}
}

// Start starts the engine and waits until it says that it is healthy.
func (e *Engine) Start() {
	t := e.rig.T
	t.Helper()
	if err := e.rig.programs.weirErr; err != nil {
		t.Fatal(err)
	}
	env := append([]string{"GORACE=halt_on_error=0 atexit_sleep_ms=0"}, e.rig.opt.Env...)
	if err := e.proc.start(syscall.SIGKILL, env, e.rig.programs.Weir, "serve", "--config", e.config); err != nil {
		t.Fatal(err)
	}
	e.rig.Eventually("the engine answers", func() error {
		if e.proc.pid() == 0 {
			t.Fatalf("the engine ended: %s", e.proc.output())
		}
		status, body, err := e.get("/api/health")
		if err == nil && status != http.StatusOK && !strings.Contains(string(body), "pool") {
			err = fmt.Errorf("%d: %s", status, body)
		}
		return err
	})
}

// Stop ends the engine in order and fails the test when it does not obey.
func (e *Engine) Stop() {
	e.rig.T.Helper()
	if err := e.proc.stop(syscall.SIGTERM, 10*time.Second); err != nil {
		e.rig.T.Errorf("stopping the engine: %v", err)
	}
}

// Kill ends the engine without a chance to clean up.
func (e *Engine) Kill() { _ = e.proc.stop(syscall.SIGKILL, Patience) }

// Freeze stops the engine from running: connections to it are accepted by the kernel and never answered.
func (e *Engine) Freeze() { e.signal(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (e *Engine) Thaw() { e.signal(syscall.SIGCONT) }

// Hangup asks for a reload of the configuration.
func (e *Engine) Hangup() { e.signal(syscall.SIGHUP) }

func (e *Engine) signal(s syscall.Signal) {
	e.rig.T.Helper()
	if err := e.proc.signal(s); err != nil {
		e.rig.T.Fatal(err)
	}
}

// Log is everything the engine wrote.
func (e *Engine) Log() string { return e.proc.output() }

func (e *Engine) get(path string) (int, []byte, error) {
	resp, err := e.web.Get("http://" + e.admin + path)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// Get reads from the admin listener.
func (e *Engine) Get(path string) (int, []byte) {
	e.rig.T.Helper()
	status, body, err := e.get(path)
	if err != nil {
		e.rig.T.Fatalf("engine, GET %s: %v", path, err)
	}
	return status, body
}

// Patch changes something over the admin listener.
func (e *Engine) Patch(path, body string) {
	e.rig.T.Helper()
	e.change(http.MethodPatch, path, body)
}

// Command is Patch by POST.
func (e *Engine) Command(path, body string) {
	e.rig.T.Helper()
	e.change(http.MethodPost, path, body)
}

func (e *Engine) change(method, path, body string) {
	e.rig.T.Helper()
	req, err := http.NewRequest(method, "http://"+e.admin+path, strings.NewReader(body))
	if err != nil {
		e.rig.T.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := e.web.Do(req)
	if err != nil {
		e.rig.T.Fatalf("engine, %s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		e.rig.T.Fatalf("engine, %s %s: %s: %s", method, path, resp.Status, text)
	}
}

// Post sends to the engine's socket.
func (e *Engine) Post(path, contentType string, body []byte) (int, []byte) {
	e.rig.T.Helper()
	resp, err := e.unix.Post("http://engine"+path, contentType, bytes.NewReader(body))
	if err != nil {
		e.rig.T.Fatalf("engine, POST %s: %v", path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		e.rig.T.Fatalf("engine, POST %s: %v", path, err)
	}
	return resp.StatusCode, text
}

// Table is the answer of /decide.
type Table struct {
	Class string
	Peers []struct {
		Addr   string
		State  string
		Usable bool
		Admit  float64
	}
	Grid     []float64
	Costs    [][]float64
	Settings struct{ Policy string }
}

// Decide asks for the table of a pool and class.
func (e *Engine) Decide(pool, class string) Table {
	e.rig.T.Helper()
	ask, _ := json.Marshal(map[string]string{"pool": pool, "class": class})
	status, body := e.Post("/decide", "application/json", ask)
	var t Table
	if err := json.Unmarshal(body, &t); err != nil || status != http.StatusOK {
		e.rig.T.Fatalf("engine, /decide for pool %q class %q: %d %s %v", pool, class, status, body, err)
	}
	return t
}

// Cost is what one more request costs on a backend that has none in flight.
func (t Table) Cost(addr string) (float64, bool) {
	for i, p := range t.Peers {
		if p.Addr == addr && i < len(t.Costs) && len(t.Costs[i]) > 0 {
			return t.Costs[i][0], true
		}
	}
	return 0, false
}

// State is the engine's word on a backend of the pool; empty when it has none.
func (e *Engine) State(pool, backend string) string {
	e.rig.T.Helper()
	addr := e.rig.Addr(backend)
	for _, p := range e.Decide(pool, "*").Peers {
		if p.Addr == addr {
			return p.State
		}
	}
	return ""
}

// Samples are the lines of GET /metrics, comments left out, whose name begins with the prefix.
func (e *Engine) Samples(prefix string) (lines []string) {
	e.rig.T.Helper()
	_, body := e.Get("/metrics")
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, prefix) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// Check runs `weir check` on a configuration text and returns whether it passed, and what it said.
func (r *Rig) Check(config string, args ...string) (bool, string) {
	r.T.Helper()
	file := filepath.Join(r.dir, "check.yaml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		r.T.Fatal(err)
	}
	out, err := exec.Command(r.programs.Weir, append([]string{"check", "--config", file}, args...)...).CombinedOutput()
	return err == nil, string(out)
}

// Admin is the URL of the admin listener.
func (e *Engine) Admin() string { return "http://" + e.admin }

// Weir runs the program with these arguments and returns what it wrote.
func (r *Rig) Weir(args ...string) string {
	r.T.Helper()
	out, err := exec.Command(r.programs.Weir, args...).CombinedOutput()
	if err != nil {
		r.T.Errorf("weir %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Figures are a peer's figures as GET /api/pools/POOL/peers/PEER tells them.
type Figures struct {
	State            string            `json:"state"`
	Reason           string            `json:"reason"`
	Usable           bool              `json:"usable"`
	Admit            float64           `json:"admit"`
	Risk             float64           `json:"risk"`
	Ejections        int               `json:"ejections"`
	Inflight         int               `json:"inflight"`
	Attempts         int               `json:"attempts"`
	Samples          float64           `json:"samples"`
	Weight           float64           `json:"weight"`
	Sources          []string          `json:"sources"`
	Failures         map[string]uint64 `json:"failures"` // by kind
	Others           map[string]uint64 `json:"others"`   // aborts and idle races
	ReportState      string            `json:"report_state"`
	ReportedLoad     *float64          `json:"reported_load"`
	ReportedInflight *float64          `json:"reported_inflight"`
	Elsewhere        *float64          `json:"elsewhere"`
	Latency          struct {
		P50 *float64 `json:"p50"`
	} `json:"latency_ms"`
}

// Failed is the sum of all failures.
func (f Figures) Failed() (n int) {
	for _, k := range f.Failures {
		n += int(k)
	}
	return n
}

// PeerPath is the admin path of a backend in a pool.
func (e *Engine) PeerPath(pool, backend string) string {
	return "/api/pools/" + pool + "/peers/" + url.PathEscape(e.rig.Addr(backend))
}

// Figures reads the figures of a backend in a pool.
func (e *Engine) Figures(pool, backend string) (f Figures) {
	e.rig.T.Helper()
	status, body := e.Get(e.PeerPath(pool, backend))
	if err := json.Unmarshal(body, &f); err != nil || status != http.StatusOK {
		e.rig.T.Fatalf("engine, figures of %s in pool %s: %d %s %v", backend, pool, status, body, err)
	}
	return f
}

// Has tells whether the engine has the backend in the pool.
func (e *Engine) Has(pool, backend string) bool {
	e.rig.T.Helper()
	status, _ := e.Get(e.PeerPath(pool, backend))
	return status == http.StatusOK
}

// WaitAttempts waits until the engine has heard of n attempts on the backend.
func (e *Engine) WaitAttempts(pool, backend string, n int) (f Figures) {
	e.rig.T.Helper()
	e.rig.Eventually(fmt.Sprintf("the engine knows of %d attempts on %s", n, backend), func() error {
		if f = e.Figures(pool, backend); f.Attempts < n {
			return fmt.Errorf("of %d", f.Attempts)
		}
		return nil
	})
	return f
}

// WaitState waits until the engine sees a backend in one of the states.
func (e *Engine) WaitState(pool, backend string, states ...string) {
	e.rig.T.Helper()
	e.rig.Eventually(fmt.Sprintf("%s of pool %s is %s", backend, pool, strings.Join(states, " or ")), func() error {
		if f := e.Figures(pool, backend); !slices.Contains(states, f.State) {
			return fmt.Errorf("it is %s: %s", f.State, f.Reason)
		}
		return nil
	})
}
