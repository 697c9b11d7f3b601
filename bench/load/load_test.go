package main

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestTheSameSeedMeansTheSameArrivalsClassesAndSizes(t *testing.T) {
	opt := options{Rate: 200, Seed: 7, Classes: []class{mustClass(t, "a:0.7:5:exp"), mustClass(t, "b:0.3:80:pareto:2.2")}}
	p, q := newPlan(&opt), newPlan(&opt)
	other := opt
	other.Seed = 8
	o := newPlan(&other)
	differ := false
	for range 1000 {
		a, b := p.next(), q.next()
		if a != b {
			t.Fatalf("%+v and %+v", a, b)
		}
		differ = differ || a.due != o.next().due
	}
	if !differ {
		t.Error("another seed gives the same arrivals")
	}
}

func TestOtherSizesLeaveArrivalTimesAsTheyAre(t *testing.T) {
	a := options{Rate: 200, Seed: 7, Classes: []class{mustClass(t, "a:1:5:exp")}}
	b := options{Rate: 200, Seed: 7, Classes: []class{mustClass(t, "a:0.5"), mustClass(t, "b:0.5:9:fixed")}}
	p, q := newPlan(&a), newPlan(&b)
	for range 100 {
		if x, y := p.next().due, q.next().due; x != y {
			t.Fatalf("%v and %v", x, y)
		}
	}
}

func TestArrivalsArePoissonAtTheRateAskedFor(t *testing.T) {
	opt := options{Rate: 500, Seed: 3, Classes: []class{mustClass(t, "a:0.25"), mustClass(t, "b:0.75")}}
	p := newPlan(&opt)
	const n = 50_000
	var gap, square, b float64
	last := time.Duration(0)
	for range n {
		a := p.next()
		g := (a.due - last).Seconds() * opt.Rate
		last = a.due
		gap += g
		square += g * g
		b += float64(a.class)
	}
	gap, square, b = gap/n, square/n, b/n
	if math.Abs(gap-1) > 0.03 || math.Abs(square-2) > 0.15 || math.Abs(b-0.75) > 0.02 {
		t.Errorf("mean gap %.3f (1), its square %.3f (2), share of b %.3f (0.75)", gap, square, b)
	}
}

func TestAStallOfTheServerIsChargedToEveryRequestItDelays(t *testing.T) {
	var n atomic.Int64
	gate := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) > 20 {
			<-gate
		}
		w.Header().Set("X-Backend", "a")
	}))
	defer s.Close()
	time.AfterFunc(900*time.Millisecond, func() { close(gate) })
	r := runLoad(t, "--url", s.URL, "--rate", "100", "--for", "800ms", "--class", "x:1")
	if r.All.Requests < 40 || r.All.Failed != 0 {
		t.Fatalf("%+v: the load waited for answers", r.All)
	}
	if r.All.P90 < 300 || r.All.Max < 500 {
		t.Errorf("%+v: requests due in the stall are not charged for it", r.All)
	}
}

func TestFailuresAreCountedAndHaveNoLatency(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Backend", "a")
		switch {
		case strings.HasPrefix(r.URL.Path, "/slow/"):
			select { // no answer before the client has given up, however late that is on a busy machine
			case <-r.Context().Done():
			case <-time.After(20 * time.Second):
			}
		case strings.HasPrefix(r.URL.Path, "/bad/"):
			w.WriteHeader(http.StatusBadGateway)
		case r.Header.Get("X-Work-Ms") == "":
			w.WriteHeader(http.StatusInternalServerError) // ok's work was not told
		}
	}))
	defer s.Close()
	r := runLoad(t, "--url", s.URL, "--rate", "300", "--for", "500ms", "--timeout", "200ms", "--class", "ok:0.5:1:fixed", "--class", "bad:0.3", "--class", "slow:0.2")
	ok, bad, slow := r.Classes["ok"], r.Classes["bad"], r.Classes["slow"]
	if ok.Failed > ok.Requests/10 || ok.Requests == 0 || bad.Failed != bad.Requests || slow.Failed != slow.Requests || slow.Requests == 0 || bad.Max != 0 {
		t.Errorf("ok %+v, bad %+v, slow %+v", ok, bad, slow)
	}
	if r.Errors["time-out"] != slow.Failed+ok.Failed || r.Statuses["502"] != bad.Failed {
		t.Errorf("errors %v, statuses %v", r.Errors, r.Statuses)
	}
}

func TestAnInterruptedRunReportsWhatItMeasured(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var out strings.Builder
	if err := run(ctx, []string{"--url", s.URL, "--rate", "200", "--for", "10m"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "requests in 0 s") {
		t.Error(out.String())
	}
}

func TestFlagsThatCannotBeMeantAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"--rate", "0"},
		{"--rate", "NaN"},
		{"--for", "0s"},
		{"--class", "a"},
		{"--class", "a:x"},
		{"--class", "a:1:x"},
		{"--class", "a:1:5:gauss"},
		{"--class", "a:1:5:pareto"},
		{"--class", "a:0.5"},
		{"--class", "a/b:1"},
		{"--max-open", "0"},
		{"stray"},
	} {
		if _, _, err := parse(args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}

func TestQuantilesAreOfTheNearestRank(t *testing.T) {
	v := []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for q, want := range map[float64]float64{0: 1, 0.5: 5, 0.9: 9, 0.99: 10, 1: 10} {
		if got := quantile(v, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if quantile(nil, 0.5) != 0 {
		t.Error("of none")
	}
}

func mustClass(t *testing.T, v string) class {
	t.Helper()
	c, err := parseClass(v)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func runLoad(t *testing.T, args ...string) (r report) {
	t.Helper()
	var out strings.Builder
	if err := run(t.Context(), append(args, "--json"), &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out.String()), &r); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return r
}
