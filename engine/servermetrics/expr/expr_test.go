package expr

import (
	"math"
	"strings"
	"testing"
)

func page() Page {
	return Page{
		"free":  {{nil, 25}},
		"total": {{nil, 100}},
		"rate":  {{nil, 7}},
		"queue": {{map[string]string{"queue": "in"}, 3}, {map[string]string{"queue": "out"}, 5}, {map[string]string{"queue": "dead"}, 90}},
		"cpu":   {{map[string]string{"mode": "idle", "cpu": "0"}, 100}, {map[string]string{"mode": "user", "cpu": "0"}, 60}},
	}
}

func TestExpressionsMeanWhatTheyMeanInPromQL(t *testing.T) {
	before := Page{"cpu": {{map[string]string{"mode": "idle"}, 90}, {map[string]string{"mode": "user"}, 30}}, "free": {{nil, 1000}}}
	for text, want := range map[string]float64{
		"free":                               25,
		"1 - free / total":                   0.75,
		"1-free/total":                       0.75,
		"2 + 3 * 4 - -1 + 0 * free":          15,
		"(2 + 3) * 4 + 0 * free":             20,
		"free * 1.5e-2":                      0.375,
		"8 / 4 / 2 + 0*free":                 1,
		`queue{queue="in"}`:                  3,
		`queue{queue!="dead"}`:               8,
		`queue{queue=~"in|out"}`:             8,
		`queue{queue=~"i"}`:                  math.NaN(), // anchored
		`queue{queue!~'in|out', host=""}`:    90,
		`max(queue{queue!="dead"})`:          5,
		`min(queue)`:                         3,
		`avg(queue{queue!="dead",})`:         4,
		`sum(queue)`:                         98,
		`rate`:                               7,
		`rate(cpu)`:                          4,
		`1-rate(cpu{mode='idle'})/rate(cpu)`: 0.75,
		`rate(free)`:                         2.5, // a counter that fell began again
		`missing`:                            math.NaN(),
		`free / missing`:                     math.NaN(),
		`free / (free - free)`:               math.NaN(),
		`rate(total)`:                        math.NaN(), // not on the page before
	} {
		e, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, ok := e.Eval(page(), before, 10)
		if ok != !math.IsNaN(want) || ok && math.Abs(got-want) > 1e-12 {
			t.Errorf("%s = %v (%v), want %v", text, got, ok, want)
		}
	}
}

func TestAMistakeInAnExpressionIsToldWithItsPlace(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "expected a number, a metric's name or ( at character 1, found the end",
		"1 + 2":                        "names no metric",
		"a b":                          `expected +, -, * or / at character 3, found "b"`,
		"(a":                           "expected ) at character 3, found the end",
		"a{b}":                         `expected =, !=, =~ or !~ at character 4, found "}"`,
		`a{b="c}`:                      `a text without an end at character 5, found "\"c}"`,
		`a{b=~"("}`:                    `"(" is no regular expression`,
		`a{b="c" d="e"}`:               "expected , or } at character 9",
		"rate(a[5m])":                  "expected ): a function takes one metric, without a range at character 7",
		"rate(1)":                      `expected a metric's name at character 6`,
		"1e5e5 * a":                    "expected a number at character 1",
		strings.Repeat("(", 100) + "a": "nested more than 32 deep",
		strings.Repeat("-", 100) + "a": "nested more than 32 deep",
		strings.Repeat("a", 5000):      "has 5000 bytes, may have 4096",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

func TestARateNeedsAPageBefore(t *testing.T) {
	e, _ := Parse("rate(cpu)")
	if _, ok := e.Eval(page(), nil, 10); ok {
		t.Error("there was a rate without a page before")
	}
	if _, ok := e.Eval(page(), page(), 0); ok {
		t.Error("there was a rate over no time")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"1 - a / b", `rate(a{b=~"c|d",e!='f\n'}) * -2e+3`, "((", `a{b="\`, "max(a)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Parse(text)
		if err != nil {
			return
		}
		if x, ok := e.Eval(page(), page(), 1); ok && x-x != 0 {
			t.Errorf("%q = %v", text, x)
		}
	})
}
