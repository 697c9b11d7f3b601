package telemetry

import (
	"bufio"
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
		n, told := 0, 0
		for s := bufio.NewScanner(read); s.Scan(); {
			if strings.Contains(s.Text(), "stood still") {
				told++
			} else {
				n++
			}
		}
		got <- [2]int{n, told}
	}()
	<-w.done // read on, all that waits comes
	write.Close()
	if n := <-got; uint64(n[0])+w.lost.Load() != lines || n[1] == 0 || n[0] < logLines/2 {
		t.Errorf("%d lines came and %d were lost, of %d; that was told %d times", n[0], w.lost.Load(), lines, n[1])
	}
}

func TestWhatIsLoggedBeforeTheEndIsWritten(t *testing.T) {
	var out strings.Builder
	w := NewLogWriter(&out)
	log := NewLog(w, "info")
	for range 100 {
		log.Info().Msg("x")
	}
	if !w.Close(20*time.Second) || strings.Count(out.String(), "\n") != 100 || w.lost.Load() != 0 {
		t.Errorf("%d lines, %d lost", strings.Count(out.String(), "\n"), w.lost.Load())
	}
}
