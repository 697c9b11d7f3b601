package embedded

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/weirlb/weir/engine/history"
)

// "attempt to write a readonly database" is no answer to `weir history` of who only wants to read.
func TestWhoMayNotWriteToTheFileIsToldSo(t *testing.T) {
	if syscall.Geteuid() != 0 {
		t.Skip("only root becomes another user")
	}
	dir := t.TempDir()
	for _, one := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(one, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "history.db")
	made, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Close(); err != nil {
		t.Fatal(err)
	}

	as(t, func() {
		s, err := Open(path)
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "may not write to it") {
			t.Error(err)
		}
	})
}

// as runs do with the files of another user.
func as(t *testing.T, do func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // this thread's files are another user's; it ends with the goroutine
		if err := syscall.Setfsuid(65534); err != nil {
			t.Error(err)
		}
		do()
	}()
	<-ended
}

// An operator may be in the engine's group, or have a copy on a disk that nobody writes to.
func TestAFileIsReadByWhoMayNotWriteToIt(t *testing.T) {
	if syscall.Geteuid() != 0 {
		t.Skip("only root becomes another user")
	}
	dir := t.TempDir()
	for _, one := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(one, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "history.db")
	engine, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	if err := engine.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	write := func(seq uint64) {
		b := history.Batch{Writer: "w", Seq: seq, AtMS: 1000, Events: []history.Event{{AtMS: 1000, Kind: history.Config}}}
		if _, err := engine.Write(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
	}
	events := func(when, path string, want int) {
		as(t, func() {
			s, err := OpenToRead(path)
			if err != nil {
				t.Errorf("%s: %v", when, err)
				return
			}
			defer s.Close()
			if got, err := s.Events(t.Context(), "", "", 0, 2000, 10); err != nil || len(got) != want {
				t.Errorf("%s: %d events, %v, want %d", when, len(got), err, want)
			}
			if _, err := s.Write(t.Context(), &history.Batch{Writer: "w", Seq: 99}); err == nil {
				t.Errorf("%s: it writes", when)
			}
		})
	}
	write(1)
	events("the engine runs", path, 1)
	write(2)
	killed := filepath.Join(dir, "killed.db")
	for _, end := range []string{"", "-wal", "-shm"} {
		data, err := os.ReadFile(path + end)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(killed+end, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	events("the engine was killed", killed, 2)
	if err := engine.Close(); err != nil {
		t.Fatal(err)
	}
	events("the engine ended", path, 2)
	if left, _ := filepath.Glob(path + "-*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	as(t, func() {
		if _, err := OpenToRead(path); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("a file that may not even be read: %v", err)
		}
	})
}
