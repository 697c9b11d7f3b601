package split

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write test/vectors/split.json anew")

type vectors struct {
	Places  []place  `json:"places"`
	Choices []choice `json:"choices"`
}

type place struct {
	Pool  string   `json:"pool"`
	Parts []string `json:"parts"` // those at odd positions, from 1, are texts of the key; the others variables
	At    float64  `json:"at"`
}

type choice struct {
	Share    float64 `json:"share"`
	Fallback bool    `json:"fallback"`
	Again    bool    `json:"again"`
	Before   Side    `json:"before"`
	Header   bool    `json:"header"`
	Key      string  `json:"key"` // of pool "api"; "" = it has none
	Draw     float64 `json:"draw"`
	Side     Side    `json:"side"`
	ByHeader bool    `json:"by_header"`
	Firm     bool    `json:"firm"`
}

func made() vectors {
	var v vectors
	for _, pool := range []string{"api", "web-2", "a"} {
		for _, parts := range [][]string{
			{"", "203.0.113.7"},
			{"", "203.0.113.8"},
			{"", "2001:db8::1"},
			{"", "x"},
			{"u=", "42"},
			{"", "host", "/", "/a/b?c=d"},
			{"", "\u00e9\u4e16"},
			{"", strings.Repeat("long ", 1000)},
			{"", strings.Repeat("long ", 1000), "", "and more"},
			{strings.Repeat("f", 300), "7"},
		} {
			v.Places = append(v.Places, place{pool, parts, Place(pool, parts...)})
		}
	}
	for _, share := range []float64{0, 0.001, 0.1, 0.5, 1} {
		for _, fallback := range []bool{true, false} {
			rule := Rule{Share: share, Fallback: fallback}
			add := func(c choice, q Request) {
				got := rule.Side(q)
				c.Share, c.Fallback, c.Side, c.ByHeader, c.Firm = share, fallback, got.Side, got.ByHeader, got.Firm
				v.Choices = append(v.Choices, c)
			}
			for _, before := range []Side{Rest, Group} {
				add(choice{Again: true, Before: before, Draw: 0}, Request{Again: true, Before: before})
				add(choice{Again: true, Before: before, Header: true, Key: "k", Draw: 0.99}, Request{Again: true, Before: before, Header: true, Keyed: true, At: Place("api", "k")})
			}
			add(choice{Header: true, Draw: 0.999}, Request{Header: true, At: 0.999})
			add(choice{Header: true, Key: "k", Draw: 0.999}, Request{Header: true, Keyed: true, At: Place("api", "k")})
			for _, draw := range []float64{0, 0.00099, 0.001, 0.0999, 0.1, 0.4999, 0.5, 0.9999} {
				add(choice{Draw: draw}, Request{At: draw})
			}
			for i := range 20 {
				key := fmt.Sprint("client ", i)
				add(choice{Key: key, Draw: 0.5}, Request{Keyed: true, At: Place("api", key)})
			}
		}
	}
	return v
}

// The vectors hold lua/resty/weir/split.lua and this package to the same places and sides.
func TestTheSharedVectorsOfSplitsAreWhatThisPackageSays(t *testing.T) {
	const file = "../../test/vectors/split.json"
	want := made()
	if *update {
		text, err := json.Marshal(want)
		if err == nil {
			err = os.WriteFile(file, append(text, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var kept vectors
	if err := json.Unmarshal(text, &kept); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(kept, want) {
		t.Error("test/vectors/split.json says otherwise; if the rule is to change: go test ./engine/split -update, and the Lua with it")
	}
}

func TestAPlaceIsInTheUnitIntervalAndKeysFillItEvenly(t *testing.T) {
	const n = 20_000
	var tenths [10]int
	for i := range n {
		at := Place("api", fmt.Sprint("client ", i))
		if at < 0 || at >= 1 {
			t.Fatalf("client %d is at %v", i, at)
		}
		tenths[int(at*10)]++
	}
	for i, k := range tenths {
		if math.Abs(float64(k)-n/10) > 6*math.Sqrt(n/10) {
			t.Errorf("%d of %d keys are in tenth %d", k, n, i)
		}
	}
}

func TestAKeyThatIsInTheGroupRemainsInItAsTheShareGrows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		small, large := rapid.Float64Range(0, 1).Draw(t, "share"), rapid.Float64Range(0, 1).Draw(t, "another")
		if small > large {
			small, large = large, small
		}
		q := Request{Keyed: true, At: Place(rapid.String().Draw(t, "pool"), rapid.String().Draw(t, "key"))}
		if (Rule{Share: small}).Side(q).Side == Group && (Rule{Share: large}).Side(q).Side != Group {
			t.Fatalf("%v is in a share of %v and not in one of %v", q.At, small, large)
		}
	})
}
