package config

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// DNS is a name whose answers are peers of a pool. It holds a slice: two are compared with Equal.
type DNS struct {
	Name string     `key:"name"`                  // fully qualified, lower case, without the last dot
	Port int        `key:"port" range:"0..65535"` // of every address; 0 with SRV records, which have their own
	Type RecordType `key:"type"`
	// Resolvers are asked in this order, each as "10.0.0.10:53". Empty: those of /etc/resolv.conf.
	Resolvers Addresses `key:"resolvers"`
	MinTTLMS  int       `key:"min_ttl_ms" range:"100..3600000"` // floor of a TTL, and so a bound of the rate of queries
	MaxTTLMS  int       `key:"max_ttl_ms" range:"100..86400000"`
	TimeoutMS int       `key:"timeout_ms" range:"10..60000"` // of one query to one resolver
	// KeepEmptyMS is how long the last peers stay when the answer is that there are none.
	KeepEmptyMS int `key:"keep_empty_ms" range:"0..86400000"`
	// Group is that of every peer it answers with.
	Group string `key:"group"`
}

// RecordType says which records of a name are asked for.
type RecordType string

// The record types.
const (
	RecordA    RecordType = "a"
	RecordAAAA RecordType = "aaaa"
	RecordBoth RecordType = "both" // A and AAAA
	RecordSRV  RecordType = "srv"
)

func (t *RecordType) fromText(s string) error {
	return oneOf(t, strings.ToLower(s), RecordA, RecordAAAA, RecordBoth, RecordSRV)
}

// Addresses is a list of "IP:port".
type Addresses []string

func (a Addresses) String() string { return strings.Join(a, ", ") }

// DefaultDNS is what a name has when its entry does not say otherwise.
func DefaultDNS() DNS {
	return DNS{Type: RecordBoth, MinTTLMS: 1000, MaxTTLMS: 60_000, TimeoutMS: 2000, KeepEmptyMS: 300_000}
}

// Equal tells whether two are the same in everything.
func (n *DNS) Equal(o *DNS) bool {
	a, b := *n, *o
	a.Resolvers, b.Resolvers = nil, nil
	return reflect.DeepEqual(a, b) && slices.Equal(n.Resolvers, o.Resolvers)
}

// Same tells whether two ask for the same records, however they ask.
func (n *DNS) Same(o *DNS) bool { return n.Name == o.Name && n.Port == o.Port && n.Type == o.Type }

const (
	maxNames     = 64 // of one pool
	maxResolvers = 16
)

// Discovers tells whether the pool has peers that are not in the configuration itself.
func (p *Pool) Discovers() bool { return p.PeersFile != "" || len(p.DNS) > 0 }

// dns reads the names of a pool: a list of mappings, or one mapping.
func (d *decoder) dns(n *yaml.Node, v reflect.Value, path string) {
	items := []*yaml.Node{n}
	if n.Kind != yaml.MappingNode {
		var ok bool
		if items, ok = d.list(n, path, "names, each as {name: app.internal, port: 8080}", maxNames); !ok {
			return
		}
	}
	var all []DNS
	first := map[string]int{}
	for i, item := range items {
		at := path
		if n.Kind != yaml.MappingNode {
			at += "[" + strconv.Itoa(i) + "]"
		}
		item = resolve(item)
		if !d.spend() {
			return
		}
		d.places[at] = d.at(item, at)
		if item.Kind != yaml.MappingNode {
			d.errorf(d.at(item, at), "must be a mapping as {name: app.internal, port: 8080}, is %s", describe(item))
			continue
		}
		one, before := DefaultDNS(), len(d.errs)
		d.object(item, reflect.ValueOf(&one).Elem(), at)
		if len(d.errs) > before {
			continue
		}
		if d.name(&one, at); len(d.errs) > before {
			continue
		}
		key := fmt.Sprintf("%s %d %s", one.Name, one.Port, one.Type)
		if line, dup := first[key]; dup {
			d.errorf(d.where(at, at+".name"), "%s is in this pool already, on line %d: remove one", quote(one.Name), line)
			continue
		}
		first[key] = item.Line
		all = append(all, one)
	}
	v.Set(reflect.ValueOf(all))
}

// name checks one entry and makes its name canonical.
func (d *decoder) name(n *DNS, at string) {
	name := strings.ToLower(strings.TrimSuffix(strings.TrimSpace(n.Name), "."))
	where := d.where(at, at+".name")
	switch _, isAddress := netip.ParseAddr(name); {
	case n.Name == "":
		d.errorf(where, "has no name: write {name: app.internal, port: 8080}")
	case isAddress == nil:
		d.errorf(where, "is an address, not a name: put it under peers, as %s", quote(netip.AddrPortFrom(netip.MustParseAddr(name).WithZone(""), 8080).String()))
	case strings.Contains(name, ":"):
		d.errorf(where, "must be a name alone, the port stands in `port`, is %s", quote(n.Name))
	case !validDomain(name):
		d.errorf(where, "must be a domain name as app.internal: labels of at most 63 letters, digits, - and _, is %s", quote(n.Name))
	}
	n.Name = name
	switch port := d.where(at, at+".port"); {
	case n.Type == RecordSRV && n.Port != 0:
		d.errorf(port, "SRV records have their own ports: remove it, or choose another type")
	case n.Type != RecordSRV && n.Port == 0:
		d.errorf(port, "needs the port that the peers listen on, from 1 to 65535: write {name: %s, port: 8080}, or type: srv", name)
	}
	if n.Group != "" && !validName(n.Group) {
		d.errorf(d.where(at, at+".group"), "must be at most %d of A-Z a-z 0-9 . _ -, is %s", maxNameSize, quote(n.Group))
	}
	if n.MinTTLMS > n.MaxTTLMS {
		d.errorf(d.where(at, at+".min_ttl_ms", at+".max_ttl_ms"), "min_ttl_ms (%d) must not exceed max_ttl_ms (%d)", n.MinTTLMS, n.MaxTTLMS)
	}
}

func validDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

// resolvers reads a list of addresses of DNS servers; the port may be left out.
func (d *decoder) resolvers(n *yaml.Node, v reflect.Value, path string) {
	items := []*yaml.Node{n}
	if n.Kind != yaml.ScalarNode || isNull(n) {
		var ok bool
		if items, ok = d.list(n, path, "addresses", maxResolvers); !ok {
			return
		}
	}
	var all Addresses
	for i, item := range items {
		item = resolve(item)
		at := d.at(item, path+"["+strconv.Itoa(i)+"]")
		if item.Kind != yaml.ScalarNode {
			d.errorf(at, `must be an address as "10.0.0.10" or "10.0.0.10:53", is %s`, describe(item))
			continue
		}
		addr, err := resolverAddress(strings.TrimSpace(item.Value))
		if err != nil {
			d.errorf(at, "%v, is %s", err, quote(item.Value))
			continue
		}
		all = append(all, addr)
	}
	v.Set(reflect.ValueOf(all))
}

func resolverAddress(s string) (string, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil && ap.Port() != 0 {
		return ap.String(), nil
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		return "", errors.New(`must be the address of a DNS server as "10.0.0.10", "10.0.0.10:53" or "[fd00::10]:53"`)
	}
	return netip.AddrPortFrom(a, 53).String(), nil
}
