package watch

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// A new file that the engine's user may not read was passed over without a word, and its health said ok.
func TestAFileThatMayNotBeReadIsToldAndAgainWhenItMay(t *testing.T) {
	if syscall.Geteuid() != 0 {
		t.Skip("only root becomes another user")
	}
	each(t, func(t *testing.T, watcher func(string) *Watcher) {
		dir := t.TempDir()
		for _, one := range []string{filepath.Dir(dir), dir} {
			must(t, os.Chmod(one, 0o755))
		}
		path := filepath.Join(dir, "weir.yaml")
		put(t, path, "a")
		must(t, os.Chmod(path, 0o644))
		w := watcher(path)
		ctx, cancel := context.WithCancel(t.Context())
		calls := make(chan struct{}, 100)
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // this thread's files are another user's; it ends with the goroutine
			if err := syscall.Setfsuid(65534); err != nil {
				t.Error(err)
			}
			w.Run(ctx, func() { calls <- struct{}{} })
		}()
		t.Cleanup(func() {
			cancel()
			<-done
		})
		put(t, path+".new", "b") // mode 0600, and root's
		must(t, os.Rename(path+".new", path))
		told(t, calls, "a file that may not be read")
		silent(t, calls, "the same")
		must(t, os.Chmod(path, 0o644))
		told(t, calls, "that it may be read")
	})
}
