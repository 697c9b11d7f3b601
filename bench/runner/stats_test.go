package main

import (
	"math"
	"strings"
	"testing"
)

func TestSpreadIsOfTheSortedValues(t *testing.T) {
	if s := spreadOf([]float64{5, 1, 3, 2, 4}); s != (spread{3, 2, 4, 1, 5, 5}) {
		t.Errorf("%+v", s)
	}
	if s := spreadOf([]float64{2, 1}); s.Median != 1.5 || s.Q1 != 1.25 {
		t.Errorf("%+v", s)
	}
	if s := spreadOf(nil); !math.IsNaN(s.Median) {
		t.Errorf("of none: %+v", s)
	}
}

func TestRankIsTheNearestValue(t *testing.T) {
	v := []float64{1, 2, 3, 4}
	if rank(v, 0.5) != 2 || rank(v, 0.99) != 4 || rank(v, 0) != 1 {
		t.Errorf("%v %v %v", rank(v, 0.5), rank(v, 0.99), rank(v, 0))
	}
}

func TestAResultTellsTargetsThatWereMissed(t *testing.T) {
	r := result{
		Name: "x", Setup: "nothing", Targets: []target{atMost("ratio", 1.2, 1.3, "x"), atMost("time", 5, 4, "ms")},
		Tables: []table{{Title: "T", Columns: []string{"a", "b"}, Rows: [][]string{{"long name", "1"}, {"n", "20"}}}},
	}
	var b strings.Builder
	if err := r.print(&b); err != nil {
		t.Fatal(err)
	}
	out := b.String()
	if strings.Count(out, "MISSED") != 1 || !strings.Contains(out, "  long name   1\n") || !strings.Contains(out, "  n          20\n") {
		t.Error(out)
	}
}
