package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// placement says on which cores the processes of cpuCmd run, and how its client and peers wait.
type placement struct {
	workerMask, peersMask string   // worker_cpu_affinity of the NGINX that is measured and of the peers; empty = the kernel's choice
	client                []string // what wrk is started with
	preload               string   // library that makes the peers poll; empty = they sleep
	engineMask            string   // of taskset; empty = the kernel's choice
	said                  string   // for the result's set-up
}

// place makes the placement that --pin names.
func (b *bench) place(pin string) (placement, error) {
	n := runtime.NumCPU()
	last := "1" + strings.Repeat("0", n-1)
	but := []string{"taskset", "-c", fmt.Sprintf("0-%d", n-2)}
	butMask := fmt.Sprintf("%x", 1<<(n-1)-1)
	if n == 1 && (pin == "remote" || pin == "worker") {
		return placement{}, fmt.Errorf("--pin %s wants a core for the worker and one for the others, and there is one in all: use --pin none", pin)
	}
	switch pin {
	case "remote":
		lib, err := b.pollLibrary()
		return placement{
			workerMask: last, peersMask: "01", preload: lib, client: append(but, "env", "LD_PRELOAD="+lib), engineMask: butMask,
			said: "The worker has the last core to itself. wrk, peers and engine share the rest, and the first two poll, so that the worker wakes nobody, as where they are other machines.",
		}, err
	case "worker":
		return placement{workerMask: last, peersMask: "01", client: but, engineMask: butMask, said: "The worker has the last core to itself; wrk, peers and engine share the rest."}, nil
	case "one":
		return placement{
			workerMask: last, peersMask: last, client: []string{"taskset", "-c", fmt.Sprint(n - 1)}, engineMask: fmt.Sprintf("%x", 1<<(n-1)),
			said: "All share the last core.",
		}, nil
	}
	return placement{said: "The kernel places the processes."}, nil
}

// pollLibrary builds bench/poll.
func (b *bench) pollLibrary() (string, error) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		return "", errors.New("no C compiler (on Debian: apt-get install gcc libc6-dev), which client and peers that poll want; --pin worker does without")
	}
	lib := filepath.Join(b.dir, "epoll_wait.so")
	if text, err := exec.CommandContext(b.ctx, cc, "-O2", "-Wall", "-shared", "-fPIC", "-o", lib, filepath.Join(b.repo, "bench", "poll", "epoll_wait.c"), "-ldl").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building bench/poll/epoll_wait.c: %w\n%s", err, text)
	}
	return lib, nil
}
