package check

import (
	"slices"
	"strings"

	"github.com/weirlb/weir/engine/config/nginxconf"
)

const module = "resty.weir"

// lua gives the Lua code of a *_by_lua_block or of the older *_by_lua with its code in quotes; nil for other directives.
func lua(d *nginxconf.Directive) []nginxconf.LuaToken {
	if d.Lua != nil || !strings.HasSuffix(d.Name, "_by_lua") || len(d.Args) == 0 {
		return d.Lua
	}
	return nginxconf.LuaTokens(d.Args[len(d.Args)-1], d.Line)
}

// inPhase tells whether a directive runs Lua in a phase, in whichever of its three forms.
func inPhase(d *nginxconf.Directive, phase string) bool {
	return d.Name == phase+"_by_lua_block" || d.Name == phase+"_by_lua" || d.Name == phase+"_by_lua_file"
}

// unread tells whether a directive runs Lua of a file in a phase that was not read.
func unread(d *nginxconf.Directive, phase string) bool {
	return d.Name == phase+"_by_lua_file" && d.Lua == nil
}

// unread warns of such a file, which may well call the function of Weir that is looked for.
func (c *checker) unread(d *nginxconf.Directive, function string) {
	c.warnf(d.File, d.Line, d.Name, "its file is not read (one of Lua's text, named from / on, is): see that it calls require(\"resty.weir\").%s()", function)
}

// elsewhere gives the module by way of which a directive's Lua may call Weir: one that it requires and that is of none of the usual libraries; "" = none.
func elsewhere(d *nginxconf.Directive) string {
	tokens := lua(d)
	for i, t := range tokens {
		if t.Kind != nginxconf.LuaName || t.Text != "require" {
			continue
		}
		at := i + 1
		if sign(tokens, at, "(") {
			at++
		}
		if !str(tokens, at) {
			continue
		}
		name := tokens[at].Text
		if root, _, _ := strings.Cut(name, "."); !slices.Contains([]string{"resty", "ngx", "cjson", "bit", "ffi", "jit", "string", "table"}, root) {
			return name
		}
	}
	return ""
}

// callsWeir tells whether a directive of the phase calls the function of Weir.
func callsWeir(d *nginxconf.Directive, phase, function string) bool {
	if !inPhase(d, phase) {
		return false
	}
	_, ok := weirCall(lua(d), function)
	return ok
}

// weirCallArgs is what balance() is called with, as far as the text shows it.
type weirCallArgs struct {
	line        int
	pool        string // "" when it is no plain string
	poolGiven   bool
	static      *string // nil when it is no plain string
	staticGiven bool
}

// weirCall finds the call of a function of Weir: `require("resty.weir").balance("api", "10.0.0.1:80")`, or by way of a
// local. Lua is not run, so the code must name the module as a plain string somewhere; a call of another module's
// function of that name in the same block would be taken for ours.
func weirCall(tokens []nginxconf.LuaToken, function string) (weirCallArgs, bool) {
	if calls := weirCalls(tokens, function); len(calls) > 0 {
		return calls[0], true
	}
	return weirCallArgs{}, false
}

// weirCalls finds all of them.
func weirCalls(tokens []nginxconf.LuaToken, function string) (calls []weirCallArgs) {
	named := false
	for i, t := range tokens {
		if t.Kind == nginxconf.LuaString && (t.Text == module || t.Text == module+"."+function) {
			named = true
		}
		if !named || i == 0 || t.Kind != nginxconf.LuaName || t.Text != function || !sign(tokens, i-1, ".") {
			continue
		}
		call := weirCallArgs{line: t.Line}
		if str(tokens, i+1) { // balance "api"
			call.pool, call.poolGiven = tokens[i+1].Text, true
		} else if sign(tokens, i+1, "(") {
			call.args(tokens[i+2:])
		} else if !sign(tokens, i+1, "{") { // init{socket = "/x"}
			continue
		}
		calls = append(calls, call)
	}
	return calls
}

// args reads the arguments behind the opening parenthesis. Only a string that is a whole argument is taken.
func (c *weirCallArgs) args(tokens []nginxconf.LuaToken) {
	number, from, depth := 0, 0, 0
	for i, t := range tokens {
		if t.Kind != nginxconf.LuaSign {
			continue
		}
		switch t.Text {
		case "(", "{", "[":
			depth++
			continue
		case ")", "}", "]":
			depth--
		case ",":
		default:
			continue
		}
		if depth > 0 || depth == 0 && t.Text != "," {
			continue
		}
		arg := tokens[from:i]
		plain := len(arg) == 1 && arg[0].Kind == nginxconf.LuaString
		given := len(arg) > 0 && !(len(arg) == 1 && arg[0].Text == "nil" && !plain)
		switch number {
		case 0:
			c.poolGiven = given
			if plain {
				c.pool = arg[0].Text
				c.poolGiven = c.pool != ""
			}
		case 1:
			c.staticGiven = given
			if plain {
				c.static = &arg[0].Text
			}
		}
		if depth < 0 {
			return
		}
		number, from = number+1, i+1
	}
}

func sign(tokens []nginxconf.LuaToken, i int, text string) bool {
	return i < len(tokens) && tokens[i].Kind == nginxconf.LuaSign && tokens[i].Text == text
}

func str(tokens []nginxconf.LuaToken, i int) bool {
	return i < len(tokens) && tokens[i].Kind == nginxconf.LuaString
}

// option finds NAME = "value" in the code, as in init{socket = "/run/x.sock"}.
func option(tokens []nginxconf.LuaToken, name string) string {
	for i, t := range tokens {
		if t.Kind == nginxconf.LuaName && t.Text == name && sign(tokens, i+1, "=") && str(tokens, i+2) {
			return tokens[i+2].Text
		}
	}
	return ""
}
