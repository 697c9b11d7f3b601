package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/weirlb/weir/engine/config"
)

// Finding is one thing wrong or doubtful, with its place.
type Finding = config.Finding

// Report is the outcome of a check. With errors in it, the engine or NGINX would not start, or would not do what the
// files say. Notes are of what may be right: the check does not know enough.
type Report struct {
	Errors   []Finding `json:"errors"`
	Warnings []Finding `json:"warnings"`
	Notes    []Finding `json:"notes"`
}

// OK tells whether there are no errors; warnings do not count.
func (r *Report) OK() bool { return len(r.Errors) == 0 }

func (r *Report) errorf(file string, line int, key, format string, args ...any) {
	r.Errors = append(r.Errors, Finding{File: file, Line: line, Key: key, Message: fmt.Sprintf(format, args...)})
}

func (r *Report) warnf(file string, line int, key, format string, args ...any) {
	r.Warnings = append(r.Warnings, Finding{File: file, Line: line, Key: key, Message: fmt.Sprintf(format, args...)})
}

func (r *Report) notef(file string, line int, key, format string, args ...any) {
	r.Notes = append(r.Notes, Finding{File: file, Line: line, Key: key, Message: fmt.Sprintf(format, args...)})
}

// tidy orders findings by place and drops repetitions: one directive may concern many locations.
func (r *Report) tidy() {
	for _, fs := range []*[]Finding{&r.Errors, &r.Warnings, &r.Notes} {
		slices.SortStableFunc(*fs, func(a, b Finding) int {
			return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
		})
		*fs = slices.Compact(*fs)
		if *fs == nil {
			*fs = []Finding{} // in JSON an empty list, not null
		}
	}
}

// Print writes the report for people: one line a finding, aligned, and a count at the end.
func (r *Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, kind := range []struct {
		name     string
		findings []Finding
	}{{"error", r.Errors}, {"warning", r.Warnings}, {"note", r.Notes}} {
		for _, f := range kind.findings {
			place := f.File
			if f.Line > 0 {
				place += ":" + strconv.Itoa(f.Line)
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", kind.name, place, f.Key, f.Message)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s, %s\n", count(len(r.Errors), "error"), count(len(r.Warnings), "warning"))
	return err
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}

// JSON writes the report as one indented JSON object: {"errors": [...], "warnings": [...], "notes": [...]}.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
