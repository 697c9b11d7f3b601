package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// process is one program the demo started, in a process group of its own (a Ctrl-C at the terminal reaches only the demo, which then
// ends them in order), with its output in a file.
type process struct {
	name string
	log  string
	kind kind
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// kind tells which processes are replaced from one measurement to the next.
type kind int

const (
	lasting kind = iota
	backends
	engines
)

// start starts a program. Linux sends it `death` when the demo dies, so that nothing is left behind by a kill either.
func (d *demo) start(name string, death syscall.Signal, env []string, path string, args ...string) (*process, error) {
	log := filepath.Join(d.dir, strings.ReplaceAll(name, " ", "-")+".log")
	out, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", name, err)
	}
	defer func() { _ = out.Close() }()
	p := &process{name: name, log: log, cmd: exec.Command(path, args...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: death}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	d.running = append(d.running, p)
	return p, nil
}

// stop ends a process, with force after two seconds.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(2 * time.Second):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
}

func (p *process) output() string {
	text, _ := os.ReadFile(p.log)
	return string(text)
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop ends everything, the last started first.
func (d *demo) stop() {
	for i := len(d.running) - 1; i >= 0; i-- {
		d.running[i].stop()
	}
	d.running = nil
}

// until waits for a program to be ready, and tells its own words when it ends instead.
func (d *demo) until(ctx context.Context, p *process, ready func() error) error {
	const patience = 20 * time.Second
	deadline := time.Now().Add(patience)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		switch {
		case p.ended():
			return fmt.Errorf("%s ended at once: %s", p.name, strings.TrimSpace(p.output()))
		case time.Now().After(deadline):
			return fmt.Errorf("%s is not ready after %v: %w", p.name, patience, err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ports hands out free loopback ports, from a random one on and below the range that Linux takes for outgoing connections:
// two demos find others, and a backend that is started again finds its port still free.
type ports struct{ next int }

const (
	firstPort = 11000
	lastPort  = 31000
)

func (p *ports) take() (string, error) {
	if p.next == 0 {
		p.next = firstPort + rand.IntN(lastPort-firstPort)
	}
	for range lastPort - firstPort {
		addr := fmt.Sprintf("127.0.0.1:%d", p.next)
		if p.next++; p.next == lastPort {
			p.next = firstPort
		}
		l, err := net.Listen("tcp", addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("looking for a free port: %w", err)
		}
		_ = l.Close()
		return addr, nil
	}
	return "", fmt.Errorf("no free port between %d and %d", firstPort, lastPort)
}
