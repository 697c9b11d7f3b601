package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/storetest"
	"github.com/weirlb/weir/test/dbserver"
)

var server *dbserver.Server // one for all tests; each has a database of its own

func TestMain(m *testing.M) {
	var err error
	if server, err = dbserver.Postgres(); err != nil && !errors.Is(err, dbserver.ErrNotInstalled) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if server != nil {
		server.Remove()
	}
	os.Exit(code)
}

func opener(t testing.TB, more string) storetest.Opener {
	if server == nil {
		t.Skip("PostgreSQL is not installed")
	}
	_, url, err := server.Database()
	if err != nil {
		t.Fatal(err)
	}
	return func(t testing.TB) history.Store {
		s, err := Open(context.Background(), url+more)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func TestThePostgresStore(t *testing.T) {
	storetest.Run(t, false, func(t testing.TB) storetest.Opener { return opener(t, "") })
	storetest.Fine(t, func(t testing.TB) storetest.Opener { return opener(t, "") })
}

func TestAServerWithoutCopyTakesInserts(t *testing.T) {
	storetest.Run(t, true, func(t testing.TB) storetest.Opener { return opener(t, "&weir_copy=off") })
	storetest.Fine(t, func(t testing.TB) storetest.Opener { return opener(t, "&weir_copy=off") })
}

func TestADatabaseThatIsWritableAgainIsWrittenToByTheNextBatch(t *testing.T) {
	if server == nil {
		t.Skip("PostgreSQL is not installed")
	}
	name, url, err := server.Database()
	if err != nil {
		t.Fatal(err)
	}
	open := func(t testing.TB) history.Store {
		s, err := Open(context.Background(), url)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	storetest.Ready(t, open)
	alter := func(how string) {
		if err := server.SQL("ALTER DATABASE " + name + " " + how); err != nil {
			t.Fatal(err)
		}
	}
	alter("SET default_transaction_read_only = on")
	s := open(t) // its sessions begin read-only, and stay so
	defer s.Close()
	var refused *history.DataError
	if _, err := s.Write(context.Background(), storetest.Batch(1, 10, 1, 1)); err == nil || errors.As(err, &refused) {
		t.Fatalf("the database is read-only: %v", err)
	}
	alter("RESET default_transaction_read_only")
	if w, err := s.Write(context.Background(), storetest.Batch(1, 10, 1, 1)); err != nil || w.Rows == 0 {
		t.Errorf("the database is writable again: %v", err)
	}
}
