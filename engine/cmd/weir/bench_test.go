package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/observe"
)

// BenchmarkResidentMemory reports what the process takes with 200 peers and 50 classes after ten seconds in which all of them
// get outcomes and a watcher takes every table.
func BenchmarkResidentMemory(b *testing.B) {
	dir := b.TempDir()
	bin, file, socket := filepath.Join(dir, "weir"), filepath.Join(dir, "weir.yaml"), filepath.Join(dir, "engine.sock")
	if text, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, text)
	}
	var conf strings.Builder
	conf.WriteString("pools:\n  - name: big\n    peers:\n")
	for i := range 200 {
		fmt.Fprintf(&conf, "      - 10.0.0.%d:80\n", i+1)
	}
	if err := os.WriteFile(file, []byte(yamlFor(socket, conf.String())), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", "--config", file)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	within(b, 10*time.Second, "it answers", func() bool { _, err := os.Lstat(socket); return err == nil })
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	batch := &observe.Batch{Instance: "web1"}
	for i := range 2000 {
		r := observe.Record{Attempt: 1, Propensity: 1, HeaderMS: 4, TotalMS: float32(3 + i%17), PredictedMS: 5, Load: observe.None}
		if err := batch.Add("big", fmt.Sprintf("GET /class/number/%d", i%50), fmt.Sprintf("10.0.0.%d:80", 1+i/10), r); err != nil {
			b.Fatal(err)
		}
	}
	body, err := batch.AppendCompact(nil)
	if err != nil {
		b.Fatal(err)
	}
	most := 0.0
	for b.Loop() {
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			res, err := client.Post("http://weir/observe", "application/x-weir-observe", bytes.NewReader(body))
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res, err = client.Get("http://weir/watch"); err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			most = max(most, resident(b, cmd.Process.Pid))
		}
	}
	b.ReportMetric(most, "MB-rss")
}

func resident(b *testing.B, pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	var kib float64
	if _, rest, ok := strings.Cut(string(text), "VmRSS:"); ok {
		_, _ = fmt.Sscan(rest, &kib)
	}
	return kib * 1024 / 1e6
}
