package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Kubernetes mounts a ConfigMap as weir.yaml -> ..data/weir.yaml and ..data -> a folder. It changes it by another folder and another link that is renamed
// over ..data: nothing of that happens to the file or in its folder, which is removed later.
func TestAFileMountedByKubernetesIsFollowedThroughItsLinks(t *testing.T) {
	mount := t.TempDir()
	e := &engine{
		t: t, file: filepath.Join(mount, "weir.yaml"), socket: filepath.Join(t.TempDir(), "engine.sock"), log: &output{},
		hup: make(chan os.Signal, 1), ended: make(chan error, 1),
	}
	swap := func(version, text string) {
		t.Helper()
		dir, data := filepath.Join(mount, version), filepath.Join(mount, "..data")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "weir.yaml"), []byte(yamlFor(e.socket, text)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(version, data+"_tmp"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(data+"_tmp", data); err != nil {
			t.Fatal(err)
		}
	}
	swap("..1", onePool)
	if err := os.Symlink("..data/weir.yaml", e.file); err != nil {
		t.Fatal(err)
	}
	e.serve()
	for i := 2; i < 5; i++ { // the second swap shows whether the path was followed anew after the first
		peer := fmt.Sprintf("10.0.0.%d:80", i+10)
		swap(fmt.Sprintf("..%d", i), strings.ReplaceAll(onePool, "10.0.0.2:80", peer))
		within(t, 10*time.Second, "the link swapped to "+peer+" is followed", func() bool { return e.has(peer) })
		// Only now: that a folder is removed is an event of its own.
		if err := os.RemoveAll(filepath.Join(mount, fmt.Sprintf("..%d", i-1))); err != nil {
			t.Fatal(err)
		}
	}
	const refused = "the configuration file was refused; the one before stays"
	swap("..5", "pools: [{name: api, peers: [nonsense]}]\n")
	within(t, 10*time.Second, "a bad file is refused", func() bool { return strings.Contains(e.log.String(), refused) })
	if !e.has("10.0.0.14:80") {
		t.Error("the configuration before the bad one is gone")
	}
	swap("..6", onePool)
	within(t, 10*time.Second, "a good one is followed again", func() bool { return e.has("10.0.0.2:80") })
	if said := e.log.String(); strings.Contains(said, "the configuration file is gone") {
		t.Errorf("a link that is renamed over another leaves no moment without the file:\n%s", said)
	}
	e.hup <- syscall.SIGHUP
	within(t, 10*time.Second, "SIGHUP reads it through the links", func() bool {
		return strings.Contains(e.log.String(), "configuration read again; nothing changed")
	})
}
