package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// peersCmd measures what users get from six uneven backends through each balancer. The backends sleep instead of working, so that the balancers' own
// use of the processor hardly counts; `run.sh cpu` is about that.
type peersCmd struct {
	Rounds int           `default:"5" help:"Rounds; each runs every balancer once, with backends and balancer started anew."`
	Rate   float64       `default:"500" help:"Requests a second, open loop; the backends can take about 800."`
	Warmup time.Duration `default:"10s" help:"Sent before, not measured."`
	For    time.Duration `default:"15s" help:"Measured; the brown-out comes once in each 15 s."`
	Only   []string      `help:"Only these balancers."`
	Seed   uint64        `default:"1" help:"Of arrivals, classes and sizes; each round takes the next, for all balancers the same."`
}

func (peersCmd) name() string { return "peers" }
func (c peersCmd) limit() time.Duration {
	return time.Duration(4*c.Rounds)*(c.Warmup+c.For+10*time.Second) + time.Minute
}

// uneven is the six backends, as in the demo: four slots each, unequal in the ways that peers are.
var uneven = []struct {
	what string
	args []string
}{
	{"even", nil},
	{"even", nil},
	{"even", nil},
	{"old machine: speed 0.4", []string{"--speed", "0.4"}},
	{"light in half the time, heavy in three times", []string{"--affinity", "light=0.5", "--affinity", "heavy=3"}},
	{"browns out: each 15 s for 5 s at speed 0.15", []string{"--brownout", "15s,5s,0.15,10s"}},
}

// The classes of the load: share, mean ms, distribution.
var unevenLoad = []string{"light:0.70:10:exp", "page:0.25:30:exp", "heavy:0.05:160:pareto:2.2"}

// peersRun is what bench/load says of one run.
type peersRun struct {
	Seed     uint64  `json:"seed"`
	LateP99  float64 `json:"late_p99_ms"`
	Requests int     `json:"requests"`
	Failed   int     `json:"failed"`
	Mean     float64 `json:"mean_ms"`
	P50      float64 `json:"p50_ms"`
	P90      float64 `json:"p90_ms"`
	P99      float64 `json:"p99_ms"`
	P999     float64 `json:"p999_ms"`
	Max      float64 `json:"max_ms"`
}

var balancers = []string{"nginx", "haproxy", "caddy", "weir"}

func (c *peersCmd) measure(b *bench) (*result, error) {
	if err := need("nginx", "haproxy", "caddy"); err != nil {
		return nil, err
	}
	peer, err := b.build("./test/backend/cmd/backend")
	if err != nil {
		return nil, err
	}
	load, err := b.build("./bench/load")
	if err != nil {
		return nil, err
	}
	var kinds []string
	for _, k := range uneven {
		kinds = append(kinds, k.what)
	}
	r := &result{Setup: fmt.Sprintf("Six backends of 4 slots: %s. Load by Poisson, open loop, %.0f/s: %s (share, mean ms, distribution). Latency from when a request was due. "+
		"%v of warm-up, %v measured. All in their least-connections mode, one worker or thread (Caddy: all cores); Weir with a fresh engine, no state from before.",
		strings.Join(kinds, "; "), c.Rate, strings.Join(unevenLoad, ", "), c.Warmup, c.For)}
	runs := map[string][]peersRun{}
	order := rand.New(rand.NewPCG(c.Seed, 0))
	for round := range c.Rounds {
		seed := c.Seed + uint64(round)
		r.Seeds = append(r.Seeds, seed)
		for _, i := range order.Perm(len(balancers)) {
			name := balancers[i]
			if len(c.Only) > 0 && !slices.Contains(c.Only, name) {
				continue
			}
			run, err := c.once(b, name, fmt.Sprintf("%s-%d", name, round), peer, load, seed)
			if err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", name, round+1, err)
			}
			runs[name] = append(runs[name], run)
		}
		b.say("round %d of %d", round+1, c.Rounds)
	}
	c.report(r, runs)
	return r, nil
}

func (c *peersCmd) once(b *bench, balancer, name, peer, load string, seed uint64) (run peersRun, err error) {
	first := len(b.started)
	defer func() {
		for i := len(b.started) - 1; i >= first; i-- {
			b.started[i].stop()
		}
	}()
	addrs, err := b.addrs(len(uneven) + 1)
	if err != nil {
		return run, err
	}
	peers, listen := addrs[:len(uneven)], addrs[len(uneven)]
	for i, kind := range uneven {
		args := []string{"--name", string(rune('a' + i)), "--listen", peers[i], "--slots", "4", "--seed", fmt.Sprint(i + 1)}
		for _, class := range unevenLoad { // the load generator tells the work of each request; this names the classes
			class, _, _ := strings.Cut(class, ":")
			args = append(args, "--class", class+":1")
		}
		p, err := b.start(fmt.Sprintf("%s-%c", name, 'a'+i), nil, peer, append(args, kind.args...)...)
		if err != nil {
			return run, err
		}
		if err := b.awaitPort(p, peers[i]); err != nil {
			return run, err
		}
	}
	if err := c.front(b, balancer, name, listen, peers); err != nil {
		return run, err
	}
	args := []string{
		"--json", "--url", "http://" + listen, "--rate", fmt.Sprint(c.Rate), "--warmup", c.Warmup.String(), "--for", c.For.String(), "--seed", fmt.Sprint(seed),
		"--timeout", "60s",
	}
	for _, class := range unevenLoad {
		args = append(args, "--class", class)
	}
	cmd := exec.CommandContext(b.ctx, load, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out, complaints strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return run, fmt.Errorf("%w\n%s", err, complaints.String())
	}
	var told struct {
		LateP99 float64  `json:"late_p99_ms"`
		All     peersRun `json:"all"`
	}
	if err := json.Unmarshal([]byte(out.String()), &told); err != nil {
		return run, fmt.Errorf("bench/load printed something else: %w", err)
	}
	run = told.All
	run.Seed, run.LateP99 = seed, told.LateP99
	return run, nil
}

// front starts a balancer.
func (c *peersCmd) front(b *bench, balancer, name, listen string, peers []string) error {
	s := site{Name: name, Listen: listen, Peers: peers}
	switch balancer {
	case "nginx":
		s.Upstream = servers(peers) + "        least_conn;\n"
		_, err := b.nginx(s)
		return err
	case "weir":
		eng, err := b.engine(name+"-engine", peers, "")
		if err != nil {
			return err
		}
		s.Lua, s.HTTP, s.Upstream, s.Socket = true, b.weirHTTP(false), weirUpstream(peers), eng.socket
		if _, err := b.nginx(s); err != nil {
			return err
		}
		return b.sleep(500 * time.Millisecond) // tables arrive
	}
	file, args, env := filepath.Join(b.dir, name+".cfg"), []string(nil), []string(nil)
	switch balancer {
	case "haproxy":
		if err := b.render("haproxy.cfg", file, &s); err != nil {
			return err
		}
		args = []string{"haproxy", "-db", "-f", file}
	case "caddy":
		if err := b.render("Caddyfile", file, &s); err != nil {
			return err
		}
		args, env = []string{"caddy", "run", "--adapter", "caddyfile", "--config", file}, []string{"HOME=" + b.dir, "XDG_DATA_HOME=" + b.dir, "XDG_CONFIG_HOME=" + b.dir}
	}
	p, err := b.start(name, env, args[0], args[1:]...)
	if err != nil {
		return err
	}
	return b.awaitPort(p, listen)
}

func (c *peersCmd) report(r *result, runs map[string][]peersRun) {
	figures := []struct {
		name string
		of   func(*peersRun) float64
	}{
		{"mean", func(x *peersRun) float64 { return x.Mean }},
		{"p50", func(x *peersRun) float64 { return x.P50 }},
		{"p90", func(x *peersRun) float64 { return x.P90 }},
		{"p99", func(x *peersRun) float64 { return x.P99 }},
		{"p99.9", func(x *peersRun) float64 { return x.P999 }},
	}
	absolute := table{Title: "Latency, ms: median of the rounds (their extremes)", Columns: []string{"balancer"}}
	ratio := table{Title: "Weir's latency as a share of the other's in the same round: median (extremes); below 1 Weir is quicker", Columns: []string{"balancer"}}
	for _, f := range figures {
		absolute.Columns, ratio.Columns = append(absolute.Columns, f.name), append(ratio.Columns, f.name)
	}
	absolute.Columns = append(absolute.Columns, "requests", "failed", "generator late, p99 ms")
	for _, name := range balancers {
		all := runs[name]
		if len(all) == 0 {
			continue
		}
		row, against := []string{name}, []string{name}
		for _, f := range figures {
			var v, q []float64
			for i := range all {
				v = append(v, f.of(&all[i]))
				if weir := runs["weir"]; name != "weir" && i < len(weir) {
					q = append(q, f.of(&weir[i])/f.of(&all[i]))
				}
			}
			s := spreadOf(v)
			row = append(row, fmt.Sprintf("%.0f (%s)", s.Median, s.extremes("%.0f")))
			if len(q) > 0 {
				s := spreadOf(q)
				against = append(against, fmt.Sprintf("%.2f (%s)", s.Median, s.extremes("%.2f")))
			}
		}
		requests, failed := 0, 0
		var late []float64
		for i := range all {
			requests, failed, late = requests+all[i].Requests, failed+all[i].Failed, append(late, all[i].LateP99)
		}
		absolute.Rows = append(absolute.Rows, append(row, fmt.Sprint(requests), fmt.Sprint(failed), fmt.Sprintf("%.1f", slices.Max(late))))
		if len(against) > 1 {
			ratio.Rows = append(ratio.Rows, against)
		}
	}
	r.Tables, r.Raw = []table{absolute, ratio}, runs
}
