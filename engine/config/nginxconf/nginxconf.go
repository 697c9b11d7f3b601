// Package nginxconf reads NGINX configuration files into a tree of directives with file and line, includes followed,
// Lua blocks understood. It knows the syntax, not the directives: what they mean is for the callers.
//
// It is written here because no maintained Go parser reads Lua blocks as NGINX does. The one that knows of them
// (github.com/tufanbarisyildirim/gonginx) counts braces in Lua strings and comments, and takes Lua's length operator
// # for an NGINX comment, so `local n = #t }` swallows the end of the block. The tokenizer follows
// ngx_conf_read_token() in NGINX's src/core/ngx_conf_file.c, quirks included.
package nginxconf

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Directive is one directive with what stands in its block.
type Directive struct {
	Name  string
	Args  []string
	Block []*Directive // of an ordinary block, includes replaced by what they include (the include itself stays before it)
	Lua   []LuaToken   // of a *_by_lua_block, and of a *_by_lua_file that is named from the root and is no bytecode: there in the line of the directive
	File  string
	Line  int // where its name stands, from 1
}

// Problem is something NGINX would refuse, or that kept us from reading on.
type Problem struct {
	File    string
	Line    int
	Message string
}

// Bounds on what is read. A configuration of thousands of servers is a few MiB in a few thousand files.
const (
	maxFileSize = 8 << 20
	maxTotal    = 64 << 20
	maxFiles    = 10_000
	maxDepth    = 64 // of blocks and of includes; NGINX's own configurations nest fewer than ten deep
)

// Read reads a configuration and everything it includes. Relative includes are taken from the folder of the file
// at path, as NGINX does, whichever file they stand in. After a problem in one file, what was read before it is
// kept and the other files are read all the same.
func Read(path string) ([]*Directive, []Problem) {
	r := &reader{dir: filepath.Dir(path)}
	return r.file(path, Problem{File: path}, 0), r.problems
}

// Parse reads one text. Includes are left alone.
func Parse(name string, text []byte) ([]*Directive, []Problem) {
	r := &reader{}
	return r.parse(name, text, 0), r.problems
}

type reader struct {
	dir      string // relative includes start here; "" = includes are not followed
	files    int
	total    int64
	problems []Problem
}

func (r *reader) problem(file string, line int, format string, args ...any) {
	const most = 100 // a folder of binaries included by a glob is told often enough
	if len(r.problems) < most {
		r.problems = append(r.problems, Problem{File: file, Line: line, Message: fmt.Sprintf(format, args...)})
	}
}

// file reads one file. at is where it is asked for, for the case that it cannot be read.
func (r *reader) file(path string, at Problem, depth int) []*Directive {
	if r.files++; r.files > maxFiles || depth > maxDepth {
		if r.files <= maxFiles+1 { // told once
			r.problem(at.File, at.Line, "includes go deeper than %d or reach more than %d files: does a file include itself?", maxDepth, maxFiles)
		}
		r.files = maxFiles + 1
		return nil
	}
	text, err := readBounded(path, min(maxFileSize, maxTotal-r.total))
	if err != nil {
		r.problem(at.File, at.Line, "cannot be read: %v", err)
		return nil
	}
	r.total += int64(len(text))
	return r.parse(path, text, depth)
}

func readBounded(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > most {
		return nil, fmt.Errorf("%s is too large", path)
	}
	return text, nil
}

// include reads the files an include names. A pattern may match nothing; a plain name must exist.
func (r *reader) include(d *Directive, depth int) []*Directive {
	if len(d.Args) != 1 {
		r.problem(d.File, d.Line, "include takes one file or pattern, has %d", len(d.Args))
		return nil
	}
	pattern := d.Args[0]
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(r.dir, pattern)
	}
	paths := []string{pattern}
	if strings.ContainsAny(pattern, "*?[") {
		var err error
		if paths, err = filepath.Glob(pattern); err != nil {
			r.problem(d.File, d.Line, "%q is no valid pattern: %v", pattern, err)
			return nil
		}
		// As glob(3): * and ? do not match a leading dot.
		paths = slices.DeleteFunc(paths, func(p string) bool {
			return strings.HasPrefix(filepath.Base(p), ".") && !strings.HasPrefix(filepath.Base(pattern), ".")
		})
	}
	var all []*Directive
	for _, p := range paths {
		all = append(all, r.file(p, Problem{File: d.File, Line: d.Line}, depth+1)...)
	}
	return all
}

// luaFile reads the code of a *_by_lua_file. A name that is not from the root is looked for in NGINX's prefix, which only NGINX knows; one with a
// variable is known with a request.
func (r *reader) luaFile(d *Directive) {
	if len(d.Args) != 1 || !filepath.IsAbs(d.Args[0]) || strings.Contains(d.Args[0], "$") {
		return
	}
	text, err := readBounded(d.Args[0], min(maxFileSize, maxTotal-r.total))
	if err != nil {
		r.problem(d.File, d.Line, "cannot be read: %v", err)
		return
	}
	r.total += int64(len(text))
	if strings.HasPrefix(string(text), "\x1bLJ") {
		return
	}
	d.Lua = LuaTokens(string(text), 1)
	for i := range d.Lua {
		d.Lua[i].Line = d.Line
	}
}

// parse reads one text. A block must end in the file it began in, so each file is parsed on its own.
func (r *reader) parse(name string, text []byte, depth int) []*Directive {
	if bytes.HasPrefix(text, []byte("\ufeff")) { // invisible in most editors, and so in NGINX's own message
		r.problem(name, 1, "begins with a byte order mark, which NGINX takes for a part of the first word: save the file as UTF-8 without BOM")
		text = text[len("\ufeff"):]
	}
	return r.block(&scanner{src: text, line: 1}, name, depth, false)
}

// block reads directives up to the brace that closes the block, or the end of the file at its outermost level. On a
// syntax error it gives what it has, and the scanner is at its end, so that the blocks around it end too.
func (r *reader) block(s *scanner, file string, depth int, inside bool) []*Directive {
	var ds []*Directive
	for {
		words, line, end := s.directive()
		switch end {
		case endOfText:
			if inside && !s.failed {
				r.problem(file, s.line, `unexpected end of file, expecting "}"`)
				s.fail()
			}
			return ds
		case syntaxError:
			r.problem(file, s.line, "%s", s.reason)
			return ds
		case blockEnd:
			if !inside {
				r.problem(file, s.line, `unexpected "}"`)
				s.fail()
			}
			return ds
		}
		d := &Directive{Name: words[0], Args: words[1:], File: file, Line: line}
		ds = append(ds, d)
		switch {
		case end == blockStart && strings.HasSuffix(d.Name, "_by_lua_block"):
			tokens, ok := s.luaBlock()
			d.Lua = tokens
			if !ok {
				r.problem(file, s.line, "%s", s.reason)
				return ds
			}
		case end == blockStart:
			if depth >= maxDepth {
				r.problem(file, line, "blocks nest deeper than %d", maxDepth)
				s.fail()
				return ds
			}
			d.Block = r.block(s, file, depth+1, true)
		case d.Name == "include" && r.dir != "":
			ds = append(ds, r.include(d, depth)...)
		case strings.HasSuffix(d.Name, "_by_lua_file") && r.dir != "":
			r.luaFile(d)
		}
	}
}
