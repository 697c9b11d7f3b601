package model

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Meta is what a model file says of itself.
//
// Features names the values of a row, in order: the engine refuses a model that wants others than it computes. Heads names
// the outputs. Price is what the model brings besides its network, by name (decide.Price); empty where it leaves that as it is. Card is the model card, free keys: name, version, created, seeds, revision, method, metrics and so on.
// Nothing decides by it, people read it.
type Meta struct {
	Features []string           `json:"features"`
	Heads    []string           `json:"heads"`
	Price    map[string]float64 `json:"price,omitempty"`
	Card     map[string]string  `json:"card,omitempty"`
}

// metaKey is where Meta is in the file's metadata_props.
const metaKey = "weir"

// ID names a model by its bytes: the first 12 hex digits of their SHA-256.
func ID(file []byte) string {
	sum := sha256.Sum256(file)
	return hex.EncodeToString(sum[:6])
}

// Check tells whether the names fit a network of so many inputs and outputs.
func (m Meta) Check(in, out int) error {
	return errors.Join(checkNames("feature", m.Features, in, "inputs"), checkNames("head", m.Heads, out, "outputs"), m.checkCard())
}

// Fits tells how a model's features and heads differ from those wanted; nil when they are the same, in the same order.
func (m Meta) Fits(want Meta) error {
	return errors.Join(sameNames("feature", m.Features, want.Features), sameNames("head", m.Heads, want.Heads))
}

// sameNames tells how the names in a model differ from those wanted.
func sameNames(what string, have, want []string) error {
	if slices.Equal(have, want) {
		return nil
	}
	only := func(a, b []string) string {
		var names []string
		for _, n := range a {
			if !slices.Contains(b, n) {
				names = append(names, n)
			}
		}
		if len(names) > 8 {
			names = append(names[:8], fmt.Sprintf("and %d more", len(names)-8))
		}
		return strings.Join(names, ", ")
	}
	var why []string
	if len(have) != len(want) {
		why = append(why, fmt.Sprintf("it has %d %ss, %d are wanted", len(have), what, len(want)))
	}
	if names := only(want, have); names != "" {
		why = append(why, "it lacks "+names)
	}
	if names := only(have, want); names != "" {
		why = append(why, "unknown here: "+names)
	}
	if why == nil {
		i := 0
		for have[i] == want[i] {
			i++
		}
		why = append(why, fmt.Sprintf("the order differs: %s %d is %s, and %s is wanted", what, i, have[i], want[i]))
	}
	return fmt.Errorf("%ss: %s", what, strings.Join(why, "; "))
}

func checkNames(what string, names []string, want int, of string) error {
	if len(names) != want {
		return fmt.Errorf("%d %s names for a network with %d %s", len(names), what, want, of)
	}
	seen := make(map[string]int, len(names))
	for i, n := range names {
		if n == "" || !utf8.ValidString(n) {
			return fmt.Errorf("%s %d has the name %q; UTF-8 of at least one letter is needed", what, i, n)
		}
		if first, twice := seen[n]; twice {
			return fmt.Errorf("%ss %d and %d are both named %q", what, first, i, n)
		}
		seen[n] = i
	}
	return nil
}

func (m Meta) checkCard() error {
	for _, k := range slices.Sorted(maps.Keys(m.Card)) {
		if k == "" || !utf8.ValidString(k) || !utf8.ValidString(m.Card[k]) {
			return fmt.Errorf("the card's entry %q: key and value must be UTF-8, and the key not empty", k)
		}
	}
	return nil
}

// marshal is deterministic: encoding/json sorts the keys of maps.
func (m Meta) marshal() ([]byte, error) { return json.Marshal(m) }

// cardOrder is the order in which Markdown lists the usual keys; others follow by alphabet.
var cardOrder = [...]string{"name", "version", "created", "method", "data", "seeds", "revision", "command", "metrics"}

// Markdown renders the model card.
func (m Meta) Markdown() string {
	var b strings.Builder
	title := m.Card["name"]
	if title == "" {
		title = "model"
	}
	fmt.Fprintf(&b, "# %s\n\n", oneLine(title))
	keys := slices.Collect(maps.Keys(m.Card))
	place := func(k string) int {
		if i := slices.Index(cardOrder[:], k); i >= 0 {
			return i
		}
		return len(cardOrder)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if d := place(a) - place(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	if len(keys) > 0 {
		b.WriteString("| | |\n|---|---|\n")
		for _, k := range keys {
			fmt.Fprintf(&b, "| %s | %s |\n", cell(k), cell(m.Card[k]))
		}
		b.WriteByte('\n')
	}
	list := func(heading string, names []string) {
		fmt.Fprintf(&b, "## %s\n\n", heading)
		for i, n := range names {
			fmt.Fprintf(&b, "%d. `%s`\n", i, oneLine(n))
		}
	}
	list("Features", m.Features)
	b.WriteByte('\n')
	list("Heads", m.Heads)
	if len(m.Price) > 0 {
		b.WriteString("\n## Price\n\nWhere requests tell their size:\n\n")
		for _, name := range slices.Sorted(maps.Keys(m.Price)) {
			fmt.Fprintf(&b, "- `%s` %.4g\n", oneLine(name), m.Price[name])
		}
	}
	return b.String()
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// cell escapes what would end a cell or a row of a table.
func cell(s string) string {
	s = strings.ReplaceAll(strings.TrimSpace(s), "|", `\|`)
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r", ""), "\n", "<br>")
}
