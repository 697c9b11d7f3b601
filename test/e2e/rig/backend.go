package rig

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/weirlb/weir/test/backend"
)

// Backend is one backend process.
type Backend struct {
	Name string
	Addr string

	rig     *Rig
	args    []string
	control backend.Control
	proc    process
}

// StartBackend starts a backend that is in no pool yet; spec is its name, with flags after a space.
func (r *Rig) StartBackend(spec string, ipv6 bool) *Backend {
	r.T.Helper()
	host := "127.0.0.1"
	if ipv6 {
		host = "[::1]"
	}
	return r.StartBackendOn(spec, fmt.Sprintf("%s:%d", host, r.FreePort()))
}

// FreePort is a port that nobody listens on, each time another.
func (r *Rig) FreePort() int {
	r.T.Helper()
	port, err := r.programs.freePort()
	if err != nil {
		r.T.Fatal(err)
	}
	return port
}

// StartBackendOn is StartBackend on an address of the test's choice.
func (r *Rig) StartBackendOn(spec, addr string) *Backend {
	r.T.Helper()
	fields := strings.Fields(spec)
	b := &Backend{Name: fields[0], Addr: addr, rig: r}
	b.args = append([]string{"--name", b.Name, "--listen", b.Addr}, fields[1:]...)
	b.proc = process{name: "backend " + b.Name, log: filepath.Join(r.dir, "backend-"+b.Name+".log")}
	b.Start()
	r.backends[b.Name] = b
	return b
}

// Start starts the process (again, after Kill) and waits until its control port answers.
func (b *Backend) Start() {
	t := b.rig.T
	t.Helper()
	before := len(b.proc.output())
	if err := b.proc.start(syscall.SIGKILL, nil, b.rig.programs.Backend, b.args...); err != nil {
		t.Fatal(err)
	}
	b.rig.Eventually("backend "+b.Name+" is ready", func() error {
		if b.proc.pid() == 0 {
			t.Fatalf("backend %s ended: %s", b.Name, b.proc.output())
		}
		var ready struct{ Control string }
		line, _, complete := strings.Cut(b.proc.output()[before:], "\n")
		if !complete {
			return fmt.Errorf("wrote %q", line)
		}
		if err := json.Unmarshal([]byte(line), &ready); err != nil {
			return fmt.Errorf("%q: %w", line, err)
		}
		b.control = backend.Control{URL: "http://" + ready.Control}
		return nil
	})
}

// Set lays a JSON object over the backend's settings; it is in effect on return.
func (b *Backend) Set(patch string) {
	b.rig.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := b.control.Patch(ctx, patch); err != nil {
		b.rig.T.Fatalf("backend %s: %v", b.Name, err)
	}
}

// Stats reads the backend's counters.
func (b *Backend) Stats() backend.Stats {
	b.rig.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	s, err := b.control.Stats(ctx)
	if err != nil {
		b.rig.T.Fatalf("backend %s: %v", b.Name, err)
	}
	return s
}

// Seen says how often the backend saw a request id.
func (b *Backend) Seen(id string) int {
	b.rig.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	n, err := b.control.Seen(ctx, id)
	if err != nil {
		b.rig.T.Fatalf("backend %s: %v", b.Name, err)
	}
	return n
}

// Alive tells whether the process runs.
func (b *Backend) Alive() bool { return b.proc.pid() != 0 }

// Kill ends the process as a crash does: every connection is lost and the port refuses.
func (b *Backend) Kill() { _ = b.proc.stop(syscall.SIGKILL, Patience) }

// Freeze stops the process from running: connections to it are accepted by the kernel, and no request is answered.
func (b *Backend) Freeze() {
	b.rig.T.Helper()
	if err := b.proc.signal(syscall.SIGSTOP); err != nil {
		b.rig.T.Fatal(err)
	}
}

// Stop ends the process in order.
func (b *Backend) Stop() { _ = b.proc.stop(syscall.SIGTERM, time.Second) }

// SeenAnywhere says how often a request id arrived at any of the backends that run.
func (r *Rig) SeenAnywhere(id string) (n int) {
	r.T.Helper()
	for _, b := range r.backends {
		if b.proc.pid() != 0 {
			n += b.Seen(id)
		}
	}
	return n
}
