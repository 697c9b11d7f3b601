package stores

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/weirlb/weir/test/dbserver"
)

// What resembles a parameter of the connection is refused, so nothing that a server has may.
func TestNoSettingOfAServerIsTakenForAMisspeltParameter(t *testing.T) {
	server, err := dbserver.Postgres()
	if errors.Is(err, dbserver.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer server.Remove()
	_, at, err := server.Database()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, _ := conn.Query(t.Context(), "SELECT name FROM pg_settings WHERE context IN ('user', 'superuser', 'backend', 'superuser-backend')")
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(names) < 100 {
		t.Fatalf("%d settings, %v", len(names), err)
	}
	for _, name := range names {
		if err := postgresParameters(&url.URL{RawQuery: name + "=1"}); err != nil {
			t.Error(err)
		}
		if slices.Contains(postgresLacks, name) {
			t.Errorf("%s is a setting", name)
		}
	}
	for _, name := range postgresLacks {
		u, _ := url.Parse(at)
		q := u.Query()
		q.Set(name, "1")
		u.RawQuery = q.Encode()
		if conn, err := pgx.Connect(t.Context(), u.String()); err == nil {
			_ = conn.Close(context.Background())
			t.Errorf("%s is taken", name)
		}
	}
}
