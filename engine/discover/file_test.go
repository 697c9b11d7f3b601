package discover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/config"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestAFileIsToldAtOnceAndWheneverItChangesVanishesAndComesBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "peers")
	f := NewFile(path)
	f.every = 50 * time.Millisecond
	told := make(chan Update, 100)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.Run(ctx, func(u Update) { told <- u })
	}()
	// The same may be told more than once: by the watcher, and by the look for what vanished.
	until := func(peers, fault string) {
		t.Helper()
		for {
			select {
			case u := <-told:
				if said(u) == peers && (u.Err == nil) == (fault == "") && (fault == "" || strings.Contains(u.Err.Error(), fault)) {
					return
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("%q, %q was never told", peers, fault)
			}
		}
	}
	until("unknown", "no such file")
	write(t, path, "10.0.0.2:80\n10.0.0.1:80 weight=2 # the large one\n")
	until("10.0.0.1:80 weight=2, 10.0.0.2:80", "")
	write(t, path, "10.0.0.2:80\n10.0.0.1:x\n")
	until("unknown", "peers:2")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	until("unknown", "no such file")
	write(t, path, "10.0.0.2:80\n10.0.0.1:x\n") // as before it vanished: no change, and yet no longer missing
	until("unknown", "peers:2")
	write(t, path, "[]")
	until("", "")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	until("unknown", "no such file")
	if err := syscall.Mkfifo(path, 0o644); err != nil {
		t.Fatal(err)
	}
	until("unknown", "no regular file")
	if u := f.Read(); u.Known || !strings.Contains(u.Err.Error(), "no regular file") {
		t.Errorf("a pipe is read as %+v", u)
	}
	stop()
	<-ended
}

func TestManyMistakesInAFileMakeAShortError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "peers")
	write(t, path, strings.Repeat("nonsense\n", 150))
	u := NewFile(path).Read()
	if u.Known || u.Err == nil || strings.Count(u.Err.Error(), "\n") != 3 || !strings.HasSuffix(u.Err.Error(), "and 147 more") {
		t.Errorf("%+v", u)
	}
	var all *config.Error
	if !errors.As(u.Err, &all) || fmt.Sprint(all.Findings[0].Line) != "1" {
		t.Errorf("%#v", u.Err)
	}
}
