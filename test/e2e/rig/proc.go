package rig

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// process is one program the rig started: its own process group, its output in a file. It ends with the test, and with the test binary too
// when that dies (Linux parent-death signal), so that nothing outlives a run.
type process struct {
	name string
	log  string // file with stdout and stderr, appended to over restarts

	mu   sync.Mutex // guards all below
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
	err  error         // how it ended; read after done
}

// start runs the program. death is sent to it when the test binary dies; it must be a signal that also ends the program's children.
func (p *process) start(death syscall.Signal, env []string, path string, args ...string) error {
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("log of %s: %w", p.name, err)
	}
	defer func() { _ = out.Close() }()
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: death}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", p.name, err)
	}
	done := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.done = cmd, done
	p.mu.Unlock()
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(done)
	}()
	return nil
}

// pid is 0 when the program does not run.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	select {
	case <-p.done:
		return 0
	default:
		return p.cmd.Process.Pid
	}
}

func (p *process) signal(s syscall.Signal) error {
	pid := p.pid()
	if pid == 0 {
		return fmt.Errorf("%s does not run", p.name)
	}
	return syscall.Kill(pid, s)
}

// stop sends the signal and waits; what has not ended after the grace is killed with its whole group. It returns an error when the program
// had to be killed or did not end with status 0 on its own.
func (p *process) stop(s syscall.Signal, grace time.Duration) error {
	pid := p.pid()
	if pid == 0 {
		return nil
	}
	_ = syscall.Kill(pid, syscall.SIGCONT)
	_ = syscall.Kill(pid, s)
	var late error
	select {
	case <-p.done:
	case <-time.After(grace):
		late = fmt.Errorf("%s did not end within %v of %v", p.name, grace, s)
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL) // children that outlived it, too
	<-p.done
	if late != nil {
		return late
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var exit *exec.ExitError
	if errors.As(p.err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled() && exit.Sys().(syscall.WaitStatus).Signal() == s {
		return nil
	}
	return p.err
}

// output is everything the program wrote so far.
func (p *process) output() string {
	text, _ := os.ReadFile(p.log)
	return string(text)
}

// tail is the last lines of a file, for the message of a failed test.
func tail(file string, lines int) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	text = bytes.TrimRight(text, "\n")
	for i := len(text) - 1; i >= 0; i-- {
		if text[i] == '\n' {
			if lines--; lines == 0 {
				return string(text[i+1:])
			}
		}
	}
	return string(text)
}
