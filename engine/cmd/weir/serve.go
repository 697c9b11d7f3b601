package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	stdlog "log"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/weirlb/weir/engine/api"
	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/config/watch"
	"github.com/weirlb/weir/engine/history/record"
	"github.com/weirlb/weir/engine/serve"
	"github.com/weirlb/weir/engine/telemetry"
)

// stopWithin bounds a shutdown: what a client has not taken by then is cut. The whole of it takes less than a second.
const stopWithin = 500 * time.Millisecond

// lookEvery is how often is looked whether the configuration file is still there.
const lookEvery = 2 * time.Second

// againEvery is how often a file that was refused is read again. Reading the largest takes a fifth of a second.
const againEvery = 5 * time.Second

type serveCmd struct {
	Config string `default:"/etc/weir/weir.yaml" help:"Configuration file. It is read again on SIGHUP and when it changes." placeholder:"FILE"`

	tune func(*record.Options) // for tests: shorter times
}

// collectAt is how much garbage may gather before it is collected, in percent of what is in use, unless GOGC says. The engine shares a host
// with NGINX and makes little garbage: told 20,000 outcomes a second it takes 12 MiB less than at Go's 100 %, and no more CPU that shows.
const collectAt = 30

func (c *serveCmd) Run(to streams) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	// A program that reads the log and ends must not take the engine with it, as a write to a broken pipe on 1 or 2 does in Go by default.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	return c.until(ctx, hup, to)
}

// settled is when what only starting needs has run in the background too: opening the store of the history, the first answers.
const settled = 2 * time.Second

// until runs the engine until ctx ends.
func (c *serveCmd) until(ctx context.Context, hup <-chan os.Signal, to streams) error {
	changes := watch.New(c.Config) // before the file is read, so that no change falls between
	conf, warnings, err := config.Load(c.Config, nil)
	if err != nil {
		return err
	}
	lines := telemetry.NewLogWriter(to.err)
	defer lines.Close(stopWithin)
	log := telemetry.NewLog(lines, string(conf.Log.Level))
	log.Name(conf.Instance)
	stdlog.SetFlags(0)
	stdlog.SetOutput(telemetry.Libraries{Log: log})
	defer stdlog.SetOutput(os.Stderr) // lines ends before
	for _, w := range warnings {
		log.Warn().Str("at", w.String()).Msg("configuration")
	}
	tel := telemetry.New()
	b := thisBuild()
	tel.Build(b.Version, b.Revision, b.Protocol, conf.Instance)
	tel.ConfigLoaded.Set(float64(time.Now().UnixMilli()) / 1000)

	keeper := c.newRecorder(conf, log, tel)
	defer stopRecorder(keeper, log)
	eng := serve.New(conf, log, tel)
	defer eng.Close()
	eng.Keep(keeper)
	_ = eng.Models().Configure(conf.Model) // without a model the engine serves all the same; it has been logged and is in the health
	eng.Share(conf.Learn)
	eng.Learn(conf.Learn, nil)
	var token api.Token
	token.Set(conf.Admin.Token.Reveal())
	socket, err := api.NewSocket(eng, conf.Socket)
	if err != nil {
		return err
	}
	admin, err := api.NewAdmin(eng, conf.Admin.Listen, &token)
	if err != nil {
		shutDown(socket)
		return err
	}
	if keeper != nil {
		keeper.Start()
	}
	eng.Start()
	log.Info().Str("version", b.Version).Str("revision", b.Revision).Int("protocol", b.Protocol).Int("pools", len(conf.Pools)).
		Str("socket", conf.Socket.Path).Str("admin", admin.Addr().String()).Msg("engine is running")

	leave := func() {
		if n, err := leavePages(); err != nil {
			log.Debug().Str("error", err.Error()).Msg("pages of the program that only starting needed stay in memory")
		} else {
			log.Debug().Int64("kib", n>>10).Msg("pages of the program that only starting needed were left")
		}
	}
	leave() // before there is traffic, so that they do not add to what that takes
	later := time.AfterFunc(settled, leave)
	defer later.Stop()

	unread := false // the last reading failed
	reload := func() {
		next, warnings, err := config.Load(c.Config, nil)
		unread = err != nil
		if !eng.Loaded(next, warnings, err) {
			return
		}
		if opens(conf, next) {
			log.Warn().Str("listen", conf.Admin.Listen).Msg("admin.token is gone from the configuration; it is asked for until the next start, as other hosts can reach the listener until then")
			return
		}
		token.Set(next.Admin.Token.Reveal())
	}
	// What kept the file from being read may be outside of it: it was away for a moment, the token's file was empty. That mends without a change of
	// content, so nothing would tell.
	again := func() {
		if !unread {
			return
		}
		if _, _, err := config.Load(c.Config, nil); err == nil {
			reload()
		}
	}
	err = c.loop(ctx, hup, changes, log, reload, again, socket, admin)
	log.Info().Msg("engine is stopping")
	shutDown(socket, admin)
	return err
}

// opens reports whether a configuration without a token would open a listener that other hosts can reach: where it listens changes with the next
// start only, and the file was checked for what it says of that.
func opens(started, next *config.Config) bool {
	return next.Admin.Token == "" && started.Admin.Public()
}

// loop reloads when told to, now and then looks again at what was refused, and returns when ctx ends or a listener fails.
func (c *serveCmd) loop(ctx context.Context, hup <-chan os.Signal, changes *watch.Watcher, log *telemetry.Log, reload, again func(), servers ...*api.Server) error {
	watching, unwatch := context.WithCancel(ctx)
	changed := make(chan struct{}, 1)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		changes.Run(watching, func() {
			select {
			case changed <- struct{}{}:
			default: // one that is not taken yet covers this one too
			}
		})
	})
	watcher.Go(func() { c.missing(watching, log) })
	defer watcher.Wait()
	defer unwatch()
	failed := make(chan error, len(servers))
	for _, s := range servers {
		watcher.Go(func() {
			select {
			case err := <-s.Failed():
				failed <- fmt.Errorf("the listener on %s ended: %w", s.Addr(), errors.Join(err, errors.New("it should not have")))
			case <-watching.Done():
			}
		})
	}
	look := time.NewTicker(againEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
			reload()
		case <-changed:
			reload()
		case <-look.C:
			again()
		case err := <-failed:
			return err
		}
	}
}

// missing tells when the configuration file is gone, and when it is back. To the watcher that is no change, and the engine needs the file only
// at its next start, which would fail. One look that finds nothing may be in the middle of an editor's saving.
func (c *serveCmd) missing(ctx context.Context, log *telemetry.Log) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for misses := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		_, err := os.Stat(c.Config)
		switch gone := errors.Is(err, fs.ErrNotExist); {
		case gone:
			if misses++; misses == 2 {
				log.Warn().Str("file", c.Config).Msg("the configuration file is gone; the engine goes on with what it read, and could not start again")
			}
		case err == nil:
			if misses >= 2 {
				log.Info().Str("file", c.Config).Msg("the configuration file is back")
			}
			misses = 0
		}
	}
}

// shutDown stops servers at the same time.
func shutDown(servers ...*api.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	var all sync.WaitGroup
	for _, s := range servers {
		all.Go(func() { _ = s.Shutdown(ctx) }) // what could not be closed ends with the process
	}
	all.Wait()
}
