package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// property is one key of a struct, as its tags declare it.
type property struct {
	name     string
	index    []int // for reflect.Value.FieldByIndex
	min, max float64
	bounds   string // as the tag writes them
	typ      reflect.Type
}

// properties lists the keys of a struct type in order, those of an inlined struct in its place.
func properties(t reflect.Type) []property {
	var ps []property
	for i := range t.NumField() {
		f := t.Field(i)
		name, opt, _ := strings.Cut(f.Tag.Get("key"), ",")
		if opt == "inline" {
			for _, p := range properties(f.Type) {
				p.index = append([]int{i}, p.index...)
				ps = append(ps, p)
			}
			continue
		}
		if name == "" || name == "-" {
			continue
		}
		p := property{name: name, index: []int{i}, typ: f.Type}
		p.bounds = f.Tag.Get("range")
		if lo, hi, ok := strings.Cut(p.bounds, ".."); ok {
			p.min, _ = strconv.ParseFloat(lo, 64)
			p.max, _ = strconv.ParseFloat(hi, 64)
		}
		ps = append(ps, p)
	}
	return ps
}

// isObject tells whether a type is a mapping in the file, not a scalar read by fromText.
func isObject(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(textType)
}

var textType = reflect.TypeFor[text]()

// Key describes one scalar key of the schema, for documentation and for the environment.
type Key struct {
	Path     string // "admin.listen", "defaults.retry.tries", "pools[].peers[].weight"
	Default  string // as it would be written; "" = empty
	Range    string // "10..60000" for numbers, both ends allowed
	Variable string // the environment variable that overrides it; "" inside lists
}

// Keys lists every scalar key of weir.yaml in the order of the types.
func Keys() []Key {
	c := Default()
	c.Defaults.Check = DefaultCheck()
	c.Pools = []Pool{{Settings: c.Defaults, Split: DefaultSplit(), Peers: []Peer{{Weight: 1}}, Metrics: []Metric{DefaultMetric()}, DNS: []DNS{DefaultDNS()}}}
	var keys []Key
	walkKeys(reflect.ValueOf(c), "", &keys)
	return keys
}

func walkKeys(v reflect.Value, prefix string, keys *[]Key) {
	for _, p := range properties(v.Type()) {
		f := v.FieldByIndex(p.index)
		path := prefix + p.name
		switch {
		case isObject(p.typ):
			walkKeys(f, path+".", keys)
		case p.typ.Kind() == reflect.Slice && p.typ.Elem().Kind() == reflect.Struct:
			walkKeys(f.Index(0), path+"[].", keys)
		default:
			k := Key{Path: path, Default: fmt.Sprint(f.Interface()), Range: p.bounds}
			if !strings.Contains(path, "[]") {
				k.Variable = variable(path)
			}
			*keys = append(*keys, k)
		}
	}
}

func variable(path string) string {
	return "WEIR_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}
