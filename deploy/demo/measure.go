package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// figures and result are what the demo reads of the load generator's report.
type figures struct {
	Requests int     `json:"requests"`
	Failed   int     `json:"failed"`
	Mean     float64 `json:"mean_ms"`
	P50      float64 `json:"p50_ms"`
	P90      float64 `json:"p90_ms"`
	P99      float64 `json:"p99_ms"`
}

type result struct {
	LateP99  float64            `json:"late_p99_ms"`
	All      figures            `json:"all"`
	Classes  map[string]figures `json:"by_class"`
	Errors   map[string]int     `json:"errors"`   // by what went wrong
	Statuses map[string]int     `json:"statuses"` // of all answers
	Peers    map[string]struct {
		Share float64 `json:"share"`
	} `json:"by_peer"`
}

// failures tells how many requests failed, and of what.
func (r *result) failures() string {
	var kinds []string
	for _, text := range slices.Sorted(maps.Keys(r.Errors)) {
		kinds = append(kinds, fmt.Sprintf("%d %s", r.Errors[text], text))
	}
	for _, status := range slices.Sorted(maps.Keys(r.Statuses)) {
		if status >= "500" {
			kinds = append(kinds, fmt.Sprintf("%d status %s", r.Statuses[status], status))
		}
	}
	if r.All.Failed == 0 {
		return "none"
	}
	return strings.Join(kinds, ", ")
}

// measure sends the load to one side. Both sides get the same arrivals, classes and sizes.
func (d *demo) measure(ctx context.Context, addr string) (*result, error) {
	return d.load(ctx, addr, time.Duration(d.opt.Warmup)*time.Second, time.Duration(d.opt.Seconds)*time.Second, d.opt.Seed)
}

func (d *demo) load(ctx context.Context, addr string, warmup, measured time.Duration, seed uint64) (*result, error) {
	args := []string{
		"--url", "http://" + addr, "--rate", strconv.FormatFloat(d.opt.Rate, 'g', -1, 64), "--warmup", warmup.String(), "--for", measured.String(),
		"--seed", strconv.FormatUint(seed, 10), "--timeout", "5s", "--progress", "--json",
	}
	for _, c := range loadClasses {
		args = append(args, "--class", c)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(d.opt.Bin, "load"), args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, d.progress
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("sending the load: %w", err)
	}
	var r result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return nil, fmt.Errorf("reading the load generator's report: %w", err)
	}
	if r.All.Requests == r.All.Failed {
		return nil, errors.New("no request was answered; see nginx.log and error.log")
	}
	return &r, nil
}

// keepFor bounds the load of --keep; the servers stay until Ctrl-C.
const keepFor = time.Hour

// keep goes on with the load through Weir until the demo is stopped.
func (d *demo) keep(ctx context.Context) error {
	d.say("\nThe load through Weir goes on, for an hour at most. Ctrl-C ends everything.")
	for end, seed := time.Now().Add(keepFor), d.opt.Seed+1; time.Now().Before(end); seed++ {
		if _, err := d.load(ctx, d.weir, 0, time.Minute, seed); err != nil && ctx.Err() == nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	d.say("The load has ended; the servers stay. Ctrl-C ends them.")
	<-ctx.Done()
	return nil
}
