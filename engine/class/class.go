// Package class names the kind of a request. It follows the rule of docs/classes.md, as lua/resty/weir/class.lua does;
// test/vectors/classes.json holds both to it. A change here is a change there.
//
// The rule counts bytes and never looks at more than maxScan of them, because NGINX applies it to every request. It is
// meant to be coarse: a class is worth having only when it gets enough requests to learn from.
package class

import "strings"

const (
	// Shared is the class of everything that is not learned apart.
	Shared = "*"
	// MaxLen bounds what Of returns: "DELETE ", maxScan, 2 for each of seven "{n}" from one digit, 2 for "**" behind
	// the last "/" scanned, " b32k". It keeps below the 256 bytes of a string in an /observe batch.
	MaxLen = 7 + maxScan + 7*2 + 2 + 5
	// MaxName bounds a class that the operator names.
	MaxName = 128

	maxScan     = 224
	maxSegments = 8
)

// Of gives the class of a request from its method, its path (NGINX's normalised $uri, without the query) and the bytes
// of its body; -1 means a body of unknown length. The result is printable ASCII of at most MaxLen bytes, never
// empty.
func Of(method, path string, bodyBytes int64) string {
	b := make([]byte, 0, MaxLen)
	b = append(b, knownMethod(method)...)
	b = append(b, ' ')
	b = appendTemplate(b, path)
	switch method {
	case "GET", "HEAD", "OPTIONS": // a body here is rare and means nothing; NGINX need not look for one
	default:
		b = append(b, bodySize(bodyBytes)...)
	}
	return string(b)
}

func knownMethod(m string) string {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return m
	}
	return "OTHER"
}

func bodySize(n int64) string {
	switch {
	case n < 0:
		return " b?"
	case n == 0:
		return ""
	case n <= 1<<10:
		return " b1k"
	case n <= 32<<10:
		return " b32k"
	case n <= 1<<20:
		return " b1m"
	}
	return " b+"
}

func appendTemplate(b []byte, path string) []byte {
	whole := len(path) <= maxScan
	scan := path[:min(len(path), maxScan)]
	if strings.HasPrefix(scan, "/") {
		b = append(b, '/')
		scan = scan[1:]
	}
	for range maxSegments {
		end := strings.IndexByte(scan, '/')
		if end < 0 {
			if !whole {
				break
			}
			return appendSegment(b, scan)
		}
		b = append(appendSegment(b, scan[:end]), '/')
		scan = scan[end+1:]
	}
	return append(b, "**"...)
}

func appendSegment(b []byte, s string) []byte {
	if p := placeholder(s); p != "" {
		return append(b, p...)
	}
	for i := range len(s) {
		c := s[i]
		if c < 0x21 || c > 0x7e || c == '"' || c == '\\' || c == '{' || c == '}' {
			c = '_'
		}
		b = append(b, c)
	}
	return b
}

func placeholder(s string) string {
	var digits, hex, dashes int
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
			hex++
		case c == '-':
			dashes++
		}
	}
	n := len(s)
	switch {
	case n > 0 && digits == n:
		return "{n}"
	case n == 36 && dashes == 4 && digits+hex == 32:
		return "{uuid}"
	case n >= 8 && digits+hex == n && digits > 0:
		return "{hash}"
	case n >= 16 && digits >= 3:
		return "{hash}"
	}
	return ""
}

// ValidName tells whether an operator's own class can be used as it is: 1 to MaxName bytes of printable ASCII, spaces
// included, without the quote and the backslash.
func ValidName(s string) bool {
	if s == "" || len(s) > MaxName {
		return false
	}
	for i := range len(s) {
		if !nameByte(s[i]) {
			return false
		}
	}
	return true
}

// Name makes an operator's own class valid: what is over MaxName is cut, what is not allowed becomes "_". Empty stays
// empty, which means the class of the rule.
func Name(s string) string {
	s = s[:min(len(s), MaxName)]
	if s == "" || ValidName(s) {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		if !nameByte(c) {
			b[i] = '_'
		}
	}
	return string(b)
}

func nameByte(c byte) bool { return c >= 0x20 && c <= 0x7e && c != '"' && c != '\\' }
