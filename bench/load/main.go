// Command load sends open-loop traffic and tells how long the answers took.
//
//	load --url http://127.0.0.1:8080 --rate 300 --for 20s --warmup 5s --seed 1 \
//	     --class light:0.6:5:exp --class mid:0.35:10:exp --class heavy:0.05:80:pareto:2.2 --json
//
// Arrivals are Poisson and do not wait for answers: a slow server meets the same requests as a fast one, and latency counts
// from the moment a request was due, so a stall is charged to every request it delays (Tene, "How NOT to measure latency").
// A closed loop would send less to the slower server and flatter it.
//
// A class is a share of the requests, sent to /NAME/NUMBER. With a mean, the work of each request is drawn here and told to
// the backend as X-Work-Ms: the same seed then means the same arrivals, classes and sizes whatever serves them.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/weirlb/weir/test/backend"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// run sends one load. A signal ends it early; what was measured until then is reported.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	opt, asJSON, err := parse(args)
	if err != nil {
		return err
	}
	if !opt.Progress {
		progress = io.Discard
	}
	r := newLoad(opt).run(ctx, progress)
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	return r.print(out)
}

func parse(args []string) (opt options, asJSON bool, err error) {
	set := flag.NewFlagSet("load", flag.ContinueOnError)
	set.StringVar(&opt.URL, "url", "http://127.0.0.1:8080", "root of the server; the paths are /CLASS/NUMBER")
	set.Float64Var(&opt.Rate, "rate", 100, "requests a second")
	set.DurationVar(&opt.For, "for", 20*time.Second, "how long to measure")
	set.DurationVar(&opt.Warmup, "warmup", 0, "send for so long before, unmeasured")
	set.DurationVar(&opt.Timeout, "timeout", 5*time.Second, "an answer that takes longer is a failure")
	set.IntVar(&opt.MaxOpen, "max-open", 4096, "requests open at one time; one that is due above that counts as failed and is not sent")
	set.Uint64Var(&opt.Seed, "seed", 1, "of arrivals, classes and sizes")
	set.StringVar(&opt.PeerHeader, "peer-header", "X-Backend", "answer header that names the peer")
	set.BoolVar(&opt.Progress, "progress", false, "show a line a second on stderr")
	set.BoolVar(&asJSON, "json", false, "print JSON")
	set.Func("class", "name:share[:mean_ms[:dist[:cv or shape]]]: a share of the requests, and the work they are", func(v string) error {
		c, err := parseClass(v)
		opt.Classes = append(opt.Classes, c)
		return err
	})
	if err := set.Parse(args); err != nil {
		return opt, false, err
	}
	if set.NArg() > 0 {
		return opt, false, fmt.Errorf("%q: there are only flags, see --help", set.Arg(0))
	}
	opt.URL = strings.TrimSuffix(opt.URL, "/")
	return opt, asJSON, opt.validate()
}

func parseClass(v string) (c class, err error) {
	part := strings.Split(v, ":")
	if len(part) < 2 || len(part) > 5 {
		return c, fmt.Errorf("%q is not name:share[:mean_ms[:dist[:cv or shape]]]", v)
	}
	c.Name = part[0]
	if c.Share, err = strconv.ParseFloat(part[1], 64); err != nil {
		return c, fmt.Errorf("%q: the share: %w", v, err)
	}
	if len(part) == 2 {
		return c, nil
	}
	c.Work = &backend.Dist{}
	if c.Work.MeanMS, err = strconv.ParseFloat(part[2], 64); err != nil {
		return c, fmt.Errorf("%q: the mean: %w", v, err)
	}
	if len(part) > 3 {
		c.Work.Dist = part[3]
	}
	if len(part) > 4 {
		x, err := strconv.ParseFloat(part[4], 64)
		if err != nil {
			return c, fmt.Errorf("%q: the last number: %w", v, err)
		}
		c.Work.CV, c.Work.Shape = x, x
	}
	s := backend.DefaultSettings()
	s.Classes = map[string]backend.Dist{c.Name: *c.Work}
	return c, s.Validate()
}

func (o *options) validate() error {
	var errs []error
	if !(o.Rate > 0) {
		errs = append(errs, fmt.Errorf("--rate %v: requests a second must be above 0", o.Rate))
	}
	if o.For <= 0 || o.Warmup < 0 || o.Timeout <= 0 || o.MaxOpen <= 0 {
		errs = append(errs, errors.New("--for, --timeout and --max-open must be above 0, --warmup not below"))
	}
	if len(o.Classes) == 0 {
		o.Classes = []class{{Name: "light", Share: 1}}
	}
	sum := 0.0
	for _, c := range o.Classes {
		if c.Name == "" || strings.ContainsAny(c.Name, "/?# ") {
			errs = append(errs, fmt.Errorf("--class %q: the name is the first segment of a path", c.Name))
		}
		if !(c.Share >= 0) {
			errs = append(errs, fmt.Errorf("--class %s: the share %v is below 0", c.Name, c.Share))
		}
		sum += c.Share
	}
	if sum < 0.999 || sum > 1.001 {
		errs = append(errs, fmt.Errorf("the shares of the classes add up to %v, not to 1", sum))
	}
	return errors.Join(errs...)
}
