package telemetry

import (
	"bytes"
	"encoding/json"
	"log"
	"strings"
	"testing"
)

func TestWhatALibraryWritesIsAnEventCutAndOnceAMinute(t *testing.T) {
	var out bytes.Buffer
	std := log.New(Libraries{NewLog(&out, "info")}, "", 0)
	for range 3 {
		std.Printf("Unsolicited response received on idle HTTP channel starting with \"\xff%s\"", strings.Repeat("x", 3000))
	}
	std.Print("another")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines:\n%.2000s", len(lines), &out)
	}
	for i, want := range []string{"Unsolicited response", "another"} {
		var e struct{ Level, Line, Message string }
		if err := json.Unmarshal([]byte(lines[i]), &e); err != nil || e.Level != "warn" || !strings.HasPrefix(e.Line, want) || len(e.Line) > lineBytes {
			t.Errorf("%v: %.400s", err, lines[i])
		}
	}
}
