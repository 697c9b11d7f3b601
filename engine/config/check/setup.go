package check

import (
	"path"
	"strings"

	"github.com/weirlb/weir/engine/config/nginxconf"
)

// setup checks that an http block with Weir's upstreams has what weir.conf brings, once, and before the maps that are
// meant to override parts of it.
func (c *checker) setup(http *nginxconf.Directive) {
	var include, dict, initialise *nginxconf.Directive
	var worker, log bool
	files := map[string]*nginxconf.Directive{}  // that were not read, by phase
	others := map[string]*nginxconf.Directive{} // whose Lua has modules of the operator's, by phase
	for _, d := range http.Block {
		switch {
		case isWeirConf(d):
			if include != nil {
				c.errorf(d.File, d.Line, "include", "weir.conf is included a second time; the first is %s:%d", include.File, include.Line)
			} else {
				include = d
			}
		case callsWeir(d, "init", "init"):
			initialise = d
			if name := option(lua(d), "dict"); name != "" {
				c.dictName = name
			}
			c.socket(d)
			c.secretFile = option(lua(d), "affinity_secret_file")
			c.secretAt = d
		case callsWeir(d, "init_worker", "init_worker"):
			worker = true
		case callsWeir(d, "log", "log"):
			log = true
		}
		for _, phase := range [...]string{"init", "init_worker", "log"} {
			if unread(d, phase) {
				files[phase] = d
			} else if inPhase(d, phase) && elsewhere(d) != "" {
				others[phase] = d
			}
		}
	}
	for _, d := range http.Block {
		if d.Name == "lua_shared_dict" && len(d.Args) > 0 && d.Args[0] == c.dictName {
			dict = d
		}
	}
	c.maps(http.Block)
	if !c.complete {
		return
	}
	if include == nil && dict == nil && initialise == nil && !worker && !log && len(files)+len(others) == 0 {
		c.errorf(http.File, http.Line, "http", "Weir is not set up: add `include /etc/nginx/weir/weir.conf;` at the top of this block")
		return
	}
	for _, part := range []struct {
		there    bool
		function string
		what     string
	}{
		{dict != nil, "", "lua_shared_dict " + c.dictName + " 64m;"},
		{initialise != nil, "init", `init_by_lua_block { require("resty.weir").init() }`},
		{worker, "init_worker", `init_worker_by_lua_block { require("resty.weir").init_worker() }`},
		{log, "log", `log_by_lua_block { require("resty.weir").log() }`},
	} {
		if d := files[part.function]; !part.there && d != nil { // the function is named as the phase
			c.unread(d, part.function)
		} else if d := others[part.function]; !part.there && d != nil {
			c.warnf(d.File, d.Line, d.Name, "does not call Weir itself: see that module %q, which it requires, calls require(\"resty.weir\").%s()", elsewhere(d), part.function)
		} else if !part.there {
			c.errorf(http.File, http.Line, "http", "a part of Weir's set-up is missing: add `%s`, or include weir.conf, which has it", part.what)
		}
	}
}

func isWeirConf(d *nginxconf.Directive) bool {
	return d.Name == "include" && len(d.Args) == 1 && path.Base(d.Args[0]) == "weir.conf"
}

// socket compares the socket NGINX is told with the one the engine listens on.
func (c *checker) socket(init *nginxconf.Directive) {
	if _, both := c.env("WEIR_SOCKET"); c.cfg == nil || both {
		return // the variable wins on both sides
	}
	told := option(lua(init), "socket")
	if told == "" {
		told = "/run/weir/engine.sock" // the default of resty.weir
	}
	if told != c.cfg.Socket.Path {
		c.warnf(init.File, init.Line, init.Name,
			"NGINX looks for the engine at %s, but the engine listens on %s: write init{socket = %q}, or set WEIR_SOCKET for NGINX, with `env WEIR_SOCKET;` at the top of nginx.conf", told, c.cfg.Socket.Path, c.cfg.Socket.Path)
	}
}

// clock warns of an NGINX that looks at the clock only now and then: the times of answers that are not quick come from it (lua/resty/weir/log.lua), and a
// peer that takes 30 ms would take 0 or 100.
func (c *checker) clock(main []*nginxconf.Directive) {
	for _, d := range main {
		if d.Name != "timer_resolution" || len(d.Args) != 1 {
			continue
		}
		if ms, ok := milliseconds(d.Args[0]); ok && ms > 2 {
			c.warnf(d.File, d.Line, d.Name, "has NGINX look at the clock each %d ms, and the answers of peers are timed no better than that: remove it", ms)
		}
	}
}

// maps finds those that set $weir_class or $weir_weight before weir.conf declares the variable. NGINX takes the last
// declaration, so the operator's would be overridden without a word.
func (c *checker) maps(block []*nginxconf.Directive) {
	for i, d := range block {
		name := sets(d)
		if name == "" || isDeclaration(d) {
			continue
		}
		for _, later := range block[i+1:] {
			if isDeclaration(later) && sets(later) == name || isWeirConf(later) && !c.complete {
				c.errorf(d.File, d.Line, d.Name+" "+name, "must come after weir.conf (%s:%d), which declares %s and would override this", later.File, later.Line, name)
				break
			}
		}
	}
}

// sets gives $weir_class, $weir_weight or $weir_priority when the directive defines it.
func sets(d *nginxconf.Directive) string {
	if len(d.Args) == 0 {
		return ""
	}
	switch d.Name {
	case "map", "geo", "split_clients":
		if v := d.Args[len(d.Args)-1]; v == "$weir_class" || v == "$weir_weight" || v == "$weir_priority" {
			return v
		}
	case "js_set", "perl_set":
		if v := d.Args[0]; v == "$weir_class" || v == "$weir_weight" || v == "$weir_priority" {
			return v
		}
	}
	return ""
}

// isDeclaration knows the maps of weir.conf: from nothing, or from what Weir asks its maps by, to nothing.
func isDeclaration(d *nginxconf.Directive) bool {
	return d.Name == "map" && len(d.Args) == 2 && (d.Args[0] == "" && len(d.Block) == 1 || d.Args[0] == "$weir_asked" && len(d.Block) > 0) &&
		d.Block[0].Name == "default" && strings.Join(d.Block[0].Args, " ") == ""
}
