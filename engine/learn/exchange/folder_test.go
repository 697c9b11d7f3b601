package exchange_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/learn/exchange"
)

func TestEnginesThatPublishAtOnceGetNumbersInTheOrderInWhichTheyAreSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "models")
	const engines, each = 4, 12
	var all sync.WaitGroup
	for e := range engines {
		all.Go(func() {
			x := openFolder(t, path)
			defer x.Close()
			for i := range each {
				if err := x.Publish(t.Context(), exchange.Publication{Kind: exchange.Trained, Model: fmt.Sprint(e, " ", i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	x := openFolder(t, path)
	defer x.Close()
	heard, last := map[string]bool{}, int64(0)
	for until := time.Now().Add(20 * time.Second); len(heard) < engines*each && time.Now().Before(until); time.Sleep(time.Millisecond) {
		news, err := x.After(t.Context(), last, true)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range news {
			heard[p.Model] = true
			last = max(last, p.Seq)
		}
	}
	all.Wait()
	if len(heard) != engines*each { // one that became visible behind a later number is never heard of
		t.Errorf("%d of %d were heard of", len(heard), engines*each)
	}
}

func TestWhatIsNoPublicationInAFolderIsToldAndDoesNotStopTheRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "models")
	x := openFolder(t, path)
	defer x.Close()
	publish := func(model string) {
		t.Helper()
		if err := x.Publish(t.Context(), exchange.Publication{Kind: exchange.Promoted, Model: model, File: []byte(model)}); err != nil {
			t.Fatal(err)
		}
	}
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(path, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	publish("first")
	for i, text := range []string{"", "no JSON\n", "{}", "{\"Kind\": \"trained\"}\nx", strings.Repeat("x", 100_000) + "\n"} {
		put(fmt.Sprintf("%016d.promoted.model", 7+i), text)
	}
	put("README", "not ours")
	put("notes.promoted.model", "not ours either")
	if err := os.Mkdir(filepath.Join(path, "0000000000000012.promoted.model"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(path, "0000000000000013.promoted.model"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(path, ".writing-1")
	put(".writing-1", "left by one that was killed")
	put(".writing-2", "being written now")
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	publish("second")
	var got []exchange.Publication
	var err error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		got, err = x.After(t.Context(), 0, true)
	}()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("a pipe that nobody writes to is waited for")
	}
	if err != nil {
		t.Fatal(err)
	}
	unreadable, good := 0, ""
	for _, p := range got {
		switch p.Kind {
		case exchange.Unreadable:
			unreadable++
			if p.Why == "" || p.Model == "" {
				t.Errorf("%+v does not say what is wrong", p)
			}
		case exchange.Promoted:
			good += string(p.File)
		}
	}
	if unreadable != 7 || good != "firstsecond" {
		t.Errorf("%d unreadable, good: %s", unreadable, good)
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Error("what was left half written stays for good")
	}
	if _, err := os.Stat(filepath.Join(path, ".writing-2")); err != nil {
		t.Error("what another writes now was deleted")
	}
}

func TestAFolderThatWasEmptiedGoesOnWithHigherNumbersAndIsLedByOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "models")
	a, b := openFolder(t, path), openFolder(t, path)
	defer a.Close()
	defer b.Close()
	if err := a.Publish(t.Context(), exchange.Publication{Kind: exchange.Promoted, Model: "before"}); err != nil {
		t.Fatal(err)
	}
	before, err := b.After(t.Context(), 0, true)
	if err != nil || len(before) != 1 {
		t.Fatal(before, err)
	}
	if leads, err := a.Lead(t.Context()); !leads || err != nil {
		t.Fatal(leads, err)
	}
	all, _ := filepath.Glob(filepath.Join(path, "*"))
	for _, file := range all {
		_ = os.Remove(file)
	}
	time.Sleep(2 * time.Millisecond) // numbers follow the clock, in ms
	if err := b.Publish(t.Context(), exchange.Publication{Kind: exchange.Promoted, Model: "after"}); err != nil {
		t.Fatal(err)
	}
	if after, err := b.After(t.Context(), before[0].Seq, true); err != nil || len(after) != 1 || after[0].Model != "after" {
		t.Errorf("%+v %v", after, err)
	}
	if leads, err := b.Lead(t.Context()); !leads || err != nil {
		t.Errorf("the other does not lead: %v", err)
	}
	if leads, err := a.Lead(t.Context()); leads || err == nil {
		t.Error("two lead")
	}
}

func TestAFolderThatCannotBeUsedIsAnErrorForPeople(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/file": "not a directory", "/not/mounted": "no such file"} {
		if _, err := exchange.Open(t.Context(), "file:"+dir+path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Engines run with a mask of 022 unless somebody says otherwise.
func TestAllFilesInAFolderCanBeWrittenByTheGroup(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o022))
	path := filepath.Join(t.TempDir(), "models")
	x := openFolder(t, path)
	defer x.Close()
	if err := x.Publish(t.Context(), exchange.Publication{Kind: exchange.Trained, Model: "m"}); err != nil {
		t.Fatal(err)
	}
	if leads, err := x.Lead(t.Context()); !leads || err != nil {
		t.Fatal(leads, err)
	}
	files, err := os.ReadDir(path)
	if err != nil || len(files) != 3 { // the publication and two locks
		t.Fatal(files, err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o660 {
			t.Errorf("%s: %v %v", f.Name(), info.Mode(), err)
		}
	}
}

// A process that is being started has all files of its parent until it runs its program, and with them the locks.
func TestALeaderThatResignsIsFollowedThoughAnotherProcessHasItsFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "models")
	a, b := openFolder(t, path), openFolder(t, path)
	defer b.Close()
	if leads, err := a.Lead(t.Context()); err != nil || !leads {
		t.Fatal(leads, err)
	}
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	held := 0
	for _, f := range files {
		fd, _ := strconv.Atoi(f.Name())
		if to, err := os.Readlink("/proc/self/fd/" + f.Name()); err != nil || !strings.HasPrefix(to, path) {
			continue
		}
		copied, err := syscall.Dup(fd)
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(copied)
		held++
	}
	if held == 0 {
		t.Fatal("the leader has no file open")
	}
	if err := a.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	if leads, err := b.Lead(t.Context()); err != nil || !leads {
		t.Errorf("nobody follows: %v %v", leads, err)
	}
}
