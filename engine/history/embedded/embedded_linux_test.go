package embedded

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
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

	opened := make(chan error)
	go func() {
		runtime.LockOSThread() // this thread's files are another user's; it ends with the goroutine
		if err := syscall.Setfsuid(65534); err != nil {
			t.Error(err)
		}
		s, err := Open(path)
		if err == nil {
			_ = s.Close()
		}
		opened <- err
	}()
	err = <-opened
	if err == nil || !strings.Contains(err.Error(), "may not write to it") {
		t.Error(err)
	}
}
