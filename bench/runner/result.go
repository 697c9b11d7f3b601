package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// result is what a measurement prints and saves. It says enough to judge the numbers without the machine.
type result struct {
	Name     string    `json:"name"`
	Began    string    `json:"began"`
	Seconds  float64   `json:"seconds"`
	Machine  machine   `json:"machine"`
	Versions []version `json:"versions"`
	Seeds    []uint64  `json:"seeds"` // empty: nothing is drawn, or by parts that cannot be seeded (see notes)
	Setup    string    `json:"setup"` // what was sent through what
	Tables   []table   `json:"tables"`
	Targets  []target  `json:"targets"`
	Notes    []string  `json:"notes"`
	Raw      any       `json:"raw,omitempty"` // every single value
}

type table struct {
	Title   string     `json:"title"`
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
}

// target is a limit and what was reached.
type target struct {
	What    string  `json:"what"`
	Limit   float64 `json:"limit"`
	Reached float64 `json:"reached"`
	Unit    string  `json:"unit"`
	Met     bool    `json:"met"`
}

func atMost(what string, limit, reached float64, unit string) target {
	return target{what, limit, reached, unit, reached <= limit}
}

func (r *result) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// print writes the result for people.
func (r *result) print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s, %.0f s\n", r.Name, r.Began, r.Seconds)
	fmt.Fprintf(&b, "machine   %s\n", r.Machine)
	for i, v := range r.Versions {
		head := "versions"
		if i > 0 {
			head = ""
		}
		fmt.Fprintf(&b, "%-9s %-10s %s\n", head, v.Name, v.Version)
	}
	if len(r.Seeds) > 0 {
		fmt.Fprintf(&b, "seeds     %s\n", strings.Trim(fmt.Sprint(r.Seeds), "[]"))
	}
	fmt.Fprintf(&b, "set-up    %s\n", r.Setup)
	for _, t := range r.Tables {
		b.WriteString("\n" + t.Title + "\n")
		t.print(&b)
	}
	if len(r.Targets) > 0 {
		b.WriteString("\nTargets\n")
		t := table{}
		for _, x := range r.Targets {
			verdict := "met"
			if !x.Met {
				verdict = "MISSED"
			}
			t.Rows = append(t.Rows, []string{x.What, fmt.Sprintf("%.4g %s", x.Reached, x.Unit), fmt.Sprintf("limit %.4g %s", x.Limit, x.Unit), verdict})
		}
		t.print(&b)
	}
	for _, n := range r.Notes {
		b.WriteString("\n- " + n)
	}
	if len(r.Notes) > 0 {
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// print aligns the columns: the first to the left, the others to the right.
func (t *table) print(b *strings.Builder) {
	rows := t.Rows
	if len(t.Columns) > 0 {
		rows = append([][]string{t.Columns}, rows...)
	}
	var width []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		b.WriteString(" ")
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString(" " + cell + pad)
			} else {
				b.WriteString("  " + pad + cell)
			}
		}
		b.WriteString("\n")
	}
}

// save writes NAME.txt and NAME.json.
func (r *result) save(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("folder for results: %w", err)
	}
	var text, raw strings.Builder
	if err := r.print(&text); err != nil {
		return err
	}
	if err := r.json(&raw); err != nil {
		return err
	}
	for ext, content := range map[string]string{".txt": text.String(), ".json": raw.String()} {
		if err := os.WriteFile(filepath.Join(dir, r.Name+ext), []byte(content), 0o644); err != nil {
			return fmt.Errorf("saving the result: %w", err)
		}
	}
	return nil
}
