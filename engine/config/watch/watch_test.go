package watch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// start runs a watcher on path until the test ends, and gives a channel with one value a call.
func start(t *testing.T, w *Watcher) <-chan struct{} {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	calls := make(chan struct{}, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx, func() { calls <- struct{}{} })
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return calls
}

// byEvents is a watcher that does not poll: what it tells, it was told by inotify.
func byEvents(path string) *Watcher { return newWatcher(path, time.Hour, true) }

func byPolling(path string) *Watcher { return newWatcher(path, 20*time.Millisecond, false) }

func told(t *testing.T, calls <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-calls:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s was not told", what)
	}
}

// silent waits long enough for a wrong call to come.
func silent(t *testing.T, calls <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-calls:
		t.Fatalf("%s was told as a change", what)
	case <-time.After(4 * quiet):
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func each(t *testing.T, test func(t *testing.T, make func(string) *Watcher)) {
	t.Run("by events", func(t *testing.T) { test(t, byEvents) })
	t.Run("by polling", func(t *testing.T) { test(t, byPolling) })
}

func TestAWriteInPlaceIsSeen(t *testing.T) {
	each(t, func(t *testing.T, watcher func(string) *Watcher) {
		path := filepath.Join(t.TempDir(), "weir.yaml")
		put(t, path, "a")
		calls := start(t, watcher(path))
		for i := range 3 {
			put(t, path, fmt.Sprint("version ", i))
			told(t, calls, "a write")
		}
	})
}

func TestARenameOverTheFileIsSeen(t *testing.T) {
	each(t, func(t *testing.T, watcher func(string) *Watcher) {
		dir := t.TempDir()
		path := filepath.Join(dir, "weir.yaml")
		put(t, path, "a")
		calls := start(t, watcher(path))
		for i := range 3 { // the second proves that the watch survived the first
			put(t, filepath.Join(dir, "tmp"), fmt.Sprint("version ", i))
			must(t, os.Rename(filepath.Join(dir, "tmp"), path))
			told(t, calls, "a rename")
		}
		put(t, path, "in place after all")
		told(t, calls, "a write after renames")
	})
}

// As the kubelet does it: weir.yaml -> ..data/weir.yaml, ..data -> ..1; then ..data is replaced by a link to ..2 and
// ..1 is removed.
func TestASwapOfASymlinkedFolderIsSeen(t *testing.T) {
	each(t, func(t *testing.T, watcher func(string) *Watcher) {
		dir := t.TempDir()
		publish := func(i int) {
			version := fmt.Sprintf("..%d", i)
			must(t, os.Mkdir(filepath.Join(dir, version), 0o700))
			put(t, filepath.Join(dir, version, "weir.yaml"), "version "+version)
			must(t, os.Symlink(version, filepath.Join(dir, "..data_tmp")))
			must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
			if i > 1 { // the first swap is seen by the link alone
				must(t, os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..%d", i-1))))
			}
		}
		publish(0)
		path := filepath.Join(dir, "weir.yaml")
		must(t, os.Symlink("..data/weir.yaml", path))
		calls := start(t, watcher(path))
		for i := 1; i < 4; i++ {
			publish(i)
			told(t, calls, "a swap")
		}
	})
}

func TestALinkIntoAnotherFolderIsFollowed(t *testing.T) {
	each(t, func(t *testing.T, watcher func(string) *Watcher) {
		etc, releases := t.TempDir(), t.TempDir()
		put(t, filepath.Join(releases, "one.yaml"), "1")
		put(t, filepath.Join(releases, "two.yaml"), "2")
		path := filepath.Join(etc, "weir.yaml")
		must(t, os.Symlink(filepath.Join(releases, "one.yaml"), path))
		calls := start(t, watcher(path))
		put(t, filepath.Join(releases, "one.yaml"), "1b")
		told(t, calls, "a write behind the link")
		must(t, os.Symlink(filepath.Join(releases, "two.yaml"), path+".tmp"))
		must(t, os.Rename(path+".tmp", path))
		told(t, calls, "a link pointed elsewhere")
		put(t, filepath.Join(releases, "two.yaml"), "2b")
		told(t, calls, "a write behind the new link")
	})
}

func TestAFileThatGoesAndComesBackIsSeen(t *testing.T) {
	each(t, func(t *testing.T, watcher func(string) *Watcher) {
		path := filepath.Join(t.TempDir(), "weir.yaml")
		put(t, path, "a")
		calls := start(t, watcher(path))
		must(t, os.Remove(path))
		silent(t, calls, "a removal")
		put(t, path, "b")
		told(t, calls, "a return")
	})
}

func TestAReplacedParentFolderIsSeenByPolling(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "etc")
	must(t, os.Mkdir(dir, 0o700))
	path := filepath.Join(dir, "weir.yaml")
	put(t, path, "a")
	calls := start(t, newWatcher(path, 50*time.Millisecond, true))
	must(t, os.Rename(dir, dir+".old"))
	must(t, os.Mkdir(dir, 0o700))
	put(t, path, "b")
	told(t, calls, "a replaced folder")
	put(t, path, "c")
	told(t, calls, "a write in the new folder")
}

func TestTheSameContentAndTheNeighboursAreNoChange(t *testing.T) {
	each(t, func(t *testing.T, watcher func(string) *Watcher) {
		dir := t.TempDir()
		path := filepath.Join(dir, "weir.yaml")
		put(t, path, "a")
		calls := start(t, watcher(path))
		put(t, path, "a")
		put(t, filepath.Join(dir, "other"), "x")
		must(t, os.Chmod(path, 0o644))
		silent(t, calls, "the same content")
	})
}

func TestWhatChangesBetweenNewAndRunIsTold(t *testing.T) {
	each(t, func(t *testing.T, watcher func(string) *Watcher) {
		path := filepath.Join(t.TempDir(), "weir.yaml")
		put(t, path, "a")
		w := watcher(path)
		put(t, path, "b")
		told(t, start(t, w), "an early change")
	})
}

func TestAFileWrittenInPiecesIsToldOnceItIsQuiet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.yaml")
	put(t, path, "")
	calls := start(t, byEvents(path))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	for range 20 {
		_, err := f.WriteString("piece\n")
		must(t, err)
	}
	must(t, f.Close())
	told(t, calls, "a file in pieces")
	silent(t, calls, "the same file in pieces") // 20 writes make at most a second call on a stalled machine
}

func TestHopsNamesEveryLinkAndTheFile(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	at := func(s string) string { return filepath.Join(dir, s) }
	must(t, os.MkdirAll(at("real/sub"), 0o700))
	put(t, at("real/sub/f"), "")
	must(t, os.Symlink("real", at("a")))
	must(t, os.Symlink("sub/../sub/f", at("real/b")))
	must(t, os.Symlink(at("a/b"), at("c")))
	must(t, os.Symlink("loop", at("loop")))
	for path, want := range map[string][]string{
		"c":           {at("c"), at("a"), at("real/b"), at("real/sub/f")},
		"real/sub/f":  {at("real/sub/f")},
		"real/none/x": {at("real/none")},
	} {
		if got := hops(at(path)); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
	if got := hops(at("loop")); len(got) > maxLinks+2 {
		t.Errorf("a loop gives %d names", len(got))
	}
}

func TestAPipeDoesNotBlockTheWatcher(t *testing.T) {
	if c := read("/dev/zero"); c.ok {
		t.Error("a device was read")
	}
}

// A container's runtime makes a folder where the file is that it should have mounted.
func TestAFolderInTheFilesPlaceIsToldAndTheFileWhenItIsBack(t *testing.T) {
	each(t, func(t *testing.T, watcher func(string) *Watcher) {
		path := filepath.Join(t.TempDir(), "weir.yaml")
		put(t, path, "a")
		calls := start(t, watcher(path))
		must(t, os.Remove(path))
		silent(t, calls, "a file that is gone")
		must(t, os.Mkdir(path, 0o755))
		told(t, calls, "a folder in its place")
		silent(t, calls, "the same folder")
		must(t, os.Remove(path))
		put(t, path, "a")
		told(t, calls, "the file")
	})
}
