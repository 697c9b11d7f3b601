package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestATokenIsReadFromItsFile(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "token"), "  0123456789abcdef\n")
	path := write(t, filepath.Join(dir, "weir.yaml"), "admin: {listen: '0.0.0.0:1', token_file: token}\nstate_file: s\n")
	c, _, err := Load(path, none)
	if err != nil {
		t.Fatal(err)
	}
	if c.Admin.Token.Reveal() != "0123456789abcdef" || c.StateFile != filepath.Join(dir, "s") {
		t.Errorf("got %q, %q", c.Admin.Token.Reveal(), c.StateFile)
	}
}

func TestATokenFileThatHoldsNoTokenIsRefused(t *testing.T) {
	for _, content := range []string{"", "\n", "two words", "bad\x00byte", strings.Repeat("x", 5000)} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "token"), content)
		_, _, err := Load(write(t, filepath.Join(dir, "w.yaml"), "admin: {token_file: token}"), none)
		if err == nil || !strings.Contains(err.Error(), "admin.token_file") || strings.Contains(err.Error(), "words") {
			t.Errorf("%.20q: %v", content, err)
		}
	}
	_, _, err := Load(write(t, filepath.Join(t.TempDir(), "w.yaml"), "admin:\n  token_file: gone"), none)
	if err == nil || !strings.Contains(err.Error(), "w.yaml:2: admin.token_file: reading the token: open") {
		t.Errorf("a missing token file: %v", err)
	}
}

func TestAFileThatCannotBeReadIsSaidSo(t *testing.T) {
	dir := t.TempDir()
	_, _, err := Load(filepath.Join(dir, "none.yaml"), none)
	if err == nil || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("missing: %v", err)
	}
	if _, _, err := Load(dir, none); err == nil {
		t.Error("a folder was read as a file")
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, _, err := Load(pipe, none)
		ended <- err
	}()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "pipe that nothing was written to") {
			t.Errorf("a pipe without a writer: %v", err)
		}
	case <-time.After(4 * pipeWithin):
		t.Error("a pipe without a writer is waited for")
	}
	big := write(t, filepath.Join(dir, "big"), strings.Repeat("#", maxFileSize+1))
	if _, _, err := Load(big, none); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("too big: %v", err)
	}
}

func TestOnlyDifferencesAreChanges(t *testing.T) {
	base := `
socket: /tmp/a
pools:
  - {name: same, peers: ["10.0.0.1:1", "10.0.0.2:1"]}
  - {name: weight, peers: ["10.0.0.1:1"]}
  - {name: set, peers: ["10.0.0.1:1"]}
  - {name: gone, peers: ["10.0.0.1:1"]}
`
	from := mustParse(t, base)
	if d := Diff(from, mustParse(t, base)); !d.None() {
		t.Errorf("the same file gives %+v", d)
	}
	to := mustParse(t, `
socket: /tmp/b
log: {level: debug}
pools:
  - {name: new, peers: ["10.0.0.1:1"]}
  - {name: set, peers: ["10.0.0.1:1"], explore: 0}
  - {name: same, peers: ["10.0.0.2:1", "10.0.0.1:1"]}
  - {name: weight, peers: [{address: "10.0.0.1:1", weight: 2}]}
`)
	d := Diff(from, to)
	if strings.Join(d.Added, " ") != "new" || strings.Join(d.Removed, " ") != "gone" || strings.Join(d.Changed, " ") != "set weight" ||
		strings.Join(d.Restart, " ") != "socket" || strings.Join(d.Live, " ") != "log.level" {
		t.Errorf("got %+v", d)
	}
}

func TestDefaultsThatChangeChangeThePoolsThatInheritThem(t *testing.T) {
	pools := "pools: [{name: a, explore: 0.1}, {name: b}]\n"
	d := Diff(mustParse(t, pools), mustParse(t, pools+"defaults: {explore: 0.05}"))
	if strings.Join(d.Changed, " ") != "b" {
		t.Errorf("got %+v", d)
	}
}
