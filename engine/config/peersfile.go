package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weirlb/weir/engine/yamlread"
)

// ReadPeersFile reads the file of a pool's `peers_file`. See ParsePeers.
func ReadPeersFile(path string) ([]Peer, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("reading the peers: %s is no regular file", path) // a pipe would block
	}
	data, err := readBounded(path, maxFileSize)
	if err != nil {
		return nil, fmt.Errorf("reading the peers: %w", err)
	}
	return ParsePeers(path, data)
}

// ParsePeers reads a list of peers in one of two forms; name stands in the errors, an *Error with every problem found.
//
// Lines: an address each, with weight=N, backup, tier=N, zone=NAME and group=NAME behind it if need be; # begins a comment. YAML (or JSON): the list that
// `peers` of weir.yaml takes, alone or under the key peers.
//
// A text without any entry is refused. It is what a disk that is full or a script that failed leaves behind, and would take every
// peer away. Who means it writes the empty list, [].
func ParsePeers(name string, data []byte) ([]Peer, error) {
	d := &decoder{file: name, origin: map[*yaml.Node]string{}, places: map[string]place{}}
	var peers []Peer
	switch line := firstLine(data); {
	case line == "":
		d.errorf(place{file: name}, "holds no peers: write [] if the pool is meant to be empty")
	case bytes.IndexByte(data, 0) >= 0:
		d.errorf(place{file: name}, "holds a NUL byte: it is no text")
	case asYAML(line):
		peers = d.peersYAML(data)
	default:
		peers = d.peersLines(string(data))
	}
	if len(d.errs) > 0 {
		return nil, &Error{Findings: tidy(d.errs)}
	}
	return peers, nil
}

// firstLine gives the first line that says something.
func firstLine(data []byte) string {
	for line := range bytes.Lines(data) {
		if text := strings.TrimSpace(beforeComment(string(line))); text != "" {
			return text
		}
	}
	return ""
}

func beforeComment(line string) string {
	line, _, _ = strings.Cut(line, "#")
	return strings.TrimPrefix(line, "\ufeff")
}

var yamlStart = regexp.MustCompile(`^([-\[{]|peers[ \t]*:)`)

// asYAML tells the forms apart by the first line. A bracket begins a list, or an IPv6 address.
func asYAML(line string) bool {
	if inside, _, closed := strings.Cut(strings.TrimPrefix(line, "["), "]"); closed && line[0] == '[' {
		if _, err := netip.ParseAddr(inside); err == nil {
			return false
		}
	}
	return yamlStart.MatchString(line)
}

func (d *decoder) peersLines(text string) []Peer {
	var peers []Peer
	first := map[string]int{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		at := place{file: d.file, line: n}
		fields := strings.Fields(beforeComment(line))
		if len(fields) == 0 {
			continue
		}
		if len(peers) >= maxPeers {
			d.errorf(at, "a pool may have %d peers", maxPeers)
			break
		}
		p := Peer{Weight: 1}
		addr, err := ParseAddress(fields[0])
		if err != nil {
			d.errorf(at, "%s: %v", quote(fields[0]), err)
			continue
		}
		p.Address = addr
		if err := p.words(fields[1:]); err != nil {
			d.errorf(at, "%v", err)
			continue
		}
		if line, dup := first[addr]; dup {
			d.errorf(at, "peer %s is in this file already, on line %d: remove one", addr, line)
			continue
		}
		first[addr] = n
		peers = append(peers, p)
	}
	return peers
}

// words reads what stands behind an address in a line, in any order, each at most once.
func (p *Peer) words(fields []string) error {
	seen := map[string]bool{}
	for _, word := range fields {
		name, value, named := strings.Cut(word, "=")
		if name == "backup" && !named {
			name, value = "tier", "1"
		} else if !named {
			name = ""
		}
		if seen[name] {
			return fmt.Errorf("%s: the %s is told already", quote(word), name)
		}
		seen[name] = true
		switch name {
		case "weight":
			w, err := strconv.ParseFloat(value, 64)
			if err != nil || !(w >= 0.01 && w <= 1000) {
				return fmt.Errorf("%s: a weight is a number from 0.01 to 1000", quote(word))
			}
			p.Weight = w
		case "tier":
			n, err := strconv.Atoi(value)
			if err != nil || n < 0 || n > maxTier {
				return fmt.Errorf("%s: a tier is a whole number from 0 to %d", quote(word), maxTier)
			}
			p.Tier, p.Backup = n, n > 0
		case "zone":
			if !validName(value) {
				return fmt.Errorf("%s: a zone is 1 to %d of A-Z a-z 0-9 . _ -", quote(word), maxNameSize)
			}
			p.Zone = value
		case "group":
			if !validName(value) {
				return fmt.Errorf("%s: a group is 1 to %d of A-Z a-z 0-9 . _ -", quote(word), maxNameSize)
			}
			p.Group = value
		default:
			return fmt.Errorf("%s: after an address may stand weight=N, backup, tier=N, zone=NAME and group=NAME", quote(word))
		}
	}
	return nil
}

// maxTier is the range of `tier`.
const maxTier = 15

func (d *decoder) peersYAML(data []byte) []Peer {
	var doc yaml.Node
	text := yamlread.New(data)
	if err := text.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		d.syntax(err, text)
		return nil
	}
	if len(doc.Content) == 0 {
		d.errorf(place{file: d.file}, "holds no peers: write [] if the pool is meant to be empty")
		return nil
	}
	root := resolve(doc.Content[0])
	path := ""
	if root.Kind == yaml.MappingNode {
		list, others := get(root, "peers"), len(root.Content) != 2
		if list == nil || others {
			d.errorf(place{file: d.file, line: root.Line}, "must be a list of peers, alone or under the one key peers")
			return nil
		}
		root, path = list, "peers"
	}
	if root.Kind != yaml.SequenceNode {
		d.errorf(place{file: d.file, line: root.Line, key: path}, "must be a list of peers, is %s; write [] if the pool is meant to be empty", describe(root))
		return nil
	}
	var peers []Peer
	d.peers(root, reflect.ValueOf(&peers).Elem(), path)
	return peers
}

// PeersFileFindings are the problems of a pool's peers file, each with its place, and what makes no sense of it together with the rest of the pool.
func (p *Pool) PeersFileFindings() (wrong []Finding, warnings []Warning) {
	peers, err := ReadPeersFile(p.PeersFile)
	var bad *Error
	at := p.PeersFileAt
	switch {
	case err == nil:
		if at.Message = p.splitProblem(peers); at.Message != "" {
			warnings = append(warnings, at)
		}
		if at.Message = p.tooMany(peers); at.Message != "" {
			warnings = append(warnings, at)
		}
		return nil, warnings
	case errors.As(err, &bad):
		return bad.Findings, nil
	}
	at.Message = err.Error()
	return []Finding{at}, nil
}

// tooMany tells that list and file together name more peers than a pool may have; empty: they do not.
func (p *Pool) tooMany(file []Peer) string {
	all := map[string]bool{}
	for _, peers := range [][]Peer{p.Peers, file} {
		for i := range peers {
			all[peers[i].Address] = true
		}
	}
	if len(all) <= maxPeers {
		return ""
	}
	return fmt.Sprintf("the pool's own peers and those of the file are %d together: the last ones are left out, a pool may have %d", len(all), maxPeers)
}
