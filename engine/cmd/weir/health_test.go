package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestHealthEndsWithOneOnlyWhenTheEngineDoesNotServe(t *testing.T) {
	e := start(t, onePool)
	code, out, errs := weir("health", "--socket", e.socket)
	if word := strings.TrimSpace(out); code != 0 || (word != "ok" && word != "degraded") || errs != "" {
		t.Errorf("of a running engine: %d %q %q", code, out, errs)
	}
	e.write("pools: 7\n") // refused: the engine goes on with what it has
	e.hup <- nil
	within(t, 10e9, "the bad file is refused", func() bool { return strings.Contains(e.log.String(), "refused") })
	if code, out, errs := weir("health", "--socket", e.socket); code != 0 || out != "degraded\n" {
		t.Errorf("with a file that was refused: %d %q %q", code, out, errs)
	}
	nowhere := filepath.Join(t.TempDir(), "engine.sock")
	if code, _, errs := weir("health", "--socket", nowhere); code != 1 || !strings.Contains(errs, nowhere) {
		t.Errorf("without an engine: %d %q", code, errs)
	}
}

// An engine that takes the connection and says nothing must not keep a container's health check for good.
func TestHealthNeverWaitsWithoutEnd(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "engine.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, timeout := range []string{"0s", "-1s", "10ms"} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			if code, _, errs := weir("health", "--socket", socket, "--timeout="+timeout); code != 1 || errs == "" {
				t.Errorf("--timeout=%s: %d %q", timeout, code, errs)
			}
		}()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Fatalf("--timeout=%s: it waits", timeout)
		}
	}
}
