// Command demo shows Weir beside plain NGINX on one machine: six uneven backends, the same load through `least_conn`, through Weir
// with the analytic policy and through Weir with the learned one, and a table of the three. It is started by deploy/demo.sh, which builds the programs it needs.
//
// All it starts listens on loopback, keeps its files in a folder of its own and ends with it, also when it is killed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

type options struct {
	Repo, Bin, Dir  string
	Seconds, Warmup int
	Rate            float64
	Seed            uint64
	Keep            bool
}

func main() {
	opt, err := parse(os.Args[1:], os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	d := &demo{opt: opt, dir: opt.Dir, out: os.Stdout, progress: os.Stderr}
	err = d.run(ctx)
	d.stop()
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "demo: stopped")
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func parse(args []string, to io.Writer) (opt options, err error) {
	set := flag.NewFlagSet("deploy/demo.sh", flag.ContinueOnError)
	set.SetOutput(to)
	set.IntVar(&opt.Seconds, "seconds", 30, "how long each of the three is measured")
	set.IntVar(&opt.Warmup, "warmup", 8, "seconds of the same load before that, for each")
	set.Float64Var(&opt.Rate, "rate", 500, "requests a second; the backends can take about 800")
	set.Uint64Var(&opt.Seed, "seed", 1, "of arrivals, classes and sizes")
	set.BoolVar(&opt.Keep, "keep", false, "go on after the table, with load, until Ctrl-C")
	set.StringVar(&opt.Repo, "repo", ".", "root of the repository (deploy/demo.sh sets it)")
	set.StringVar(&opt.Bin, "bin", "", "folder with weir, backend and load (deploy/demo.sh sets it)")
	set.StringVar(&opt.Dir, "dir", "", "empty folder for configurations and logs (deploy/demo.sh sets it)")
	if err := set.Parse(args); err != nil {
		return opt, err
	}
	switch {
	case set.NArg() > 0:
		err = fmt.Errorf("%q: there are only flags, see --help", set.Arg(0))
	case opt.Seconds < 1 || opt.Seconds > 3600 || opt.Warmup < 0 || opt.Warmup > 3600:
		err = errors.New("--seconds must be 1 to 3600, --warmup 0 to 3600")
	case !(opt.Rate >= 1 && opt.Rate <= 5000):
		err = errors.New("--rate must be 1 to 5000")
	case opt.Dir == "" || opt.Bin == "":
		err = errors.New("--dir and --bin are needed: start it with deploy/demo.sh")
	default:
		opt.Repo, err = filepath.Abs(opt.Repo)
	}
	return opt, err
}

// demo is one run.
type demo struct {
	opt           options
	dir           string
	out, progress io.Writer

	ports    ports
	backends []*peer
	running  []*process // in the order they were started
	plain    string     // host:port of NGINX's plain side
	weir     string     // host:port of its Weir side
	admin    string     // host:port of the engine
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.progress, format+"\n", args...) }

func (d *demo) run(ctx context.Context) error {
	began := time.Now()
	if err := d.prepare(); err != nil {
		return err
	}
	d.say("Six backends, NGINX and later the engine, all on loopback; files in %s", d.dir)
	if err := d.startBackends(ctx); err != nil {
		return err
	}
	if err := d.startNGINX(ctx); err != nil {
		return err
	}
	d.say("\n1 of 3: plain NGINX, least_conn, %d s warm-up and %d s measured at %.0f requests/s", d.opt.Warmup, d.opt.Seconds, d.opt.Rate)
	plain, err := d.measure(ctx, d.plain)
	if err != nil {
		return err
	}
	d.say("\n2 of 3: the same requests through Weir with the analytic policy: formulas, no model")
	classical, err := d.throughWeir(ctx, analytic)
	if err != nil {
		return err
	}
	d.stopEngines()
	d.say("\n3 of 3: the same requests through Weir with the learned policy, the default: the formulas corrected by a model")
	modelled, err := d.throughWeir(ctx, learned)
	if err != nil {
		return err
	}
	printTable(d.out, d.opt, d.backends, plain, classical, modelled)
	d.control(ctx)
	d.where(time.Since(began))
	if d.opt.Keep {
		return d.keep(ctx)
	}
	return nil
}

// throughWeir measures with an engine that knows nothing yet. The backends are new: their queues are empty, and the brown-outs begin at
// the same moment of the load as before.
func (d *demo) throughWeir(ctx context.Context, policy string) (*result, error) {
	d.stopBackends()
	if err := d.startBackends(ctx); err != nil {
		return nil, err
	}
	if err := d.startEngine(ctx, policy); err != nil {
		return nil, err
	}
	return d.measure(ctx, d.weir)
}
