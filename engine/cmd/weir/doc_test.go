package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestEveryCurlLineOfTheAPIPageWorks(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	page, err := os.ReadFile("../../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	e := start(t, `pools: [{name: api, peers: ["10.0.0.1:8080", "10.0.0.2:8080"]}]`)
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
		if out, err := exec.Command("sh", "-c", here.Replace(line)).CombinedOutput(); err != nil || len(out) == 0 {
			t.Errorf("%v: %s%s", err, line, out)
		}
	}
	if n < 15 {
		t.Errorf("only %d lines were found", n)
	}
}
