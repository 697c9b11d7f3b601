package sqlrows

import (
	"errors"
	"slices"
	"testing"

	"github.com/weirlb/weir/engine/history"
)

func TestANameThatTheServerRefusesCostsItsRowsAloneAndIsAskedOnce(t *testing.T) {
	bad, down := errors.New("too long"), errors.New("no server")
	asked := map[string]int{}
	var fail error
	insert := func(table string, columns []string, names ...any) (int32, error) {
		if len(columns) != len(names) {
			t.Fatalf("%s: %v %v", table, columns, names)
		}
		name := names[len(names)-1].(string)
		asked[name]++
		if name == "bad" {
			return 0, bad
		}
		return int32(len(asked)), fail
	}
	refused := func(err error) bool { return errors.Is(err, bad) }
	batch := func() *history.Batch {
		b := &history.Batch{Instance: "i", Zone: "z", Series: []history.Series{{Pool: "p", Peer: "a", Class: "good"}, {Pool: "p", Peer: "a", Class: "bad"}, {}}}
		b.Outcomes = []history.Outcome{{Series: 0}, {Series: 1}, {Series: 2}}
		b.Rollups = []history.Rollup{{Series: 1}, {Series: 0}}
		b.Metrics = []history.MetricRow{
			{MetricSeries: history.MetricSeries{Pool: "p", Peer: "a", Metric: "bad"}}, {MetricSeries: history.MetricSeries{Pool: "p", Peer: "a", Metric: "cpu"}},
		}
		return b
	}
	var l LookUp
	for range 2 {
		b := batch()
		ids, n, err := l.Batch(b, insert, refused)
		if err != nil || n != 4 || len(b.Outcomes) != 1 || len(b.Rollups) != 1 || b.Rollups[0].Series != 0 || len(b.Metrics) != 1 || b.Metrics[0].Metric != "cpu" {
			t.Fatalf("%v %d %+v", err, n, b)
		}
		if ids.Engine != 1 || ids.Series[0] != 2 || ids.Series[1] != NoID || len(ids.Metrics) != 1 || ids.Metrics[0] != 4 {
			t.Errorf("%+v", ids)
		}
	}
	if asked["z"] != 1 || asked["good"] != 1 || asked["bad"] != 2 || asked["cpu"] != 1 { // bad once in each table
		t.Errorf("%v", asked)
	}
	l.Forget()
	fail = down
	if _, _, err := l.Batch(batch(), insert, refused); !errors.Is(err, down) {
		t.Errorf("without a server: %v", err)
	}
}

func TestRenamingKeepsThePoolThatIsWantedAndPassesOverWhatHasNoName(t *testing.T) {
	found := 0
	r := Renamer{Pool: "api", Find: func(id int32) (history.Series, bool, error) {
		found++
		pools := map[int32]string{7: "api", 8: "other", 9: "api"}
		return history.Series{Pool: pools[id], Class: string(rune('0' + id))}, pools[id] != "", nil
	}}
	for range 2 {
		list := []history.Outcome{{Series: 9, AtMS: 1}, {Series: 8}, {Series: 7, AtMS: 2}, {Series: 6}, {Series: 9, AtMS: 3}}
		got, err := r.Rename(list)
		if err != nil {
			t.Fatal(err)
		}
		var classes, times []string
		for _, o := range got {
			classes, times = append(classes, r.Series[o.Series].Class), append(times, string(rune('0'+o.AtMS)))
		}
		if !slices.Equal(classes, []string{"9", "7", "9"}) || !slices.Equal(times, []string{"1", "2", "3"}) {
			t.Errorf("%v %v", classes, times)
		}
	}
	if found != 4 {
		t.Errorf("%d look-ups of four names", found)
	}
}

func TestASliceOfTimeIsMadeAsLongAsTheTrafficCallsFor(t *testing.T) {
	for _, c := range []struct {
		length    int64
		got, want int
		next      int64
	}{
		{10_000, 200_000, 200_000, 10_000},
		{10_000, 400_000, 200_000, 5000},
		{10_000, 0, 200_000, 100_000},
		{1000, 1 << 30, 200_000, leastSliceMS},
		{mostSliceMS, 5, 200_000, mostSliceMS},
	} {
		if next := NextSlice(c.length, c.got, c.want); next != c.next {
			t.Errorf("after %d ms with %d rows: %d ms, want %d", c.length, c.got, next, c.next)
		}
	}
}

func TestASliceAfterAQuietTimeDoesNotHoldABusyHourWhole(t *testing.T) {
	const perS, busy = 20_000, 50_000_000 // from here on
	asked := 0
	count := func(from, to int64, most int) (int, error) {
		asked++
		return int(min(max(to-max(from, busy), 0)*perS/1000, int64(most))), nil
	}
	length, err := FitSlice(busy-1000, mostSliceMS, 200_000, count)
	if err != nil || length > 50_000 || length < leastSliceMS {
		t.Errorf("%v, %d ms", err, length)
	}
	asked = 0
	if length, _ = FitSlice(busy, FirstSliceMS, 200_000, count); length != FirstSliceMS || asked > 0 {
		t.Errorf("%d ms after %d questions", length, asked)
	}
	if length, _ = FitSlice(0, 3_600_000, 200_000, count); length != 3_600_000 {
		t.Errorf("a quiet time is cut to %d ms", length)
	}
	if _, err := FitSlice(0, 3_600_000, 200_000, func(int64, int64, int) (int, error) { return 0, errors.New("down") }); err == nil {
		t.Error("the error is lost")
	}
}
