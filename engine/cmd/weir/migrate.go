package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/stores"
)

type migrateCmd struct {
	Config string `default:"/etc/weir/weir.yaml" help:"Configuration file, which says where history is kept." placeholder:"FILE"`

	Up     migrateUpCmd     `cmd:"" help:"Bring the tables of the history up to date. An engine does it by itself when it starts."`
	Status migrateStatusCmd `cmd:"" help:"Show which steps are applied. Ends with 1 when one is not."`
}

type (
	migrateUpCmd     struct{}
	migrateStatusCmd struct{}
)

func (c *migrateCmd) store(ctx context.Context) (history.Store, error) {
	conf, _, err := config.Load(c.Config, nil)
	if err != nil {
		return nil, err
	}
	return stores.Open(ctx, conf.History)
}

func (c *migrateUpCmd) Run(all *cli, to streams) error {
	ctx, stop := interrupted()
	defer stop()
	s, err := all.Migrate.store(ctx)
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
	n := 0
	for _, m := range before {
		if !m.Applied {
			n++
		}
	}
	_, err = fmt.Fprintf(to.out, "%d of %d steps were applied to %s; it is up to date.\n", n, len(before), s.Describe())
	return err
}

func (c *migrateStatusCmd) Run(all *cli, to streams) error {
	ctx, stop := interrupted()
	defer stop()
	s, err := all.Migrate.store(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	steps, err := s.Migrations(ctx)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(to.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "STEP\tNAME\tSTATE")
	missing := false
	for _, m := range steps {
		state := "applied"
		if !m.Applied {
			state, missing = "not applied", true
		}
		fmt.Fprintf(t, "%04d\t%s\t%s\n", m.Version, m.Name, state)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if missing {
		return errQuiet
	}
	return nil
}
