package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// peer is one sample backend. Its service times are simulated (it sleeps), so that two cores are enough for all six.
type peer struct {
	Name string
	What string // for people
	Addr string // the same over restarts

	args    []string
	control string // host:port
}

// The classes of the load. The work of each request is drawn by the load generator, so both sides serve the same sizes.
var loadClasses = []string{
	"light:0.70:10:exp",
	"page:0.25:30:exp",
	"heavy:0.05:160:pareto:2.2",
}

// cast is the six backends: four slots each (requests served at one time, the others wait), unequal in the ways that peers are.
func cast() []*peer {
	return []*peer{
		{Name: "a", What: "even"},
		{Name: "b", What: "even"},
		{Name: "c", What: "even"},
		{Name: "d", What: "old machine: speed 0.4", args: []string{"--speed", "0.4"}},
		{Name: "e", What: "light in half the time, heavy in three times", args: []string{"--affinity", "light=0.5", "--affinity", "heavy=3"}},
		{Name: "f", What: "browns out: each 15 s for 5 s at speed 0.15", args: []string{"--brownout", "15s,5s,0.15,10s"}},
	}
}

// startBackends starts the six on their ports.
func (d *demo) startBackends(ctx context.Context) error {
	for i, b := range d.backends {
		args := []string{"--name", b.Name, "--listen", b.Addr, "--slots", "4", "--seed", strconv.Itoa(i + 1)}
		for _, c := range loadClasses {
			name, _, _ := strings.Cut(c, ":")
			args = append(args, "--class", name+":1")
		}
		p, err := d.start("backend "+b.Name, syscall.SIGKILL, nil, filepath.Join(d.opt.Bin, "backend"), append(args, b.args...)...)
		if err != nil {
			return err
		}
		p.kind = backends
		if err := d.until(ctx, p, func() error { return b.ready(p.output()) }); err != nil {
			return err
		}
	}
	return nil
}

// ready reads the line that a backend prints when it listens.
func (b *peer) ready(output string) error {
	line, _, complete := strings.Cut(output, "\n")
	if !complete {
		return fmt.Errorf("printed %q", output)
	}
	var ready struct{ Control string }
	if err := json.Unmarshal([]byte(line), &ready); err != nil {
		return fmt.Errorf("printed %q: %w", line, err)
	}
	b.control = ready.Control
	return nil
}

func (d *demo) stopBackends() { d.stopKind(backends) }
func (d *demo) stopEngines()  { d.stopKind(engines) }

func (d *demo) stopKind(k kind) {
	kept := d.running[:0]
	for _, p := range d.running {
		if p.kind == k {
			p.stop()
		} else {
			kept = append(kept, p)
		}
	}
	d.running = kept
}
