package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/embedded"
	"github.com/weirlb/weir/engine/telemetry"
)

// gate is a store that can be told to fail, to hang, or to lose the answer after it has stored. What it stores is real.
type gate struct {
	history.Store

	mu   sync.Mutex // guards mode and sent
	mode string     // "" works, "down", "hang", "forget": stores and then fails, "rights": cannot make pieces of tables
	sent int
	left time.Duration // that the store was given for its migrations
}

func (g *gate) Maintain(ctx context.Context, nowMS int64, keep history.Retention) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mode == "rights" {
		return &history.RightsError{Err: errors.New("permission denied")}
	}
	return g.Store.Maintain(ctx, nowMS, keep)
}

func (g *gate) Migrate(ctx context.Context) error {
	until, _ := ctx.Deadline()
	g.mu.Lock()
	g.left = time.Until(until)
	g.mu.Unlock()
	return g.Store.Migrate(ctx)
}

func (g *gate) set(mode string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mode = mode
}

func (g *gate) Write(ctx context.Context, b *history.Batch) (history.Written, error) {
	g.mu.Lock()
	mode := g.mode
	g.sent++
	g.mu.Unlock()
	switch mode {
	case "down":
		return history.Written{}, errors.New("it is down")
	case "hang":
		<-ctx.Done()
		return history.Written{}, ctx.Err()
	case "forget":
		_, err := g.Store.Write(ctx, b)
		return history.Written{}, errors.Join(errors.New("the connection broke"), err)
	}
	return g.Store.Write(ctx, b)
}

// rig is a recorder on a real file, with a gate between.
type rig struct {
	t    *testing.T
	dir  string
	gate *gate
	rec  *Recorder
	tel  *telemetry.Metrics
	log  *bytes.Buffer
	logs *lockedWriter
}

type lockedWriter struct {
	mu sync.Mutex // guards w
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func newRig(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), gate: &gate{}}
	r.start(change)
	return r
}

// start starts a recorder in the rig's folder, as a new process would.
func (r *rig) start(change func(*Options)) {
	r.t.Helper()
	r.tel, r.log = telemetry.New(), &bytes.Buffer{}
	r.logs = &lockedWriter{w: r.log}
	opt := Options{
		Dir: r.dir, SpoolBytes: 64 << 20, Instance: "weir1", Log: telemetry.NewLog(r.logs, "info"), Tel: r.tel.History(),
		Open: func(context.Context) (history.Store, error) {
			s, err := embedded.Open(filepath.Join(r.dir, "history.db"))
			if err != nil {
				return nil, err
			}
			r.gate.Store = s
			return r.gate, nil
		},
	}
	if change != nil {
		change(&opt)
	}
	r.rec = New(opt)
	r.rec.Start()
	r.t.Cleanup(r.close)
}

func (r *rig) close() {
	if r.rec == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := r.rec.Close(ctx); err != nil {
		r.t.Error(err)
	}
	r.rec = nil
}

// kill ends the recorder as kill -9 does: nothing is written any more, the lock is gone.
func (r *rig) kill() {
	r.rec.stop()
	r.rec.sending.Wait()
	_ = r.rec.lock.Close()
	if s := r.rec.store.Load(); s != nil {
		_ = (*s).Close()
	}
	r.rec.queue.take()
	dead := r.rec
	r.rec = nil
	r.t.Cleanup(func() { // its writer still runs, and by now may write to the folder: the recorder that was started in it after has ended
		dead.closing.Store(true)
		dead.wake(dead.full)
		dead.writing.Wait()
	})
}

func (r *rig) logged(what string) int {
	r.logs.mu.Lock()
	defer r.logs.mu.Unlock()
	return strings.Count(r.log.String(), what)
}

// stored returns the TotalMS of every outcome in the store, which the tests use as a number.
func (r *rig) stored() map[int]int {
	r.t.Helper()
	s, err := embedded.Open(filepath.Join(r.dir, "history.db"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.Close()
	got := map[int]int{}
	err = s.Outcomes(context.Background(), "", 0, 1e14, func(_ []history.Series, list []history.Outcome) error {
		for _, o := range list {
			got[int(o.TotalMS)]++
		}
		return nil
	})
	if err != nil && !strings.Contains(err.Error(), "no such table") {
		r.t.Fatal(err)
	}
	return got
}

func within(t testing.TB, limit time.Duration, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// numbered makes n outcomes that ended now, numbered from first.
func numbered(first, n int) []Observed {
	list := make([]Observed, n)
	for i := range list {
		list[i] = Observed{
			Series:  history.Series{Pool: "api", Peer: fmt.Sprintf("10.0.0.%d:80", i%3), Class: "GET /"},
			Outcome: history.Outcome{AtMS: time.Now().UnixMilli(), Attempt: 1, Status: 200, Propensity: 1, HeaderMS: 1, TotalMS: float32(first + i), PredictedMS: -1, Load: -1, Rate: 1},
		}
	}
	return list
}

func onceEach(t *testing.T, got map[int]int, from, to int) {
	t.Helper()
	missing, doubled := 0, 0
	for i := from; i < to; i++ {
		switch got[i] {
		case 0:
			missing++
		case 1:
		default:
			doubled++
		}
	}
	if missing > 0 || doubled > 0 || len(got) != to-from {
		t.Errorf("of %d outcomes %d are missing and %d are there twice; %d are stored", to-from, missing, doubled, len(got))
	}
}
