package jsonwrite

import (
	"encoding/json"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestWhatIsWrittenIsReadBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, x := rapid.String().Draw(t, "text"), rapid.Float64().Draw(t, "number")
		var text string
		var number float64
		if err := json.Unmarshal(String(nil, s), &text); err != nil || text != s {
			t.Fatalf("%q became %q, %v", s, text, err)
		}
		if err := json.Unmarshal(Number(nil, x), &number); err != nil || number != x && !math.IsNaN(x) && !math.IsInf(x, 0) {
			t.Fatalf("%v became %v, %v", x, number, err)
		}
	})
}
