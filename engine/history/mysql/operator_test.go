package mysql

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/storetest"
)

func TestAUserWithoutTheRightToMakeTablesKeepsHistoryInThoseThatAreThere(t *testing.T) {
	if server == nil {
		t.Skip("MariaDB is not installed")
	}
	name, url, err := server.Database()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.SQL("CREATE USER IF NOT EXISTS plain@localhost; GRANT SELECT, INSERT, UPDATE, DELETE ON " + name + ".* TO plain@localhost"); err != nil {
		t.Fatal(err)
	}
	open := func(as string) *Store {
		s, err := Open(t.Context(), strings.Replace(url, "weir@", as+"@", 1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	admin, s := open("weir"), open("plain")
	var rights *history.RightsError
	if err := s.Migrate(t.Context()); !errors.As(err, &rights) {
		t.Fatalf("migrating: %v", err)
	}
	if err := admin.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Maintain(t.Context(), storetest.Now(), storetest.Week()); !errors.As(err, &rights) {
		t.Fatalf("making partitions: %v", err)
	}
	fill(t, s, 1)
	// Somebody who may makes them later, what came before moves, and nobody needs to any more.
	for range 2 { // the second time drops what is too old already
		if err := admin.Maintain(t.Context(), storetest.Now(), storetest.Week()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Maintain(t.Context(), storetest.Now(), storetest.Week()); err != nil {
		t.Errorf("maintaining with nothing to make: %v", err)
	}
	if outcomes, attempts, samples := counted(t, s); outcomes != 500 || attempts != 500 || samples != 8 {
		t.Errorf("%d outcomes, %d attempts, %v samples", outcomes, attempts, samples)
	}
}

func TestSessionsThatTheServerEndedAreMadeAnewAndNoErrorAtTheEnd(t *testing.T) {
	s := storetest.Ready(t, opener(t, "")).(*Store)
	fill(t, s, 1)
	ended := func() {
		t.Helper()
		rows, err := s.db.QueryContext(t.Context(), "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()")
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, "KILL "+id)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
		_ = server.SQL(strings.Join(ids, "; ")) // some may have gone by themselves
		query := "SELECT COUNT(*) FROM information_schema.processlist WHERE id IN (" + strings.ReplaceAll(strings.Join(ids, ","), "KILL ", "") + ")"
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			var n int
			if err := s.db.QueryRowContext(t.Context(), query).Scan(&n); err == nil && n == 0 {
				return
			} else if time.Now().After(end) {
				t.Fatalf("%d sessions are still there: %v", n, err)
			}
		}
	}
	ended()
	fill(t, s, 2)
	ended()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestAServerThatAnswersNothingIsSaidToInSeconds(t *testing.T) {
	if server == nil {
		t.Skip("MariaDB is not installed")
	}
	_, url, err := server.Database()
	if err != nil {
		t.Fatal(err)
	}
	server.Freeze()
	defer server.Thaw()
	began := time.Now()
	if _, err = Open(t.Context(), url); err == nil || !strings.Contains(err.Error(), "does not answer within") || time.Since(began) > 3*connectWithin {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}
