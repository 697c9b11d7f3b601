package ort

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Wanted is the version of ONNX Runtime that deploy/onnxruntime.sh fetches and Weir is tested with; Oldest is the oldest whose
// interface the binding accepts.
const (
	Wanted = "1.27.0"
	Oldest = "1.24"
)

// Variable is the environment variable that says where the library is.
const Variable = "WEIR_ONNXRUNTIME"

// names are what the library is called, the first being what the fetch script writes.
var names = [...]string{"libonnxruntime.so.1", "libonnxruntime.so"}

// ErrNotFound is what errors of Find wrap when the library is nowhere.
var ErrNotFound = errors.New("ONNX Runtime is not installed")

// Find returns the path of the library. Places that somebody named come first and alone: configured, then the
// environment variable WEIR_ONNXRUNTIME, each a file or a folder; a wrong one is an error, since quietly taking
// another would hide it. Then: beside the program, ../lib and ../lib/weir of it, the fetch script's cache, the system's
// library folders. The cache comes before the system's because its version is known to fit.
//
// It looks only at names; Load tells whether the file is what it should be.
func Find(configured string) (string, error) {
	exe, err := os.Executable()
	if err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
	}
	return find(configured, os.Getenv, exe, systemFolders())
}

func find(configured string, getenv func(string) string, exe string, system []string) (string, error) {
	if configured != "" {
		return named(configured, "the configuration")
	}
	if path := getenv(Variable); path != "" {
		return named(path, "the environment variable "+Variable)
	}
	var folders []string
	if exe != "" {
		bin := filepath.Dir(exe)
		lib := filepath.Join(filepath.Dir(bin), "lib")
		folders = append(folders, bin, lib, filepath.Join(lib, "weir"))
	}
	if cache := cacheFolder(getenv); cache != "" {
		folders = append(folders, cache)
	}
	folders = append(folders, system...)
	for _, dir := range folders {
		if path := in(dir); path != "" {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: no %s in %s; `bash deploy/onnxruntime.sh` fetches it, or set %s to its path",
		ErrNotFound, names[0], strings.Join(slices.Compact(folders), ", "), Variable)
}

// named resolves a place that somebody wrote down.
func named(path, by string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%w: %s names %s, and there is no such file", ErrNotFound, by, path)
	case err != nil:
		return "", fmt.Errorf("ONNX Runtime as %s names it: %w", by, err)
	case info.Mode().IsRegular():
		return filepath.Abs(path)
	case !info.IsDir(): // opening a pipe would wait for a writer
		return "", fmt.Errorf("%w: %s names %s, which is no file", ErrNotFound, by, path)
	}
	if file := in(path); file != "" {
		return filepath.Abs(file)
	}
	return "", fmt.Errorf("%w: %s names the folder %s, which has no %s", ErrNotFound, by, path, names[0])
}

// in returns the library's path in a folder, or nothing.
func in(dir string) string {
	for _, name := range names {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

// cacheFolder is where deploy/onnxruntime.sh puts the library; both follow the same rule.
func cacheFolder(getenv func(string) string) string {
	base := getenv("WEIR_CACHE")
	if base == "" {
		if xdg := getenv("XDG_CACHE_HOME"); xdg != "" {
			base = filepath.Join(xdg, "weir")
		} else if home := getenv("HOME"); home != "" {
			base = filepath.Join(home, ".cache", "weir")
		} else {
			return ""
		}
	}
	return filepath.Join(base, "onnxruntime", Wanted)
}

func systemFolders() []string {
	folders := []string{"/usr/local/lib/weir", "/usr/lib/weir", "/usr/local/lib", "/usr/lib", "/usr/lib64", "/opt/onnxruntime/lib"}
	if triplet := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]; triplet != "" {
		folders = append(folders, "/usr/lib/"+triplet)
	}
	return folders
}

// Check refuses files that the dynamic loader should not be shown. A truncated library is not an error to dlopen: it maps
// what the headers promise, and the first touch beyond the end of the file kills the process by SIGBUS.
func Check(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	lib, err := elf.NewFile(f)
	if err != nil {
		return fmt.Errorf("%s is no shared library, or a truncated one: %w", path, err)
	}
	if lib.Type != elf.ET_DYN {
		return fmt.Errorf("%s is no shared library but of ELF type %v", path, lib.Type)
	}
	if want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]; want != 0 && lib.Machine != want {
		return fmt.Errorf("%s is for %v; this machine needs %v", path, lib.Machine, want)
	}
	for _, p := range lib.Progs {
		if end := p.Off + p.Filesz; end > uint64(info.Size()) {
			return fmt.Errorf("%s is truncated: it has %d bytes, and its headers tell of %d; fetch it again", path, info.Size(), end)
		}
	}
	return nil
}
