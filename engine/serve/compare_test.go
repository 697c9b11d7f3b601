package serve

import (
	"strings"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/observe"
)

func TestTheComparisonTakesFirstAttemptsThatTheTableOrTheControlSlicePlaced(t *testing.T) {
	e := still(t, threePeers)
	taught(t, e)
	p, _ := e.pool("api")
	p.mu.Lock()
	p.versus.since = 0
	p.mu.Unlock()
	before := e.Comparisons()[0]
	b := &observe.Batch{Instance: "web1"}
	for _, c := range []struct {
		attempt uint8
		kind    observe.Kind
		flags   observe.Flags
		ms      float32
	}{
		{1, observe.OK, 0, 10},
		{1, observe.OK, observe.Explored, 20},
		{1, observe.OK, observe.Control, 60},
		{1, observe.Status, observe.Control, 1},
		{1, observe.Timeout, 0, 5},
		{1, observe.Abort, 0, 5},
		{1, observe.IdleRace, observe.Control, 5},
		{2, observe.OK, 0, 5},
		{1, observe.OK, observe.Local, 5},
		{1, observe.OK, observe.Panic, 5},
	} {
		if err := b.Add("api", "*", "10.0.0.1:80", observe.Record{
			Attempt: c.attempt, Kind: c.kind, Flags: c.flags, Propensity: 1, HeaderMS: c.ms, TotalMS: c.ms, PredictedMS: observe.None, Load: observe.None,
		}); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(100 * time.Millisecond) // so that none can have been placed before the engine began
	e.Observe(b)
	f := e.Comparisons()[0]
	if f.Pool != "api" || f.Policy != "analytic" || f.Model != nil || f.Share != 0.02 {
		t.Errorf("%+v", f)
	}
	if got := f.Of.Attempts - before.Of.Attempts; got != 3 || f.Of.Failures != 1 {
		t.Errorf("the policy's slice has %d attempts and %d failures, want 3 and 1", got, f.Of.Failures)
	}
	if f.Control.Attempts != 2 || f.Control.Failures != 1 || f.Control.MeanMS == nil || *f.Control.MeanMS != 60 {
		t.Errorf("the control slice is %+v", f.Control)
	}
	if f.Ratio == nil || *f.Ratio >= 1 || f.Low != nil {
		t.Errorf("ratio %v, low %v", f.Ratio, f.Low)
	}
	text := scrape(t, e)
	for _, want := range []string{
		`weir_slice_duration_seconds_count{pool="api",slice="control"} 1`, `weir_slice_failures_total{pool="api",slice="control"} 1`,
		`weir_slice_failures_total{pool="api",slice="policy"} 1`, `weir_control_ratio{pool="api",bound="estimate"} NaN`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
	p.mu.Lock()
	p.versus.shown -= 5000
	p.mu.Unlock()
	refresh(t, e, "api")
	if strings.Contains(scrape(t, e), `weir_control_ratio{pool="api",bound="estimate"} NaN`) {
		t.Error("the gauge does not show the ratio")
	}
}

func TestAnotherModelIsComparedAnewAndNotByWhatWasPlacedBefore(t *testing.T) {
	e := still(t, threePeers)
	taught(t, e)
	if err := e.Models().Configure(config.Model{File: written(t, encoded(t, network(1), nil)), Library: config.LibraryBuiltin}); err != nil {
		t.Fatal(err)
	}
	refresh(t, e, "api")
	f := e.Comparisons()[0]
	if f.Policy != "learned" || f.Model == nil || *f.Model != e.Models().Serving().ID || f.Of.Attempts != 0 {
		t.Errorf("%+v", f)
	}
	e.Observe(outcomes(t, "api", "*", "10.0.0.1:80", observe.OK, 10, 60_000)) // answered now, placed a minute ago
	if f := e.Comparisons()[0]; f.Of.Attempts != 0 {
		t.Errorf("%d attempts that the table before placed count", f.Of.Attempts)
	}
	time.Sleep(20 * time.Millisecond)
	e.Observe(outcomes(t, "api", "*", "10.0.0.1:80", observe.OK, 10, 1))
	refresh(t, e, "api")
	if f := e.Comparisons()[0]; f.Of.Attempts != 10 {
		t.Errorf("%d attempts count, want 10", f.Of.Attempts)
	}
}
