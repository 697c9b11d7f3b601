//go:build cgo

package ort

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestTheLibraryTellsItsVersion(t *testing.T) {
	lib := library(t)
	if !strings.HasPrefix(lib.Version(), "1.") || !filepath.IsAbs(lib.Path()) {
		t.Errorf("%q at %q", lib.Version(), lib.Path())
	}
}

func TestOneProcessHasOneLibraryAndEveryUseCounts(t *testing.T) {
	lib := library(t)
	n, m := network([]int{2, 3, 1}, 1)
	second, err := Load(lib.Path())
	if err != nil {
		t.Fatal(err)
	}
	s, err := second.Open(encoded(t, n, m), m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load("/elsewhere/libonnxruntime.so.1"); err == nil || !strings.Contains(err.Error(), "a process has one") {
		t.Error(err)
	}
	for range 2 { // closing twice gives up one use
		if err := second.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Predict([]float32{1, 2}, 1, make([]float32, 1)); err != nil {
		t.Errorf("a session outlives the use that opened it: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if users := count(); users != 1 {
		t.Errorf("%d uses are left instead of one", users)
	}
}

func count() int {
	process.mu.Lock()
	defer process.mu.Unlock()
	return process.users
}

func TestTheLibraryCanBeUnloadedAndLoadedAgainFromManySides(t *testing.T) {
	lib := library(t)
	path := lib.Path()
	if err := lib.Close(); err != nil {
		t.Fatal(err)
	}
	n, m := network([]int{2, 3, 1}, 1)
	file := encoded(t, n, m)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 10 {
				lib, err := Load(path)
				if err != nil {
					t.Error(err)
					return
				}
				s, err := lib.Open(file, m)
				if err == nil {
					err = s.Predict([]float32{1, 2}, 1, make([]float32, 1))
					_ = s.Close()
				}
				if err != nil {
					t.Error(err)
				}
				_ = lib.Close()
			}
		})
	}
	all.Wait()
	if users := count(); users != 0 {
		t.Errorf("%d uses are left", users)
	}
}

func TestFilesThatAreNoFittingLibraryAreRefusedBeforeTheyAreLoaded(t *testing.T) {
	lib := library(t)
	path := lib.Path()
	if err := lib.Close(); err != nil { // so that another path can be tried
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	foreign := append([]byte{}, whole...)
	foreign[18], foreign[19] = 8, 0 // e_machine: MIPS
	// Without a section table, which the loader does not need, only the program headers tell that something is missing.
	stripped := append([]byte{}, whole[:len(whole)/2]...)
	clear(stripped[40:48]) // e_shoff
	clear(stripped[60:64]) // e_shnum, e_shstrndx
	for want, file := range map[string]string{
		"no such file":                               filepath.Join(dir, "missing.so"),
		"empty.so is no shared library":              write("empty.so", nil),
		"text.so is no shared library":               write("text.so", []byte("<html>404 not found</html>")),
		"start.so is no shared library, or a trunca": write("start.so", whole[:4096]),
		"half.so is no shared library, or a truncat": write("half.so", whole[:len(whole)/2]),
		"stripped.so is truncated: it has":           write("stripped.so", stripped),
		"foreign.so is for EM_MIPS":                  write("foreign.so", foreign),
		"is no shared library but of ELF type":       exe,
		"(ONNX Runtime 1.24 or newer is needed)":     other(t),
	} {
		lib, err := Load(file)
		if err == nil {
			t.Errorf("%s was loaded", file)
			_ = lib.Close()
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	again, err := Load(path)
	if err != nil {
		t.Fatal("after so many refusals:", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestALibraryThatIsTooOldIsRefused(t *testing.T) {
	lib := library(t)
	if err := lib.Close(); err != nil { // so that another path can be tried
		t.Fatal(err)
	}
	// What an old one does: it has the entry point, and answers NULL for an interface it does not know.
	source, old := filepath.Join(t.TempDir(), "old.c"), filepath.Join(t.TempDir(), "libonnxruntime.so.1")
	if err := os.WriteFile(source, []byte(`
static const void *api(unsigned version) { return 0; }
static const char *version(void) { return "1.20.0"; }
static const struct { const void *(*api)(unsigned); const char *(*version)(void); } base = {api, version};
const void *OrtGetApiBase(void) { return &base; }`), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := exec.Command("gcc", "-shared", "-fPIC", "-o", old, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if _, err := Load(old); err == nil || !strings.Contains(err.Error(), old+" (ONNX Runtime 1.24 or newer is needed)") {
		t.Error(err)
	}
	if users := count(); users != 0 {
		t.Errorf("%d uses after a refusal", users)
	}
}

// other is a sound shared library that is another one: the C library's mathematics.
func other(t *testing.T) string {
	for _, pattern := range []string{"/lib/*-linux-gnu/libm.so.6", "/lib64/libm.so.6", "/usr/lib/libm.so.6"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0]
		}
	}
	t.Skip("this system has no libm.so.6")
	return ""
}
