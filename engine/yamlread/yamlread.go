// Package yamlread is the YAML parser with the right line in its errors.
package yamlread

import (
	"bytes"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Text is a YAML text with its parser. It is handed out one line at a time, so that where the parser stopped is known: its errors name the
// line before the one where the list or mapping begins that is wrong somewhere, in a long file hundreds of lines from the mistake, or none.
type Text struct {
	*yaml.Decoder
	data  []byte
	taken int // bytes the parser has read
}

// New makes a parser of a text.
func New(data []byte) *Text {
	t := &Text{data: data}
	t.Decoder = yaml.NewDecoder(t)
	return t
}

// Read is for the parser.
func (t *Text) Read(p []byte) (int, error) {
	rest := t.data[t.taken:]
	if len(rest) == 0 {
		return 0, io.EOF
	}
	n := bytes.IndexByte(rest, '\n') + 1
	if n == 0 {
		n = len(rest)
	}
	n = copy(p, rest[:n])
	t.taken += n
	return n, nil
}

// lineAt is the number of the line that a byte is in.
func (t *Text) lineAt(offset int) int { return 1 + bytes.Count(t.data[:offset], []byte{'\n'}) }

// line gives a line's text.
func (t *Text) line(n int) []byte {
	lines := bytes.SplitN(t.data, []byte{'\n'}, n+1)
	if n < 1 || n > len(lines) {
		return nil
	}
	return lines[n-1]
}

var unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)

// Wrong gives the line that an error of the parser is about, and what it says. The parser's text may quote an anchor's name, and a
// password that begins with * is read as one, so that text is not passed on.
func (t *Text) Wrong(err error) (line int, msg string) {
	msg = strings.TrimPrefix(err.Error(), "yaml: ")
	stopped := max(t.lineAt(max(t.taken-1, 0)), 1)
	said := 0
	if rest, ok := strings.CutPrefix(msg, "line "); ok {
		num, after, _ := strings.Cut(rest, ": ")
		if n, e := strconv.Atoi(num); e == nil {
			said, msg = n, after
		}
	}
	line = said
	switch {
	case strings.Contains(msg, "expected '-' indicator"), strings.Contains(msg, "expected key"):
		line = stopped
		msg += ": see how this line, or the one before, is indented"
	case strings.HasPrefix(msg, "did not find expected"): // of the list or mapping that begins on the next line, or on the first
		line = min(said+1, stopped)
	case strings.Contains(msg, "UTF-8"):
		line = t.lineAt(invalidUTF8(t.data))
	case said == 0, strings.Contains(msg, "tab character"):
		line = stopped
	}
	if name := unknownAnchor.FindStringSubmatch(msg); name != nil { // the parser is a word ahead
		if at := bytes.LastIndex(t.data[:t.taken], []byte("*"+name[1])); at >= 0 {
			line = t.lineAt(at)
		}
	}
	switch {
	case strings.Contains(msg, "anchor"):
		msg = "a value that begins with * or & is read as an alias or an anchor: put it in quotes"
	case bytes.ContainsRune(indentation(t.line(line)), '\t'):
		msg = "is not valid YAML: this line is indented with a tab, use spaces"
	default:
		msg = "is not valid YAML: " + msg
	}
	return line, msg
}

// indentation is what a line begins with.
func indentation(line []byte) []byte { return line[:len(line)-len(bytes.TrimLeft(line, " \t"))] }

// invalidUTF8 is where the first byte is that is not UTF-8.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return 0
}
