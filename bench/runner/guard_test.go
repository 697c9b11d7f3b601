package main

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary plays the runner and the guard too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case guardArg:
			standGuard(os.Stdin)
			return
		case "runner":
			deafChildren()
			return
		}
	}
	os.Exit(m.Run())
}

// deafChildren starts a program that ignores SIGTERM, as an NGINX that is just starting does, with a child of its own; tells their numbers; and stays.
func deafChildren() {
	g, err := startGuard()
	if err != nil {
		panic(err)
	}
	b := &bench{dir: os.Getenv("DIR"), guard: g}
	if _, err := b.start("deaf", nil, "sh", "-c", `trap "" TERM; sleep 60 & echo $$ $! >"$DIR/pids"; wait`); err != nil {
		panic(err)
	}
	if err := os.WriteFile(b.dir+"/told", nil, 0o600); err != nil { // the guard knows of it now
		panic(err)
	}
	time.Sleep(time.Minute)
}

func TestAKilledRunnerLeavesNothingRunning(t *testing.T) {
	dir := t.TempDir()
	runner := exec.Command(os.Args[0], "runner")
	runner.Env = append(os.Environ(), "DIR="+dir)
	runner.Stderr = os.Stderr
	if err := runner.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []string
	within(t, 10*time.Second, "the runner's children to start", func() bool {
		text, _ := os.ReadFile(dir + "/pids")
		pids = strings.Fields(string(text))
		_, err := os.Stat(dir + "/told")
		return len(pids) == 2 && err == nil
	})
	_ = runner.Process.Kill()
	_ = runner.Wait()
	for _, p := range pids {
		pid, err := strconv.Atoi(p)
		if err != nil {
			t.Fatal(err)
		}
		within(t, 20*time.Second, "process "+p+" to end", func() bool { return gone(pid) })
	}
}

// gone also says yes of a zombie, which nobody collects where the tests run as process 1's children without an init.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	defer func() { _ = f.Close() }()
	line, _ := bufio.NewReader(f).ReadString('\n')
	return strings.Contains(line, ") Z ")
}

func within(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", d, what)
		}
	}
}
