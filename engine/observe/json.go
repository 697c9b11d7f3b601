package observe

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// reader walks a JSON text whose shape is known: flat objects and lists of strings and numbers. encoding/json would
// allocate for every string and every object; a batch has tens of thousands of them.
//
// What it accepts encoding/json accepts with the same value (held by a fuzz test). It does not judge UTF-8.
type reader struct {
	src     []byte
	pos     int
	scratch []byte // holds the last string that had escapes
}

func (r *reader) reset(src []byte) { r.src, r.pos = src, 0 }

func (r *reader) space() {
	for r.pos < len(r.src) {
		switch r.src[r.pos] {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return
		}
	}
}

// peek returns the next byte that is not white space, 0 at the end.
func (r *reader) peek() byte {
	r.space()
	if r.pos < len(r.src) {
		return r.src[r.pos]
	}
	return 0
}

func (r *reader) token(want byte) error {
	if r.peek() != want || r.pos >= len(r.src) {
		return r.expected(fmt.Sprintf("%q", want))
	}
	r.pos++
	return nil
}

func (r *reader) expected(what string) error {
	if r.pos >= len(r.src) {
		return fmt.Errorf("%s was expected where the text ends", what)
	}
	return fmt.Errorf("%s was expected at byte %d, not %q", what, r.pos, r.src[r.pos])
}

// first enters an object or a list and reports whether it has an element.
func (r *reader) first(open, closing byte) (bool, error) {
	if err := r.token(open); err != nil {
		return false, err
	}
	if r.peek() == closing {
		r.pos++
		return false, nil
	}
	return true, nil
}

// next moves past the comma to the next element, or past the end of the object or list.
func (r *reader) next(closing byte) (bool, error) {
	switch r.peek() {
	case ',':
		r.pos++
		return true, nil
	case closing:
		r.pos++
		return false, nil
	}
	return false, r.expected(fmt.Sprintf("a comma or %q", closing))
}

// end fails unless nothing but white space is left.
func (r *reader) end() error {
	if r.space(); r.pos < len(r.src) {
		return r.expected("the end")
	}
	return nil
}

// key reads the name of a member and its colon. The bytes are good until the next string is read.
func (r *reader) key() ([]byte, error) {
	k, err := r.str()
	if err != nil {
		return nil, err
	}
	return k, r.token(':')
}

// str reads a string. The bytes are good until the next string is read.
func (r *reader) str() ([]byte, error) {
	if r.peek() != '"' {
		return nil, r.expected("a string")
	}
	r.pos++
	start := r.pos
	for r.pos < len(r.src) {
		switch c := r.src[r.pos]; {
		case c == '"':
			s := r.src[start:r.pos]
			r.pos++
			return s, nil
		case c == '\\':
			return r.escaped(start)
		case c < 0x20:
			return nil, fmt.Errorf("a control character (0x%02x) at byte %d of a string; it must be escaped", c, r.pos)
		}
		r.pos++
	}
	return nil, errors.New("a string does not end")
}

// escaped goes on with a string at its first backslash.
func (r *reader) escaped(start int) ([]byte, error) {
	out := append(r.scratch[:0], r.src[start:r.pos]...)
	defer func() { r.scratch = out[:0] }()
	for r.pos < len(r.src) {
		c := r.src[r.pos]
		switch {
		case c == '"':
			r.pos++
			return out, nil
		case c < 0x20:
			return nil, fmt.Errorf("a control character (0x%02x) at byte %d of a string; it must be escaped", c, r.pos)
		case c != '\\':
			out = append(out, c)
			r.pos++
			continue
		}
		if r.pos+1 >= len(r.src) {
			break
		}
		r.pos += 2
		switch e := r.src[r.pos-1]; e {
		case '"', '\\', '/':
			out = append(out, e)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			u, ok := r.hex4()
			if !ok {
				return nil, fmt.Errorf(`\u without four hexadecimal digits at byte %d`, r.pos)
			}
			if utf16.IsSurrogate(u) {
				u = r.lowSurrogate(u)
			}
			out = utf8.AppendRune(out, u)
		default:
			return nil, fmt.Errorf("the unknown escape \\%c at byte %d of a string", e, r.pos-2)
		}
	}
	r.pos = len(r.src)
	return nil, errors.New("a string does not end")
}

// lowSurrogate completes a surrogate pair; half a pair becomes U+FFFD, as in encoding/json.
func (r *reader) lowSurrogate(high rune) rune {
	at := r.pos
	if at+1 < len(r.src) && r.src[at] == '\\' && r.src[at+1] == 'u' {
		r.pos += 2
		if low, ok := r.hex4(); ok {
			if u := utf16.DecodeRune(high, low); u != utf8.RuneError {
				return u
			}
		}
		r.pos = at
	}
	return utf8.RuneError
}

func (r *reader) hex4() (rune, bool) {
	if len(r.src)-r.pos < 4 {
		return 0, false
	}
	var u rune
	for _, c := range r.src[r.pos : r.pos+4] {
		switch {
		case c >= '0' && c <= '9':
			u = u<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			u = u<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			u = u<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	r.pos += 4
	return u, true
}

// number reads a number by JSON's grammar, which has no NaN and no infinity.
func (r *reader) number() (float64, error) {
	r.space()
	start := r.pos
	if r.at('-') {
		r.pos++
	}
	if r.at('0') {
		r.pos++
	} else if r.digits() == 0 {
		r.pos = start
		return 0, r.expected("a number")
	}
	if r.at('.') {
		if r.pos++; r.digits() == 0 {
			return 0, r.expected("a digit")
		}
	}
	if r.at('e') || r.at('E') {
		r.pos++
		if r.at('+') || r.at('-') {
			r.pos++
		}
		if r.digits() == 0 {
			return 0, r.expected("a digit")
		}
	}
	x, err := strconv.ParseFloat(string(r.src[start:r.pos]), 64)
	if err != nil {
		return 0, fmt.Errorf("the number at byte %d is too large", start)
	}
	return x, nil
}

func (r *reader) at(c byte) bool { return r.pos < len(r.src) && r.src[r.pos] == c }

func (r *reader) digits() (n int) {
	for r.pos < len(r.src) && r.src[r.pos] >= '0' && r.src[r.pos] <= '9' {
		r.pos++
		n++
	}
	return n
}

// integer reads a whole number in [0, limit].
func (r *reader) integer(limit int) (int, error) {
	x, err := r.number()
	if err != nil {
		return 0, err
	}
	if x < 0 || x != math.Trunc(x) || x > float64(limit) {
		return 0, fmt.Errorf("%v is no whole number from 0 to %d", x, limit)
	}
	return int(x), nil
}
