package servermetrics

import (
	"net"
	"net/netip"
	"regexp"
	"strings"
)

// Match tells which peers a series is about, by the value of one of its labels.
type Match struct {
	Label string
	// Pattern, when not nil, must match the value, and As is expanded with its groups ($1, ${name}); else the value itself counts.
	Pattern *regexp.Regexp
	As      string
	// Exact wants the whole address. Else a host without the port is enough, and speaks for every peer on it: a node's memory is that of
	// all programs there.
	Exact bool
}

// Peers appends the addresses that the labels are about to dst: the one peer that has the address, or else all that are on its host.
func (m *Match) Peers(labels map[string]string, peers []string, dst []string) []string {
	value, ok := labels[m.Label]
	if !ok {
		return dst
	}
	if m.Pattern != nil {
		at := m.Pattern.FindStringSubmatchIndex(value)
		if at == nil {
			return dst
		}
		value = string(m.Pattern.ExpandString(nil, m.As, value, at))
	}
	for _, p := range peers {
		if p == value {
			return append(dst, p)
		}
	}
	if m.Exact {
		return dst
	}
	host := Host(value)
	for _, p := range peers {
		if h := Host(p); h != "" && h == host {
			dst = append(dst, p)
		}
	}
	return dst
}

// Host is the host of an address with or without a port, IPv6 without its brackets and in its shortest form; empty for a Unix socket.
func Host(addr string) string {
	if strings.HasPrefix(addr, "unix:") {
		return ""
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.Trim(addr, "[]")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.String()
	}
	return strings.ToLower(host)
}

// Page is the URL of a peer's exporter by a template: {host} (IPv6 in brackets), {port} and {address} (both) are replaced. Empty for a
// peer without a host, unless the template names none.
func Page(template, addr string) string {
	if strings.HasPrefix(addr, "unix:") {
		if strings.Contains(template, "{") {
			return ""
		}
		return template
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return strings.NewReplacer("{host}", host, "{port}", port, "{address}", addr).Replace(template)
}
