package sqlrows

import (
	"cmp"
	"slices"

	"github.com/weirlb/weir/engine/history"
)

// Outcomes are read a slice of time after the other, each sorted here: a database would sort all of them on its disk first.
const (
	FirstSliceMS = 10_000
	leastSliceMS = 1000
	mostSliceMS  = 24 * 3_600_000
)

// NextSlice is how long a slice should be to have about so many rows, after one of a length that had got.
func NextSlice(lengthMS int64, got, want int) int64 {
	return min(max(lengthMS*int64(want)/int64(max(got, want/10)), leastSliceMS), mostSliceMS)
}

// manyTimes as many rows as a slice should have are held at most, roughly.
const manyTimes = 4

// FitSlice shortens a slice that would have many times the rows it should have: after an hour without traffic slices are long, and the
// next may be of a busy one. count tells how many rows a time has, at most so many; it is asked for slices only that are long enough to matter.
func FitSlice(fromMS, lengthMS int64, want int, count func(fromMS, toMS int64, most int) (int, error)) (int64, error) {
	for lengthMS > 4*FirstSliceMS {
		n, err := count(fromMS, fromMS+lengthMS, manyTimes*want)
		if err != nil {
			return 0, err
		}
		if n < manyTimes*want {
			break
		}
		lengthMS /= 8
	}
	return lengthMS, nil
}

// SortByTime puts outcomes into the order of time, which they almost have.
func SortByTime(list []history.Outcome) {
	byTime := func(a, b history.Outcome) int { return cmp.Compare(a.AtMS, b.AtMS) }
	if !slices.IsSortedFunc(list, byTime) {
		slices.SortStableFunc(list, byTime)
	}
}

// Renamer puts indexes into a list of series in place of a database's ids, and drops what is of another pool. Not safe for concurrent use.
type Renamer struct {
	Pool string // "" = every
	// Find returns the series of an id. False when there is none: a server may lose its last second in a crash; such rows are passed over.
	Find   func(id int32) (history.Series, bool, error)
	Series []history.Series // so far

	place map[int32]uint32
}

const notWanted = ^uint32(0)

// Rename changes outcomes whose Series are ids, in place, and returns those that are left.
func (r *Renamer) Rename(list []history.Outcome) ([]history.Outcome, error) {
	kept := 0
	last, at := notWanted, notWanted // outcomes of one series come in runs when traffic is thin
	for i := range list {
		o := &list[i]
		if o.Series != last {
			last = o.Series
			var ok bool
			if at, ok = r.place[int32(last)]; !ok {
				var err error
				if at, err = r.add(int32(last)); err != nil {
					return nil, err
				}
			}
		}
		if at == notWanted {
			continue
		}
		if kept != i {
			list[kept] = *o
		}
		list[kept].Series = at
		kept++
	}
	return list[:kept], nil
}

func (r *Renamer) add(id int32) (uint32, error) {
	series, ok, err := r.Find(id)
	if err != nil {
		return 0, err
	}
	at := notWanted
	if ok && (r.Pool == "" || series.Pool == r.Pool) {
		at = uint32(len(r.Series))
		r.Series = append(r.Series, series)
	}
	if r.place == nil {
		r.place = map[int32]uint32{}
	}
	r.place[id] = at
	return at, nil
}
