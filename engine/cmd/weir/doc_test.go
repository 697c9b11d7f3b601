package main

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/model"
)

// modelFile writes a model that corrects nothing, and tells its id.
func modelFile(t *testing.T, seed uint64) (path, id string) {
	t.Helper()
	net := model.New([]int{decide.Inputs, 4, 1}, rand.New(rand.NewPCG(seed, 1)))
	file, err := model.Encode(net, model.Meta{Features: decide.InputNames(), Heads: []string{decide.Head}, Card: map[string]string{"name": "test"}})
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, model.ID(file)
}

func TestEveryCurlLineOfTheAPIPageWorks(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	page, err := os.ReadFile("../../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	const pool = `pools: [{name: api, peers: ["10.0.0.1:8080", "10.0.0.2:8080"]}]`
	first, id := modelFile(t, 1)
	second, _ := modelFile(t, 2)
	e := start(t, "model: {library: builtin, file: "+first+"}\n"+pool)
	e.write("model: {library: builtin, file: " + second + "}\n" + pool)
	e.hup <- syscall.SIGHUP
	within(t, 10*time.Second, "the second model is loaded", func() bool { return strings.Contains(e.log.String(), second) })
	here := strings.NewReplacer(
		"/run/weir/engine.sock", e.socket, "http://127.0.0.1:9180", e.admin,
		"curl ", "curl -sS --fail-with-body --max-time 20 -H 'Authorization: Bearer 0123456789abcdef' ",
	)
	n := 0
	for line := range strings.Lines(string(page)) {
		if !strings.HasPrefix(line, "curl ") {
			continue
		}
		n++
		if out, err := exec.Command("sh", "-c", "ID="+id+"\n"+here.Replace(line)).CombinedOutput(); err != nil || len(out) == 0 {
			t.Errorf("%v: %s%s", err, line, out)
		}
	}
	if n < 20 {
		t.Errorf("only %d lines were found", n)
	}
}

// Who looks a reason up finds it on the page. Another test holds the engine to the description.
func TestTheAPIPageHasEveryReasonOfTheHealth(t *testing.T) {
	page, err := os.ReadFile("../../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	_, health, _ := strings.Cut(string(page), "\n## Health\n")
	health, _, _ = strings.Cut(health, "\n## ")
	described, err := os.ReadFile("../../api/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, list, found := strings.Cut(string(described), "enum: [no_pools, ")
	list, _, closed := strings.Cut(list, "]")
	if !found || !closed {
		t.Fatal("openapi.yaml has no list of reasons")
	}
	for _, reason := range strings.Split("no_pools, "+list, ", ") {
		if !strings.Contains(health, "`"+reason+"`") {
			t.Errorf("docs/api.md does not have %s", reason)
		}
	}
}
