package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// machine is where the numbers were taken.
type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	MemMiB int    `json:"mem_mib"`
	Load1  string `json:"load_1m"` // at the end: what else ran is in it
}

func (m machine) String() string {
	return fmt.Sprintf("%s, %d cores, %d MiB, %s, load average %s at the end", m.CPU, m.Cores, m.MemMiB, m.Kernel, m.Load1)
}

func machineOf() machine {
	m := machine{CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Kernel: "Linux " + first("/proc/sys/kernel/osrelease"), Load1: first("/proc/loadavg")}
	var kib int
	if _, err := fmt.Sscanf(field("/proc/meminfo", "MemTotal"), "%d", &kib); err == nil {
		m.MemMiB = kib / 1024
	}
	if m.CPU == "" {
		m.CPU = runtime.GOARCH
	}
	return m
}

// field is the value of the first line "key : value" of a file; empty when there is none.
func field(path, key string) string {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// first is the first word of a file.
func first(path string) string {
	text, _ := os.ReadFile(path)
	word, _, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	return word
}

type version struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// versionsOf asks every program that takes part; one that is not there is left out.
func versionsOf(ctx context.Context, repo string) []version {
	out := []version{{"go", runtime.Version()}}
	for _, ask := range []struct {
		name string
		args []string
	}{
		{"nginx", []string{"nginx", "-v"}},
		{"ngx_lua", []string{"dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-http-lua"}},
		{"luajit", []string{"luajit", "-v"}},
		{"haproxy", []string{"haproxy", "-v"}},
		{"caddy", []string{"caddy", "version"}},
		{"wrk", []string{"wrk", "-v"}},
		{"weir", []string{"git", "-C", repo, "describe", "--always", "--dirty", "--abbrev=12"}},
	} {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		text, _ := exec.CommandContext(ctx, ask.args[0], ask.args[1:]...).CombinedOutput() // wrk -v ends with 1
		cancel()
		line, _, _ := bytes.Cut(bytes.TrimSpace(text), []byte("\n"))
		if v := strings.TrimPrefix(string(line), "nginx version: "); v != "" {
			out = append(out, version{ask.name, v})
		}
	}
	return out
}
