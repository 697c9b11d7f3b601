package sqlrows

import (
	"fmt"
	"time"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/schema"
)

// Of partitions made beforehand.
const (
	AheadDays = 3 // so long may every engine be away
	LateDays  = 8 // what waited in a spool for days has a partition of its day
)

// Parted is a table that is kept in pieces of time.
type Parted struct {
	Name   string
	Column string // of the time, where it has a type for that
	KeepMS int64  // 0 = forever
	Layout string // of a piece's name
	Floor  func(time.Time) time.Time
	Next   func(time.Time) time.Time
}

// Tables are those in pieces: outcomes by days, what is by minutes by months.
func Tables(keep history.Retention) []Parted {
	day := func(t time.Time) time.Time { return t.Truncate(24 * time.Hour) }
	nextDay := func(t time.Time) time.Time { return t.AddDate(0, 0, 1) }
	month := func(t time.Time) time.Time { return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC) }
	nextMonth := func(t time.Time) time.Time { return t.AddDate(0, 1, 0) }
	return []Parted{
		{"weir_outcome", "at", keep.RawMS, "20060102", day, nextDay},
		{"weir_rollup", "minute", keep.RollupMS, "200601", month, nextMonth},
		{"weir_metric", "minute", keep.RollupMS, "200601", month, nextMonth},
	}
}

// Others are the tables in one piece, with how long what is in them is kept.
func Others(keep history.Retention) map[string]int64 {
	return map[string]int64{"weir_batch": keep.RawMS, "weir_event": keep.RollupMS}
}

// Missing returns the steps of a schema that are not applied, of which the first have are.
func Missing(steps []schema.Step, have int) ([]schema.Step, error) {
	if have > len(steps) {
		return nil, fmt.Errorf("it is of a newer weir: its schema is %d, this one knows %d", have, len(steps))
	}
	return steps[have:], nil
}

// State tells which steps are applied, those too that a newer weir has left. more is put behind their names.
func State(steps []schema.Step, have int, more string) []history.Migration {
	out := make([]history.Migration, len(steps))
	for i, step := range steps {
		out[i] = history.Migration{Version: step.Version, Name: step.Name + more, Applied: step.Version <= have}
	}
	for v := len(steps) + 1; v <= have; v++ {
		out = append(out, history.Migration{Version: v, Name: "?", Applied: true, Newer: true})
	}
	return out
}
