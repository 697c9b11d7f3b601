package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// maxUnixPath is what sun_path holds on Linux, without the closing NUL.
const maxUnixPath = 107

// ParseAddress reads a peer's address and gives its canonical form, which is the peer's identity everywhere: in tables,
// in outcomes, in shared memory. The forms are 10.0.0.1:8080, [::1]:9001 and unix:/path.
//
// Host names are refused: nothing here resolves them, and a name that stands for a changing set of addresses is
// not one peer. A split at the first colon would break IPv6, so netip does the reading.
func ParseAddress(s string) (string, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		return unixAddress(path)
	}
	if _, rest, ok := strings.Cut(s, "://"); ok {
		rest, _, _ = strings.Cut(rest, "/")
		return "", fmt.Errorf("an address has no scheme or path: write %s", quote(rest))
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ipAddress(ap)
	}
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return "", missingPort(a, strings.HasPrefix(s, "["))
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if i := strings.LastIndexByte(s, ':'); i > 0 && strings.Count(s, ":") > 1 {
			if a, err := netip.ParseAddr(s[:i]); err == nil { // fd00:1:2:3:4:5:6:7:8080
				return "", fmt.Errorf("an IPv6 address needs brackets: write [%s]:%s", a, s[i+1:])
			}
		}
		if isHostName(s) {
			return "", errors.New("is a host name without a port; peers are IP addresses with a port, as 10.0.0.1:8080 (names go under dns)")
		}
		return "", errors.New("must be an address and a port, as 10.0.0.1:8080, [::1]:9001 or unix:/path")
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return "", fmt.Errorf("the port must be a number from 1 to 65535, is %s", quote(port))
	}
	if isHostName(host) {
		return "", errors.New("is a host name; give the IP address and port, as 10.0.0.1:8080 (names go under dns)")
	}
	return "", errors.New("must be an address and a port, as 10.0.0.1:8080, [::1]:9001 or unix:/path")
}

func ipAddress(ap netip.AddrPort) (string, error) {
	switch {
	case ap.Port() == 0:
		return "", errors.New("the port must be a number from 1 to 65535, is 0")
	case ap.Addr().Zone() != "":
		return "", errors.New("an address with a zone (%eth0) cannot be a peer: NGINX cannot connect to it by this name")
	}
	// An IPv4 address written as IPv6 (::ffff:10.0.0.1) is that host and no second peer.
	ap = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	switch {
	case ap.Addr().IsUnspecified():
		return "", fmt.Errorf("%s means every address of a host and cannot be a peer: give the one to connect to", ap.Addr())
	case ap.Addr() == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "", fmt.Errorf("%s is the broadcast address: give the address of one host", ap.Addr())
	case ap.Addr().IsMulticast():
		return "", fmt.Errorf("%s is a multicast address: give the address of one host", ap.Addr())
	}
	return ap.String(), nil
}

// missingPort tells apart an address without a port and an IPv6 address with a port but without brackets: both parse
// as an address. A last group of decimal digits after :: is far more often a port.
func missingPort(a netip.Addr, bracketed bool) error {
	if a.Is4() {
		return fmt.Errorf("the port is missing: write %s:80 or the port it listens on", a)
	}
	s := a.String()
	i := strings.LastIndexByte(s, ':')
	if port, err := strconv.ParseUint(s[i+1:], 10, 16); err == nil && port >= 80 && !bracketed {
		host := s[:i]
		if strings.HasSuffix(host, ":") {
			host += ":"
		}
		if h, err := netip.ParseAddr(host); err == nil {
			return fmt.Errorf("an IPv6 address needs brackets: write [%s]:%d", h, port)
		}
	}
	if bracketed {
		return fmt.Errorf("the port is missing: write [%s]:80 or the port it listens on", a)
	}
	return fmt.Errorf("an IPv6 address needs brackets and a port: write [%s]:80 or the port it listens on", a)
}

func unixAddress(path string) (string, error) {
	// /a//b and /a/./b are /a/b and no second peer. What is before a .. may be a symlink, so that stays.
	for _, same := range []string{"//", "/./"} {
		for strings.Contains(path, same) {
			path = strings.ReplaceAll(path, same, "/")
		}
	}
	switch {
	case !strings.HasPrefix(path, "/"):
		return "", errors.New("a Unix socket needs its whole path, as unix:/run/app.sock")
	case len(path) > maxUnixPath:
		return "", fmt.Errorf("the path of a Unix socket may have %d bytes, has %d", maxUnixPath, len(path))
	}
	for i := range len(path) {
		// Space, comma and semicolon separate the static peers in an NGINX configuration.
		if c := path[i]; c <= ' ' || c > '~' || strings.IndexByte(`,;"\`, c) >= 0 {
			return "", fmt.Errorf("the path of a Unix socket must be printable ASCII without spaces, commas, semicolons, quotes and backslashes; byte %d is 0x%02x", i, c)
		}
	}
	return "unix:" + path, nil
}

func isHostName(s string) bool {
	letter := false
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
			letter = true
		case c >= '0' && c <= '9', c == '-', c == '.':
		default:
			return false
		}
	}
	return letter
}
