package main

import (
	"context"
	"database/sql"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/test/dbserver"
)

// observe sends n outcomes a peer over the engine's socket.
func (e *engine) observe(n int) {
	e.t.Helper()
	var body strings.Builder
	for i := range 2 * n {
		kind := `"ok","status":200`
		if i%10 == 9 {
			kind = `"status","status":503`
		}
		fmt.Fprintf(&body, `{"pool":"api","class":"GET /x","peer":"10.0.0.%d:80","kind":%s,"total_ms":%d}`+"\n", i%2+1, kind, 10*(i%2+1))
	}
	e.tell(body.String())
}

// tell sends lines of outcomes.
func (e *engine) tell(lines string) {
	e.t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", e.socket)
	}}}
	defer client.CloseIdleConnections()
	res, err := client.Post("http://engine/observe", "application/x-ndjson", strings.NewReader(lines))
	if err != nil {
		e.t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		e.t.Fatalf("outcomes were refused: %s", res.Status)
	}
}

func TestHistoryOfARunningEngineCanBeReadExportedAndOutlivesIt(t *testing.T) {
	e := start(t, onePool)
	e.observe(50)
	in := func(args ...string) (int, string, string) {
		return weir(append([]string{"history", "--config", e.file}, args...)...)
	}
	export := func() [][]string {
		code, out, errs := in("export", "-")
		if code != 0 {
			t.Fatalf("export: %s", errs)
		}
		rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	within(t, 10*time.Second, "there is a history", func() bool { code, _, _ := in(); return code == 0 })
	within(t, 10*time.Second, "the outcomes are kept", func() bool { return len(export()) == 101 })
	if row := export()[1]; row[2] != "api" || row[4] != "GET /x" || !strings.HasPrefix(row[0], "20") {
		t.Errorf("an exported row: %q", row)
	}
	// A change of the configuration, and the end of the engine, which gives out the minute in progress.
	e.write(strings.Replace(onePool, "10.0.0.2", "10.0.0.3", 1))
	within(t, 10*time.Second, "the change is applied", func() bool { return strings.Contains(e.log.String(), "configuration applied") })
	e.stop()
	<-e.ended
	e.ended <- nil

	code, out, errs := in("--json", "--step", "1d", "--from", "1h", "--by", "peer+class")
	var answer struct {
		Lines []struct {
			Pool, Peer, Class string
			Count, Failures   []int
			P50               []float64 `json:"p50_ms"`
		}
	}
	if err := json.Unmarshal([]byte(out), &answer); code != 0 || err != nil || len(answer.Lines) != 2 {
		t.Fatalf("%d %v %s %s", code, err, out, errs)
	}
	second := answer.Lines[1]
	if second.Peer != "10.0.0.2:80" || second.Class != "GET /x" || second.Count[0] != 50 || second.Failures[0] != 10 || second.P50[0] < 19.6 || second.P50[0] > 20.4 {
		t.Errorf("%+v", second)
	}
	if code, out, _ := in("--csv", "--by", "pool"); code != 0 || !strings.Contains(out, ",api,,,") {
		t.Errorf("csv: %d %s", code, out)
	}
	if code, out, _ := in(); code != 0 || !strings.Contains(out, "10.0.0.1:80") || !strings.Contains(out, "P99 ms") {
		t.Errorf("table: %d %s", code, out)
	}
	if code, out, errs := in("events", "--kind", "config"); code != 0 || !strings.Contains(out, "applied") || !strings.Contains(out, `"changed":["api"]`) {
		t.Errorf("events: %d %s %s", code, out, errs)
	}
	file := filepath.Join(t.TempDir(), "out.csv")
	if code, out, errs := in("export", file, "--pool", "api"); code != 0 || !strings.Contains(out, "100 outcomes") {
		t.Errorf("export: %d %s %s", code, out, errs)
	}
	if code, out, errs := in("export", file+".parquet"); code != 0 || !strings.Contains(out, "100 outcomes") {
		t.Errorf("export: %d %s %s", code, out, errs)
	}
	if head, err := os.ReadFile(file + ".parquet"); err != nil || !strings.HasPrefix(string(head), "PAR1") {
		t.Errorf("the Parquet file: %v", err)
	}
	if code, _, errs := in("export", file); code == 0 || !strings.Contains(errs, "exists") {
		t.Errorf("an export over a file: %d %s", code, errs)
	}
	if code, _, errs := in("--from", "yesterday"); code == 0 || !strings.Contains(errs, "from must be a time") {
		t.Errorf("%d %s", code, errs)
	}
}

func TestServerMetricsAreKeptByTheMinuteShownAndExported(t *testing.T) {
	var asked atomic.Int64
	exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "queue{kind=\"a\"} %d\n", asked.Add(1))
	}))
	defer exporter.Close()
	e := start(t, onePool+`    metrics: [{name: queue, scrape: "`+exporter.URL+`/metrics", query: 10 * queue, every_ms: 500, timeout_ms: 500}]`+"\n")
	within(t, 20*time.Second, "some values", func() bool { return asked.Load() > 4 })
	in := func(args ...string) (int, string, string) {
		return weir(append([]string{"history", "--config", e.file}, args...)...)
	}
	e.stop() // gives out the minute in progress
	<-e.ended
	e.ended <- nil

	code, out, errs := in("--json", "--metric", "queue", "--step", "1d", "--from", "1h")
	var answer struct {
		Metrics []struct {
			Pool, Peer, Metric string
			Samples            []int
			Mean, Min, Max     []float64
		}
	}
	if err := json.Unmarshal([]byte(out), &answer); code != 0 || err != nil || len(answer.Metrics) != 2 {
		t.Fatalf("%d %v %s %s", code, err, out, errs)
	}
	m := answer.Metrics[1]
	if last := len(m.Min) - 1; m.Pool != "api" || m.Peer != "10.0.0.2:80" || m.Metric != "queue" || m.Min[0] > 20 || m.Max[last] < 40 || m.Mean[0] <= m.Min[0] || m.Mean[0] >= m.Max[last] || m.Samples[0] < 2 {
		t.Errorf("%+v", m)
	}
	if code, out, _ := in("--metric", "*"); code != 0 || !strings.Contains(out, "VALUES") || !strings.Contains(out, "10.0.0.1:80") {
		t.Errorf("table: %d %s", code, out)
	}
	if code, out, _ := in("--metric", "queue", "--csv", "--by", "pool"); code != 0 || !strings.HasPrefix(out, "time,pool,peer,metric,samples") || !strings.Contains(out, ",api,,queue,") {
		t.Errorf("csv: %d %s", code, out)
	}
	if code, out, _ := in("--metric", "disk"); code != 0 || !strings.Contains(out, "no history") {
		t.Errorf("another: %d %s", code, out)
	}
	if code, _, errs := in("--metric", "queue", "--class", "x"); code == 0 || !strings.Contains(errs, "class does not go with metric") {
		t.Errorf("with a class: %d %s", code, errs)
	}
	if code, out, errs := in("export", "--metrics", "-"); code != 0 || !strings.HasPrefix(out, "time,at_ms,pool,peer,metric") || strings.Count(out, ",queue,") < 2 {
		t.Errorf("export: %d %s %s", code, out, errs)
	}
	file := filepath.Join(t.TempDir(), "m.parquet")
	if code, out, errs := in("export", "--metrics", file); code != 0 || !strings.Contains(out, "minutes of server metrics") {
		t.Errorf("export: %d %s %s", code, out, errs)
	}
	if head, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(head), "PAR1") {
		t.Errorf("the Parquet file: %v", err)
	}
}

// brokenStore gives some outcomes and then fails.
type brokenStore struct{ history.Store }

func (brokenStore) Outcomes(_ context.Context, _ string, _, _ int64, yield func([]history.Series, []history.Outcome) error) error {
	return errors.Join(yield([]history.Series{{Pool: "api"}}, make([]history.Outcome, 1)), errors.New("the store is gone"))
}

// Half a file would be taken for the whole one day, and was in the way of the next try.
func TestAnExportThatFailsLeavesNoFile(t *testing.T) {
	c := historyExportCmd{File: filepath.Join(t.TempDir(), "o.csv")}
	if err := c.export(t.Context(), brokenStore{}, history.Question{}, streams{out: io.Discard}); err == nil || !strings.Contains(err.Error(), "the store is gone") {
		t.Error(err)
	}
	if _, err := os.Stat(c.File); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file is left: %v", err)
	}
}

func TestEventsRefuseALimitThatIsNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weir.yaml")
	if err := os.WriteFile(file, []byte("history: {dir: h}\n"+onePool), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := weir("migrate", "--config", file, "up"); code != 0 {
		t.Fatal(errs)
	}
	for _, limit := range []string{"0", "-1"} {
		if code, _, errs := weir("history", "--config", file, "events", "--limit="+limit); code != 1 || !strings.Contains(errs, "--limit must be 1 or more") {
			t.Errorf("--limit=%s: %d %s", limit, code, errs)
		}
	}
}

func TestReadingAHistoryThatIsNotThereMakesNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weir.yaml")
	dir := filepath.Join(filepath.Dir(file), "h")
	for _, where := range []string{"dir: h", "url: file:" + dir + "/other.db"} {
		if err := os.WriteFile(file, []byte("history: {"+where+"}\n"+onePool), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, ask := range [][]string{{"show"}, {"events"}, {"export", filepath.Join(t.TempDir(), "o.csv")}} {
			if code, _, errs := weir(append([]string{"history", "--config", file}, ask...)...); code != 1 || !strings.Contains(errs, "there is no history in the file "+dir) {
				t.Errorf("%s, %v: %d %s", where, ask, code, errs)
			}
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Fatalf("%s, %v left %s behind: %v", where, ask, dir, err)
			}
		}
	}
}

func TestMigrateMakesTheTablesAndTellsTheirState(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weir.yaml")
	if err := os.WriteFile(file, []byte("history: {dir: h}\n"+onePool), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := weir("migrate", "--config", file, "status"); code != 1 || !strings.Contains(out, "not applied") {
		t.Errorf("before: %d %s", code, out)
	}
	// Made by who looks, as root, it would be no file of the engine's.
	if _, err := os.Stat(filepath.Join(filepath.Dir(file), "h")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the look made a file: %v", err)
	}
	if code, _, errs := weir("history", "--config", file); code != 1 || !strings.Contains(errs, "there is no history") {
		t.Errorf("a history without tables: %d %s", code, errs)
	}
	if code, out, errs := weir("migrate", "--config", file, "up"); code != 0 || !strings.Contains(out, "up to date") {
		t.Errorf("up: %d %s %s", code, out, errs)
	}
	if code, out, _ := weir("migrate", "--config", file, "status"); code != 0 || strings.Contains(out, "not applied") {
		t.Errorf("after: %d %s", code, out)
	}
}

// An engine whose user may not make tables needs somebody who does it each day.
func TestMigrateUpMakesRoomAhead(t *testing.T) {
	server, err := dbserver.Postgres()
	if errors.Is(err, dbserver.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer server.Remove()
	_, url, err := server.Database()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "weir.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "history: {dir: h, url: %q}\n%s", url, onePool), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := weir("migrate", "--config", file, "up"); code != 0 {
		t.Fatalf("%d %s %s", code, out, errs)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	tomorrow := "weir_outcome_p" + time.Now().UTC().AddDate(0, 0, 1).Format("20060102")
	var there bool
	if err := conn.QueryRow(t.Context(), "SELECT to_regclass($1) IS NOT NULL", tomorrow).Scan(&there); err != nil || !there {
		t.Errorf("there is no %s (%v)", tomorrow, err)
	}
}

func TestHistoryCanBeOff(t *testing.T) {
	e := start(t, "history: {url: off}\n"+onePool)
	e.observe(1)
	if code, _, errs := weir("history", "--config", e.file); code != 1 || !strings.Contains(errs, "history is off") {
		t.Errorf("%d %s", code, errs)
	}
	if strings.Contains(e.log.String(), "history") {
		t.Errorf("the log speaks of it: %s", e.log)
	}
}

// The engine and `migrate up` refuse it, so its state is not that all is well.
func TestMigrateStatusTellsTablesOfANewerWeir(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "weir.yaml")
	if err := os.WriteFile(file, []byte("history: {dir: h}\n"+onePool), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := weir("migrate", "--config", file, "up"); code != 0 {
		t.Fatal(errs)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "h", "history.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("PRAGMA user_version = 9"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := weir("migrate", "--config", file, "status"); code != 1 || !strings.Contains(out, "0009") || !strings.Contains(out, "of a newer weir") {
		t.Errorf("%d %s", code, out)
	}
	if code, _, errs := weir("migrate", "--config", file, "up"); code != 1 || !strings.Contains(errs, "newer weir") {
		t.Errorf("%d %s", code, errs)
	}
}
