package nginxconf

import (
	"bytes"
	"strings"
)

// LuaToken is one word, string or sign of Lua code. Comments and space are left out.
type LuaToken struct {
	Kind LuaKind
	Text string // of a string: its value
	Line int
}

// LuaKind tells tokens apart where their text does not: `require` may be a name or a string.
type LuaKind int

// The kinds of tokens. Numbers are names here: nothing asks for them.
const (
	LuaName LuaKind = iota
	LuaString
	LuaSign // one byte
)

// LuaTokens cuts Lua code that does not stand in a block (as in the quoted argument of balancer_by_lua) into tokens.
func LuaTokens(code string, line int) []LuaToken {
	s := &scanner{src: []byte(code), line: line}
	tokens, _ := s.lua(false)
	return tokens
}

// luaBlock reads Lua up to the brace that closes the block. Braces in strings and comments do not count; this is how the
// Lua module itself finds the end (ngx_http_lua_lex.c).
func (s *scanner) luaBlock() ([]LuaToken, bool) { return s.lua(true) }

func (s *scanner) lua(block bool) ([]LuaToken, bool) {
	var tokens []LuaToken
	depth, begin := 0, s.line
	for s.pos < len(s.src) {
		c, line := s.src[s.pos], s.line
		switch {
		case isSpace(c):
			s.next()
		case c == '-' && s.ahead("--"):
			if !s.luaComment() {
				return tokens, false
			}
		case c == '[' && s.longLevel() >= 0:
			text, ok := s.luaLong()
			if !ok {
				return tokens, false
			}
			tokens = append(tokens, LuaToken{LuaString, text, line})
		case c == '"' || c == '\'':
			text, ok := s.luaQuoted()
			if !ok {
				return tokens, false
			}
			tokens = append(tokens, LuaToken{LuaString, text, line})
		case isLuaWord(c):
			from := s.pos
			for s.pos < len(s.src) && isLuaWord(s.src[s.pos]) {
				s.pos++
			}
			tokens = append(tokens, LuaToken{LuaName, string(s.src[from:s.pos]), line})
		default:
			s.next()
			switch c {
			case '{':
				depth++
			case '}':
				if depth--; depth < 0 && block {
					return tokens, true
				}
			}
			tokens = append(tokens, LuaToken{LuaSign, string(rune(c)), line})
		}
	}
	if block {
		s.line = begin
		s.failf("the Lua block that begins here has no closing brace")
		return tokens, false
	}
	return tokens, true
}

func isLuaWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c >= 0x80
}

func (s *scanner) ahead(what string) bool { return bytes.HasPrefix(s.src[s.pos:], []byte(what)) }

func (s *scanner) luaComment() bool {
	s.pos += 2
	if s.pos < len(s.src) && s.src[s.pos] == '[' && s.longLevel() >= 0 {
		_, ok := s.luaLong()
		return ok
	}
	for s.pos < len(s.src) && s.next() != '\n' {
	}
	return true
}

// longLevel gives the number of = in a long bracket that opens here, -1 when none does.
func (s *scanner) longLevel() int {
	i := s.pos + 1
	for i < len(s.src) && s.src[i] == '=' {
		i++
	}
	if i < len(s.src) && s.src[i] == '[' {
		return i - s.pos - 1
	}
	return -1
}

func (s *scanner) luaLong() (string, bool) {
	level := s.longLevel()
	from := s.pos + level + 2
	closing := []byte("]" + strings.Repeat("=", level) + "]")
	n := bytes.Index(s.src[from:], closing)
	if n < 0 {
		s.failf("a Lua long bracket is not closed")
		return "", false
	}
	text := s.src[from : from+n]
	for s.pos < from+n+len(closing) {
		s.next()
	}
	return strings.TrimPrefix(string(text), "\n"), true
}

func (s *scanner) luaQuoted() (string, bool) {
	begin := s.line
	quote := s.next()
	var out []byte
	for s.pos < len(s.src) {
		c := s.next()
		switch c {
		case quote:
			return string(out), true
		case '\n':
			s.line = begin
			s.failf("a Lua string is not closed on its line")
			return "", false
		case '\\':
			if s.pos < len(s.src) {
				switch c = s.next(); c {
				case 'n':
					c = '\n'
				case 't':
					c = '\t'
				case 'r':
					c = '\r'
				}
				out = append(out, c)
			}
			continue
		}
		out = append(out, c)
	}
	s.line = begin
	s.failf("a Lua string is not closed")
	return "", false
}
