package jsonread

import (
	"encoding/json"
	"testing"
)

// FuzzReader holds the hand-written JSON reader to encoding/json: what it takes, encoding/json takes with the same value.
func FuzzReader(f *testing.F) {
	for _, s := range []string{`"a\u00e9\ud83d\ude00\ud800x\\\""`, `-0.5e+3`, `01`, `"\ud83d\u12"`, `1.`, `"\/"`, `0`, ` 7 `, ` true`, `falsehood`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		var r Reader
		r.Reset(src)
		if got, err := r.Str(); err == nil && r.End() == nil {
			var want string
			if err := json.Unmarshal(src, &want); err != nil {
				t.Fatalf("the string %q was taken; encoding/json: %v", src, err)
			}
			if string([]rune(string(got))) != want {
				t.Fatalf("%q read as %q, encoding/json reads %q", src, got, want)
			}
		}
		r.Reset(src)
		if got, err := r.Number(); err == nil && r.End() == nil {
			var want float64
			if err := json.Unmarshal(src, &want); err != nil || got != want {
				t.Fatalf("the number %q read as %v; encoding/json: %v %v", src, got, want, err)
			}
		}
		r.Reset(src)
		if got, err := r.Bool(); err == nil && r.End() == nil {
			var want bool
			if err := json.Unmarshal(src, &want); err != nil || got != want {
				t.Fatalf("the truth %q read as %v; encoding/json: %v %v", src, got, want, err)
			}
		}
	})
}
