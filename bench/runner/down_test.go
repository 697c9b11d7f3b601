package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAttemptsOfALineFollowEachOther(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	text := "100.500 0.300 200|a:1, b:1|502, 200|0.100, 0.200\n100.600 0.010 200|b:1|200|0.010\n100.700 0.050 502|a:1|502|-\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := attemptsOn(file, "a:1")
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	for i, want := range []attempt{{seconds(100.2), seconds(100.3), true}, {seconds(100.65), seconds(100.65), true}} {
		if got[i].failed != want.failed || got[i].picked.Sub(want.picked).Abs() > time.Millisecond || got[i].ended.Sub(want.ended).Abs() > time.Millisecond {
			t.Errorf("attempt %d: %+v, want %+v", i, got[i], want)
		}
	}
}

func TestPicksCountFromTheEnginesWordUntilThePeersReturn(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(100000 + int64(ms)) }
	one := func(from, to int) attempt { return attempt{at(from), at(to), true} }
	attempts := []attempt{one(0, 10), one(95, 110), one(120, 130), one(260, 270), one(330, 340), one(2100, 2110)}
	changes := []change{{at(50), true}, {at(200), false}, {at(2000), true}, {at(2200), false}}
	run, err := judge(attempts, changes, at(100))
	if err != nil {
		t.Fatal(err)
	}
	want := downRun{Known: 100, LastPick: 130, After: 2, After100: 1, Failures: 2, Attempts: 4}
	if run != want {
		t.Errorf("%+v, want %+v", run, want)
	}
	if _, err := judge(attempts, changes[:1], at(100)); err == nil {
		t.Error("an engine that never said so passes")
	}
}
