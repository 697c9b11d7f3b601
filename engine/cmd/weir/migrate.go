package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/embedded"
	"github.com/weirlb/weir/engine/history/stores"
)

type migrateCmd struct {
	Config string `default:"/etc/weir/weir.yaml" help:"Configuration file, which says where history is kept." placeholder:"FILE"`

	Up     migrateUpCmd     `cmd:"" help:"Bring the tables of the history up to date, make room ahead and delete what is too old. An engine does it by itself."`
	Status migrateStatusCmd `cmd:"" help:"Show which steps are applied. Ends with 1 when one is not, or when they are of a newer weir."`
}

type (
	migrateUpCmd     struct{}
	migrateStatusCmd struct{}
)

// each does something with every store that has tables: the history's, and where models are shared when that is another database. keep is
// how long a history is kept, nil where there is none.
func (c *migrateCmd) each(do func(ctx context.Context, at config.History, keep *history.Retention) error) error {
	ctx, stop := interrupted()
	defer stop()
	conf, _, err := config.Load(c.Config, nil)
	if err != nil {
		return err
	}
	wanted := []config.History{conf.History}
	share := conf.Learn.Share
	if (bool(conf.Learn.Follow) || bool(conf.Learn.Federated)) && share != conf.History.URL && !strings.HasPrefix(share.Reveal(), "file:") {
		wanted = append(wanted, config.History{URL: share})
		if conf.History.URL == config.HistoryOff {
			wanted = wanted[1:]
		}
	}
	for _, one := range wanted {
		var keep *history.Retention
		if one.URL == conf.History.URL {
			keeps := retention(conf.History)
			keep = &keeps
		}
		if err := do(ctx, one, keep); err != nil {
			return err
		}
	}
	return nil
}

func (c *migrateUpCmd) Run(all *cli, to streams) error {
	return all.Migrate.each(func(ctx context.Context, at config.History, keep *history.Retention) error {
		s, err := stores.Open(ctx, at)
		if err != nil {
			return err
		}
		defer s.Close()
		before, err := s.Migrations(ctx)
		if err != nil {
			return err
		}
		if err := s.Migrate(ctx); err != nil {
			return err
		}
		if keep != nil {
			if err := s.Maintain(ctx, time.Now().UnixMilli(), *keep); err != nil {
				return err
			}
		}
		n := 0
		for _, m := range before {
			if !m.Applied {
				n++
			}
		}
		_, err = fmt.Fprintf(to.out, "%d of %d steps were applied to %s; it is up to date.\n", n, len(before), s.Describe())
		return err
	})
}

func (c *migrateStatusCmd) Run(all *cli, to streams) error {
	t := tabwriter.NewWriter(to.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "STEP\tNAME\tSTATE\tIN")
	fit := true
	err := all.Migrate.each(func(ctx context.Context, at config.History, _ *history.Retention) error {
		steps, in, err := stepsOf(ctx, at)
		if err != nil {
			return err
		}
		for _, m := range steps {
			state := "applied"
			switch {
			case m.Newer: // the engine and `migrate up` refuse such a store
				state, fit = "of a newer weir", false
			case !m.Applied:
				state, fit = "not applied", false
			}
			fmt.Fprintf(t, "%04d\t%s\t%s\t%s\n", m.Version, m.Name, state, in)
		}
		return nil
	})
	if err = errors.Join(err, t.Flush()); err != nil {
		return err
	}
	if !fit {
		return errQuiet
	}
	return nil
}

// stepsOf tells the steps of a store, and what it is called.
func stepsOf(ctx context.Context, at config.History) (steps []history.Migration, in string, err error) {
	// Who only looks makes no file: it would belong to this user, and an engine of another one could not write to it.
	if path := stores.FilePath(at); path != "" {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			steps, err := embedded.Unmade()
			return steps, "the file " + path, err
		}
	}
	s, err := stores.OpenToRead(ctx, at)
	if err != nil {
		return nil, "", err
	}
	defer s.Close()
	steps, err = s.Migrations(ctx)
	return steps, s.Describe(), err
}
