package history

import (
	"strconv"
	"strings"
	"time"
)

// ParseTime reads a point in time as people and programs write it: "2026-11-25T07:00:00Z" (RFC 3339), "2026-11-25" (midnight, UTC),
// Unix milliseconds, or how long ago: "90m", "24h", "7d". field stands in the error.
func ParseTime(field, text string, nowMS int64) (int64, error) {
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		if ms < 1e11 { // before 1973: somebody sent seconds
			return 0, &FieldError{field, "must be in Unix milliseconds when it is a number; " + text + " looks like seconds"}
		}
		return ms, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return told(t), nil
	}
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return told(t), nil
	}
	if ago, ok := duration(text); ok {
		return nowMS - ago, nil
	}
	return 0, &FieldError{field, `must be a time as 2026-11-25T07:00:00Z or 2026-11-25, Unix milliseconds, or how long ago, as "24h" or "7d"`}
}

// told is a time in Unix milliseconds. 0 means a time that was left out, which the first moment of 1970, as one writes it for all there is, is not.
func told(t time.Time) int64 {
	if ms := t.UnixMilli(); ms != 0 {
		return ms
	}
	return 1
}

// ParseStep reads the length of a step: "1m", "15m", "1h", "1d".
func ParseStep(text string) (int64, error) {
	ms, ok := duration(text)
	if !ok || ms == 0 || ms%MinuteMS != 0 {
		return 0, &FieldError{"step", `must be whole minutes, as "1m", "15m", "1h" or "1d"`}
	}
	return ms, nil
}

// duration reads Go's durations, and whole days.
func duration(text string) (ms int64, ok bool) {
	if days, cut := strings.CutSuffix(text, "d"); cut {
		n, err := strconv.ParseUint(days, 10, 16)
		return int64(n) * 24 * 3_600_000, err == nil
	}
	d, err := time.ParseDuration(text)
	return d.Milliseconds(), err == nil && d >= 0
}
