// Command runner measures Weir against its targets and against other balancers; see bench/README.md. It is started by bench/run.sh.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

// cli is the command line; each command is one measurement.
type cli struct {
	JSON bool   `name:"json" help:"Print JSON."`
	Save bool   `help:"Save the result under bench/results as NAME.txt and NAME.json."`
	Keep bool   `help:"Keep the folder with configurations and logs."`
	Repo string `default:"." hidden:""`

	CPU         cpuCmd         `cmd:"" name:"cpu" help:"CPU of one NGINX worker per proxied request, beside plain least_conn. 4 minutes."`
	Decide      decideCmd      `cmd:"" help:"Latency of POST /decide over the Unix socket, open loop. 15 seconds."`
	Refresh     refreshCmd     `cmd:"" help:"Time to make a table of 200 peers x 50 classes anew, and the engine's memory. 40 seconds."`
	Inference   inferenceCmd   `cmd:"" help:"Time of a model's batch for 16 peers x 20 classes, by ONNX Runtime and in Go, and of the table. 25 seconds."`
	History     historyCmd     `cmd:"" help:"What keeping history costs a running engine, with each store, and how fast it is read. 10 minutes."`
	Down        downCmd        `cmd:"" help:"A peer fails under load: last pick, requests lost, failures until it is out. 3 minutes."`
	Pick        pickCmd        `cmd:"" help:"Time of one pick for 10 to 4000 peers, and how close the sampled choice comes. 30 seconds."`
	Scenarios   scenariosCmd   `cmd:"" help:"The learned policy in the simulator, in every scenario, beside classical rules and oracles, against its targets. 30 minutes."`
	Worlds      worldsCmd      `cmd:"" help:"Weir in 300 random worlds of the simulator, beside least_conn: in how many it is worse, and where. 6 minutes."`
	Ablation    ablationCmd    `cmd:"" help:"What each part of the learned policy buys in every scenario of the simulator. 30 minutes."`
	Limits      limitsCmd      `cmd:"" help:"What any table over in-flight counts can reach in the simulator, with the world known. 5 minutes."`
	Trained     trainedCmd     `cmd:"" help:"What a training for one scenario buys there, where requests tell their size. 12 minutes."`
	Convergence convergenceCmd `cmd:"" help:"How near Weir is to its final mean after 2,000 requests a peer, in the simulator. 8 minutes."`
	Guess       guessCmd       `cmd:"" help:"What it is worth to C3 in the simulator to be told how many balancers there are. 3 minutes."`
	Online      onlineCmd      `cmd:"" help:"The engine learning from real traffic, beside one that does not and plain least_conn; then weir evaluate's estimates against what happened. 13 minutes."`
	Engines     enginesCmd     `cmd:"" help:"Four NGINX with an engine each on the same uneven peers: whether the engines find out each other's load, beside told ones and plain least_conn. 9 minutes a round."`
	Peers       peersCmd       `cmd:"" help:"Latency on six uneven backends through NGINX, HAProxy, Caddy and Weir. 15 minutes."`
}

// bench is what a measurement works with.
type bench struct {
	ctx      context.Context
	repo     string    // root of the repository
	dir      string    // for configurations, sockets, logs
	progress io.Writer // stderr
	ports    int       // the last one handed out
	started  []*process
	guard    *guard
}

// measurement is one command.
type measurement interface {
	name() string
	limit() time.Duration // nothing may take longer
	measure(b *bench) (*result, error)
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == guardArg {
		standGuard(os.Stdin)
		return
	}
	if bin := os.Getenv("BENCH_BIN"); bin != "" { // run.sh has built this program in there; it runs on without its file
		_ = os.RemoveAll(bin)
		_ = os.Unsetenv("BENCH_BIN")
	}
	var c cli
	at := kong.Parse(&c, kong.Name("run.sh"), kong.Description("Benchmarks of Weir. Results are of this machine, with both sides of every comparison."),
		kong.UsageOnError(), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	m, ok := at.Selected().Target.Addr().Interface().(measurement)
	if !ok {
		fmt.Fprintln(os.Stderr, "no such measurement")
		os.Exit(2)
	}
	if err := c.run(m); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (c *cli) run(m measurement) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, m.limit(), fmt.Errorf("%s takes longer than %v", m.name(), m.limit()))
	defer cancel()
	repo, err := filepath.Abs(c.Repo)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "weir-bench-")
	if err != nil {
		return fmt.Errorf("folder for configurations and logs: %w", err)
	}
	g, err := startGuard()
	if err != nil {
		return err
	}
	b := &bench{ctx: ctx, repo: repo, dir: dir, progress: os.Stderr, ports: firstPort, guard: g}
	defer func() {
		b.stopAll()
		g.stop()
		if c.Keep || err != nil {
			fmt.Fprintln(os.Stderr, "configurations and logs are in", dir)
			return
		}
		_ = os.RemoveAll(dir)
	}()
	began := time.Now()
	r, err := m.measure(b)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return err
	}
	r.Name, r.Machine, r.Versions = m.name(), machineOf(), versionsOf(ctx, repo)
	r.Began, r.Seconds = began.UTC().Format(time.RFC3339), time.Since(began).Seconds()
	if c.JSON {
		err = r.json(os.Stdout)
	} else {
		err = r.print(os.Stdout)
	}
	if c.Save {
		err = errors.Join(err, r.save(filepath.Join(repo, "bench", "results")))
	}
	return err
}

// sleep ends early, with the reason, when the measurement does.
func (b *bench) sleep(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-b.ctx.Done():
		return context.Cause(b.ctx)
	}
}

func (b *bench) say(format string, args ...any) { _, _ = fmt.Fprintf(b.progress, format+"\n", args...) }

func (r *result) json(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}
