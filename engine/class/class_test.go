package class

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

type vector struct {
	Method  string `json:"method"`
	Path    string `json:"path"`
	PathHex string `json:"path_hex"`
	Body    int64  `json:"body"`
	Class   string `json:"class"`
	Why     string `json:"why"`
}

func vectors(t testing.TB) []vector {
	t.Helper()
	data, err := os.ReadFile("../../test/vectors/classes.json")
	if err != nil {
		t.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(data, &vs); err != nil {
		t.Fatal(err)
	}
	for i := range vs {
		if vs[i].PathHex != "" {
			b, err := hex.DecodeString(vs[i].PathHex)
			if err != nil {
				t.Fatalf("vector %d: %v", i, err)
			}
			vs[i].Path = string(b)
		}
	}
	return vs
}

func TestEveryVectorHasItsClass(t *testing.T) {
	vs := vectors(t)
	if len(vs) < 60 {
		t.Fatalf("only %d vectors", len(vs))
	}
	for i, v := range vs {
		if got := Of(v.Method, v.Path, v.Body); got != v.Class {
			t.Errorf("vector %d (%s): %q %q %d\n got %q\nwant %q", i, v.Why, v.Method, v.Path, v.Body, got, v.Class)
		}
	}
}

func TestTheVectorsReachTheLongestClass(t *testing.T) {
	longest := 0
	for _, v := range vectors(t) {
		longest = max(longest, len(v.Class))
	}
	if longest != MaxLen {
		t.Errorf("longest vector has %d bytes, MaxLen is %d", longest, MaxLen)
	}
}

// anyPath draws paths that come near every limit of the rule: few and many segments, ends around the scan limit,
// every byte.
func anyPath() *rapid.Generator[string] {
	segment := rapid.OneOf(
		rapid.StringMatching(`[0-9]{0,3}`),
		rapid.StringMatching(`[0-9a-fA-F-]{0,40}`),
		rapid.StringMatching(`[a-zA-Z0-9._{}"\\ -]{0,250}`),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 60), func(b []byte) string { return string(b) }),
	)
	return rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{"/", ""}).Draw(t, "lead") +
			strings.Join(rapid.SliceOfN(segment, 0, 12).Draw(t, "segments"), "/")
	})
}

func TestAClassIsAlwaysShortPrintableASCII(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Of(rapid.String().Draw(t, "method"), anyPath().Draw(t, "path"), rapid.Int64().Draw(t, "body"))
		checkSafe(t, c)
	})
}

func checkSafe(t interface{ Fatalf(string, ...any) }, c string) {
	if c == "" || len(c) > MaxLen {
		t.Fatalf("%d bytes: %q", len(c), c)
	}
	for i := range len(c) {
		if c[i] < 0x20 || c[i] > 0x7e || c[i] == '"' || c[i] == '\\' {
			t.Fatalf("byte %d of %q is 0x%02x", i, c, c[i])
		}
	}
}

func TestWhatFollowsTheScanLimitChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		head := "/" + rapid.StringOfN(rapid.RuneFrom([]rune("/ab1")), maxScan-1, maxScan-1, -1).Draw(t, "head")
		a, b := anyPath().Draw(t, "a"), anyPath().Draw(t, "b")
		if x, y := Of("GET", head+"x"+a, 0), Of("GET", head+"y"+b, 0); x != y {
			t.Fatalf("%q and %q", x, y)
		}
	})
}

func TestATemplateKeepsAtMostEightSegments(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Of("GET", anyPath().Draw(t, "path"), 0)
		n := strings.Count(strings.TrimSuffix(c, "/**"), "/")
		if n > maxSegments {
			t.Fatalf("%d segments in %q", n, c)
		}
	})
}

func TestNumbersInAPathDoNotMakeNewClasses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[0-9]{1,20}`)
		a, b := id.Draw(t, "a"), id.Draw(t, "b")
		if x, y := Of("GET", "/u/"+a, 0), Of("GET", "/u/"+b, 0); x != y {
			t.Fatalf("%q and %q", x, y)
		}
	})
}

func TestANameIsValidOrMadeSo(t *testing.T) {
	for s, want := range map[string]string{
		"":                       "",
		"*":                      "*",
		"GET /reports/{n}":       "GET /reports/{n}",
		"a\"b\\c\n\x00":          "a_b_c__",
		"caf\xc3\xa9":            "caf__",
		strings.Repeat("x", 200): strings.Repeat("x", 128),
	} {
		if got := Name(s); got != want {
			t.Errorf("Name(%q) = %q, want %q", s, got, want)
		}
		if valid := ValidName(s); valid != (s == want && s != "") {
			t.Errorf("ValidName(%q) = %v", s, valid)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "s"))
		if !ValidName(Name(s)) {
			t.Fatalf("Name(%q) = %q is not valid", s, Name(s))
		}
	})
}

func FuzzOf(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.Method, v.Path, v.Body)
	}
	f.Fuzz(func(t *testing.T, method, path string, body int64) {
		checkSafe(t, Of(method, path, body))
	})
}

func BenchmarkOf(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Of("GET", "/api/v1/users/123/orders/9f1b1c1e-0c5a-4b7e-8d3f-2a6c5b4d3e2f", 0)
	}
}
