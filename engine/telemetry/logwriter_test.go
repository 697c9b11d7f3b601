package telemetry

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

func TestWhoLogsDoesNotWaitForWhoReads(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	w := NewLogWriter(write)
	log := NewLog(w, "info")
	logged := make(chan struct{})
	const lines = 3 * logLines
	go func() {
		defer close(logged)
		for i := range lines { // a pipe holds some 700 of them
			log.Info().Int("i", i).Msg("something happened")
		}
	}()
	select {
	case <-logged:
	case <-time.After(20 * time.Second):
		t.Fatal("who logs waits for who reads")
	}
	if w.Close(10 * time.Millisecond) {
		t.Error("all was written to a pipe that nobody reads")
	}
	got := make(chan [2]int)
	go func() {
		n, lost := 0, 0
		for s := bufio.NewScanner(read); s.Scan(); {
			var line struct{ Lines, I int }
			if err := json.Unmarshal(s.Bytes(), &line); err != nil {
				t.Error(err)
			}
			if lost += line.Lines; line.Lines == 0 {
				n++
			}
		}
		got <- [2]int{n, lost}
	}()
	<-w.done // read on, all that waits comes
	write.Close()
	if n := <-got; n[0]+n[1] != lines || n[0] < logLines || n[1] == 0 {
		t.Errorf("%d lines came and %d are said to be lost, of %d", n[0], n[1], lines)
	}
}

func TestWhatIsLoggedBeforeTheEndIsWritten(t *testing.T) {
	var out strings.Builder
	w := NewLogWriter(&out)
	log := NewLog(w, "info")
	for range 100 {
		log.Info().Msg("x")
	}
	if !w.Close(20*time.Second) || strings.Count(out.String(), "\n") != 100 {
		t.Errorf("%d lines", strings.Count(out.String(), "\n"))
	}
}
