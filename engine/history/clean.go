package history

import (
	"math"
	"strings"
	"unicode/utf8"
)

// MaxText is the most bytes of a text in a row; longer details of events are cut.
const MaxText = 4096

// Storable tells whether a text can be stored everywhere: PostgreSQL takes no NUL, and databases no text that is not UTF-8.
func Storable(s string) bool {
	return len(s) <= MaxText && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}

// Clean drops the rows of a batch that no store could hold and returns how many: one bad byte must cost its row and not the
// batch. Series of dropped rows stay in the list, so that indexes hold, with empty names.
func (b *Batch) Clean() (dropped int) {
	bad := make([]bool, len(b.Series))
	for i, s := range b.Series {
		if !Storable(s.Pool) || !Storable(s.Peer) || !Storable(s.Class) || s.Pool == "" || s.Peer == "" {
			bad[i] = true
			b.Series[i] = Series{}
		}
	}
	before := b.Rows()
	b.Outcomes = filter(b.Outcomes, func(o *Outcome) bool {
		return int(o.Series) < len(bad) && !bad[o.Series] && b.Series[o.Series].Class != "" && o.storable()
	})
	b.Rollups = filter(b.Rollups, func(r *Rollup) bool {
		return int(r.Series) < len(bad) && !bad[r.Series] && !math.IsNaN(r.SumMS) && !math.IsInf(r.SumMS, 0) && storableTime(r.MinuteMS)
	})
	b.Events = filter(b.Events, func(e *Event) bool {
		return Storable(e.Pool) && Storable(e.Subject) && Storable(e.From) && Storable(e.To) && Storable(e.Detail) && storableTime(e.AtMS)
	})
	b.Metrics = filter(b.Metrics, (*MetricRow).storable)
	return before - b.Rows()
}

func filter[T any](rows []T, keep func(*T) bool) []T {
	n := 0
	for i := range rows {
		if keep(&rows[i]) {
			if n != i {
				rows[n] = rows[i]
			}
			n++
		}
	}
	return rows[:n]
}

func (o *Outcome) storable() bool {
	for _, x := range [...]float32{o.Propensity, o.HeaderMS, o.TotalMS, o.Weight, o.PredictedMS, o.Load, o.Rate} {
		if !(x >= -math.MaxFloat32 && x <= math.MaxFloat32) {
			return false
		}
	}
	return storableTime(o.AtMS)
}

// storableTime: from 1970 to 9999, which every database can hold.
func storableTime(ms int64) bool { return ms >= 0 && ms < 253_402_300_800_000 }
