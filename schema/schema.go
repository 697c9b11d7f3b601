// Package schema holds the SQL that makes and changes the tables of history, a folder a kind of database, numbered files that are
// applied in order, once each. A file that was released is never changed; the next change is a new file.
//
// A name like 0002_outcome.timescale.sql belongs to a flavour: of the files of one number, the one whose flavour the database
// has is applied, and the one without a flavour otherwise.
package schema

import (
	"embed"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

//go:embed sqlite/*.sql postgres/*.sql mysql/*.sql
var files embed.FS

// Step is one migration.
type Step struct {
	Version int
	Name    string
	SQL     string
}

// Steps returns the migrations of a kind of database (sqlite, postgres, mysql) in order. flavour is "" or timescale.
func Steps(kind, flavour string) ([]Step, error) {
	entries, err := files.ReadDir(kind)
	if err != nil {
		return nil, fmt.Errorf("there are no migrations for %q: %w", kind, err)
	}
	chosen := map[int]Step{}
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".sql")
		number, rest, _ := strings.Cut(name, "_")
		version, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("schema/%s/%s: its name must begin with a number", kind, e.Name())
		}
		title, of, flavoured := strings.Cut(rest, ".")
		if flavoured && of != flavour {
			continue
		}
		if _, taken := chosen[version]; taken && !flavoured {
			continue
		}
		sql, err := files.ReadFile(path.Join(kind, e.Name()))
		if err != nil {
			return nil, err
		}
		chosen[version] = Step{Version: version, Name: title, SQL: string(sql)}
	}
	steps := make([]Step, 0, len(chosen))
	for _, s := range chosen {
		steps = append(steps, s)
	}
	slices.SortFunc(steps, func(a, b Step) int { return a.Version - b.Version })
	for i, s := range steps {
		if s.Version != i+1 {
			return nil, fmt.Errorf("schema/%s: number %d is missing", kind, i+1)
		}
	}
	return steps, nil
}

// Statements cuts a migration into its statements: at semicolons that end a line, but not within $$ quotes.
func (s Step) Statements() []string {
	var out []string
	var b strings.Builder
	quoted := false
	for line := range strings.Lines(s.SQL) {
		text := strings.TrimSpace(line)
		if b.Len() == 0 && (text == "" || strings.HasPrefix(text, "--")) {
			continue
		}
		b.WriteString(line)
		if strings.Count(line, "$$")%2 == 1 {
			quoted = !quoted
		}
		if !quoted && strings.HasSuffix(text, ";") {
			out = append(out, strings.TrimSuffix(strings.TrimSpace(b.String()), ";"))
			b.Reset()
		}
	}
	if rest := strings.TrimSpace(b.String()); rest != "" {
		out = append(out, rest)
	}
	return out
}
