package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

// played is a fleet whose NGINX each answered these times, one a second.
func played(name string, weir bool, ratio []float64, ms ...[]float64) *fleet {
	f := &fleet{name: name, fronts: len(ms), weir: weir}
	for _, list := range ms {
		a := &arm{began: time.Unix(1000, 0)}
		for i, x := range list {
			a.seen = append(a.seen, seen{came: 1000.5 + float64(i), ms: x, status: 200, policy: name})
		}
		a.told = peersRun{Requests: len(list), LateP99: ms[0][0]}
		f.arms, f.loads, f.shows = append(f.arms, a), append(f.loads, a), append(f.shows, -1)
	}
	for range 2 {
		f.ratio = append(f.ratio, ratio)
	}
	return f
}

func TestAFleetIsSummedOverItsNginxAndComparedWithAsManyOfLeastConn(t *testing.T) {
	c := &enginesCmd{Fronts: 2, For: 4 * time.Second, Slice: 2 * time.Second, Warmup: 2 * time.Second, Only: []string{"least_conn", "found", "one_least_conn", "one_weir"}}
	raw := &enginesRaw{}
	found := played("found", true, []float64{2.5, 1}, []float64{9, 9, 50, 70}, []float64{9, 9, 30, 90})
	found.shows[0] = 3
	c.sum(raw, 0, []*fleet{
		played("least_conn", false, nil, []float64{9, 9, 100, 100}, []float64{9, 9, 100, 100}), found,
		played("one_least_conn", false, nil, []float64{9, 9, 40, 40}), played("one_weir", true, []float64{1}, []float64{9, 9, 60, 60}),
	})
	if x := raw.Rounds[1]; x.N != 4 || math.Abs(x.Mean-60) > 1e-9 || x.P99 != 90 || x.Sent != 8 || x.LateP99 != 9 {
		t.Errorf("%+v", x)
	}
	if s := raw.Slices[3]; s.From != 2 || s.To != 4 || s.N != 4 || len(s.LoadRatio) != 2 {
		t.Errorf("%+v", s)
	}
	r := &result{}
	c.report(r, raw)
	var b strings.Builder
	if err := r.print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"1: 2 Weir, found out     60.0   50.0   90.0   0.600  0.500  0.900",
		"60.0   60.0   60.0   1.500  1.500  1.500",
		"2 Weir, found out / 2 NGINX, least_conn  0.600 (0.600 .. 0.600; 0.600 .. 0.600)  0.900 (0.900 .. 0.900; 0.900 .. 0.900)        1 of 1",
		"1.00 2.50", // the engines' load_ratio
		"first above 1 at 3 s in the median (3 .. 3 s), never with 1 of 2 engines",
		"load_ratio of 1 Weir after 2s: median 1.00 (quartiles 1.00 .. 1.00, extremes 1.00 .. 1.00); never above 1, 1 engines",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
}

func TestFleetsThatAreLeftOutLeaveTheOthersAlone(t *testing.T) {
	c := &enginesCmd{Fronts: 2, For: 4 * time.Second, Slice: 2 * time.Second, Only: []string{"one_weir"}}
	if f := c.fleets(); len(f) != 1 || f[0].name != "one_weir" {
		t.Fatalf("%+v", f)
	}
	raw, r := &enginesRaw{}, &result{}
	c.sum(raw, 0, []*fleet{played("one_weir", true, []float64{1}, []float64{9, 9, 60, 60})})
	c.report(r, raw)
	if len(r.Tables) != 3 || len(r.Tables[2].Rows) != 2 || r.Tables[0].Rows[0][4] != "-" {
		t.Errorf("%+v", r.Tables)
	}
}
