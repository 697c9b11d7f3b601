package scenario

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// reader walks YAML nodes and collects every problem with its file and line, so that a person mends a file in one go.
type reader struct {
	file string
	errs []error
}

// maxErrors bounds what is reported for one file.
const maxErrors = 20

func (r *reader) fail(n *yaml.Node, format string, args ...any) {
	if len(r.errs) < maxErrors {
		r.errs = append(r.errs, fmt.Errorf("%s:%d: %s", r.file, n.Line, fmt.Sprintf(format, args...)))
	}
}

func (r *reader) err() error { return errors.Join(r.errs...) }

// fields is one mapping of the file: its values by key, each of which must be one the caller knows.
type fields struct {
	r    *reader
	at   *yaml.Node // the mapping itself, for problems of the whole
	path string     // as "peers[2]", empty at the top
	vals map[string]*yaml.Node
}

func (r *reader) mapping(n *yaml.Node, path string, known ...string) (fields, bool) {
	f := fields{r: r, at: n, path: path, vals: map[string]*yaml.Node{}}
	n = follow(n)
	if n.Kind != yaml.MappingNode {
		r.fail(n, "%s must be a mapping with the keys %s", orFile(path), strings.Join(known, ", "))
		return f, false
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode || !slices.Contains(known, key.Value):
			r.fail(key, "unknown key %q%s; known keys are %s", key.Value, within(path), strings.Join(known, ", "))
		case f.vals[key.Value] != nil:
			r.fail(key, "key %q is given twice%s", key.Value, within(path))
		default:
			f.vals[key.Value] = follow(val)
		}
	}
	return f, true
}

func (r *reader) list(n *yaml.Node, path string, limit int) []*yaml.Node {
	if n.Kind != yaml.SequenceNode {
		r.fail(n, "%s must be a list", path)
		return nil
	}
	if len(n.Content) > limit {
		r.fail(n, "%s has %d entries; at most %d are allowed", path, len(n.Content), limit)
		return nil
	}
	out := make([]*yaml.Node, len(n.Content))
	for i, c := range n.Content {
		out[i] = follow(c)
	}
	return out
}

// follow resolves an alias. YAML refuses an alias inside its own anchor only when it is decoded into Go values, so the
// depth is bounded here.
func follow(n *yaml.Node) *yaml.Node {
	for depth := 0; n.Kind == yaml.AliasNode && depth < 10; depth++ {
		n = n.Alias
	}
	return n
}

func (f *fields) has(key string) bool { return f.vals[key] != nil }

func (f *fields) name(key string) string {
	if f.path == "" {
		return key
	}
	return f.path + "." + key
}

// number gives the value of key, which must be from low to high, or def when it is absent or wrong.
func (f *fields) number(key string, def, low, high float64) float64 {
	v, ok := f.parse(key)
	if !ok {
		return def
	}
	if v < low || v > high {
		f.r.fail(f.vals[key], "%s must be from %v to %v, not %s", f.name(key), low, high, f.vals[key].Value)
		return def
	}
	return v
}

// positive is number for values that must be above 0.
func (f *fields) positive(key string, def, high float64) float64 {
	v, ok := f.parse(key)
	if !ok {
		return def
	}
	if v <= 0 || v > high {
		f.r.fail(f.vals[key], "%s must be above 0 and at most %v, not %s", f.name(key), high, f.vals[key].Value)
		return def
	}
	return v
}

// parse gives the number that key has; false when it has none, which is reported unless the key is absent.
func (f *fields) parse(key string) (float64, bool) {
	n := f.vals[key]
	if n == nil {
		return 0, false
	}
	v, err := strconv.ParseFloat(n.Value, 64)
	if n.Kind != yaml.ScalarNode || err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		f.r.fail(n, "%s must be a number, not %s", f.name(key), describe(n))
		return 0, false
	}
	return v, true
}

func (f *fields) integer(key string, def, low, high int) int {
	n := f.vals[key]
	if n == nil {
		return def
	}
	v := f.number(key, float64(def), float64(low), float64(high))
	if v != math.Trunc(v) {
		f.r.fail(n, "%s must be a whole number, not %s", f.name(key), n.Value)
		return def
	}
	return int(v)
}

func (f *fields) boolean(key string) bool {
	n := f.vals[key]
	if n == nil {
		return false
	}
	if n.Kind != yaml.ScalarNode || (n.Value != "true" && n.Value != "false") {
		f.r.fail(n, "%s must be true or false, not %s", f.name(key), describe(n))
		return false
	}
	return n.Value == "true"
}

func (f *fields) text(key, def string) string {
	n := f.vals[key]
	if n == nil {
		return def
	}
	if n.Kind != yaml.ScalarNode || n.Value == "" {
		f.r.fail(n, "%s must be a text", f.name(key))
		return def
	}
	return n.Value
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return strconv.Quote(n.Value)
	}
}

func orFile(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

func within(path string) string {
	if path == "" {
		return ""
	}
	return " in " + path
}
