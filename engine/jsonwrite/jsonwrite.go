// Package jsonwrite appends JSON where encoding/json would leave too much garbage.
package jsonwrite

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// String appends a JSON string. What is no UTF-8 becomes U+FFFD.
func String(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < 0x20 || r == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		case r == utf8.RuneError:
			dst = append(dst, "\uFFFD"...)
		default:
			dst = append(dst, s[i:i+utf8.RuneLen(r)]...)
		}
	}
	return append(dst, '"')
}

// Number appends a number, or null where JSON has none for it: NaN and the infinities.
func Number(dst []byte, x float64) []byte {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return append(dst, "null"...)
	}
	return strconv.AppendFloat(dst, x, 'g', -1, 64)
}
