package exchange

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// folder shares through files in a folder that all engines reach: on one host, or on a volume of several whose file system has locks
// between them (NFS 4 and CephFS have). A publication is a file, whole when it has its name; its number is in the name. What serialises
// publishers and elects one is flock(2) on two more files, which the system gives back however a process ends.
type folder struct {
	path string
	lead *os.File // locked, while this engine leads
}

// Names in the folder. The lock files stay: one that is deleted and made anew could be locked twice.
const (
	fileSuffix    = ".model"   // 0000000000000007.promoted.model
	newPrefix     = ".writing" // not whole yet
	publishLock   = "publish.lock"
	leadLock      = "lead.lock"
	leftAfter     = time.Hour // a file that is being written for so long was left by an engine that was killed
	publishWithin = 3 * time.Second
)

// Unreadable is what a file is told as that is no publication, with the reason in Why. Nobody publishes it.
const Unreadable Kind = "unreadable"

func openFolder(u *url.URL) (Exchange, error) {
	f := &folder{path: filepath.Clean(u.Path)}
	// Only itself, not the way to it: a volume that is not mounted must not be replaced by a folder under its name.
	if err := os.Mkdir(f.path, 0o770); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("the folder for shared models: %w", err)
	}
	// Found out now rather than with the first model: a file system without locks, or a folder that is not for this user.
	lock, err := f.locked(publishLock)
	if err != nil {
		return nil, fmt.Errorf("locking in the folder for shared models: %w", err)
	}
	if lock != nil {
		unlock(lock)
	}
	return f, nil
}

// locked returns a lock file, locked until it is unlocked or the process ends; nil when another has it.
func (f *folder) locked(name string) (*os.File, error) {
	path := filepath.Join(f.path, name)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o660)
	if err != nil {
		return nil, err
	}
	_ = file.Chmod(0o660) // the mask took the group's part, and engines that run as other users of it need it; only the owner may
	for {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		_ = file.Close()
		return nil, nil
	case err != nil:
		_ = file.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	case !sameFile(file): // deleted between opening and locking: the lock is one that nobody else will meet
		_ = file.Close()
		return nil, nil
	}
	return file, nil
}

// unlock gives a lock back. Closing alone would not while a process is being started beside: until it runs its program it has all files of this one,
// and the lock belongs to the open file, not to who opened it.
func unlock(file *os.File) {
	_ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
	_ = file.Close()
}

// sameFile tells whether an open file still is what its name stands for.
func sameFile(file *os.File) bool {
	have, err := file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(file.Name())
	return err == nil && os.SameFile(have, there)
}

// entry is a publication by its name.
type entry struct {
	seq  int64
	kind Kind
	name string
}

// entries lists publications in the order of their numbers.
func (f *folder) entries() (out []entry, err error) {
	list, err := os.ReadDir(f.path)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		number, kind, ok := strings.Cut(strings.TrimSuffix(e.Name(), fileSuffix), ".")
		seq, err := strconv.ParseInt(number, 10, 64)
		if !ok || err != nil || !strings.HasSuffix(e.Name(), fileSuffix) {
			continue
		}
		out = append(out, entry{seq, Kind(kind), e.Name()})
	}
	slices.SortFunc(out, func(a, b entry) int { return cmp.Compare(a.seq, b.seq) })
	return out, nil
}

// Publish implements Exchange.
func (f *folder) Publish(ctx context.Context, p Publication) error {
	if err := p.clean(); err != nil {
		return err
	}
	lock, err := f.publishing(ctx)
	if err != nil {
		return err
	}
	defer unlock(lock)
	list, err := f.entries()
	if err != nil {
		return err
	}
	// Above the last, and above those of a folder that somebody has emptied: engines ask for what is after the last they have heard.
	p.Seq = time.Now().UnixMilli()
	if n := len(list); n > 0 {
		p.Seq = max(p.Seq, list[n-1].seq+1)
	}
	name := fmt.Sprintf("%016d.%s%s", p.Seq, p.Kind, fileSuffix)
	if err := f.write(name, &p); err != nil {
		return err
	}
	f.clear(append(list, entry{p.Seq, p.Kind, name}), p.Kind)
	return nil
}

// publishing waits for the turn to publish: publishers come one after the other, so that numbers become visible in their order.
func (f *folder) publishing(ctx context.Context) (*os.File, error) {
	for until := time.Now().Add(publishWithin); ; {
		lock, err := f.locked(publishLock)
		if lock != nil || err != nil {
			return lock, err
		}
		if time.Now().After(until) {
			return nil, errors.New("others have been publishing for three seconds")
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// write makes a file: a line of JSON with what is said about the model, and the model.
func (f *folder) write(name string, p *Publication) error {
	head := *p
	head.File = nil
	text, err := json.Marshal(&head)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(f.path, newPrefix+"-*")
	if err != nil {
		return err
	}
	_, err = file.Write(append(append(text, '\n'), p.File...))
	// Other engines may run as other users of one group.
	err = errors.Join(err, file.Chmod(0o660), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), filepath.Join(f.path, name))
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}

// clear deletes what is too much of a kind, and what engines left that were killed while they wrote.
func (f *folder) clear(list []entry, kind Kind) {
	list = slices.DeleteFunc(list, func(e entry) bool { return e.kind != kind })
	for _, e := range list[:max(len(list)-keeps(kind), 0)] {
		_ = os.Remove(filepath.Join(f.path, e.name))
	}
	left, _ := filepath.Glob(filepath.Join(f.path, newPrefix+"-*"))
	for _, path := range left {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > leftAfter {
			_ = os.Remove(path)
		}
	}
}

// After implements Exchange.
func (f *folder) After(_ context.Context, seq int64, trained bool) (out []Publication, err error) {
	list, err := f.entries()
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if e.seq <= seq || e.kind == Trained && !trained {
			continue
		}
		p, err := read(filepath.Join(f.path, e.name))
		switch {
		case errors.Is(err, fs.ErrNotExist): // it was one too much meanwhile
			continue
		case err == nil && p.Kind != e.kind:
			err = fmt.Errorf("it says that it is %s", p.Kind)
		}
		if err != nil {
			p = Publication{Kind: Unreadable, Model: e.name, Why: err.Error()}
		}
		p.Seq = e.seq
		out = append(out, p)
	}
	return out, nil
}

// read reads a publication. It is not trusted: anybody may have put it there who may write to the folder.
func read(path string) (p Publication, err error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // of a pipe that waits for a writer no engine would get away
	if err != nil {
		return p, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return p, errors.Join(err, errors.New("it is no file"))
	}
	const maxHead = 64 << 10
	data, err := io.ReadAll(io.LimitReader(file, maxFile+maxHead+1))
	if err != nil {
		return p, err
	}
	end := bytes.IndexByte(data, '\n')
	if end < 0 || end > maxHead {
		return p, errors.New("it does not begin with a line of JSON")
	}
	if err := json.Unmarshal(data[:end], &p); err != nil {
		return p, fmt.Errorf("its first line: %w", err)
	}
	p.File = data[end+1:]
	return p, p.clean()
}

// Wait implements Exchange. The folder is looked into each second: notifications do not come from other hosts.
func (f *folder) Wait(ctx context.Context, most time.Duration) error {
	pause(ctx, min(most, pollEvery))
	return nil
}

// Lead implements Exchange.
func (f *folder) Lead(context.Context) (bool, error) {
	if f.lead != nil {
		if !sameFile(f.lead) {
			return false, fmt.Errorf("%s was deleted or replaced: another engine may lead", f.lead.Name())
		}
		return true, nil
	}
	lock, err := f.locked(leadLock)
	f.lead = lock
	return lock != nil, err
}

// Resign implements Exchange.
func (f *folder) Resign(context.Context) error {
	f.Close()
	return nil
}

// Describe implements Exchange.
func (f *folder) Describe() string { return "the folder " + f.path }

// Close implements Exchange.
func (f *folder) Close() {
	if f.lead != nil {
		unlock(f.lead)
		f.lead = nil
	}
}
