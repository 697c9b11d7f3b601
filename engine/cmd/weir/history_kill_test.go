package main

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirlb/weir/engine/history/stores"
)

// TestServeForAnother is no test: it is `weir serve` in a process of its own, which another test can kill.
func TestServeForAnother(t *testing.T) {
	file := os.Getenv("TEST_WEIR_SERVE")
	if file == "" {
		t.Skip("only for the tests that start it")
	}
	if code := run([]string{"serve", "--config", file}, streams{os.Stdout, os.Stderr}); code != 0 {
		t.Fatal(code)
	}
}

func TestAKilledEngineLosesWhatCameInItsLastSecondAtMost(t *testing.T) {
	t.Parallel() // it waits, mostly
	dir := t.TempDir()
	e := &engine{t: t, file: filepath.Join(dir, "weir.yaml"), socket: filepath.Join(dir, "engine.sock")}
	e.write(onePool)
	launch := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run=^TestServeForAnother$")
		cmd.Env = append(os.Environ(), "TEST_WEIR_SERVE="+e.file)
		if testing.Verbose() {
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		within(t, 20*time.Second, "it answers", func() bool {
			nc, err := net.Dial("unix", e.socket)
			if err == nil {
				nc.Close()
			}
			return err == nil
		})
		return cmd
	}
	cmd := launch()
	l, stop := e.load()
	time.Sleep(3 * time.Second)
	killed := time.Now()
	_ = cmd.Process.Kill()
	stop()
	_ = cmd.Wait()

	cmd = launch()
	url := "file:" + filepath.Join(dir, "history", stores.File)
	old := 0 // outcomes that were answered for more than a second before the end
	for _, at := range l.answered {
		if killed.Sub(at) > time.Second {
			old += perBatch
		}
	}
	if old < 10*perBatch {
		t.Fatalf("only %d outcomes were sent in time", old)
	}
	var got map[int]int
	within(t, 10*time.Second, "what waited is stored", func() bool {
		got = stored(t, url)
		for i := range old {
			if got[i] == 0 {
				return false
			}
		}
		return true
	})
	for i, n := range got {
		if n != 1 {
			t.Errorf("outcome %d is stored %d times", i, n)
		}
	}
	t.Logf("%d outcomes were answered, %d of them over a second before the end; %d are stored", l.count(), old, len(got))
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
}

// logged is an engine in a process of its own, whose log is a pipe that has been read up to where it runs.
func logged(t *testing.T, pipe func(theirs *os.File)) (e *engine, cmd *exec.Cmd, log *os.File, ended <-chan error) {
	t.Helper()
	dir := t.TempDir()
	e = &engine{t: t, file: filepath.Join(dir, "weir.yaml"), socket: filepath.Join(dir, "engine.sock")}
	e.write(onePool)
	log, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	t.Cleanup(func() { _ = log.Close() })
	pipe(theirs)
	cmd = exec.Command(os.Args[0], "-test.run=^TestServeForAnother$")
	cmd.Env = append(os.Environ(), "TEST_WEIR_SERVE="+e.file)
	cmd.Stdout, cmd.Stderr = theirs, theirs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	for lines := bufio.NewScanner(log); lines.Scan() && !strings.Contains(lines.Text(), "engine is running"); {
	}
	return e, cmd, log, over
}

// answers fails the test when nobody listens on the engine's socket.
func (e *engine) answers() {
	e.t.Helper()
	nc, err := net.Dial("unix", e.socket)
	if err != nil {
		e.t.Error(err)
		return
	}
	nc.Close()
}

func TestTheEngineServesOnWhenWhoeverReadsItsLogEnds(t *testing.T) {
	t.Parallel()
	e, cmd, log, ended := logged(t, func(*os.File) {})
	log.Close()
	for range 3 { // each is a line in the log
		_ = cmd.Process.Signal(syscall.SIGHUP)
		time.Sleep(200 * time.Millisecond)
	}
	select {
	case err := <-ended:
		t.Fatalf("it ended: %v", err)
	default:
	}
	e.answers()
}

func TestTheEngineServesOnWhenWhoeverReadsItsLogStandsStill(t *testing.T) {
	t.Parallel()
	e, cmd, _, ended := logged(t, func(theirs *os.File) {
		if _, err := unix.FcntlInt(theirs.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
			t.Fatal(err)
		}
	})
	for range 60 { // each is a line in the log, and thirty of them fill the pipe
		_ = cmd.Process.Signal(syscall.SIGHUP)
		time.Sleep(50 * time.Millisecond)
	}
	e.answers()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end on SIGTERM")
	}
}
