package main

import (
	"path/filepath"
	"strings"
	"testing"
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
