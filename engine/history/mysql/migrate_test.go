package mysql

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/storetest"
	"github.com/weirlb/weir/schema"
)

//go:embed testdata/before_0004.sql
var before0004 string

// old makes the tables as a weir before step 4 made them.
func old(t *testing.T, s *Store) {
	t.Helper()
	steps, err := schema.Steps("mysql", "")
	if err != nil {
		t.Fatal(err)
	}
	statements := schema.Step{SQL: before0004}.Statements() // IF NOT EXISTS: today's steps leave these alone
	for _, step := range steps[:3] {
		statements = append(statements, step.Statements()...)
	}
	statements = append(statements, "CREATE TABLE weir_migration (version INT NOT NULL PRIMARY KEY, name VARCHAR(64) NOT NULL, at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)",
		"INSERT INTO weir_migration (version, name) VALUES (1, 'history'), (2, 'shared_models'), (3, 'metrics')")
	for _, statement := range statements {
		if _, err := s.db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%v: %s", err, statement)
		}
	}
	if err := s.Maintain(t.Context(), storetest.Now(), storetest.Week()); err != nil {
		t.Fatal(err)
	}
}

// counted is what a store has of the last hour.
func counted(t *testing.T, s *Store) (outcomes int, attempts uint64, samples float64) {
	t.Helper()
	if err := s.Outcomes(t.Context(), "", 0, storetest.Now()+1, func(_ []history.Series, list []history.Outcome) error {
		outcomes += len(list)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	q := history.Question{FromMS: storetest.Now() - 2*3_600_000, ToMS: storetest.Now(), By: history.ByPeer}
	if err := q.Check(storetest.Now()); err != nil {
		t.Fatal(err)
	}
	if err := s.Rollups(t.Context(), q, func(_ history.Series, r *history.Rollup) error { attempts += r.Count; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.db.QueryRowContext(t.Context(), "SELECT coalesce(sum(samples), 0) FROM weir_metric").Scan(&samples); err != nil {
		t.Fatal(err)
	}
	return outcomes, attempts, samples
}

func fill(t *testing.T, s *Store, seq uint64) {
	t.Helper()
	b := storetest.Batch(seq, 500, 3, 2)
	for range 2 { // two rows of one minute
		b.Metrics = append(b.Metrics, history.MetricRow{
			MetricSeries: history.MetricSeries{Pool: "api", Peer: "10.0.0.1:80", Metric: "memory"}, MinuteMS: storetest.Now() - 60_000, Samples: 4, Mean: 1, Min: 1, Max: 1,
		})
	}
	if w, err := s.Write(t.Context(), b); err != nil || w.Bad > 0 {
		t.Fatalf("%v, %+v", err, w)
	}
}

func TestTablesOfBeforeGetTheirKeysAndKeepTheirRowsAlsoWhenTheStepWasCutOff(t *testing.T) {
	for _, done := range []int{0, 1} { // statements of step 4 that an engine got through before it was killed
		t.Run(fmt.Sprint(done), func(t *testing.T) {
			s := opener(t, "")(t).(*Store)
			defer s.Close()
			old(t, s)
			fill(t, s, 1)
			fill(t, s, 2)
			outcomes, attempts, samples := counted(t, s)
			if outcomes != 1000 || attempts != 1000 || samples != 16 {
				t.Fatalf("before: %d outcomes, %d attempts, %v samples", outcomes, attempts, samples)
			}
			steps, _ := schema.Steps("mysql", "")
			for _, statement := range steps[3].Statements()[:done] {
				if _, err := s.db.ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			if have, err := s.Migrations(t.Context()); err != nil || !have[2].Applied || have[3].Applied {
				t.Fatalf("%v, %+v", err, have)
			}
			if err := s.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			fill(t, s, 3)
			if outcomes, attempts, samples = counted(t, s); outcomes != 1500 || attempts != 1500 || samples != 24 {
				t.Errorf("after: %d outcomes, %d attempts, %v samples", outcomes, attempts, samples)
			}
			for table, want := range map[string]string{"weir_outcome": "at_ms,n", "weir_rollup": "series,minute_ms,n", "weir_metric": "series,minute_ms,n"} {
				var key string
				var keys int
				if err := s.db.QueryRowContext(t.Context(), "SELECT group_concat(column_name ORDER BY seq_in_index), count(DISTINCT index_name) FROM information_schema.statistics "+
					"WHERE table_schema = DATABASE() AND table_name = ?", table).Scan(&key, &keys); err != nil || key != want || keys != 1 {
					t.Errorf("%s has %d keys, %s, want %s (%v)", table, keys, key, want, err)
				}
			}
			// Pieces of time are made and dropped as before.
			if err := s.Maintain(t.Context(), storetest.Now()+24*3_600_000, history.Retention{RawMS: 1000, RollupMS: 400 * 24 * 3_600_000}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestAServerThatWantsAPrimaryKeyOfEveryTableGetsOne(t *testing.T) {
	open := opener(t, "")
	if err := server.SQL("SET GLOBAL innodb_force_primary_key = ON"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.SQL("SET GLOBAL innodb_force_primary_key = OFF") }()
	s := storetest.Ready(t, open).(*Store)
	fill(t, s, 1)
	if outcomes, attempts, _ := counted(t, s); outcomes != 500 || attempts != 500 {
		t.Errorf("%d outcomes, %d attempts", outcomes, attempts)
	}
}

// A reader that gives up in the middle leaves a connection that the next one can use.
func TestAReaderThatStopsOrWhoseTimeIsOverLeavesTheStoreUsable(t *testing.T) {
	s := storetest.Ready(t, opener(t, "")).(*Store)
	fill(t, s, 1)
	q := history.Question{FromMS: storetest.Now() - 2*3_600_000, ToMS: storetest.Now(), By: history.ByPeer}
	if err := q.Check(storetest.Now()); err != nil {
		t.Fatal(err)
	}
	stop := errors.New("enough")
	for range 5 { // more often than there are connections
		if err := s.Rollups(t.Context(), q, func(history.Series, *history.Rollup) error { return stop }); !errors.Is(err, stop) {
			t.Fatalf("the reader's error became %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Rollups(ctx, q, func(history.Series, *history.Rollup) error { cancel(); time.Sleep(50 * time.Millisecond); return nil })
	if err != nil && !errors.Is(err, context.Canceled) { // the few rows may have come already
		t.Errorf("a reader whose time is over is told %v", err)
	}
	if n := s.db.Stats().InUse; n != 0 {
		t.Errorf("%d connections are still held", n)
	}
	_, attempts, _ := counted(t, s)
	if attempts != 500 {
		t.Errorf("%d attempts", attempts)
	}
}
