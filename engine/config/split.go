package config

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Split sends a share of a pool's requests to a group of its peers, and the others to the rest (docs/canary.md). The zero Group is none.
type Split struct {
	Group string  `key:"group"` // of Peer.Group
	Share float64 `key:"share" range:"0..1"`
	// Key makes the share one of keys instead of requests: text with NGINX variables in it. Empty = each request is drawn for itself.
	Key string `key:"key"`
	// Header sends a request to the group whatever the share: "X-Canary: yes" by its value, "X-Canary" by any that is not empty.
	Header string `key:"header"`
	// Fallback lets requests of one side go to the other when theirs has no usable peer left for them.
	Fallback Switch `key:"fallback"`
}

// DefaultSplit is what a pool has that says nothing of it.
func DefaultSplit() Split { return Split{Fallback: true} }

// On reports whether there is a split.
func (s *Split) On() bool { return s.Group != "" }

// HeaderParts are the header's name and the value asked for; the value is empty for any.
func (s *Split) HeaderParts() (name, value string) {
	name, value, _ = strings.Cut(s.Header, ":")
	return strings.TrimSpace(name), strings.TrimSpace(value)
}

var headerName = regexp.MustCompile(`^[A-Za-z0-9-]{1,100}$`) // what NGINX makes a variable of

// splitOff reads `split: off`.
func (d *decoder) splitOff(n *yaml.Node, v reflect.Value, path string) {
	switch strings.ToLower(n.Value) {
	case "off", "false", "no", "none":
		v.Set(reflect.ValueOf(DefaultSplit()))
	default:
		d.errorf(d.at(n, path), `must be a mapping as {group: canary, share: 0.05}, or "off", is %s`, describe(n))
	}
}

// split checks what no single value shows.
func (d *decoder) split(p *Pool, base string) {
	s := &p.Split
	at := func(key string) place { return d.where(base, base+".split."+key, base+".split") }
	if !s.On() {
		if _, set := d.places[base+".split"]; set && *s != DefaultSplit() {
			d.errorf(at("group"), "needs the name of a group of peers: add `group: canary`, and `group: canary` to the peers that are in it")
		}
		return
	}
	if !validName(s.Group) {
		d.errorf(at("group"), "must be at most %d of A-Z a-z 0-9 . _ -, is %s", maxNameSize, quote(s.Group))
		return
	}
	if s.Key != "" {
		if problem := keyProblem(s.Key); problem != "" {
			d.errorf(at("key"), "%s, is %s", problem, quote(s.Key))
		}
	}
	if name, value := s.HeaderParts(); s.Header != "" {
		printable := strings.IndexFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) < 0
		switch {
		case !headerName.MatchString(name):
			d.errorf(at("header"), `must be the name of a header, and its value if it matters, as "X-Canary: yes", is %s`, quote(s.Header))
		case len(value) > 256 || !printable:
			d.errorf(at("header"), "the value may have 256 characters of printable ASCII, is %s", quote(value))
		}
	}
	if p.Affinity.By == AffinityHash {
		d.errorf(at("group"), "does not go with affinity by hash, which would send one key to two peers as the share changes: use `split.key` to keep clients on a side, or affinity by cookie")
	}
	d.splitPeers(p, at("group"))
}

// shadow checks that there is a pool to be a shadow of.
func (d *decoder) shadow(c *Config, p *Pool, base string) {
	if p.ShadowOf == "" {
		return
	}
	at := d.where(base, base+".shadow_of")
	live := c.Pool(p.ShadowOf)
	switch {
	case p.ShadowOf == p.Name:
		d.errorf(at, "a pool cannot be its own shadow: name the pool whose requests are mirrored to it")
	case live == nil:
		d.errorf(at, "there is no pool %s: name the pool whose requests are mirrored to this one", quote(p.ShadowOf))
	case p.Retry.Tries > 1:
		d.warnf(at, "retry.tries is %d: a request that is mirrored is worth no second try, and the client's connection waits for it; set `retry: {tries: 1}`", p.Retry.Tries)
	}
}

// splitPeers warns of a group that has nobody in it, or everybody. What a file says may be another thing when the engine reads it: weir check looks.
func (d *decoder) splitPeers(p *Pool, at place) {
	if p.PeersFile != "" {
		return
	}
	if problem := p.splitProblem(nil); problem != "" {
		d.warnf(at, "%s", problem)
	}
}

// splitProblem tells what is wrong with the split when these are the peers of the pool's file; empty: nothing is. A name counts as one peer.
func (p *Pool) splitProblem(file []Peer) string {
	in, out := 0, 0
	count := func(group string) {
		if group == p.Split.Group {
			in++
		} else {
			out++
		}
	}
	seen := map[string]bool{} // an address is as the first that names it says
	for _, peers := range [][]Peer{p.Peers, file} {
		for i := range peers {
			if addr := peers[i].Address; !seen[addr] {
				seen[addr] = true
				count(peers[i].Group)
			}
		}
	}
	for i := range p.DNS {
		count(p.DNS[i].Group)
	}
	switch {
	case !p.Split.On() || in+out == 0:
	case in == 0:
		return fmt.Sprintf("no peer of pool %q is in group %q: nothing is split; add `group: %s` to the peers that are", p.Name, p.Split.Group, p.Split.Group)
	case out == 0:
		return fmt.Sprintf("all peers of pool %q are in group %q: nothing is split", p.Name, p.Split.Group)
	}
	return ""
}
