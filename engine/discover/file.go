package discover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/config/watch"
)

// lookEvery is how often a file is opened to see that it is still there. Changes are seen sooner, by inotify.
const lookEvery = 2 * time.Second

// File is a list of peers in a file. See config.ParsePeers for its forms.
type File struct {
	path  string
	watch *watch.Watcher
	every time.Duration
}

// NewFile begins to watch the file. Run must be called once, to release the watches.
func NewFile(path string) *File {
	return &File{path: path, watch: watch.New(path), every: lookEvery}
}

// Kind is "file".
func (f *File) Kind() string { return "file" }

// Name is "file PATH".
func (f *File) Name() string { return "file " + f.path }

// Read reads the file now. It may be called before Run, so that an engine starts with the peers of its files.
func (f *File) Read() Update {
	peers, err := config.ReadPeersFile(f.path)
	if err != nil {
		return Update{Err: shorten(err)}
	}
	u := Update{Known: true, Peers: peers}
	order(u.Peers)
	return u
}

// shorten keeps the first findings of many, for a log line and a page.
func shorten(err error) error {
	const most = 3
	var bad *config.Error
	if errors.As(err, &bad) && len(bad.Findings) > most {
		return fmt.Errorf("%w\nand %d more", &config.Error{Findings: bad.Findings[:most]}, len(bad.Findings)-most)
	}
	return err
}

// Run reads the file now and whenever it has other content, and says when it can no longer be read and when it can again.
func (f *File) Run(ctx context.Context, tell func(Update)) {
	var all sync.WaitGroup
	defer all.Wait()
	changed := make(chan struct{}, 1)
	all.Go(func() {
		f.watch.Run(ctx, func() {
			select {
			case changed <- struct{}{}:
			default: // one that is not taken yet covers this one too
			}
		})
	})
	u := f.Read()
	tell(u)
	gone := unread(u)
	look := time.NewTicker(f.every)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			u := f.Read()
			gone = unread(u) // as it was told: the file may be back by now, with the content that the watcher knows
			tell(u)
		case <-look.C:
			// The watcher takes a file that vanished for none that changed; the operator should hear of it all the same.
			switch err := f.missing(); {
			case err != nil && gone != kind(err): // also when a pipe took the place of a file that was told to be missing
				gone = kind(err)
				tell(Update{Err: fmt.Errorf("reading the peers: %w", err)})
			case err == nil && gone != readable:
				gone = readable
				tell(f.Read())
			}
		}
	}
}

// Why a file was not read.
const (
	readable = iota // it was, faulty or not
	missing
	unreadable
)

// unread tells why a file was not read, as against read and found faulty.
func unread(u Update) int {
	var faulty *config.Error
	if u.Err == nil || errors.As(u.Err, &faulty) {
		return readable
	}
	return kind(u.Err)
}

func kind(err error) int {
	if errors.Is(err, fs.ErrNotExist) {
		return missing
	}
	return unreadable
}

func (f *File) missing() error {
	if info, err := os.Stat(f.path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", f.path)
	}
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	return file.Close()
}
