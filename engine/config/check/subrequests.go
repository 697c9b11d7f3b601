package check

import (
	"regexp"
	"strings"

	"github.com/weirlb/weir/engine/config/nginxconf"
)

// Directives that make subrequests: of another location, and of the one they stand in.
const (
	authRequest, mirror       = "auth_request", "mirror"
	backgroundUpdate, ofSlice = "proxy_cache_background_update", "slice"
	logSubrequest             = "log_subrequest"
)

// bySubrequest gives the locations of a server that auth_request and mirror ask, each with the directive that does.
func bySubrequest(server []*nginxconf.Directive) map[*nginxconf.Directive]*nginxconf.Directive {
	asked := map[*nginxconf.Directive]*nginxconf.Directive{}
	var walk func(block []*nginxconf.Directive)
	walk = func(block []*nginxconf.Directive) {
		for _, d := range block {
			if (d.Name == authRequest || d.Name == mirror) && len(d.Args) == 1 && d.Args[0] != "off" {
				if l := locationOf(server, d.Args[0]); l != nil && asked[l] == nil {
					asked[l] = d
				}
			}
			walk(d.Block)
		}
	}
	walk(server)
	return asked
}

// locationOf finds the location, of those in a block, that NGINX serves a URI by: the exact one, else that with the longest prefix, and within it the same. nil
// when there is none, or when a regular expression may come before it.
func locationOf(block []*nginxconf.Directive, uri string) *nginxconf.Directive {
	uri, _, _ = strings.Cut(uri, "?")
	var found *nginxconf.Directive
	longest, doubtful := -1, false
	for _, d := range block {
		if d.Name != "location" || len(d.Args) == 0 {
			continue
		}
		how, path := "", d.Args[len(d.Args)-1]
		if len(d.Args) > 1 {
			how = d.Args[0]
		}
		switch {
		case how == "=" && path == uri:
			return d
		case how == "~" || how == "~*":
			re, err := regexp.Compile("(?i)" + path)
			doubtful = doubtful || err != nil || re.MatchString(uri)
		case (how == "" || how == "^~") && strings.HasPrefix(uri, path) && len(path) > longest:
			found, longest = d, len(path)
		}
	}
	if found == nil || doubtful && found.Args[0] != "^~" {
		return nil
	}
	if inside := locationOf(found.Block, uri); inside != nil {
		return inside
	}
	return found
}

// logged warns of subrequests whose outcome Weir is not told of: NGINX runs their log phase only under log_subrequest. A peer that fails them is then never
// set aside, as nobody sees it fail.
func (c *checker) logged(pass *nginxconf.Directive, in scope) {
	if d := in[logSubrequest]; !c.complete || d != nil && len(d.Args) == 1 && d.Args[0] == "on" {
		return
	}
	for _, name := range [...]string{authRequest, backgroundUpdate, ofSlice} { // authRequest: mirror too, see passes
		if by := in[name]; by != nil && len(by.Args) == 1 && by.Args[0] != "off" && by.Args[0] != "0" {
			c.warnf(pass.File, pass.Line, pass.Name, "gets subrequests (by %s, %s), and Weir hears of none how it ended: no peer is set aside for failing them, and nothing is learned; add `log_subrequest on;`, or include proxy.conf", by.Name, place(by))
			return
		}
	}
}
