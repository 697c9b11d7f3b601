// Package rig sets up the whole of Weir for a test: real NGINX with the Lua side, the real engine, real backend processes, all on loopback
// in a private folder, and takes it down again.
package rig

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Patience is how long a condition may take before a test fails. It is long because a test machine may be busy; a condition that holds
// returns at once.
const Patience = 30 * time.Second

// Options describe a rig. The zero value of each field is the usual case.
type Options struct {
	// Pools become an upstream, a pool of weir.yaml and a location /NAME/ each.
	Pools []Pool
	// Workers of NGINX; 0 means 2.
	Workers int
	// Snippet takes the place of the include of nginx/weir.conf; empty = that.
	Snippet string
	// Daemon has NGINX leave its parent, as the packages do: only then it can be upgraded.
	Daemon bool
	// Beside is a rig whose backends this one has too, by their names: a second balancer in front of the same peers.
	Beside *Rig
	// Follow is a rig whose engine this one's NGINX follows too; this rig's own stays stopped.
	Follow *Rig
	// NoEngine leaves the engine stopped; Engine.Start starts it.
	NoEngine bool
	// Tap puts a recording relay between NGINX and the engine; see Tap.
	Tap bool
	// Older makes the engine look, through Tap, like one that takes no newer keys in the header of /observe.
	Older bool
	// NoLog leaves the access log out, so that no directive reads Weir's variables. NGINX.Logged then knows nothing.
	NoLog bool
	// User is whose NGINX's workers are, where the tests run as root; empty means root.
	User string
	// Lua is the folder that Weir's Lua is read from; empty means the repository's.
	Lua string
	// Env is added to the engine's environment.
	Env []string
	// NGINXEnv is added to NGINX's environment.
	NGINXEnv []string
	// Config is added to weir.yaml at the top level.
	Config string
	// Main, HTTP and Server are added to nginx.conf at their level.
	Main, HTTP, Server string
}

// Pool is one upstream pool.
type Pool struct {
	// Name of pool, upstream and location.
	Name string
	// Peers are the names of the backends to start, with their flags after a space: "a --slots 1".
	Peers []string
	// Settings is YAML added to the pool, unindented.
	Settings string
	// Location is added to location /NAME/, Upstream to the upstream.
	Location, Upstream string
	// PeerSettings is YAML added to a peer of weir.yaml, by name: "backup: true, zone: b".
	PeerSettings map[string]string
	// Static is the snippet's own list of peers, each with what stands behind its address: "b backup". nil means all of Peers.
	Static []string
	// IPv6 puts the backends on ::1.
	IPv6 bool
}

// Rig is a running set-up.
type Rig struct {
	T      testing.TB
	Engine *Engine
	NGINX  *NGINX
	Tap    *Tap // nil without Options.Tap

	dir      string
	programs *Programs
	opt      Options
	backends map[string]*Backend
	members  map[string][]string // pool -> names of its peers, as weir.yaml has them
	client   *http.Client
}

// Start sets everything up and returns when NGINX answers and, unless NoEngine, has its tables. The test's clean-up takes it down, checks what
// must hold after any test (see finish) and shows the logs of a failed one.
func Start(t testing.TB, p *Programs, opt Options) *Rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "weir-e2e-") // not t.TempDir: a socket's path has room for 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if opt.Workers == 0 {
		opt.Workers = 2
	}
	r := &Rig{T: t, dir: dir, programs: p, opt: opt, backends: map[string]*Backend{}, members: map[string][]string{}, client: newClient()}
	t.Cleanup(r.finish)
	for _, pool := range opt.Pools {
		for _, peer := range pool.Peers {
			name, _, _ := strings.Cut(peer, " ")
			if opt.Beside != nil && opt.Beside.backends[name] != nil {
				r.backends[name] = opt.Beside.backends[name]
			}
			if r.backends[name] == nil {
				r.StartBackend(peer, pool.IPv6)
			}
			r.members[pool.Name] = append(r.members[pool.Name], name)
		}
	}
	r.Engine = newEngine(r)
	r.NGINX = newNGINX(r)
	if opt.Follow != nil {
		r.NGINX.socket = opt.Follow.Engine.socket
	}
	if opt.Tap {
		r.Tap = startTap(t, filepath.Join(dir, "tap.sock"), r.Engine.socket, opt.Older)
		r.NGINX.socket = filepath.Join(dir, "tap.sock")
	}
	r.WriteConfig()
	if !opt.NoEngine && opt.Follow == nil {
		r.Engine.Start()
	}
	r.NGINX.Start()
	if !opt.NoEngine {
		r.WaitConnected()
	}
	return r
}

// Backend finds a backend by name.
func (r *Rig) Backend(name string) *Backend {
	r.T.Helper()
	b := r.backends[name]
	if b == nil {
		r.T.Fatalf("no backend %q", name)
	}
	return b
}

// File is the path of a file in the rig's folder, which is NGINX's prefix.
func (r *Rig) File(name string) string { return filepath.Join(r.dir, name) }

// Addr is the address of a backend.
func (r *Rig) Addr(name string) string { return r.Backend(name).Addr }

// Name is the backend with this address, or the address itself.
func (r *Rig) Name(addr string) string {
	for name, b := range r.backends {
		if b.Addr == addr {
			return name
		}
	}
	return addr
}

// WaitConnected returns when every pool of NGINX has the engine's table with the peers weir.yaml has.
func (r *Rig) WaitConnected() {
	r.T.Helper()
	r.Eventually("NGINX has the tables of the engine", func() error {
		s, err := r.NGINX.status()
		if err != nil {
			return err
		}
		for name, members := range r.members {
			pool, ok := s.Pools[name]
			if !ok || pool.Engine != "connected" {
				return fmt.Errorf("pool %s: %+v", name, pool)
			}
			for _, m := range members {
				if pool.Peer(r.Addr(m)) == nil {
					return fmt.Errorf("pool %s lacks %s (%s): %+v", name, m, r.Addr(m), pool.Peers)
				}
			}
		}
		return nil
	})
}

// SetPeers changes the members of a pool in weir.yaml (the engine sees the file change). It does not wait.
func (r *Rig) SetPeers(pool string, names ...string) {
	r.T.Helper()
	r.members[pool] = names
	r.WriteConfig()
}

// Settings is what a pool has beside its name and peers.
func (r *Rig) Settings(pool string) string {
	for _, p := range r.opt.Pools {
		if p.Name == pool {
			return p.Settings
		}
	}
	r.T.Fatalf("no pool %q", pool)
	return ""
}

// SetSettings changes them in weir.yaml. It does not wait.
func (r *Rig) SetSettings(pool, settings string) {
	r.T.Helper()
	for i := range r.opt.Pools {
		if r.opt.Pools[i].Name == pool {
			r.opt.Pools[i].Settings = settings
		}
	}
	r.WriteConfig()
}

// Eventually polls a condition until it holds, for at most Patience.
func (r *Rig) Eventually(what string, holds func() error) {
	r.T.Helper()
	r.Within(Patience, what, holds)
}

// Within polls a condition until it holds, for at most the time.
func (r *Rig) Within(limit time.Duration, what string, holds func() error) {
	r.T.Helper()
	deadline := time.Now().Add(limit)
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) { // most conditions hold soon
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.T.Fatalf("not within %v: %s: %v", limit, what, err)
		}
		time.Sleep(pause)
	}
}

// WantIdle waits until no request is counted anywhere: the counts must return to 0 when the traffic has stopped, and none may ever have
// been about to turn negative.
func (r *Rig) WantIdle() {
	r.T.Helper()
	r.Eventually("every in-flight count is 0", func() error {
		s, err := r.NGINX.status()
		if err != nil {
			return err
		}
		for name, pool := range s.Pools {
			for _, p := range pool.Peers {
				if p.Work != 0 {
					return fmt.Errorf("pool %s counts work of %v on %s (%s)", name, p.Work, r.Name(p.Addr), p.Addr)
				}
				if p.InFlight != 0 {
					return fmt.Errorf("pool %s counts %d requests on %s (%s)", name, p.InFlight, r.Name(p.Addr), p.Addr)
				}
			}
		}
		if n := s.InFlight(); n != 0 {
			return fmt.Errorf("%d requests are counted: %+v", n, s.Workers)
		}
		return nil
	})
	if s := r.NGINX.Status(); s.Underflow != 0 {
		r.T.Errorf("%d times an in-flight count would have been negative", s.Underflow)
	}
}

// finish checks what must hold after every test, stops everything, and shows the logs when the test failed.
func (r *Rig) finish() {
	r.client.CloseIdleConnections()
	if !r.T.Failed() && r.NGINX != nil && r.NGINX.master() != 0 {
		r.checkAtEnd()
	}
	if r.NGINX != nil {
		_ = r.NGINX.stop(3 * time.Second)
	}
	if r.Tap != nil {
		r.Tap.close()
	}
	if r.Engine != nil {
		if err := r.Engine.proc.stop(15 /* SIGTERM */, 10*time.Second); err != nil && !r.T.Failed() {
			r.T.Errorf("the engine at the end of the test: %v", err)
		}
		if out := r.Engine.proc.output(); strings.Contains(out, "DATA RACE") || strings.Contains(out, "panic:") {
			r.T.Errorf("the engine's log tells of a data race or a panic")
		}
	}
	for _, b := range r.backends {
		if b.rig != r {
			continue
		}
		_ = b.proc.stop(15, 3*time.Second)
	}
	if r.T.Failed() {
		r.showLogs()
	}
	if os.Getenv("WEIR_E2E_KEEP") == "" {
		_ = os.RemoveAll(r.dir)
	} else {
		r.T.Logf("kept in %s", r.dir)
	}
}

func (r *Rig) checkAtEnd() {
	// Runs in the test's clean-up, where FailNow is allowed.
	r.WantIdle()
	gone := 0
	for line := range strings.Lines(r.NGINX.ErrorLog()) {
		for _, bad := range []string{"[emerg]", "[alert]", "[crit]", "stack traceback", "failed to run", "lua entry thread aborted", "attempt to "} {
			if strings.Contains(line, bad) && !r.expected(line) {
				// Lua looks whether the socket is there before it connects; an engine that stops between the two leaves one such line.
				if gone++; gone <= 3 && strings.Contains(line, "engine.sock failed (2: No such file or directory)") {
					continue
				}
				r.T.Errorf("NGINX's error log: %s", strings.TrimSpace(line))
			}
		}
	}
}

// expected tells whether a line of NGINX's error log is the work of the test itself: a worker it killed.
func (r *Rig) expected(line string) bool {
	for _, pid := range r.NGINX.killed {
		if strings.Contains(line, fmt.Sprintf("worker process %d exited on signal 9", pid)) {
			return true
		}
	}
	return false
}

func (r *Rig) showLogs() {
	for _, file := range []string{"error.log", "access.log", "engine.log", "weir.yaml", "nginx.out"} {
		if text := tail(filepath.Join(r.dir, file), 40); text != "" {
			r.T.Logf("--- the end of %s\n%s", file, text)
		}
	}
	for name, b := range r.backends {
		r.T.Logf("--- backend %s on %s: %s", name, b.Addr, tail(b.proc.log, 5))
	}
}
