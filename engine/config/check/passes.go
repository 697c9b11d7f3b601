package check

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/config/nginxconf"
)

// scope is what a location inherits, by the name of the directive: the innermost one holds.
type scope map[string]*nginxconf.Directive

// beforeBody are the phases in which limits may be asked.
var beforeBody = [...]string{"rewrite", "access"}

// protocols are the modules that pass requests to an upstream and have a time limit for further tries of their own.
var protocols = [...]string{"proxy", "grpc", "fastcgi", "uwsgi", "scgi", "memcached"}

// passes walks servers and locations, and checks every pass to an upstream of Weir under what it inherits. NGINX
// reads a block whole before it applies, so the order inside one does not count.
func (c *checker) passes(block []*nginxconf.Directive, outer scope, values literals, upstreams map[string]*upstream) {
	inner := maps.Clone(outer)
	for _, d := range block {
		if inPhase(d, "log") {
			inner["log"] = d
		}
		if inPhase(d, "access") {
			inner["access"] = d
			c.rates(d)
		}
		if inPhase(d, "rewrite") {
			inner["rewrite"] = d
			c.rates(d)
		}
		if d.Name == "limit_req" {
			c.limitReq(d)
		}
		if inPhase(d, "header_filter") {
			inner["header_filter"] = d
		}
		switch d.Name {
		case codeCache, satisfy, logSubrequest, backgroundUpdate, ofSlice, httpVersion:
			inner[d.Name] = d
		case hide, pass, setHeader:
			if inner[d.Name] == outer[d.Name] { // the first of this block: those of the blocks around hold no more
				inner[d.Name] = &nginxconf.Directive{Name: d.Name, File: d.File, Line: d.Line}
			}
			names := d.Args
			if d.Name == setHeader && len(names) > 1 {
				names = names[:1]
			}
			inner[d.Name].Args = append(inner[d.Name].Args, names...)
		}
		for _, p := range protocols {
			switch d.Name {
			case p + "_next_upstream_timeout", p + "_next_upstream_tries", p + "_connect_timeout":
				inner[d.Name] = d
			}
		}
		if ofTLS(d.Name) {
			inner[d.Name] = d
		}
	}
	for _, d := range block {
		switch d.Name {
		case "server":
			c.asked = bySubrequest(d.Block)
			c.passes(d.Block, inner, values.with(d.Block), upstreams)
			continue
		case "location", "if", "limit_except":
			around := inner
			if by := c.asked[d]; by != nil {
				around = maps.Clone(inner)
				around[authRequest] = by
			}
			c.passes(d.Block, around, values, upstreams)
			continue
		}
		for _, p := range protocols {
			if d.Name == p+"_pass" && len(d.Args) > 0 {
				possible := values.destinations(d.Args[0], upstreams)
				for _, to := range possible {
					u := to.upstream
					if to.port != "" {
						c.port(d, &to)
						continue
					}
					c.pass(p, inner, u)
					c.cached(inner)
					c.satisfied(inner)
					c.speaks(p, d, inner, to)
					c.logged(d, inner)
					if p == "proxy" {
						c.kept(d, inner, u)
					}
					c.sticky(d, inner, u)
					c.admission(d, inner, u, possible)
					c.rated(d, inner, u, possible)
				}
			}
		}
	}
}

// target gives the upstream's name in http://NAME/path, http://NAME$request_uri, grpc://NAME or NAME, in lower case: NGINX compares it without regard to
// case.
func target(s string) string {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		s = rest
	}
	for _, end := range [...]string{"/", "?", "$request_uri", "$uri", "$document_uri", "$is_args"} { // what begins with a slash or a question mark
		s, _, _ = strings.Cut(s, end)
	}
	return strings.ToLower(s)
}

const codeCache = "lua_code_cache"

// cached refuses what gives each request a Lua machine of its own: none knows what the others do, so nothing is counted, learned or balanced.
func (c *checker) cached(in scope) {
	if d := in[codeCache]; d != nil && len(d.Args) == 1 && d.Args[0] == "off" {
		c.errorf(d.File, d.Line, d.Name, "gives each request a Lua of its own, so that nothing is counted or learned and one peer gets all of them: remove it")
	}
}

const satisfy = "satisfy"

// satisfied refuses a limit that limits nobody and lets everybody in. With `satisfy any` the access phase is over with the first yes: an access_by_lua, which
// comes last, does not see who is let in by allow, auth_basic or auth_request, and its end is a yes to whoever is not.
func (c *checker) satisfied(in scope) {
	s, d := in[satisfy], in["access"]
	if s == nil || len(s.Args) != 1 || s.Args[0] != "any" || d == nil || !callsWeir(d, "access", "admit") && !callsWeir(d, "access", "rate") {
		return
	}
	c.errorf(d.File, d.Line, d.Name, "under `satisfy any` (%s) this limits nobody whom allow or auth_... let in, and lets in whom they keep out: write rewrite_by_lua_block in place of %s", place(s), d.Name)
}

// Directives of NGINX of which all in one block count together.
const hide, pass, setHeader = "proxy_hide_header", "proxy_pass_header", "proxy_set_header"

const httpVersion = "proxy_http_version"

// kept warns where connections to the peers are not kept though the upstream keeps them: NGINX asks to close each, unless it is told to speak HTTP/1.1 and
// to leave the Connection header alone. A proxy_set_header in a location takes the place of all that the server has, that one too.
func (c *checker) kept(pass *nginxconf.Directive, in scope, u *upstream) {
	if !u.keepalive || !c.complete {
		return
	}
	d := in[setHeader]
	of := func(name string) bool { return strings.EqualFold(name, "Connection") }
	switch v := in[httpVersion]; {
	case v == nil || len(v.Args) == 1 && v.Args[0] == "1.0":
		c.warnf(pass.File, pass.Line, pass.Name, "NGINX before 1.29.7 speaks HTTP/1.0 to upstream %s here, and each request opens a connection: include proxy.conf, or add `%s 1.1;` and `%s Connection \"\";`", u.name, httpVersion, setHeader)
	case d == nil:
		c.warnf(pass.File, pass.Line, pass.Name, "NGINX before 1.29.7 has upstream %s close each connection: include proxy.conf, or add `%s Connection \"\";`", u.name, setHeader)
	case !slices.ContainsFunc(d.Args, of):
		c.warnf(d.File, d.Line, d.Name, "without one of Connection beside it NGINX before 1.29.7 has upstream %s close each connection (those of the blocks around do not count here): add `%s Connection \"\";`, or include proxy.conf", u.name, setHeader)
	}
}

// reports warns where a block's own list of hidden headers takes the place of weir.conf's, and clients would see what peers say of their load.
func (c *checker) reports(in scope) {
	h := in[hide]
	if h == nil {
		return
	}
	listed := func(d *nginxconf.Directive, name string) bool {
		return d != nil && slices.ContainsFunc(d.Args, func(arg string) bool { return strings.EqualFold(arg, name) })
	}
	for _, name := range [...]string{"Endpoint-Load-Metrics", "Endpoint-Load-Metrics-Bin"} {
		if !listed(h, name) && !listed(in[pass], name) {
			c.warnf(h.File, h.Line, hide, "takes the place of weir.conf's, and clients see the load reports of peers: add `%s %s;` here, or `%s %s;` if they should", hide, name, pass, name)
		}
	}
}

func (c *checker) pass(protocol string, in scope, u *upstream) {
	if protocol == "proxy" {
		c.reports(in)
	}
	if d := in["log"]; d != nil && unread(d, "log") {
		c.unread(d, "log")
	} else if d != nil && !callsWeir(d, "log", "log") {
		c.warnf(d.File, d.Line, d.Name, "takes the place of Weir's log phase for upstream %s, and the engine learns nothing there: call require(\"resty.weir\").log() in it", u.name)
	}
	if u.pool == nil {
		return
	}
	if d := in[protocol+"_next_upstream_timeout"]; d != nil && len(d.Args) == 1 && u.pool.Retry.Tries > 1 {
		if ms, ok := milliseconds(d.Args[0]); ok && ms > 0 && ms < u.pool.ConnectTimeoutMS {
			c.errorf(d.File, d.Line, d.Name, "%d ms is shorter than connect_timeout_ms (%d) of pool %q: one connect that times out would use up all the time for another try", ms, u.pool.ConnectTimeoutMS, u.pool.Name)
		}
	}
	if d := in[protocol+"_connect_timeout"]; d != nil && len(d.Args) == 1 {
		if ms, ok := milliseconds(d.Args[0]); ok && ms != u.pool.ConnectTimeoutMS {
			c.warnf(d.File, d.Line, d.Name, "%s counts for nothing: the time to connect is connect_timeout_ms (%d) of pool %q; set it there, and remove this", d.Args[0], u.pool.ConnectTimeoutMS, u.pool.Name)
		}
	}
	if d := in[protocol+"_next_upstream_tries"]; d != nil && len(d.Args) == 1 {
		if n, err := strconv.Atoi(d.Args[0]); err == nil && n > 0 && n < u.pool.Retry.Tries {
			c.warnf(d.File, d.Line, d.Name, "%d is fewer than retry.tries (%d) of pool %q: NGINX stops there", n, u.pool.Retry.Tries, u.pool.Name)
		}
	}
}

// sticky checks that somebody sets the cookie of a pool that has one; pass is the directive that passes requests to it.
func (c *checker) sticky(pass *nginxconf.Directive, in scope, u *upstream) {
	if u.pool == nil || u.pool.Affinity.By != config.AffinityCookie || !c.complete {
		return
	}
	c.secret()
	switch d := in["header_filter"]; {
	case d == nil:
		c.warnf(pass.File, pass.Line, pass.Name, "pool %q has affinity by cookie and nothing here sets the cookie: add `include /etc/nginx/weir/affinity.conf;`", u.pool.Name)
	case unread(d, "header_filter"):
		c.unread(d, "affinity")
	case !callsWeir(d, "header_filter", "affinity"):
		c.warnf(d.File, d.Line, d.Name, "takes the place of Weir's header filter for pool %q, and clients get no cookie: call require(\"resty.weir\").affinity() in it", u.pool.Name)
	}
}

// admission checks that a pool with a limit or caps is asked before a request's body is read, and that it is that pool.
// possible are all upstreams that the pass may go to.
func (c *checker) admission(pass *nginxconf.Directive, in scope, u *upstream, possible []destination) {
	asked := false
	for _, phase := range beforeBody {
		d := in[phase]
		if d == nil {
			continue
		}
		call, ok := weirCall(lua(d), "admit")
		asked = asked || ok
		if ok && call.pool != "" && u.pool != nil && !namesOne(possible, call.pool) {
			c.errorf(d.File, d.Line, d.Name, "asks whether pool %q has room, but %s goes to pool %q: write admit(%q)", call.pool, pass.Name, u.pool.Name, u.pool.Name)
			return
		}
	}
	if u.pool == nil || !c.complete || asked {
		return
	}
	bounded := bool(u.pool.Limit.Adaptive)
	for i := range u.pool.Peers {
		bounded = bounded || u.pool.Cap(&u.pool.Peers[i]) > 0
	}
	if bounded {
		c.warnf(pass.File, pass.Line, pass.Name, "pool %q has a limit or caps, and requests are refused only after their body was read, without a wait: add `access_by_lua_block { require(\"resty.weir\").admit(%q) }`", u.pool.Name, u.pool.Name)
	}
}

// namesOne tells whether a pool is that of one of the upstreams. Where they are several, another variable may see to it that each has its own.
func namesOne(possible []destination, pool string) bool {
	return slices.ContainsFunc(possible, func(d destination) bool { return d.pool != nil && d.pool.Name == pool })
}

// milliseconds reads a time as NGINX writes it: "500ms", "1m 30s" without the space, a plain number of seconds.
// Not ok when it is none, or longer than could matter here.
func milliseconds(s string) (int, bool) {
	units := []struct {
		name string
		ms   int
	}{{"ms", 1}, {"s", 1000}, {"m", 60_000}, {"h", 3_600_000}, {"d", 86_400_000}, {"w", 604_800_000}, {"M", 2_592_000_000}, {"y", 31_536_000_000}}
	total := 0
	for s != "" {
		i := 0
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i++
		}
		n, err := strconv.Atoi(s[:i])
		if err != nil || n > 100_000_000 {
			return 0, false
		}
		s = s[i:]
		ms := 1000
		if s != "" {
			ms = 0
			for _, u := range units {
				if rest, ok := strings.CutPrefix(s, u.name); ok {
					ms, s = u.ms, rest
					break
				}
			}
			if ms == 0 {
				return 0, false
			}
		}
		total += n * ms
		if total > 1<<50 {
			return 0, false
		}
	}
	return total, true
}
