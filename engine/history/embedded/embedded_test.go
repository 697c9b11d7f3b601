package embedded

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/storetest"
)

func opener(t testing.TB) storetest.Opener {
	path := filepath.Join(t.TempDir(), "a folder?", "history.db")
	return func(t testing.TB) history.Store {
		s, err := Open(path)
		if err != nil {
			t.Error(err)
		}
		return s
	}
}

func TestTheEmbeddedStore(t *testing.T) {
	storetest.Run(t, false, opener)
	storetest.Fine(t, opener)
}

func TestTheFileStaysWithinItsBoundByLosingTheOldestOutcomes(t *testing.T) {
	if testing.Short() {
		t.Skip("under the race detector it takes ten times as long; it has one goroutine")
	}
	s := storetest.Ready(t, opener(t)).(*Store)
	const bound = 4 << 20
	keep := storetest.Week()
	keep.MaxBytes = bound
	for seq := range uint64(60) {
		b := storetest.Batch(seq+1, 10_000, 5, 2)
		for i := range b.Outcomes { // one minute a batch
			b.Outcomes[i].AtMS = storetest.Now() - 3_600_000 + int64(seq)*60_000 + int64(i)
		}
		b.Rollups = nil
		if _, err := s.Write(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		if seq%10 == 9 {
			if err := s.Maintain(context.Background(), storetest.Now(), keep); err != nil {
				t.Fatal(err)
			}
		}
	}
	used, err := s.used(context.Background())
	info, _ := os.Stat(s.path)
	if err != nil || used > bound || info.Size() > 2*bound {
		t.Errorf("%v, %d bytes used, the file has %d", err, used, info.Size())
	}
	var first, last int64
	n := 0
	err = s.Outcomes(context.Background(), "", 0, storetest.Now(), func(_ []history.Series, o []history.Outcome) error {
		if n == 0 {
			first = o[0].AtMS
		}
		n += len(o)
		last = o[len(o)-1].AtMS
		return nil
	})
	if err != nil || n == 0 || n == 600_000 || first < storetest.Now()-3_600_000+60_000 || last < storetest.Now()-60_000 {
		t.Errorf("%v, %d outcomes from %d to %d", err, n, first-storetest.Now(), last-storetest.Now())
	}
}

func TestAFileOfANewerWeirIsRefused(t *testing.T) {
	open := opener(t)
	s := storetest.Ready(t, open).(*Store)
	if _, err := s.write.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if err := s.Migrate(context.Background()); err == nil {
		t.Error("it is taken")
	}
}

func TestProgramsThatOpenANewFileAtOnceAllGetIt(t *testing.T) {
	for range 5 {
		open := opener(t)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 5 { // the last to close takes the WAL away, the next makes it anew
					s := open(t)
					if err := s.Migrate(context.Background()); err != nil {
						t.Error(err)
					}
					_ = s.Close()
				}
			})
		}
		all.Wait()
	}
}

// Whoever installs runs `weir migrate up` as root, and the engine as a user of its own, to whom the folder belongs.
func TestAFileThatRootMakesBelongsToWhomItsFolderDoes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 65534, 65533); err != nil {
		t.Fatal(err)
	}
	s, err := Open(filepath.Join(dir, "history.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "history.db*")) // with the WAL
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 65534 || owner.Gid != 65533 {
			t.Errorf("%s belongs to %d:%d", file, owner.Uid, owner.Gid)
		}
	}
}
