package nginxconf

import "fmt"

// scanner cuts a text into directives, by the rules of ngx_conf_read_token().
type scanner struct {
	src    []byte
	pos    int
	line   int // of src[pos]
	failed bool
	reason string // of the failure
}

// ending is how a directive ends, or why there is none.
type ending int

const (
	semicolon ending = iota
	blockStart
	blockEnd
	endOfText
	syntaxError
)

func (s *scanner) fail() {
	s.failed = true
	s.pos = len(s.src)
}

func (s *scanner) failf(format string, args ...any) ending {
	s.fail()
	s.reason = fmt.Sprintf(format, args...)
	return syntaxError
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// next consumes one byte.
func (s *scanner) next() byte {
	c := s.src[s.pos]
	s.pos++
	if c == '\n' {
		s.line++
	}
	return c
}

// directive reads the words of the next directive and the line of the first. There is at least one word when it
// ends in a semicolon or a block.
func (s *scanner) directive() (words []string, line int, end ending) {
	for {
		if s.pos >= len(s.src) {
			if len(words) > 0 {
				return nil, 0, s.failf(`unexpected end of file, expecting ";" or "}"`)
			}
			return nil, 0, endOfText
		}
		c := s.src[s.pos]
		switch {
		case isSpace(c):
			s.next()
		case c == '#':
			for s.pos < len(s.src) && s.next() != '\n' {
			}
		case c == ';', c == '{':
			if len(words) == 0 {
				return nil, 0, s.failf("unexpected %q", string(c))
			}
			s.next()
			if c == '{' {
				return words, line, blockStart
			}
			return words, line, semicolon
		case c == '}':
			if len(words) > 0 {
				return nil, 0, s.failf(`unexpected "}", expecting ";"`)
			}
			s.next()
			return nil, 0, blockEnd
		default:
			if len(words) == 0 {
				line = s.line
			}
			word, ok := s.word()
			if !ok {
				return nil, 0, syntaxError
			}
			words = append(words, word)
		}
	}
}

// word reads one word. Quotes count only at its beginning; what follows a closing quote must separate it from the
// next. A brace after $ belongs to a variable's name.
func (s *scanner) word() (string, bool) {
	quote := s.src[s.pos]
	if quote == '"' || quote == '\'' {
		s.next()
	} else {
		quote = 0
	}
	first := s.line
	var out []byte
	variable := false
	for s.pos < len(s.src) {
		c := s.src[s.pos]
		if c == '{' && variable { // stays a variable's: NGINX lets "${{" pass
			out = append(out, s.next())
			continue
		}
		variable = false
		switch {
		case c == '\\':
			s.next()
			out = s.escape(out)
			continue
		case c == '$':
			variable = true
		case quote != 0 && c == quote:
			s.next()
			return string(out), s.separated()
		case quote == 0 && (isSpace(c) || c == ';' || c == '{'):
			return string(out), true
		}
		out = append(out, s.next())
	}
	if quote != 0 {
		s.line = first // the end of the file says nothing; the place of the quote does
		s.failf("unexpected end of file, the quote %c that begins here is not closed", quote)
	} else {
		s.failf(`unexpected end of file, expecting ";" or "}"`)
	}
	return "", false
}

// escape appends what a backslash and the byte after it stand for. Other pairs stay as they are.
func (s *scanner) escape(out []byte) []byte {
	if s.pos >= len(s.src) {
		return append(out, '\\')
	}
	switch c := s.next(); c {
	case '"', '\'', '\\':
		return append(out, c)
	case 't':
		return append(out, '\t')
	case 'r':
		return append(out, '\r')
	case 'n':
		return append(out, '\n')
	default:
		return append(out, '\\', c)
	}
}

func (s *scanner) separated() bool {
	if s.pos >= len(s.src) {
		return true // told as a missing semicolon
	}
	switch c := s.src[s.pos]; {
	case isSpace(c), c == ';', c == '{', c == ')':
		return true
	default:
		s.failf("unexpected %q after a closing quote", string(c))
		return false
	}
}
