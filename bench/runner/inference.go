package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/engine/model/ort"
)

// inferenceCmd measures what a learned table costs the engine at each refresh.
type inferenceCmd struct {
	Peers    int           `default:"16"`
	Classes  int           `default:"20"`
	Features int           `default:"32"`
	Hidden   []int         `default:"64,32" help:"Widths of the hidden layers."`
	Every    time.Duration `default:"100ms" help:"Between two refreshes; the engine's is 100ms."`
	Rounds   int           `default:"200"`
	Seed     uint64        `default:"1"`
}

func (inferenceCmd) name() string           { return "inference" }
func (c inferenceCmd) limit() time.Duration { return time.Duration(c.Rounds)*c.Every + 2*time.Minute }

func (c *inferenceCmd) measure(b *bench) (*result, error) {
	rows := c.Peers * c.Classes * decide.GridPoints
	rnd := rand.New(rand.NewPCG(c.Seed, 1))
	sizes := append(append([]int{c.Features}, c.Hidden...), 1)
	net := model.New(sizes, rnd)
	last := net.W[len(net.W)-1] // New leaves it zero
	for i := range last {
		last[i] = float32(rnd.NormFloat64())
	}
	meta := model.Meta{Heads: []string{"cost"}}
	for i := range c.Features {
		meta.Features = append(meta.Features, fmt.Sprint("feature ", i))
	}
	file, err := model.Encode(net, meta)
	if err != nil {
		return nil, err
	}
	lib, session, err := c.session(file, meta)
	if err != nil {
		return nil, err
	}
	defer func() { _ = errors.Join(session.Close(), lib.Close()) }()

	x, y := make([]float32, rows*c.Features), make([]float32, rows)
	for i := range x {
		x[i] = float32(rnd.NormFloat64())
	}
	est, now := c.estimators(rnd)
	var scratch model.Scratch
	var analytic decide.Analytic
	var t decide.Table
	parts := []struct {
		name string
		run  func() error
	}{
		{"batch by ONNX Runtime", func() error { return session.Predict(x, rows, y) }},
		{"batch by the network in Go", func() error { net.Forward(x, rows, y, &scratch); return nil }},
		{"estimators refreshed, analytic table", func() error {
			now += float64(c.Every.Milliseconds())
			est.Refresh(now)
			analytic.Fill(now, est, decide.Params{}, &t)
			return nil
		}},
	}
	runtime.LockOSThread() // CPU is counted by thread
	defer runtime.UnlockOSThread()
	cold, warm := make([][]float64, len(parts)), make([][]float64, len(parts))
	for i := range c.Rounds {
		if err := b.sleep(c.Every); err != nil {
			return nil, err
		}
		for _, into := range [][][]float64{cold, warm} {
			for k := range parts {
				k = (k + i) % len(parts) // none is always the first after the pause
				took, err := cpuMS(parts[k].run)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", parts[k].name, err)
				}
				into[k] = append(into[k], took)
			}
		}
	}
	out := table{Title: "CPU of one core, ms", Columns: []string{"part", "after a pause, median", "quartiles", "slowest", "again at once, median"}}
	for k, p := range parts {
		s := spreadOf(cold[k])
		out.Rows = append(out.Rows, []string{p.name, fmt.Sprintf("%.3f", s.Median), s.quartiles("%.3f"), fmt.Sprintf("%.3f", s.Max), fmt.Sprintf("%.3f", spreadOf(warm[k]).Median)})
	}
	sum := make([]float64, c.Rounds)
	for i := range sum {
		sum[i] = cold[0][i] + cold[2][i]
	}
	r := &result{
		Seeds: []uint64{c.Seed},
		Setup: fmt.Sprintf("%d peers x %d classes x %d in-flight counts = %d rows through a network %v, every %v as in the engine, the three parts in turn. ONNX Runtime %s on one thread.",
			c.Peers, c.Classes, decide.GridPoints, rows, sizes, c.Every, lib.Version()),
		Tables:  []table{out},
		Targets: []target{atMost("batch by ONNX Runtime and table, median after a pause", 2, spreadOf(sum).Median, "ms of one core")},
		Raw:     map[string]any{"onnx_ms": cold[0], "go_ms": cold[1], "table_ms": cold[2]},
	}
	r.note("After a pause the caches hold what other programs left there; the last column is without that.")
	return r, nil
}

func (c *inferenceCmd) session(file []byte, meta model.Meta) (*ort.Library, *ort.Session, error) {
	path, err := ort.Find("")
	if err != nil {
		return nil, nil, err
	}
	lib, err := ort.Load(path)
	if err != nil {
		return nil, nil, err
	}
	s, err := lib.Open(file, meta)
	if err != nil {
		return nil, nil, errors.Join(err, lib.Close())
	}
	return lib, s, nil
}

// estimators of a pool in which every peer has answered every class.
func (c *inferenceCmd) estimators(rnd *rand.Rand) (est *estimate.Pool, now float64) {
	est = estimate.New(estimate.Options{})
	var addrs []string
	for i := range c.Peers {
		addrs = append(addrs, fmt.Sprintf("10.0.%d.%d:80", i/250, i%250))
	}
	est.SetPeers(0, addrs)
	for k := range c.Classes {
		class := est.Class(now, fmt.Sprintf("GET /%d", k))
		for i := range c.Peers {
			for range 20 {
				now++
				est.Observe(now, estimate.Outcome{Peer: i, Class: class, InFlight: rnd.IntN(20), TotalMS: 5 + 10*rnd.ExpFloat64(), ReportedLoad: -1})
			}
		}
		est.Refresh(now)
	}
	return est, now
}

// cpuMS is the CPU time that do takes on this thread, in ms.
func cpuMS(do func() error) (float64, error) {
	var before, after unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &before); err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &after); err != nil {
		return 0, err
	}
	return float64(after.Nano()-before.Nano()) / 1e6, nil
}
