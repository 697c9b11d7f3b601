package config

import (
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds of one configuration. The peers of a pool share one u16 index in a batch of outcomes and one table.
const (
	maxPools    = 1024
	maxPeers    = 4096
	maxNameSize = 64
)

// pools reads the list of pools. Each starts as a copy of the defaults, which were read before.
func (d *decoder) pools(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.MappingNode {
		d.errorf(d.at(n, path), "must be a list: begin each pool with `- name: NAME`")
		return
	}
	items, ok := d.list(n, path, "pools", maxPools)
	if !ok {
		return
	}
	pools := make([]Pool, 0, len(items))
	first := map[string]int{}
	for i, item := range items {
		p := Pool{Settings: d.base, Split: DefaultSplit(), Line: resolve(item).Line}
		at := path + "[" + strconv.Itoa(i) + "]"
		item = resolve(item)
		d.places[at] = d.at(item, at)
		if item.Kind != yaml.MappingNode {
			d.errorf(d.at(item, at), "must be a mapping as {name: api, peers: [...]}, is %s", describe(item))
			continue
		}
		before := len(d.errs)
		d.object(item, reflect.ValueOf(&p).Elem(), at)
		d.poolName(p.Name, at, first, len(d.errs) > before)
		if len(p.Peers) == 0 && !p.Discovers() && len(d.errs) == before {
			d.warnf(d.places[at], "pool %q has no peers: every request for it is answered 503", p.Name)
		}
		if where, set := d.places[at+".peers_file"]; set {
			p.PeersFileAt = where.finding("")
			d.peersFile(&p, where)
		}
		pools = append(pools, p)
	}
	v.Set(reflect.ValueOf(pools))
}

func (d *decoder) peersFile(p *Pool, where place) {
	if strings.ContainsFunc(p.PeersFile, func(r rune) bool { return r < ' ' }) || len(p.PeersFile) > 4096 {
		d.errorf(where, "must be the path of a file, is %s", quote(p.PeersFile))
		p.PeersFile = ""
	}
}

func (d *decoder) poolName(name, at string, first map[string]int, failed bool) {
	where, set := d.places[at+".name"]
	switch {
	case !set:
		d.errorf(d.places[at], "has no name: add `name: NAME`")
		return
	case name == "" && failed:
		return // the name itself was refused already
	case !validName(name):
		d.errorf(where, "must be 1 to %d of A-Z a-z 0-9 . _ -, is %s", maxNameSize, quote(name))
		return
	}
	if line, dup := first[name]; dup {
		d.errorf(where, "there is a pool %q already, on line %d: names must differ", name, line)
		return
	}
	first[name] = where.line
}

func validName(s string) bool {
	if s == "" || len(s) > maxNameSize {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// peers reads the list of peers; an entry is an address or a mapping. Two that are one after canonical writing are
// refused: a peer's state follows its address, so it cannot be in a pool twice.
func (d *decoder) peers(n *yaml.Node, v reflect.Value, path string) {
	items, ok := d.list(n, path, "peers", maxPeers)
	if !ok {
		return
	}
	peers := make([]Peer, 0, len(items))
	first := map[string]int{}
	for i, item := range items {
		p := Peer{Weight: 1}
		at := path + "[" + strconv.Itoa(i) + "]"
		item = resolve(item)
		if !d.spend() {
			return
		}
		where := d.at(item, at)
		switch {
		case item.Kind == yaml.ScalarNode && !isNull(item):
			p.Address = item.Value
		case item.Kind == yaml.MappingNode:
			before := len(d.errs)
			d.object(item, reflect.ValueOf(&p).Elem(), at)
			if w, set := d.places[at+".address"]; set {
				where = w
			} else {
				d.errorf(where, `has no address: write {address: "10.0.0.1:8080"}`)
				continue
			}
			if p.Address == "" && len(d.errs) > before {
				continue
			}
		default:
			d.errorf(where, `must be an address as "10.0.0.1:8080", or {address: "10.0.0.1:8080", weight: 2}, is %s`, describe(item))
			continue
		}
		addr, err := ParseAddress(strings.TrimSpace(p.Address))
		if err != nil {
			d.errorf(where, "%s: %v", quote(p.Address), err)
			continue
		}
		if line, dup := first[addr]; dup {
			d.errorf(where, "peer %s is in this pool already, on line %d: remove one, or give the first a higher weight", addr, line)
			continue
		}
		first[addr] = item.Line
		p.Address = addr
		d.rank(&p, at)
		if p.Zone != "" && !validName(p.Zone) {
			d.errorf(d.places[at+".zone"], "must be at most %d of A-Z a-z 0-9 . _ -, is %s", maxNameSize, quote(p.Zone))
		}
		if p.Group != "" && !validName(p.Group) {
			d.errorf(d.places[at+".group"], "must be at most %d of A-Z a-z 0-9 . _ -, is %s", maxNameSize, quote(p.Group))
		}
		peers = append(peers, p)
	}
	v.Set(reflect.ValueOf(peers))
}

// rank makes a tier of `backup: true`.
func (d *decoder) rank(p *Peer, at string) {
	_, tier := d.places[at+".tier"]
	switch {
	case bool(p.Backup) && tier && p.Tier == 0:
		d.errorf(d.places[at+".backup"], "backup: true contradicts tier: 0: remove one")
	case bool(p.Backup) && !tier:
		p.Tier = 1
	case !bool(p.Backup) && p.Tier > 0:
		if where, set := d.places[at+".backup"]; set {
			d.errorf(where, "backup: false contradicts tier: %d: remove one", p.Tier)
		}
	}
	p.Backup = p.Tier > 0
}

func (d *decoder) list(n *yaml.Node, path, what string, most int) ([]*yaml.Node, bool) {
	switch {
	case isNull(n):
		return nil, false
	case n.Kind != yaml.SequenceNode:
		d.errorf(d.at(n, path), "must be a list of %s, is %s", what, describe(n))
		return nil, false
	case len(n.Content) > most:
		d.errorf(d.at(n, path), "may have %d %s, has %d", most, what, len(n.Content))
		return nil, false
	}
	return n.Content, true
}
