package exchange_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/stores"
	"github.com/weirlb/weir/engine/learn/exchange"
	"github.com/weirlb/weir/test/dbserver"
)

// each runs a test on a real server of each kind, and on a folder. lose makes it all go.
func each(t *testing.T, do func(t *testing.T, open func() exchange.Exchange, lose func())) {
	t.Run("folder", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "models")
		do(t, func() exchange.Exchange { return openFolder(t, path) }, func() { _ = os.RemoveAll(path) })
	})
	servers(t, func(t *testing.T, s *dbserver.Server) {
		_, url, err := s.Database()
		if err != nil {
			t.Fatal(err)
		}
		do(t, func() exchange.Exchange {
			t.Helper()
			x, err := exchange.Open(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			return x
		}, s.Kill)
	})
}

func openFolder(t *testing.T, path string) exchange.Exchange {
	t.Helper()
	x, err := exchange.Open(t.Context(), "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func servers(t *testing.T, do func(t *testing.T, s *dbserver.Server)) {
	for name, begin := range map[string]func() (*dbserver.Server, error){"PostgreSQL": dbserver.Postgres, "MariaDB": dbserver.MariaDB} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := begin()
			if errors.Is(err, dbserver.ErrNotInstalled) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Remove)
			do(t, s)
		})
	}
}

func TestEnginesTellOneAnotherOfModels(t *testing.T) {
	each(t, func(t *testing.T, open func() exchange.Exchange, lose func()) {
		ctx := context.Background()
		a, b := open(), open()
		defer b.Close()
		publish := func(x exchange.Exchange, p exchange.Publication) {
			t.Helper()
			if err := x.Publish(ctx, p); err != nil {
				t.Fatal(err)
			}
		}
		after := func(seq int64, trained bool) []exchange.Publication {
			t.Helper()
			out, err := b.After(ctx, seq, trained)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		want := exchange.Publication{
			Kind: exchange.Promoted, Model: "abc", Base: "base", Instance: "one", Zone: "z", Engine: "e", Why: "better\xff", Samples: 7, AtMS: 8, File: []byte{0, 1, 0xff},
		}
		if got := after(0, true); len(got) != 0 {
			t.Fatalf("at first there is %+v", got)
		}
		heard := make(chan error, 1)
		began := time.Now()
		go func() { heard <- b.Wait(ctx, 30*time.Second) }()
		want.Why = "better"
		publish(a, want)
		if err := <-heard; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it was heard of after %v", took)
		}
		got := after(0, false)
		if len(got) != 1 {
			t.Fatalf("%+v", got)
		}
		want.Seq = got[0].Seq
		if fmt.Sprint(got[0]) != fmt.Sprint(want) {
			t.Errorf("%+v, want %+v", got[0], want)
		}
		publish(a, exchange.Publication{Kind: exchange.Trained, Model: "t"})
		if n := len(after(want.Seq, false)); n != 0 {
			t.Errorf("%d of those that were only trained", n)
		}
		// Old ones go, each kind by itself.
		for i := range 70 {
			publish(a, exchange.Publication{Kind: exchange.Withdrawn, Model: fmt.Sprint(i)})
		}
		if got := after(0, true); len(got) != 1+1+64 || got[len(got)-1].Model != "69" {
			t.Errorf("%d are kept", len(got))
		}
		if err := a.Publish(ctx, exchange.Publication{File: make([]byte, 9<<20)}); err == nil {
			t.Error("9 MiB were taken")
		}
		// One leads; when its connection ends the other can.
		for _, c := range []struct {
			x    exchange.Exchange
			want bool
		}{{a, true}, {b, false}, {a, true}} {
			if leads, err := c.x.Lead(ctx); err != nil || leads != c.want {
				t.Errorf("leads: %v %v, want %v", leads, err, c.want)
			}
		}
		// It may also let another.
		for _, x := range []exchange.Exchange{b, a, a} {
			if err := x.Resign(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if leads, err := b.Lead(ctx); err != nil || !leads {
			t.Errorf("nobody else leads: %v", err)
		}
		if err := b.Resign(ctx); err != nil {
			t.Fatal(err)
		}
		if leads, err := a.Lead(ctx); err != nil || !leads {
			t.Errorf("it does not lead again: %v", err)
		}
		a.Close()
		for until := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			if leads, err := b.Lead(ctx); err != nil {
				t.Fatal(err)
			} else if leads {
				break
			}
			if time.Now().After(until) {
				t.Fatal("nobody leads")
			}
		}
		lose()
		if _, err := b.Lead(ctx); err == nil {
			t.Error("it leads without a lock")
		}
	})
}

// The table is one of the migrations', and nothing else makes it.
func TestEnginesThatBeginAtOnceMakeTheTableByTheMigrations(t *testing.T) {
	servers(t, func(t *testing.T, s *dbserver.Server) {
		_, url, err := s.Database()
		if err != nil {
			t.Fatal(err)
		}
		store, err := stores.Open(t.Context(), config.History{URL: config.StoreURL(url)})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				x, err := exchange.Open(t.Context(), url)
				if err != nil {
					t.Error(err)
					return
				}
				defer x.Close()
				if err := x.Publish(t.Context(), exchange.Publication{Kind: exchange.Promoted, Model: fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Go(func() { // the history of an engine that keeps it in the same database
			if err := store.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
		all.Wait()
		steps, err := store.Migrations(t.Context())
		if err != nil || !slices.ContainsFunc(steps, func(m history.Migration) bool { return strings.HasPrefix(m.Name, "shared_models") && m.Applied }) {
			t.Errorf("%v, %+v", err, steps)
		}
	})
}
