// Package jsonread walks a JSON text whose shape is known: flat objects, lists of strings and numbers. It allocates
// nothing, where encoding/json would for every string and object; a batch of outcomes has tens of thousands of them, and
// /decide is asked thousands of times a second.
package jsonread

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Reader is a position in a JSON text. What it accepts encoding/json accepts with the same value (held by a fuzz test);
// it does not judge UTF-8. The zero value reads an empty text. Not safe for concurrent use.
type Reader struct {
	src     []byte
	pos     int
	scratch []byte // holds the last string that had escapes
}

// Reset starts on another text. The reader keeps src, and what Key and Str return may point into it.
func (r *Reader) Reset(src []byte) { r.src, r.pos = src, 0 }

// Pos returns how many bytes have been read.
func (r *Reader) Pos() int { return r.pos }

func (r *Reader) space() {
	for r.pos < len(r.src) {
		switch r.src[r.pos] {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return
		}
	}
}

// Peek returns the next byte that is not white space, 0 at the end.
func (r *Reader) Peek() byte {
	r.space()
	if r.pos < len(r.src) {
		return r.src[r.pos]
	}
	return 0
}

// Token reads one byte of punctuation.
func (r *Reader) Token(want byte) error {
	if r.Peek() != want || r.pos >= len(r.src) {
		return r.expected(fmt.Sprintf("%q", want))
	}
	r.pos++
	return nil
}

func (r *Reader) expected(what string) error {
	if r.pos >= len(r.src) {
		return fmt.Errorf("%s was expected where the text ends", what)
	}
	return fmt.Errorf("%s was expected at byte %d, not %q", what, r.pos, r.src[r.pos])
}

// First enters an object or a list and reports whether it has an element.
func (r *Reader) First(open, closing byte) (bool, error) {
	if err := r.Token(open); err != nil {
		return false, err
	}
	if r.Peek() == closing {
		r.pos++
		return false, nil
	}
	return true, nil
}

// Next moves past the comma to the next element, or past the end of the object or list.
func (r *Reader) Next(closing byte) (bool, error) {
	switch r.Peek() {
	case ',':
		r.pos++
		return true, nil
	case closing:
		r.pos++
		return false, nil
	}
	return false, r.expected(fmt.Sprintf("a comma or %q", closing))
}

// End fails unless nothing but white space is left.
func (r *Reader) End() error {
	if r.space(); r.pos < len(r.src) {
		return r.expected("the end")
	}
	return nil
}

// Key reads the name of a member and its colon. The bytes are good until the next string is read.
func (r *Reader) Key() ([]byte, error) {
	k, err := r.Str()
	if err != nil {
		return nil, err
	}
	return k, r.Token(':')
}

// Str reads a string. The bytes are good until the next string is read.
func (r *Reader) Str() ([]byte, error) {
	if r.Peek() != '"' {
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
func (r *Reader) escaped(start int) ([]byte, error) {
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
func (r *Reader) lowSurrogate(high rune) rune {
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

func (r *Reader) hex4() (rune, bool) {
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

// Number reads a number by JSON's grammar, which has no NaN and no infinity.
func (r *Reader) Number() (float64, error) {
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

func (r *Reader) at(c byte) bool { return r.pos < len(r.src) && r.src[r.pos] == c }

func (r *Reader) digits() (n int) {
	for r.pos < len(r.src) && r.src[r.pos] >= '0' && r.src[r.pos] <= '9' {
		r.pos++
		n++
	}
	return n
}

// Integer reads a whole number in [0, limit].
func (r *Reader) Integer(limit int) (int, error) {
	x, err := r.Number()
	if err != nil {
		return 0, err
	}
	if x < 0 || x != math.Trunc(x) || x > float64(limit) {
		return 0, fmt.Errorf("%v is no whole number from 0 to %d", x, limit)
	}
	return int(x), nil
}

// Float32 reads a number that a 32-bit float can hold.
func (r *Reader) Float32() (float32, error) {
	x, err := r.Number()
	if err != nil {
		return 0, err
	}
	// Converted first: the shortest decimal of the largest float32 is a little above it as a float64.
	if math.IsInf(float64(float32(x)), 0) {
		return 0, fmt.Errorf("%v is too large", x)
	}
	return float32(x), nil
}

// Bool reads true or false.
func (r *Reader) Bool() (bool, error) {
	r.space()
	switch rest := r.src[r.pos:]; {
	case bytes.HasPrefix(rest, []byte("true")):
		r.pos += len("true")
		return true, nil
	case bytes.HasPrefix(rest, []byte("false")):
		r.pos += len("false")
		return false, nil
	}
	return false, r.expected("true or false")
}
