package config

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weirlb/weir/engine/yamlread"
)

// place is where a key was set, so that a check across keys can point at a line.
type place struct {
	file string
	line int
	key  string
}

// decoder walks the node tree of one file along the struct tags. It goes on after an error, so that one run tells all.
type decoder struct {
	file     string
	origin   map[*yaml.Node]string // nodes that came from an environment variable, by its name
	places   map[string]place      // by key path
	errs     []Finding
	warnings []Finding
	base     Settings // what every pool starts from: the defaults of this file
	visits   int      // nodes looked at; see maxVisits
}

// maxVisits bounds the work on one file. Aliases let a short file stand for an endless one.
const maxVisits = 200_000

// spend counts one node looked at. False when the file has used up its share; that is told once.
func (d *decoder) spend() bool {
	d.visits++
	if d.visits == maxVisits {
		d.errorf(place{file: d.file}, "is too large: more than %d values, aliases counted each time", maxVisits)
	}
	return d.visits < maxVisits
}

func (d *decoder) at(n *yaml.Node, path string) place {
	if v, ok := d.origin[n]; ok {
		return place{file: Environment, key: v}
	}
	return place{file: d.file, line: n.Line, key: path}
}

func (d *decoder) errorf(p place, format string, args ...any) {
	d.errs = append(d.errs, p.finding(format, args...))
}

func (d *decoder) warnf(p place, format string, args ...any) {
	d.warnings = append(d.warnings, p.finding(format, args...))
}

func (p place) finding(format string, args ...any) Finding {
	return Finding{File: p.file, Line: p.line, Key: p.key, Message: fmt.Sprintf(format, args...)}
}

// syntax tells what the parser says of a text.
func (d *decoder) syntax(err error, t *yamlread.Text) {
	line, msg := t.Wrong(err)
	d.errorf(place{file: d.file, line: line}, "%s", msg)
}

// value reads node n into v, which is addressable.
func (d *decoder) value(n *yaml.Node, v reflect.Value, p property, path string) {
	n = resolve(n)
	if !d.spend() {
		return
	}
	d.places[path] = d.at(n, path)
	switch {
	case p.typ == reflect.TypeFor[Socket]() && n.Kind == yaml.ScalarNode && !isNull(n):
		d.value(n, v.FieldByName("Path"), property{name: "path", typ: reflect.TypeFor[string]()}, path)
	case p.typ == reflect.TypeFor[Check]():
		d.check(n, v, path)
	case p.typ == reflect.TypeFor[Affinity]() && n.Kind == yaml.ScalarNode && !isNull(n):
		d.affinityOff(n, v, path)
	case p.typ == reflect.TypeFor[Split]() && n.Kind == yaml.ScalarNode && !isNull(n):
		d.splitOff(n, v, path)
	case p.typ == reflect.TypeFor[[]Pool]():
		d.pools(n, v, path)
	case p.typ == reflect.TypeFor[[]Peer]():
		d.peers(n, v, path)
	case p.typ == reflect.TypeFor[[]Metric]():
		d.metrics(n, v, path)
	case p.typ == reflect.TypeFor[[]DNS]():
		d.dns(n, v, path)
	case p.typ == reflect.TypeFor[Addresses]():
		d.resolvers(n, v, path)
	case p.typ == reflect.TypeFor[Settings]():
		d.object(n, v, path)
		d.base = v.Interface().(Settings)
	case isObject(p.typ):
		d.object(n, v, path)
	default:
		d.scalar(n, v, p, path)
	}
}

// object reads a mapping. Nothing but the keys of the struct may be in it, each once.
func (d *decoder) object(n *yaml.Node, v reflect.Value, path string) {
	if isNull(n) {
		return // `log:` with nothing under it keeps the defaults
	}
	if n.Kind != yaml.MappingNode {
		d.errorf(d.at(n, path), "must be a mapping of keys (%s), is %s", strings.Join(names(v.Type()), ", "), describe(n))
		return
	}
	known := properties(v.Type())
	first := map[string]int{}
	values := map[string]*yaml.Node{}
	for _, kv := range d.pairs(n, path) {
		name := kv.key.Value
		full := join(path, name)
		if line, dup := first[name]; dup {
			if kv.merged {
				continue // a merged mapping gives way to what is written out
			}
			d.errorf(d.at(kv.key, cleanKey(full)), "is set twice, first on line %d: remove one", line)
			continue
		}
		first[name] = kv.key.Line
		if _, ok := find(known, name); !ok {
			d.unknown(kv.key, path, v.Type())
			continue
		}
		values[name] = kv.value
	}
	// In the order of the struct, not of the file: pools start from the defaults, wherever these stand.
	for _, p := range known {
		if n, ok := values[p.name]; ok {
			d.value(n, v.FieldByIndex(p.index), p, join(path, p.name))
		}
	}
}

func (d *decoder) unknown(key *yaml.Node, path string, t reflect.Type) {
	valid := names(t)
	name := cleanKey(key.Value)
	where := d.at(key, join(path, name))
	if s := Nearest(name, valid); s != "" {
		d.errorf(where, "unknown key; did you mean %q?", s)
		return
	}
	if len(d.errs) > maxFindings { // no more are shown; they are only counted
		d.errorf(where, "unknown key")
		return
	}
	// A key of another level is the commonest mistake after a typing error: name its place.
	for _, k := range Keys() {
		if strings.HasPrefix(k.Path, "defaults.") {
			continue
		}
		if i := strings.LastIndexByte(k.Path, '.'); k.Path[i+1:] == name {
			d.errorf(where, "unknown key here; it belongs at %s", k.Path)
			return
		}
		for _, more := range []string{".", "["} { // a mapping and a list have no entry of their own
			if i := strings.Index(k.Path, "."+name+more); i >= 0 {
				d.errorf(where, "unknown key here; it belongs at %s", k.Path[:i+1+len(name)])
				return
			}
		}
	}
	d.errorf(where, "unknown key; known here: %s", strings.Join(valid, ", "))
}

// check reads the active check. `check: off` in a pool drops the one from `defaults`; any mapping, even an empty one,
// turns checks on.
func (d *decoder) check(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.ScalarNode {
		switch strings.ToLower(n.Value) {
		case "off", "false", "no":
			v.Set(reflect.ValueOf(Check{}))
		default:
			d.errorf(d.at(n, path), `must be a mapping as {path: /healthz}, or "off", is %s`, describe(n))
		}
		return
	}
	if n.Kind == yaml.MappingNode && !v.FieldByName("Enabled").Bool() {
		v.Set(reflect.ValueOf(DefaultCheck()))
	}
	d.object(n, v, path)
}

// affinityOff reads `affinity: off`, which drops what stands in `defaults`.
func (d *decoder) affinityOff(n *yaml.Node, v reflect.Value, path string) {
	switch strings.ToLower(n.Value) {
	case "off", "false", "no", "none":
		v.Set(reflect.ValueOf(DefaultAffinity()))
	default:
		d.errorf(d.at(n, path), `must be a mapping as {by: cookie}, or "off", is %s`, describe(n))
	}
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, p property, path string) {
	where := d.at(n, path)
	if n.Kind != yaml.ScalarNode {
		d.errorf(where, "must be %s, is %s", want(p), describe(n))
		return
	}
	if isNull(n) {
		return // `zone:` with nothing after it keeps the default
	}
	s := n.Value
	if t, ok := v.Addr().Interface().(text); ok {
		if err := t.fromText(s); err != nil {
			d.errorf(where, "%v, is %s", err, shown(v, s))
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Int:
		i, err := strconv.ParseInt(s, 10, 64)
		if err != nil || float64(i) < p.min || float64(i) > p.max {
			d.errorf(where, "must be %s, is %s", want(p), shown(v, s))
			return
		}
		v.SetInt(i)
	case reflect.Float64:
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsNaN(f) || f < p.min || f > p.max {
			d.errorf(where, "must be %s, is %s", want(p), shown(v, s))
			return
		}
		v.SetFloat(f)
	default:
		panic("config: no reader for " + v.Type().String()) // a field was added without one: every test sees it
	}
}

// want says in words what a scalar key takes.
func want(p property) string {
	num := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	switch p.typ.Kind() {
	case reflect.Int:
		return "a whole number from " + num(p.min) + " to " + num(p.max)
	case reflect.Float64:
		return "a number from " + num(p.min) + " to " + num(p.max)
	default:
		return "a text"
	}
}

// shown quotes a bad value for an error, unless the field may hold a secret.
func shown(v reflect.Value, s string) string {
	switch v.Interface().(type) {
	case Secret, URL, StoreURL, PageURL:
		return "something else"
	}
	return quote(s)
}

func quote(s string) string {
	const most = 60
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strconv.Quote(s)
}

type pair struct {
	key, value *yaml.Node
	merged     bool
}

// maxMergeDepth bounds how deep `<<` may nest: a mapping may name itself.
const maxMergeDepth = 8

// pairs lists a mapping's keys and values, those merged by `<<` after the ones written out.
func (d *decoder) pairs(n *yaml.Node, path string) []pair {
	var own, merged []pair
	var collect func(n *yaml.Node, depth int, into *[]pair)
	collect = func(n *yaml.Node, depth int, into *[]pair) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !d.spend() {
				return
			}
			k, v := n.Content[i], n.Content[i+1]
			if k.Kind != yaml.ScalarNode {
				d.errorf(d.at(k, path), "a key must be a plain word, is %s", describe(k))
				continue
			}
			if k.Tag != "!!merge" {
				*into = append(*into, pair{k, v, depth > 0})
				continue
			}
			from := []*yaml.Node{resolve(v)}
			if from[0].Kind == yaml.SequenceNode {
				from = from[0].Content
			}
			for _, m := range from {
				m = resolve(m)
				if m.Kind != yaml.MappingNode || depth >= maxMergeDepth {
					d.errorf(d.at(k, path), "<< must name a mapping, nested at most %d deep", maxMergeDepth)
					break
				}
				collect(m, depth+1, &merged)
			}
		}
	}
	collect(n, 0, &own)
	return append(own, merged...)
}

// resolve follows an alias. Anchors cannot name aliases, so one step is enough.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// describe names the kind of a node, never its content, which may be secret.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "empty"
	case n.Tag == "!!int", n.Tag == "!!float":
		return "a number"
	}
	return "a text"
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// cleanKey makes a key printable. What follows a colon is cut: `{token:abc}` without the space makes the secret
// part of the key.
func cleanKey(s string) string {
	s, _, _ = strings.Cut(s, ":")
	if q := strconv.Quote(s); q != `"`+s+`"` || len(s) > 80 {
		return quote(s)
	}
	return s
}

func names(t reflect.Type) []string {
	ps := properties(t)
	ns := make([]string, len(ps))
	for i, p := range ps {
		ns[i] = p.name
	}
	return ns
}

func find(ps []property, name string) (property, bool) {
	for _, p := range ps {
		if p.name == name {
			return p, true
		}
	}
	return property{}, false
}
