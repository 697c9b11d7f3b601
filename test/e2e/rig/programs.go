package rig

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
)

// Programs are the binaries under test, built once a test run.
type Programs struct {
	// Weir and Backend are paths of binaries.
	Weir, Backend string
	// NGINX is the server's path and Modules the folder of its dynamic modules; Modules is empty for a build with Lua inside (OpenResty).
	NGINX, Modules string
	// Repo is the root of the repository.
	Repo string

	dir     string
	port    atomic.Uint32
	weirErr error // why there is no engine; tests without one can run all the same
}

// Build compiles the engine (with the race detector, unless WEIR_E2E_RACE=0) and the sample backend. Close removes them.
func Build() (*Programs, error) {
	_, here, _, _ := runtime.Caller(0)
	p := &Programs{Repo: filepath.Join(filepath.Dir(here), "..", "..", ".."), NGINX: "/usr/sbin/nginx", Modules: "/usr/lib/nginx/modules"}
	if path := os.Getenv("WEIR_E2E_NGINX"); path != "" {
		p.NGINX, p.Modules = path, os.Getenv("WEIR_E2E_NGINX_MODULES")
	}
	var err error
	if p.dir, err = os.MkdirTemp("", "weir-e2e-bin-"); err != nil {
		return nil, fmt.Errorf("folder for the binaries: %w", err)
	}
	p.Weir, p.Backend = filepath.Join(p.dir, "weir"), filepath.Join(p.dir, "backend")
	p.port.Store(firstPort + rand.Uint32N(lastPort-firstPort))
	race := []string{"-race"}
	if os.Getenv("WEIR_E2E_RACE") == "0" {
		race = nil
	}
	p.weirErr = p.build(p.Weir, "./engine/cmd/weir", race...)
	return p, p.build(p.Backend, "./test/backend/cmd/backend")
}

func (p *Programs) build(out, pkg string, flags ...string) error {
	cmd := exec.Command("go", append(append([]string{"build", "-o", out}, flags...), pkg)...)
	cmd.Dir = p.Repo
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", pkg, err, strings.TrimSpace(string(text)))
	}
	return nil
}

// Close removes what Build made.
func (p *Programs) Close() { _ = os.RemoveAll(p.dir) }

// The rig's ports lie below Linux's range for outgoing connections. A peer that closes its port and wants it back later would otherwise
// find it taken now and then by a connection of somebody else.
const (
	firstPort = 11000
	lastPort  = 31000
)

// freePort finds a port that nobody listens on, each time another.
func (p *Programs) freePort() (int, error) {
	for range lastPort - firstPort {
		port := int(firstPort + p.port.Add(1)%(lastPort-firstPort))
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		_ = l.Close()
		return port, nil
	}
	return 0, fmt.Errorf("no free port between %d and %d", firstPort, lastPort)
}
