package exchange_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/learn/exchange"
	"github.com/weirlb/weir/test/dbserver"
)

// Two engines behind one session would both hold the lock of the election.
func TestModelsAreNotSharedThroughAPoolerThatSharesSessions(t *testing.T) {
	t.Parallel()
	server, err := dbserver.Postgres()
	if errors.Is(err, dbserver.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Remove)
	for _, mode := range []string{"transaction", "session"} {
		through, stop, err := server.Pooler(mode)
		if errors.Is(err, dbserver.ErrNotInstalled) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		_, url, err := server.Database()
		if err != nil {
			t.Fatal(err)
		}
		for range 3 { // the second finds sessions that the first has used
			x, err := exchange.Open(t.Context(), through(url))
			if mode == "session" {
				if err != nil {
					t.Fatal(err)
				}
				if leads, err := x.Lead(t.Context()); err != nil || !leads {
					t.Errorf("the only engine does not lead: %v", err)
				}
				x.Close()
			} else if err == nil || !strings.Contains(err.Error(), "learn.share") {
				t.Errorf("%v", err)
			}
		}
		stop()
	}
}
