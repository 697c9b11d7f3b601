package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Finding is one thing to tell the operator about a configuration: where it is, and what would be right.
type Finding struct {
	File    string `json:"file"`           // the file's name; "environment" for a variable
	Line    int    `json:"line,omitempty"` // from 1; 0 = no line
	Key     string `json:"key,omitempty"`  // as "pools[0].retry.tries", or the variable's name
	Message string `json:"message"`
}

// Environment stands in Finding.File for a value that came from an environment variable.
const Environment = "environment"

// String gives "file:line: key: message".
func (f Finding) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	b.WriteString(": ")
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	b.WriteString(f.Message)
	return b.String()
}

// Warning is a finding that does not keep the engine from starting.
type Warning = Finding

// Error is everything wrong with a configuration, in file order, each thing once.
type Error struct {
	Findings []Finding
}

// Error gives one line a finding.
func (e *Error) Error() string {
	lines := make([]string, len(e.Findings))
	for i, f := range e.Findings {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// maxFindings bounds what one file can make us print; a generated file that is wrong everywhere is told once.
const maxFindings = 200

// tidy orders findings by line, what came from a variable first, and drops repetitions: a bad value under `defaults` is
// one mistake, however many pools inherit it.
func tidy(fs []Finding) []Finding {
	slices.SortStableFunc(fs, func(a, b Finding) int {
		byKey := 0
		if a.File == Environment {
			byKey = cmp.Compare(a.Key, b.Key)
		}
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), byKey)
	})
	seen := make(map[Finding]bool, len(fs))
	fs = slices.DeleteFunc(fs, func(f Finding) bool {
		was := seen[f]
		seen[f] = true
		return was
	})
	if len(fs) > maxFindings {
		more := len(fs) - maxFindings
		fs = append(fs[:maxFindings:maxFindings], Finding{
			File: fs[0].File, Message: fmt.Sprintf("and %d more", more),
		})
	}
	return fs
}
