package postgres

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/storetest"
)

// timescaleDB opens the server that test/heavy/timescale.sh started, emptied. It takes one connection.
func timescaleDB(t testing.TB) storetest.Opener {
	url := os.Getenv("WEIR_TEST_TIMESCALE")
	if url == "" {
		t.Skip("test/heavy/timescale.sh starts a TimescaleDB and runs this")
	}
	open := func(t testing.TB) history.Store {
		for try := 0; ; try++ {
			s, err := Open(context.Background(), url)
			if err == nil {
				return s
			}
			if try == 50 {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond) // the server refuses the next client until it has noticed that the last is gone
		}
	}
	s := open(t).(*Store)
	defer s.Close()
	for _, statement := range []string{
		"DROP MATERIALIZED VIEW IF EXISTS weir_hour CASCADE", "DROP MATERIALIZED VIEW IF EXISTS weir_outcome_minute CASCADE",
		"DROP VIEW IF EXISTS weir_outcomes, weir_minutes, weir_metrics",
		"DROP TABLE IF EXISTS weir_outcome CASCADE", "DROP TABLE IF EXISTS weir_rollup CASCADE", "DROP TABLE IF EXISTS weir_metric CASCADE",
		"DROP TABLE IF EXISTS weir_event, weir_batch, weir_series, weir_metric_series, weir_engine, weir_shared_model, weir_migration CASCADE",
	} {
		exec(t, s, statement)
	}
	return open
}

func exec(t testing.TB, s *Store, statement string, args ...any) {
	t.Helper()
	if _, err := s.pool.Exec(context.Background(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func one[T any](t testing.TB, s *Store, query string, args ...any) (got T) {
	t.Helper()
	if err := s.pool.QueryRow(context.Background(), query, args...).Scan(&got); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return got
}

func TestTheStoreOnTimescaleDB(t *testing.T) {
	storetest.Run(t, true, timescaleDB)
}

func TestOnTimescaleDBRowsAreCompressedAggregatedAndDropped(t *testing.T) {
	open := timescaleDB(t)
	s := storetest.Ready(t, open).(*Store)
	if n := one[int](t, s, "SELECT count(*)::int FROM timescaledb_information.hypertables WHERE hypertable_name IN ('weir_outcome', 'weir_rollup', 'weir_metric')"); n != 3 {
		t.Fatalf("%d hypertables", n)
	}
	ctx := context.Background()
	const day = 24 * 3_600_000
	for seq := range uint64(3) { // today, three days ago, six days ago
		b := storetest.Batch(seq+1, 500, 2, 2)
		for i := range b.Outcomes {
			b.Outcomes[i].AtMS -= int64(seq) * 3 * day
		}
		for i := range b.Rollups {
			b.Rollups[i].MinuteMS -= int64(seq) * 3 * day
		}
		if _, err := s.Write(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	count := func() (n int) {
		err := s.Outcomes(ctx, "api", 0, storetest.Now(), func(_ []history.Series, list []history.Outcome) error { n += len(list); return nil })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	// What the policies do in the background. Compressed rows are read as before.
	jobs := one[int](t, s, "SELECT count(*)::int FROM timescaledb_information.jobs WHERE proc_name IN ('policy_compression', 'policy_refresh_continuous_aggregate')")
	if jobs != 5 {
		t.Errorf("%d policies, want 5", jobs)
	}
	exec(t, s, "SELECT compress_chunk(c, true) FROM show_chunks('weir_outcome', older_than => INTERVAL '1 day') c")
	if n := one[int](t, s, "SELECT count(*)::int FROM timescaledb_information.chunks WHERE hypertable_name = 'weir_outcome' AND is_compressed"); n == 0 {
		t.Error("no chunk is compressed")
	}
	if n := count(); n != 1500 {
		t.Errorf("%d outcomes are read of compressed and other chunks, want 1500", n)
	}
	// A batch that waited in a spool for days goes into a compressed chunk.
	late := storetest.Batch(9, 10, 2, 2)
	for i := range late.Outcomes {
		late.Outcomes[i].AtMS -= 3 * day
	}
	late.Rollups = nil
	if _, err := s.Write(ctx, late); err != nil {
		t.Errorf("a late batch: %v", err)
	}
	if _, err := s.Write(ctx, storetest.MetricBatch(10, 30, 2)); err != nil {
		t.Fatal(err)
	}
	exec(t, s, "SELECT compress_chunk(c, true) FROM show_chunks('weir_metric') c")
	values := uint64(0)
	q := history.MetricQuestion{Metric: "cpu", Question: history.Question{FromMS: 1, ToMS: storetest.Now()}}
	if err := s.Metrics(ctx, q, func(r *history.MetricRow) error { values += r.Samples; return nil }); err != nil || values != 600 {
		t.Errorf("%v, %d values are read of compressed chunks, want 600", err, values)
	}
	exec(t, s, "CALL refresh_continuous_aggregate('weir_outcome_minute', NULL, NULL)")
	exec(t, s, "CALL refresh_continuous_aggregate('weir_hour', NULL, NULL)")
	if n := one[float64](t, s, "SELECT sum(attempts) FROM weir_outcome_minute"); n != 1510 {
		t.Errorf("the aggregate per minute has %v attempts, want 1510", n)
	}
	if n := one[int](t, s, "SELECT sum(h.attempts)::int FROM weir_hour h JOIN weir_series s ON s.id = h.series WHERE s.class = ''"); n != 1500 {
		t.Errorf("the aggregate per hour has %d attempts, want 1500", n)
	}
	// Retention follows the configuration.
	if err := s.Maintain(ctx, storetest.Now(), history.Retention{RawMS: 5 * day, RollupMS: 400 * day}); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 1010 {
		t.Errorf("%d outcomes are left, want 1010", n)
	}
}
