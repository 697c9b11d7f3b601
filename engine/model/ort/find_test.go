package ort

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func touch(t *testing.T, elem ...string) string {
	t.Helper()
	path := filepath.Join(elem...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func env(kv ...string) func(string) string {
	return func(k string) string {
		for i := 0; i < len(kv); i += 2 {
			if kv[i] == k {
				return kv[i+1]
			}
		}
		return ""
	}
}

func TestTheLibraryIsFoundWhereItWasNamedElseInTheNearestPlace(t *testing.T) {
	root := t.TempDir()
	exe := filepath.Join(root, "bin", "weir")
	system := []string{filepath.Join(root, "usr")}
	mine, other := touch(t, root, "mine", "my.so"), touch(t, root, "folder", "libonnxruntime.so")
	look := func(configured string, getenv func(string) string) string {
		t.Helper()
		path, err := find(configured, getenv, exe, system)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	all := env("WEIR_CACHE", root+"/cache")
	// Places are filled from the last to the first; each new one wins.
	for _, place := range []struct {
		path string
		env  func(string) string
	}{
		{"usr/libonnxruntime.so.1", env()},
		{"home/.cache/weir/onnxruntime/" + Wanted + "/libonnxruntime.so.1", env("HOME", root+"/home")},
		{"xdg/weir/onnxruntime/" + Wanted + "/libonnxruntime.so.1", env("HOME", root+"/home", "XDG_CACHE_HOME", root+"/xdg")},
		{"cache/onnxruntime/" + Wanted + "/libonnxruntime.so.1", env("HOME", root+"/home", "XDG_CACHE_HOME", root+"/xdg", "WEIR_CACHE", root+"/cache")},
		{"lib/weir/libonnxruntime.so.1", all},
		{"lib/libonnxruntime.so", all},
		{"bin/libonnxruntime.so", all},
		{"bin/libonnxruntime.so.1", all},
	} {
		want := touch(t, root, place.path)
		if got := look("", place.env); got != want {
			t.Errorf("%s instead of %s", got, want)
		}
	}
	named := env("WEIR_CACHE", root+"/cache", Variable, other)
	if got := look("", named); got != other {
		t.Errorf("the environment names %s; found %s", other, got)
	}
	if got := look("", env(Variable, filepath.Dir(other))); got != other {
		t.Errorf("the environment names the folder of %s; found %s", other, got)
	}
	if got := look(mine, named); got != mine {
		t.Errorf("the configuration names %s; found %s", mine, got)
	}
}

func TestANamedPlaceThatIsWrongIsAnErrorAndNoOtherIsTried(t *testing.T) {
	root := t.TempDir()
	touch(t, root, "bin", "libonnxruntime.so.1")
	empty := t.TempDir()
	exe := filepath.Join(root, "bin", "weir")
	pipe := filepath.Join(root, "pipe.so")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, look := range map[string]func() (string, error){
		"the configuration names /nowhere/x.so, and there is no such file": func() (string, error) { return find("/nowhere/x.so", env(), exe, nil) },
		"the environment variable WEIR_ONNXRUNTIME names /nowhere/y.so":    func() (string, error) { return find("", env(Variable, "/nowhere/y.so"), exe, nil) },
		"names " + pipe + ", which is no file":                             func() (string, error) { return find(pipe, env(), exe, nil) },
		"names the folder " + empty + ", which has no libonnxruntime.so.1": func() (string, error) { return find(empty, env(), exe, nil) },
	} {
		if path, err := look(); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v (%s)", want, err, path)
		}
	}
}

func TestTheErrorListsThePlacesAndSaysWhatToDo(t *testing.T) {
	_, err := find("", env("HOME", "/home/u"), "/opt/w/bin/weir", []string{"/usr/lib"})
	if !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	for _, want := range []string{"/opt/w/bin, /opt/w/lib, /opt/w/lib/weir, /home/u/.cache/weir/onnxruntime/" + Wanted + ", /usr/lib;", "bash deploy/onnxruntime.sh", Variable} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func TestTheFetchScriptFetchesTheVersionThatIsLookedFor(t *testing.T) {
	script, err := os.ReadFile("../../../deploy/onnxruntime.sh")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(script), "\nversion="+Wanted+" ") || !strings.Contains(string(script), "\nname="+names[0]+"\n") {
		t.Error("deploy/onnxruntime.sh and find.go differ")
	}
}
