package rig

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// An NGINX in the foreground takes no upgrade: it believes to be the new one of its parent's as long as that lives. So that is for an NGINX that is a
// daemon (Options.Daemon), which the rig finds by its file.

// master is the pid of the running master, the newest where there are two; 0 = none.
func (n *NGINX) master() int {
	if !n.rig.opt.Daemon {
		return n.proc.pid()
	}
	text, _ := os.ReadFile(filepath.Join(n.rig.dir, "nginx.pid"))
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		n.daemon = pid // kept: nobody else would end it, were the file lost
	}
	if n.daemon == 0 || title(n.daemon) == "" {
		return 0
	}
	return n.daemon
}

func (n *NGINX) signal(s syscall.Signal) error {
	pid := n.master()
	if pid == 0 {
		return fmt.Errorf("NGINX does not run")
	}
	return syscall.Kill(pid, s)
}

// stop ends NGINX in order, and with SIGKILL what has not ended after the grace.
func (n *NGINX) stop(grace time.Duration) error {
	if !n.rig.opt.Daemon {
		return n.proc.stop(syscall.SIGQUIT, grace)
	}
	for _, pid := range []int{n.old, n.master()} {
		if pid == 0 {
			continue
		}
		_ = syscall.Kill(pid, syscall.SIGQUIT)
		if !goneWithin(pid, grace) {
			for _, w := range append(workersOf(pid), pid) {
				_ = syscall.Kill(w, syscall.SIGKILL)
			}
			return fmt.Errorf("NGINX %d did not end within %v", pid, grace)
		}
	}
	n.old = 0
	return nil
}

func goneWithin(pid int, limit time.Duration) bool {
	for deadline := time.Now().Add(limit); title(pid) != ""; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// Upgrade starts another master beside this one, as a package's update does (SIGUSR2), and returns when it has its workers. Both take connections then.
func (n *NGINX) Upgrade() {
	t := n.rig.T
	t.Helper()
	n.old = n.master()
	if err := n.signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	n.rig.Eventually("another master runs", func() error {
		pid := n.master()
		if pid == n.old || pid == 0 {
			return fmt.Errorf("nginx.pid names %d, as before", pid)
		}
		if w := workersOf(pid); len(w) < n.rig.opt.Workers {
			return fmt.Errorf("its workers are %v", w)
		}
		return nil
	})
}

// LeaveToNew has the workers from before the upgrade finish their requests and take no others (SIGWINCH).
func (n *NGINX) LeaveToNew() {
	n.rig.T.Helper()
	if err := syscall.Kill(n.old, syscall.SIGWINCH); err != nil {
		n.rig.T.Fatal(err)
	}
	n.rig.Eventually("the old workers shut down", func() error {
		for _, pid := range workersOf(n.old) {
			if !shuttingDown(pid) {
				return fmt.Errorf("worker %d does not", pid)
			}
		}
		return nil
	})
}

// QuitOld ends the master from before the upgrade and returns when it has ended.
func (n *NGINX) QuitOld() {
	n.rig.T.Helper()
	_ = syscall.Kill(n.old, syscall.SIGQUIT)
	if !goneWithin(n.old, Patience) {
		n.rig.T.Errorf("the old master %d has not ended", n.old)
	}
	n.old = 0
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}
