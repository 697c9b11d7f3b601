// Package watch tells when a configuration file has new content.
//
// A file's content changes in three ways, and watching the file itself sees only the first: it is written in place; another
// is renamed over it (editors, configuration management); a symlink on its path is pointed elsewhere (a Kubernetes
// ConfigMap swaps `..data`, a folder away from the file). So what is watched is every directory that holds a name
// the path goes through: that of each symlink, and that of the file in the end.
//
// Beside it the file is looked at every two seconds. That covers what inotify does not tell: no watches left, changes made
// on another host of a network file system, an overflowing queue, a parent directory that was replaced.
package watch

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	pollEvery = 2 * time.Second
	// quiet must pass without an event before the file is read, so that a file written in several pieces is read once. A
	// file that is written all the time is read every patience all the same.
	quiet    = 100 * time.Millisecond
	patience = time.Second
	maxLinks = 40 // as many symlinks as Linux follows
	maxSize  = 8 << 20
)

// Watcher watches one file. Make it before the file is first read: what changes after New is told by Run.
type Watcher struct {
	path   string
	every  time.Duration
	notify *fsnotify.Watcher   // nil where there is no inotify
	names  map[string]struct{} // the names on the path to the file; an event on another is not ours
	seen   content
	stat   stamp
}

// content is the hash of what was read last; ok is false while there is nothing to read. What is there and cannot be read (for want of rights, for its size, since it
// is a folder) is a content too: somebody put it there, and who waits for it to be taken is to hear why it is not.
type content struct {
	sum   [sha256.Size]byte
	ok    bool
	unfit bool
}

// stamp is what a look without reading compares.
type stamp struct {
	dev, ino    uint64
	size, mtime int64
	mode        fs.FileMode // this and the owners say who may read it
	uid, gid    uint32
}

// New notes the file's present content and begins to watch. It never fails: without inotify, Run polls.
func New(path string) *Watcher { return newWatcher(path, pollEvery, true) }

func newWatcher(path string, every time.Duration, inotify bool) *Watcher {
	w := &Watcher{path: path, every: every}
	if abs, err := filepath.Abs(path); err == nil {
		w.path = abs
	}
	if inotify {
		w.notify, _ = fsnotify.NewWatcher() // fails when no inotify instance is left; then polling has to do
	}
	w.follow()
	w.stat, _ = look(w.path)
	w.seen = read(w.path)
	return w
}

// Watch calls onChange whenever the file at path has new content, until ctx ends. See Run.
func Watch(ctx context.Context, path string, onChange func()) { New(path).Run(ctx, onChange) }

// Run calls onChange, in its own goroutine, whenever the file has another content than before or cannot be read any more, and returns when ctx
// ends. A file that disappears is no change; one that comes back with other content is. Changes that come while
// onChange runs are told by one further call. Run must be called once: it releases the watches.
func (w *Watcher) Run(ctx context.Context, onChange func()) {
	var events chan fsnotify.Event
	var failures chan error
	if w.notify != nil {
		defer w.notify.Close()
		events, failures = w.notify.Events, w.notify.Errors
	}
	poll := time.NewTicker(w.every)
	defer poll.Stop()
	settle := time.NewTimer(time.Hour)
	settle.Stop()
	var since time.Time // of the first event not yet looked into; zero = none
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events:
			if !ok {
				events = nil // cannot happen before Close; polling goes on
				continue
			}
			if _, ours := w.names[e.Name]; !ours {
				continue
			}
			if since.IsZero() {
				since = time.Now()
			}
			settle.Reset(min(quiet, max(0, patience-time.Since(since))))
			continue
		case <-failures: // an overflow above all: events were lost, so look
		case <-settle.C:
		case <-poll.C:
			switch s, err := look(w.path); {
			case errors.Is(err, fs.ErrNotExist):
				w.follow()
				continue
			case err == nil && s == w.stat:
				continue
			}
		}
		since = time.Time{}
		if w.changed() {
			onChange()
		}
	}
}

// changed reads the file again and follows its path anew.
func (w *Watcher) changed() bool {
	w.follow() // before reading, so that what changes while we read makes an event
	if s, err := look(w.path); err == nil {
		w.stat = s
	}
	now := read(w.path)
	if !now.ok && !now.unfit || now == w.seen {
		return false
	}
	w.seen = now
	return true
}

// follow watches the directories that hold the names on the path, and no others.
func (w *Watcher) follow() {
	names := hops(w.path)
	w.names = make(map[string]struct{}, len(names))
	dirs := make(map[string]struct{}, len(names))
	for _, n := range names {
		w.names[n] = struct{}{}
		dirs[filepath.Dir(n)] = struct{}{}
	}
	if w.notify == nil {
		return
	}
	for _, d := range w.notify.WatchList() {
		if _, keep := dirs[d]; !keep {
			_ = w.notify.Remove(d)
		}
	}
	for d := range dirs {
		w.names[d] = struct{}{} // the directory's own removal
		_ = w.notify.Add(d)     // fails when no watch is left; polling covers it
	}
}

// hops lists the real names that the path goes through: each symlink, and the file in the end, or the first name
// that does not exist.
func hops(path string) []string {
	var found []string
	at := "/"
	rest := strings.Split(path, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		full := filepath.Join(at, name)
		info, err := os.Lstat(full)
		if err != nil {
			return append(found, full)
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = full
			continue
		}
		found = append(found, full)
		target, err := os.Readlink(full)
		if links++; err != nil || links > maxLinks {
			return found
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return append(found, at)
}

func look(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	s := stamp{size: info.Size(), mtime: info.ModTime().UnixNano(), mode: info.Mode()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.dev, s.ino, s.uid, s.gid = uint64(sys.Dev), sys.Ino, sys.Uid, sys.Gid
	}
	return s, nil
}

func read(path string) content {
	info, err := os.Stat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxSize) {
		return content{unfit: true} // a pipe would block, and none of these is a configuration
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return content{unfit: !errors.Is(err, fs.ErrNotExist)}
	}
	return content{sum: sha256.Sum256(data), ok: true}
}
