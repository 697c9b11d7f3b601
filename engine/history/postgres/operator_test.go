package postgres

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/storetest"
	"github.com/weirlb/weir/test/dbserver"
)

// Behind PgBouncer in transaction mode sessions are not one's own: no settings at their start, no prepared statements, no locks of a session.
func TestTheStoreThroughAPoolerThatSharesSessions(t *testing.T) {
	if server == nil {
		t.Skip("PostgreSQL is not installed")
	}
	through, stop, err := server.Pooler("transaction")
	if errors.Is(err, dbserver.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	storetest.Run(t, false, func(t testing.TB) storetest.Opener {
		_, url, err := server.Database()
		if err != nil {
			t.Fatal(err)
		}
		return func(t testing.TB) history.Store {
			s, err := Open(context.Background(), through(url))
			if err != nil {
				t.Fatal(err)
			}
			if name := s.Describe(); !strings.Contains(name, "pooler") {
				t.Errorf("it is not noticed: %s", name)
			}
			return s
		}
	})
}

func TestAUserWithoutTheRightToMakeTablesKeepsHistoryInThoseThatAreThere(t *testing.T) {
	if server == nil {
		t.Skip("PostgreSQL is not installed")
	}
	name, url, err := server.Database()
	if err != nil {
		t.Fatal(err)
	}
	_ = server.SQL("CREATE ROLE plain LOGIN") // another run of the tests may have made it
	open := func(t testing.TB, as string) *Store {
		s, err := Open(context.Background(), strings.Replace(url, "weir@", as+"@", 1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	admin, s := open(t, "weir"), open(t, "plain")
	var rights *history.RightsError
	if err := s.Migrate(t.Context()); !errors.As(err, &rights) {
		t.Fatalf("migrating %s: %v", name, err)
	}
	if err := admin.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec(t, admin, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO plain")
	exec(t, admin, "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO plain")
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatalf("with nothing to do: %v", err)
	}
	if err := s.Maintain(t.Context(), storetest.Now(), storetest.Week()); !errors.As(err, &rights) {
		t.Fatalf("making partitions: %v", err)
	}
	b := storetest.Batch(1, 300, 2, 2)
	if w, err := s.Write(t.Context(), b); err != nil || w.Rows != b.Rows() {
		t.Fatalf("%v, %+v", err, w)
	}
	count := func() (n int) {
		t.Helper()
		if err := s.Outcomes(t.Context(), "", 0, storetest.Now()+1, func(_ []history.Series, list []history.Outcome) error { n += len(list); return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n, other := count(), one[int](t, admin, "SELECT count(*) FROM weir_outcome_other"); n != 300 || other != 300 {
		t.Errorf("without partitions: %d outcomes, %d in the default one", n, other)
	}
	// Somebody who may makes them later; what came before moves. Once they are there, nobody needs to.
	for range 2 {
		if err := admin.Maintain(t.Context(), storetest.Now(), storetest.Week()); err != nil {
			t.Fatal(err)
		}
	}
	if n, other := count(), one[int](t, admin, "SELECT count(*) FROM weir_outcome_other"); n != 300 || other != 0 {
		t.Errorf("with partitions: %d outcomes, %d in the default one", n, other)
	}
	if from, to, ok := s.days(t.Context(), 0, storetest.Now()); !ok || to-from < 24*3_600_000 {
		t.Errorf("it cannot tell which days hold something (%d to %d), and would read all rows for it", from, to)
	}
	if err := s.Maintain(t.Context(), storetest.Now(), storetest.Week()); err != nil {
		t.Errorf("maintaining with nothing to make: %v", err)
	}
}

func TestAServerThatAnswersNothingIsSaidToInSeconds(t *testing.T) {
	if server == nil {
		t.Skip("PostgreSQL is not installed")
	}
	_, url, err := server.Database()
	if err != nil {
		t.Fatal(err)
	}
	server.Freeze()
	defer server.Thaw()
	began := time.Now()
	_, err = Open(context.Background(), url)
	if err == nil || strings.Contains(err.Error(), "\n") || time.Since(began) > 3*connectWithin {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}
