package rig

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Program is another real program beside the rig, such as a Prometheus, with an address of its own.
type Program struct {
	Addr string

	t    testing.TB
	path string
	args []string
	proc process
}

// StartProgram starts a program of the system with the flags that args makes of an address and a folder, and stops it when the test ends.
// It does not wait for anything.
func StartProgram(t testing.TB, p *Programs, name string, args func(addr, dir string) []string) *Program {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed (Debian: apt-get install %s)", name, name)
	}
	port, err := p.freePort()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "weir-e2e-other-")
	if err != nil {
		t.Fatal(err)
	}
	o := &Program{Addr: fmt.Sprintf("127.0.0.1:%d", port), t: t, path: path}
	o.args = args(o.Addr, dir)
	o.proc = process{name: name, log: filepath.Join(dir, "log")}
	t.Cleanup(func() {
		_ = o.proc.stop(syscall.SIGKILL, Patience)
		_ = os.RemoveAll(dir)
	})
	o.Start()
	return o
}

// Start starts it (again, after Stop).
func (o *Program) Start() {
	o.t.Helper()
	if err := o.proc.start(syscall.SIGKILL, nil, o.path, o.args...); err != nil {
		o.t.Fatal(err)
	}
}

// Stop ends it as a crash does.
func (o *Program) Stop() { _ = o.proc.stop(syscall.SIGKILL, Patience) }

// Output is the end of what it wrote.
func (o *Program) Output() string { return tail(o.proc.log, 20) }

// Read reads a page.
func Read(url string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second}
	res, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}
