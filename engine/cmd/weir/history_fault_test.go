package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/stores"
	"github.com/weirlb/weir/test/dbserver"
)

// load sends outcomes and asks for tables as NGINX would, and counts what is answered. TotalMS numbers the outcomes.
type load struct {
	e      *engine
	client *http.Client

	mu       sync.Mutex // guards the rest
	sent     int
	answered []time.Time // by batch, those that were taken
	failed   string
	seen     int       // of answered, when served looked last
	seenAt   time.Time // when that was
}

const perBatch = 20

func (e *engine) load() (l *load, stop func()) {
	l = &load{e: e, client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", e.socket)
	}}}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			l.once()
			time.Sleep(5 * time.Millisecond)
		}
		l.client.CloseIdleConnections()
	}()
	return l, func() { cancel(); <-ended }
}

func (l *load) once() {
	var body bytes.Buffer
	for i := range perBatch {
		fmt.Fprintf(&body, `{"pool":"api","class":"GET /x","peer":"10.0.0.%d:80","total_ms":%d}`+"\n", i%2+1, l.sent+i)
	}
	for path, text := range map[string]io.Reader{"/observe": &body, "/decide": strings.NewReader(`{"pool":"api","class":"GET /x"}`)} {
		media := "application/json"
		if path == "/observe" {
			media = "application/x-ndjson"
		}
		res, err := l.client.Post("http://engine"+path, media, text)
		l.mu.Lock()
		switch {
		case err != nil:
			l.failed = err.Error()
		case res.StatusCode != 200:
			l.failed = path + " answered " + res.Status
		case path == "/observe":
			l.answered = append(l.answered, time.Now())
		}
		l.mu.Unlock()
		if err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
	l.mu.Lock()
	l.sent += perBatch
	l.mu.Unlock()
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent
}

// served fails the test when a call failed since the last look, or when so few were answered that they must have waited for the
// database: one at a time, each for the second that a write may take. Without waiting there are some 200 a second.
func (l *load) served(t *testing.T, when string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != "" {
		t.Errorf("%s: a call failed: %s", when, l.failed)
	}
	n, took := len(l.answered)-l.seen, time.Since(l.seenAt).Seconds()
	if !l.seenAt.IsZero() && float64(n) < 4*took-2 {
		t.Errorf("%s: %d batches were answered in %.1f s", when, n, took)
	}
	l.seen, l.seenAt = len(l.answered), time.Now()
}

// api asks the admin listener.
func (e *engine) api(path string) string {
	e.t.Helper()
	req, _ := http.NewRequest("GET", e.admin+path, nil)
	req.Header.Set("Authorization", "Bearer 0123456789abcdef")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	return string(text)
}

func (e *engine) degraded() bool { return strings.Contains(e.api("/api/health"), `"code":"history"`) }

// stored counts the outcomes in the store by their number.
func stored(t *testing.T, url string) map[int]int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := stores.Open(ctx, config.History{URL: config.StoreURL(url)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got := map[int]int{}
	err = s.Outcomes(ctx, "", 0, 1e14, func(_ []history.Series, list []history.Outcome) error {
		for _, o := range list {
			got[int(o.TotalMS)]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Case 26 of the field reports, against real databases: they stop, crash, swallow what they are sent, and become read-only. Serving
// never waits, what happened meanwhile arrives afterwards, once.
func throughFaults(t *testing.T, server *dbserver.Server, readOnly, readWrite func(database string)) {
	name, url, err := server.Database()
	if err != nil {
		t.Fatal(err)
	}
	e := start(t, fmt.Sprintf("history: {dir: history, url: %q}\n", url)+onePool)
	l, stop := e.load()
	defer stop()
	up := func(when string) {
		t.Helper()
		within(t, 25*time.Second, when, func() bool { return !e.degraded() })
	}
	up("the store is up at first")
	within(t, 10*time.Second, "outcomes arrive", func() bool { return strings.Contains(e.api("/metrics"), "weir_history_store_up 1") && l.count() > 1000 })

	faults := []struct {
		name       string
		begin, end func()
	}{
		{"it is stopped and started", server.Stop, func() {
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
		}},
		{"it crashes and is started", server.Kill, func() {
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
		}},
		{"it swallows what it is sent", server.Freeze, server.Thaw},
		{"it is read-only", func() { readOnly(name) }, func() { readWrite(name) }},
	}
	for _, f := range faults {
		l.served(t, "before "+f.name)
		f.begin()
		within(t, 20*time.Second, "health tells that "+f.name, e.degraded)
		time.Sleep(300 * time.Millisecond)
		l.served(t, "while "+f.name)
		if !strings.Contains(e.api("/metrics"), "weir_history_store_up 0") {
			t.Errorf("while %s: the metric says that the store is up", f.name)
		}
		f.end()
		up("the store is up after " + f.name)
		l.served(t, "after "+f.name)
	}
	stop()
	within(t, 20*time.Second, "nothing waits", func() bool {
		m := e.api("/metrics")
		return strings.Contains(m, "weir_history_spool_rows 0\n") && strings.Contains(m, "weir_history_queue_rows 0\n")
	})
	got, want := stored(t, url), l.count()
	missing, twice, first, last := 0, 0, 0, 0
	for i := range want {
		if got[i] == 0 {
			if missing == 0 {
				first = i
			}
			missing, last = missing+1, i
		}
		if got[i] > 1 {
			twice++
		}
	}
	if missing > 0 || twice > 0 {
		t.Errorf("of %d outcomes %d are missing (between number %d and %d) and %d are stored twice", want, missing, first, last, twice)
	}
	// A write that takes a busy machine longer than it may is an outage too, and told as one.
	if down, up := strings.Count(e.log.String(), "history store is down"), strings.Count(e.log.String(), "history store is up again"); down != up || down < len(faults) || down > len(faults)+2 {
		t.Errorf("%d outages: %d beginnings and %d ends are in the log", len(faults), down, up)
	}
	if m := e.api("/metrics"); !strings.Contains(m, `weir_history_dropped_rows_total{reason="spool"} 0`) || strings.Contains(m, "weir_history_spilled_rows_total 0\n") {
		t.Errorf("nothing should be dropped and something spilled:\n%s", m)
	}
}

// statements runs SQL as the administrator.
func statements(t *testing.T, server *dbserver.Server, list ...string) {
	t.Helper()
	for _, sql := range list {
		if err := server.SQL(sql); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPostgresMayStopCrashHangOrTurnReadOnlyAndNothingIsLost(t *testing.T) {
	t.Parallel() // it waits, mostly
	server, err := dbserver.Postgres()
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(server.Remove)
	throughFaults(t, server, func(database string) {
		// Sessions that exist go on writing, so they are ended. Those that begin now never write, also not when it is taken back.
		statements(t, server, "ALTER DATABASE "+database+" SET default_transaction_read_only = on",
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+database+"'")
	}, func(database string) {
		statements(t, server, "ALTER DATABASE "+database+" RESET default_transaction_read_only")
	})
}

func TestMariaDBMayStopCrashHangOrTurnReadOnlyAndNothingIsLost(t *testing.T) {
	t.Parallel()
	server, err := dbserver.MariaDB()
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(server.Remove)
	throughFaults(t, server, func(string) {
		// Root may write to a server that is read-only, so the rights are taken away from the one that weir uses.
		statements(t, server, "REVOKE ALL PRIVILEGES, GRANT OPTION FROM weir@localhost", "GRANT SELECT ON *.* TO weir@localhost", "KILL CONNECTION USER weir@localhost")
	}, func(string) {
		statements(t, server, "GRANT ALL PRIVILEGES ON *.* TO weir@localhost")
	})
}

func TestAPortThatSwallowsEverythingCostsTheBoundAndIsCounted(t *testing.T) {
	t.Parallel() // it waits, mostly
	// It accepts connections into its backlog and never answers.
	hole, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	e := start(t, fmt.Sprintf("history: {dir: history, url: 'postgres://weir@%s/weir?sslmode=disable', spool_mb: 1}\n", hole.Addr())+onePool)
	l, stop := e.load()
	defer stop()
	// More than a megabyte: of numbers by chance, each outcome is a dozen bytes. All alike they would be packed to next to nothing.
	rnd := rand.New(rand.NewPCG(1, 1))
	for told := 0; !strings.Contains(e.log.String(), "the oldest is dropped"); {
		if told > 5_000_000 {
			t.Fatal("nothing is dropped")
		}
		var body strings.Builder
		for range 2000 {
			fmt.Fprintf(&body, `{"pool":"api","class":"GET /x","peer":"10.0.0.1:80","status":200,"inflight":%d,"header_ms":%g,"total_ms":%g}`+"\n", rnd.IntN(100), 100*rnd.Float32(), 100+100*rnd.Float32())
		}
		e.tell(body.String())
		told += 2000
	}
	within(t, 20*time.Second, "health tells", e.degraded)
	l.served(t, "while it fills")
	time.Sleep(time.Second)
	l.served(t, "while the port swallows")
	size := int64(0)
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(e.file), "history", "spool", "*"))
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			size += info.Size()
		}
	}
	if size > 3<<20 {
		t.Errorf("%d bytes wait on the disk; the bound is one megabyte", size)
	}
	if strings.Contains(e.api("/metrics"), `weir_history_dropped_rows_total{reason="spool"} 0`) {
		t.Error("what was dropped is not counted")
	}
	if n := strings.Count(e.log.String(), "history store is down"); n != 1 {
		t.Errorf("the outage is logged %d times", n)
	}
	stop()
	began := time.Now()
	e.stop()
	<-e.ended
	e.ended <- nil
	if took := time.Since(began); took > 5*time.Second { // a second for the write and half of one for another, and room for a busy machine
		t.Errorf("the engine took %v to end", took)
	}
}
