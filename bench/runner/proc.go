package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Ports are taken from below the range the kernel hands out by itself.
const (
	firstPort = 21000
	lastPort  = 29999
)

// port finds one that is free now.
func (b *bench) port() (int, error) {
	for b.ports < lastPort {
		b.ports++
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", b.ports))
		if err == nil {
			_ = l.Close()
			return b.ports, nil
		}
	}
	return 0, fmt.Errorf("no free port from %d to %d", firstPort, lastPort)
}

// addrs is that many free addresses.
func (b *bench) addrs(n int) ([]string, error) {
	out := make([]string, n)
	for i := range out {
		p, err := b.port()
		if err != nil {
			return nil, err
		}
		out[i] = fmt.Sprintf("127.0.0.1:%d", p)
	}
	return out, nil
}

// process is a program the benchmark started. It ends with it, also when that is killed (guard.go).
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{}

	guard   *guard
	stopped bool
}

// start runs a program until the end of the benchmark, its output in dir/NAME.log.
func (b *bench) start(name string, env []string, path string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(b.dir, name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", name, err)
	}
	defer func() { _ = out.Close() }()
	p.cmd = exec.Command(path, args...)
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = b.dir, append(os.Environ(), env...), out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	p.guard = b.guard
	b.started = append(b.started, p)
	b.guard.began(p.pid())
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop asks the program to end, and kills it with its children when it does not.
func (p *process) stop() {
	if p.stopped {
		return
	}
	p.stopped = true
	_ = syscall.Kill(p.pid(), syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
	}
	_ = syscall.Kill(-p.pid(), syscall.SIGKILL)
	<-p.done
	p.guard.ended(p.pid())
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stopAll ends what was started, the last first.
func (b *bench) stopAll() {
	for i := len(b.started) - 1; i >= 0; i-- {
		b.started[i].stop()
	}
	b.started = nil
}

// await polls until ok holds. It gives up after ten seconds, or when the program has ended.
func (b *bench) await(p *process, what string, ok func() error) error {
	for began := time.Now(); ; {
		err := ok()
		if err == nil {
			return nil
		}
		if p.ended() || time.Since(began) > 10*time.Second {
			text, _ := os.ReadFile(p.log)
			return fmt.Errorf("waiting for %s: %w\n%s", what, err, text)
		}
		if err := b.sleep(10 * time.Millisecond); err != nil {
			return err
		}
	}
}

func (b *bench) awaitPort(p *process, addr string) error {
	return b.await(p, p.name+" on "+addr, func() error {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
}

// build compiles a package of this repository.
func (b *bench) build(pkg string) (string, error) {
	out := filepath.Join(b.dir, "bin-"+filepath.Base(pkg))
	cmd := exec.CommandContext(b.ctx, "go", "build", "-o", out, pkg)
	cmd.Dir = b.repo
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", pkg, err, text)
	}
	return out, nil
}

// need says which program is missing, and which Debian package has it.
func need(programs ...string) error {
	packages := map[string]string{"nginx": "nginx libnginx-mod-http-lua lua-cjson", "wrk": "wrk", "luajit": "luajit", "haproxy": "haproxy", "caddy": "caddy"}
	var errs []error
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			errs = append(errs, fmt.Errorf("%s is not installed; on Debian: apt-get install --no-install-recommends %s", p, packages[p]))
		}
	}
	return errors.Join(errs...)
}

// child is the one child of a process: the worker of an NGINX master.
func child(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0, fmt.Errorf("children of process %d: %w", pid, err)
	}
	words := strings.Fields(string(text))
	if len(words) != 1 {
		return 0, fmt.Errorf("process %d has %d children, not one", pid, len(words))
	}
	return strconv.Atoi(words[0])
}

// cpuOf is the user and system time a process has used, in steps of the kernel's clock tick (10 ms).
func cpuOf(pid int) (user, system time.Duration, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	// the command's name, in parentheses, may hold spaces
	_, rest, _ := strings.Cut(string(text), ") ")
	words := strings.Fields(rest)
	if len(words) < 13 {
		return 0, 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(words))
	}
	u, uerr := strconv.ParseInt(words[11], 10, 64)
	s, serr := strconv.ParseInt(words[12], 10, 64)
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	return time.Duration(u) * tick, time.Duration(s) * tick, errors.Join(uerr, serr)
}

// onCore is the time a process with one thread has been on a core. The scheduler counts it in nanoseconds.
func onCore(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	if err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	var ns int64
	if _, err := fmt.Sscan(string(text), &ns); err != nil {
		return 0, fmt.Errorf("/proc/%d/schedstat: %w", pid, err)
	}
	return time.Duration(ns), nil
}

// rss is the resident memory of a process in MiB.
func rss(pid int) float64 {
	var kib float64
	_, _ = fmt.Sscanf(field(fmt.Sprintf("/proc/%d/status", pid), "VmRSS"), "%f", &kib)
	return kib / 1024
}
