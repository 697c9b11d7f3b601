package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// guard is a second process that outlives the runner by a moment and ends what that started, however it ended: also after SIGKILL, which runs no
// cleanup. A parent-death signal alone is not enough: NGINX loses a SIGTERM that comes while it starts, and its master then stays for good.
//
// The runner writes process groups into the guard's standard input, "+PID" when one starts and "-PID" when it has ended and its number may be
// another's. The end of that input is the end of the runner, since nobody else holds the other side. What the runner has started and not yet
// told of when it is killed, within microseconds, has the parent-death signal only.
type guard struct {
	cmd *exec.Cmd
	in  *os.File
}

const guardArg = "guard"

// grace is what a program gets between being asked to end and being killed.
const grace = 2 * time.Second

func startGuard() (*guard, error) {
	r, w, err := os.Pipe() // both ends are closed on exec
	if err != nil {
		return nil, fmt.Errorf("pipe to the guard: %w", err)
	}
	defer func() { _ = r.Close() }()
	g := &guard{cmd: exec.Command("/proc/self/exe", guardArg), in: w}
	g.cmd.Stdin, g.cmd.Stderr = r, os.Stderr
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what is sent to the runner's group or terminal is not for the guard
	if err := g.cmd.Start(); err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("starting the guard: %w", err)
	}
	return g, nil
}

func (g *guard) began(pid int) { _, _ = fmt.Fprintf(g.in, "+%d\n", pid) }
func (g *guard) ended(pid int) { _, _ = fmt.Fprintf(g.in, "-%d\n", pid) }

// stop lets the guard end what is left, and waits for it.
func (g *guard) stop() {
	_ = g.in.Close()
	_ = g.cmd.Wait()
}

// standGuard is the guard's main function.
func standGuard(in *os.File) {
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	groups := map[int]bool{}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		n, err := strconv.Atoi(lines.Text())
		if err != nil || n == 0 {
			continue
		}
		if n < 0 {
			delete(groups, -n)
			continue
		}
		groups[n] = true
	}
	for pid := range groups {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	for end := time.Now().Add(grace); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for pid := range groups {
			if syscall.Kill(-pid, 0) != nil {
				delete(groups, pid)
			}
		}
		if len(groups) == 0 {
			return
		}
	}
	for pid := range groups {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
}
