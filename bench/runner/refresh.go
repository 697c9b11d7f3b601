package main

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// refreshCmd measures what a large pool costs the engine.
type refreshCmd struct {
	Peers   int           `default:"200"`
	Classes int           `default:"50"`
	PerS    int           `name:"rate" default:"20000" help:"Outcomes a second that the running engine is told."`
	For     time.Duration `default:"20s" help:"How long."`
	Seed    uint64        `default:"1"`
}

func (refreshCmd) name() string           { return "refresh" }
func (c refreshCmd) limit() time.Duration { return c.For + 3*time.Minute }

func (c *refreshCmd) measure(b *bench) (*result, error) {
	r := &result{
		Seeds: []uint64{c.Seed},
		Setup: fmt.Sprintf("One pool of %d peers and %d classes. First the refresh by itself (go test -bench), then a `weir serve` that is told %d outcomes a second for %v over its socket "+
			"and asked for its tables by a long poll, as by NGINX.", c.Peers, c.Classes, c.PerS, c.For),
	}
	b.say("go test -bench")
	alone, err := b.goBench()
	if err != nil {
		return nil, err
	}
	r.Tables = append(r.Tables, alone.table)
	if err := c.live(b, r); err != nil {
		return nil, err
	}
	r.Targets = append([]target{atMost("refresh of 200 peers x 50 classes by itself, slowest of the repetitions", 50, alone.worst, "ms of one core")}, r.Targets...)
	return r, nil
}

type benchmarks struct {
	table table
	worst float64 // ms
}

var benchLine = regexp.MustCompile(`^(Benchmark\w+)\S*\s+\d+\s+([\d.]+) ns/op(?:\s+([\d.]+) B/op\s+(\d+) allocs/op)?`)

// goBench runs the engine's own benchmarks of a refresh; they are for 200 peers and 50 classes.
func (b *bench) goBench() (out benchmarks, err error) {
	cmd := exec.CommandContext(b.ctx, "go", "test", "-run", "^$", "-bench", "200", "-benchtime", "500ms", "-count", "5", "-benchmem", "./engine/decide", "./engine/serve")
	cmd.Dir = b.repo
	text, err := cmd.CombinedOutput()
	if err != nil {
		return out, fmt.Errorf("go test -bench: %w\n%s", err, text)
	}
	took, allocs := map[string][]float64{}, map[string]string{}
	var names []string
	for line := range strings.Lines(string(text)) {
		m := benchLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		ns, _ := strconv.ParseFloat(m[2], 64)
		if took[m[1]] == nil {
			names = append(names, m[1])
		}
		took[m[1]], allocs[m[1]] = append(took[m[1]], ns/1e6), m[4]
	}
	if took["BenchmarkRefresh200x50"] == nil {
		return out, fmt.Errorf("go test -bench printed no BenchmarkRefresh200x50:\n%s", text)
	}
	out.table = table{Title: "By itself, ms", Columns: []string{"benchmark", "median", "extremes", "allocations"}}
	for _, n := range names {
		s := spreadOf(took[n])
		out.table.Rows = append(out.table.Rows, []string{strings.TrimPrefix(n, "Benchmark"), fmt.Sprintf("%.3f", s.Median), s.extremes("%.3f"), allocs[n]})
	}
	out.worst = slices.Max(took["BenchmarkRefresh200x50"])
	return out, nil
}

// live measures a running engine.
func (c *refreshCmd) live(b *bench, r *result) error {
	peers := make([]string, c.Peers)
	for i := range peers {
		peers[i] = fmt.Sprintf("10.0.%d.%d:8080", i/250, i%250+1)
	}
	eng, err := b.engine("engine", peers, fmt.Sprintf("    classes: {top: %d}\n", c.Classes))
	if err != nil {
		return err
	}
	fresh := rss(eng.pid())
	polls := make(chan struct{})
	stop := make(chan struct{})
	go func() { // NGINX's watcher
		defer close(polls)
		for v, epoch := uint64(0), ""; ; {
			select {
			case <-stop:
				return
			default:
			}
			var answer struct {
				Version uint64
				Epoch   string
			}
			if getJSON(eng.unix, fmt.Sprintf("http://engine/watch?since=%d&epoch=%s&wait=1000", v, epoch), &answer) == nil {
				v, epoch = answer.Version, answer.Epoch
			}
		}
	}()
	var memory []float64
	cpu0, sys0, err := cpuOf(eng.pid())
	if err != nil {
		return err
	}
	began := time.Now()
	t := &traffic{eng: eng, peers: peers, classes: c.Classes, perS: c.PerS, seed: c.Seed}
	for time.Since(began) < c.For {
		if err := t.run(b, time.Second); err != nil {
			return err
		}
		memory = append(memory, rss(eng.pid()))
		b.say("%.0f s: %.0f MiB", time.Since(began).Seconds(), memory[len(memory)-1])
	}
	took := time.Since(began).Seconds()
	cpu1, sys1, err := cpuOf(eng.pid())
	if err != nil {
		return err
	}
	close(stop)
	<-polls
	sum, count, err := eng.histogram("weir_refresh_duration_seconds")
	if err != nil {
		return err
	}
	classes, err := eng.classes()
	if err != nil {
		return err
	}
	s := spreadOf(memory)
	cores := (cpu1 + sys1 - cpu0 - sys0).Seconds() / took
	r.Tables = append(r.Tables, table{Title: "A running engine", Rows: [][]string{
		{"outcomes told", fmt.Sprintf("%.0f/s", float64(t.sent)/took)},
		{"classes in the table", fmt.Sprint(classes)},
		{"refreshes", fmt.Sprintf("%.1f/s", count/took)},
		{"one refresh, mean", fmt.Sprintf("%.2f ms", 1000*sum/count)},
		{"CPU, all of it", fmt.Sprintf("%.2f cores", cores)},
		{"resident memory at the start", fmt.Sprintf("%.1f MiB", fresh)},
		{"resident memory, median", fmt.Sprintf("%.1f MiB", s.Median)},
		{"resident memory, highest", fmt.Sprintf("%.1f MiB", s.Max)},
	}})
	r.Targets = append(r.Targets, atMost("refresh in the running engine, mean", 50, 1000*sum/count, "ms"), atMost("resident memory of the engine, highest", 100/1.048576, s.Max, "MiB"))
	r.Raw = map[string]any{"rss_mib": memory, "refreshes": count, "cores": cores}
	return nil
}

// histogram is sum and count of a Prometheus histogram, over all its series.
func (e *engine) histogram(name string) (sum, count float64, err error) {
	resp, err := e.web.Get("http://" + e.admin + "/metrics")
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	in := bufio.NewScanner(io.LimitReader(resp.Body, 64<<20))
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		series, value, _ := strings.Cut(in.Text(), "} ")
		v, _ := strconv.ParseFloat(value, 64)
		switch {
		case strings.HasPrefix(series, name+"_sum{"):
			sum += v
		case strings.HasPrefix(series, name+"_count{"):
			count += v
		}
	}
	if count == 0 {
		return 0, 0, fmt.Errorf("the engine has no metric %s", name)
	}
	return sum, count, in.Err()
}

// classes is how many rows the table of "api" has.
func (e *engine) classes() (int, error) {
	var answer struct {
		Pools []struct{ Classes []string }
	}
	if err := getJSON(e.unix, "http://engine/watch?since=0&epoch=&wait=0", &answer); err != nil {
		return 0, err
	}
	if len(answer.Pools) != 1 {
		return 0, fmt.Errorf("the engine tells of %d pools", len(answer.Pools))
	}
	return len(answer.Pools[0].Classes), nil
}
