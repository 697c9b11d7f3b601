package nginxconf

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// outline writes a tree as one line a directive, indented by depth, words quoted, so that a test can state it.
func outline(ds []*Directive, indent string) string {
	var b strings.Builder
	for _, d := range ds {
		fmt.Fprintf(&b, "%s%d %q", indent, d.Line, append([]string{d.Name}, d.Args...))
		if d.Lua != nil {
			var words []string
			for _, t := range d.Lua {
				w := t.Text
				if t.Kind == LuaString {
					w = fmt.Sprintf("%q", w)
				}
				words = append(words, w)
			}
			fmt.Fprintf(&b, " lua %s", strings.Join(words, " "))
		}
		b.WriteString("\n" + outline(d.Block, indent+"  "))
	}
	return b.String()
}

func TestATextIsReadAsNginxReadsIt(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"only a comment", "# x; {", ""},
		{"words and blocks", "a b  c;\nd {\n e f; }\ng;", "1 [\"a\" \"b\" \"c\"]\n2 [\"d\"]\n  3 [\"e\" \"f\"]\n4 [\"g\"]\n"},
		{"a block without a space", "a{b;}c;", "1 [\"a\"]\n  1 [\"b\"]\n1 [\"c\"]\n"},
		{"quotes", `a "b c;{}#" 'd "e"';`, "1 [\"a\" \"b c;{}#\" \"d \\\"e\\\"\"]\n"},
		{"an empty word", `a '' "";`, "1 [\"a\" \"\" \"\"]\n"},
		{"a quote inside a word", `a b"c;`, "1 [\"a\" \"b\\\"c\"]\n"},
		{"escapes", `a "\"\n\t\\\d" b\ c\;d;`, "1 [\"a\" \"\\\"\\n\\t\\\\\\\\d\" \"b\\\\ c\\\\;d\"]\n"},
		{"an escaped apostrophe", `a 'it\'s';`, "1 [\"a\" \"it's\"]\n"},
		{"a comment only at the beginning of a word", "a b#c; # d;\ne;", "1 [\"a\" \"b#c\"]\n2 [\"e\"]\n"},
		{"a variable in braces", "a ${b}c{d;}", "1 [\"a\" \"${b}c\"]\n  1 [\"d\"]\n"},
		{"a closing brace inside a word", "a b}c;", "1 [\"a\" \"b}c\"]\n"},
		{"a word over two lines", "a\n\n b\n c;", "1 [\"a\" \"b\" \"c\"]\n"},
		{"a quoted word over two lines", "a 'b\nc';\nd;", "1 [\"a\" \"b\\nc\"]\n3 [\"d\"]\n"},
		{"Windows line ends", "a b;\r\nc;\r\n", "1 [\"a\" \"b\"]\n2 [\"c\"]\n"},
		{"a regular expression", `location ~ "^/a{2}$" {x;}`, "1 [\"location\" \"~\" \"^/a{2}$\"]\n  1 [\"x\"]\n"},
		{
			"Lua with braces in strings, comments and long brackets",
			"a_by_lua_block {\n local s = \"}\" .. '}\\'' -- }\n --[[ } ]] --[==[ }\n]] }]==]\n local l = [=[}\n}]=] t = {[1]={}}\n}\nb;",
			"1 [\"a_by_lua_block\"] lua local s = \"}\" . . \"}'\" local l = \"}\\n}\" t = { [ 1 ] = { } }\n8 [\"b\"]\n",
		},
		{"Lua's length operator", "a_by_lua_block { local n = #t } b;", "1 [\"a_by_lua_block\"] lua local n = # t\n1 [\"b\"]\n"},
		{"Lua with an argument before it", "set_by_lua_block $x { return 1 }", "1 [\"set_by_lua_block\" \"$x\"] lua return 1\n"},
		{"an index of an index", "a_by_lua_block { a[b[1]] = 2 }", "1 [\"a_by_lua_block\"] lua a [ b [ 1 ] ] = 2\n"},
		{"a comment at the end of the Lua", "a_by_lua_block { --\n}", "1 [\"a_by_lua_block\"]\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ds, problems := Parse("n", []byte(c.text))
			if got := outline(ds, ""); got != c.want || len(problems) > 0 {
				t.Errorf("got\n%s%v\nwant\n%s", got, problems, c.want)
			}
		})
	}
}

func TestABrokenTextIsToldWithItsLine(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"a\nb", `2: unexpected end of file, expecting ";" or "}"`},
		{"a {\n b;\n", `3: unexpected end of file, expecting "}"`},
		{"a;\n}", `2: unexpected "}"`},
		{"a {\n b }", `2: unexpected "}", expecting ";"`},
		{"\n;", `2: unexpected ";"`},
		{"{", `1: unexpected "{"`},
		{"a 'b\n\n", `1: unexpected end of file, the quote ' that begins here is not closed`},
		{"a 'b'c;", `1: unexpected "c" after a closing quote`},
		{"a\n\\", `2: unexpected end of file, expecting ";" or "}"`},
		{"a;\nb_by_lua_block {\n {\n", "2: the Lua block that begins here has no closing brace"},
		{"b_by_lua_block {\n x = 'a\n }", "2: a Lua string is not closed on its line"},
		{"b_by_lua_block {\n x = [[a\n }", "2: a Lua long bracket is not closed"},
		{"b_by_lua_block {\n --[[a\n }", "2: a Lua long bracket is not closed"},
		{"\ufeffevents {}\nhttp {}\n", "1: begins with a byte order mark, which NGINX takes for a part of the first word: save the file as UTF-8 without BOM"},
	} {
		_, problems := Parse("n", []byte(c.text))
		if len(problems) != 1 || fmt.Sprintf("%d: %s", problems[0].Line, problems[0].Message) != c.want {
			t.Errorf("%q: got %v, want %s", c.text, problems, c.want)
		}
	}
}

func TestWhatStandsBeforeASyntaxErrorIsKept(t *testing.T) {
	ds, problems := Parse("n", []byte("a { b; c { d; 'e'f; } }"))
	if got := outline(ds, ""); got != "1 [\"a\"]\n  1 [\"b\"]\n  1 [\"c\"]\n    1 [\"d\"]\n" || len(problems) != 1 {
		t.Errorf("got %s%v", got, problems)
	}
}

func files(t *testing.T, texts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range texts {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestIncludesAreReadInPlaceFromTheFolderOfTheMainFile(t *testing.T) {
	dir := files(t, map[string]string{
		"nginx.conf":      "a;\nhttp { include conf.d/*.conf; c; }\n",
		"conf.d/2.conf":   "two;",
		"conf.d/1.conf":   "one; include sub/x;",
		"conf.d/.no.conf": "hidden;",
		"conf.d/readme":   "no {",
		"sub/x":           "\nx;",
	})
	ds, problems := Read(filepath.Join(dir, "nginx.conf"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var got []string
	for _, d := range ds[1].Block {
		rel, _ := filepath.Rel(dir, d.File)
		got = append(got, fmt.Sprintf("%s:%d %s", rel, d.Line, d.Name))
	}
	want := []string{"nginx.conf:2 include", "conf.d/1.conf:1 one", "conf.d/1.conf:1 include", "sub/x:2 x", "conf.d/2.conf:1 two", "nginx.conf:2 c"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestAnIncludeThatCannotBeReadIsToldWhereItStands(t *testing.T) {
	dir := files(t, map[string]string{
		"nginx.conf": "include none.conf;\ninclude none/*.conf;\ninclude;\ninclude d;\nb;", "d/x": "",
	})
	ds, problems := Read(filepath.Join(dir, "nginx.conf"))
	if len(problems) != 3 || problems[0].Line != 1 || problems[1].Line != 3 || problems[2].Line != 4 || ds[len(ds)-1].Name != "b" {
		t.Errorf("got %v", problems)
	}
	if _, problems := Read(filepath.Join(dir, "gone")); len(problems) != 1 || !strings.Contains(problems[0].Message, "no such file") {
		t.Errorf("got %v", problems)
	}
}

func TestABlockDoesNotReachOverTheEndOfItsFile(t *testing.T) {
	dir := files(t, map[string]string{"nginx.conf": "http { include a; include b; c; }\nd;", "a": "x {", "b": "} y;"})
	ds, problems := Read(filepath.Join(dir, "nginx.conf"))
	if len(problems) != 2 || filepath.Base(problems[0].File) != "a" || filepath.Base(problems[1].File) != "b" || ds[len(ds)-1].Name != "d" {
		t.Errorf("got %v, %s", problems, outline(ds, ""))
	}
}

func TestFilesThatIncludeThemselvesEnd(t *testing.T) {
	dir := files(t, map[string]string{"nginx.conf": "include nginx.conf; include nginx.conf; include a*;", "a1": "include a*;", "a2": "include a*;"})
	_, problems := Read(filepath.Join(dir, "nginx.conf"))
	if len(problems) != 1 || !strings.Contains(problems[0].Message, "does a file include itself?") {
		t.Errorf("%d problems, the first %v", len(problems), problems[0])
	}
}

func TestADeviceIsNotRead(t *testing.T) {
	if _, problems := Read("/dev/zero"); len(problems) != 1 {
		t.Errorf("got %v", problems)
	}
}

func TestDeepNestingIsRefused(t *testing.T) {
	if _, problems := Parse("n", []byte(strings.Repeat("a{", 100_000))); len(problems) != 1 {
		t.Errorf("got %v", problems)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "a b;", "a { b 'c'; }", "x_by_lua_block { --[[ } ]] [=[ ]=] \"}\" }", "a \"\\\"\";", "${", "a\\", "#", "a 'b'c;", "x_by_lua_block{[==", "x_by_lua_block{'\\", "include *;",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		ds, problems := Parse("n", text)
		lines := 1 + strings.Count(string(text), "\n")
		for _, p := range problems {
			if p.Line < 1 || p.Line > lines || p.Message == "" {
				t.Fatalf("problem %+v in %d lines", p, lines)
			}
		}
		var walk func(ds []*Directive)
		walk = func(ds []*Directive) {
			for _, d := range ds {
				if d.Line < 1 || d.Line > lines {
					t.Fatalf("%q on line %d of %d", d.Name, d.Line, lines)
				}
				walk(d.Block)
			}
		}
		walk(ds)
	})
}
