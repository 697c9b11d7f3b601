// Command backend runs one scripted upstream peer; see package backend for what it can be made to do.
//
//	backend --name a --listen 127.0.0.1:9001 --control 127.0.0.1:9101 --slots 4 --class light:5:exp --class heavy:80:pareto:2.2
//	backend --name b --listen 127.0.0.1:9002 --affinity heavy=0.3 --brownout 60s,20s,0.15 --cold 5,30s
//	curl -X PATCH -d '{"fail":{"status":500,"after_ms":1,"share":1}}' http://127.0.0.1:9101/settings
//
// When it is ready it prints one line of JSON: {"name","addr","control"}.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/weirlb/weir/test/backend"
	"github.com/weirlb/weir/test/backend/rpc"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	opt, control, err := parse(args)
	if err != nil {
		return err
	}
	opt.Full = func() { os.Exit(137) } // at once, with all its connections, as by the kernel
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", control)
	if err != nil {
		return fmt.Errorf("opening the control port: %w", err)
	}
	b, err := backend.Start(ctx, opt)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: b.ControlHandler()}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	_ = json.NewEncoder(os.Stdout).Encode(map[string]string{"name": opt.Name, "addr": b.Addr(), "control": l.Addr().String()})
	<-ctx.Done()
	_ = server.Close()
	<-done
	b.Wait()
	return nil
}

func parse(args []string) (opt backend.Options, control string, err error) {
	s := backend.DefaultSettings()
	s.Classes, s.Affinity = map[string]backend.Dist{}, map[string]float64{}
	set := flag.NewFlagSet("backend", flag.ContinueOnError)
	set.StringVar(&opt.Name, "name", "backend", "sent as X-Backend with each answer")
	set.StringVar(&opt.Listen, "listen", "127.0.0.1:0", "address of the peer")
	set.StringVar(&control, "control", "127.0.0.1:0", "address of the control port")
	set.IntVar(&s.Slots, "slots", s.Slots, "workers behind the queue; 0 = nobody waits")
	set.Float64Var(&s.Speed, "speed", s.Speed, "divides the service times")
	set.Func("class", "name:mean_ms[:dist[:cv or shape]]: service time of /name/...; the name * is for every other path", func(v string) error {
		name, d, err := parseClass(v)
		if name == "*" {
			s.Default = d
		} else {
			s.Classes[name] = d
		}
		return err
	})
	set.Func("affinity", "name=factor on the service time of a class", func(v string) error {
		name, factor, _ := strings.Cut(v, "=")
		f, err := strconv.ParseFloat(factor, 64)
		s.Affinity[name] = f
		return err
	})
	set.StringVar(&s.Reports, "reports", "", "orca: report the load with each answer")
	certificate := set.String("tls-cert", "", "serve HTTPS with this certificate; --tls-key is its key")
	key := set.String("tls-key", "", "")
	set.DurationVar(&opt.KeepAlive, "keep-alive", 0, "close idle connections after this time; 0 = never")
	set.DurationVar(&opt.OpenAfter, "open-after", 0, "open the port this late")
	set.Func("brownout", "every,for,speed[,from]: be slow for a time, again and again, first after from (default: every)", func(v string) (err error) {
		opt.Brownout, err = parseBrownout(v)
		return err
	})
	set.Func("cold", "factor,for: service times start at factor times the normal and fall to it over this time", func(v string) error {
		factor, warm, _ := strings.Cut(v, ",")
		var err error
		if opt.ColdFactor, err = strconv.ParseFloat(factor, 64); err == nil {
			opt.Warm, err = time.ParseDuration(warm)
		}
		return err
	})
	set.Uint64Var(&opt.Seed, "seed", 0, "of the drawn service times; 0 = random")
	patch := set.String("settings", "{}", "a JSON object laid over all of it, as PATCH /settings takes")
	if err := set.Parse(args); err != nil {
		return opt, control, err
	}
	if set.NArg() > 0 {
		return opt, control, fmt.Errorf("%q: there are only flags, see --help", set.Arg(0))
	}
	if *certificate != "" {
		pair, err := tls.LoadX509KeyPair(*certificate, *key)
		if err != nil {
			return opt, control, err
		}
		opt.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	}
	opt.GRPC = rpc.Handler()
	opt.Settings, err = s.Merge([]byte(*patch))
	return opt, control, err
}

func parseClass(v string) (name string, d backend.Dist, err error) {
	part := strings.Split(v, ":")
	if len(part) < 2 || len(part) > 4 {
		return "", d, fmt.Errorf("%q is not name:mean_ms[:dist[:cv or shape]]", v)
	}
	if d.MeanMS, err = strconv.ParseFloat(part[1], 64); err != nil {
		return "", d, fmt.Errorf("%q: the mean: %w", v, err)
	}
	if len(part) > 2 {
		d.Dist = part[2]
	}
	if len(part) > 3 {
		x, err := strconv.ParseFloat(part[3], 64)
		if err != nil {
			return "", d, fmt.Errorf("%q: the last number: %w", v, err)
		}
		d.CV, d.Shape = x, x
	}
	return part[0], d, nil
}

func parseBrownout(v string) (b backend.Brownout, err error) {
	part := strings.Split(v, ",")
	if len(part) < 3 || len(part) > 4 {
		return b, fmt.Errorf("%q is not every,for,speed[,from]", v)
	}
	if b.Every, err = time.ParseDuration(part[0]); err != nil {
		return b, err
	}
	if b.For, err = time.ParseDuration(part[1]); err != nil {
		return b, err
	}
	if b.Speed, err = strconv.ParseFloat(part[2], 64); err != nil {
		return b, err
	}
	b.From = b.Every
	if len(part) == 4 {
		b.From, err = time.ParseDuration(part[3])
	}
	return b, err
}
