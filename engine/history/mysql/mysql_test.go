package mysql

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
	if server, err = dbserver.MariaDB(); err != nil && !errors.Is(err, dbserver.ErrNotInstalled) {
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
		t.Skip("MariaDB is not installed")
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

func TestTheMySQLStoreOnMariaDB(t *testing.T) {
	storetest.Run(t, false, func(t testing.TB) storetest.Opener { return opener(t, "") })
}
