// Package check is what `weir check` does: it reads weir.yaml and, when asked, an NGINX configuration, and tells where
// the two do not fit.
//
// NGINX starts happily with a pool name the engine does not know, a keep-alive pool that is not used or a time limit that
// forbids every retry. These show only under load, as 503s or as a balancer that never learns. So they are looked for
// before.
package check

import (
	"errors"
	"os"
	"strings"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/config/nginxconf"
)

// Check reads the configuration at cfgPath and the NGINX configuration at nginxPath ("" = none). env is as for
// config.Load. What can be said of one file is said even when the other cannot be read.
func Check(cfgPath, nginxPath string, env func(string) (string, bool)) Report {
	var r Report
	cfg, warnings, err := config.Load(cfgPath, env)
	r.Warnings = append(r.Warnings, warnings...)
	var bad *config.Error
	switch {
	case errors.As(err, &bad):
		r.Errors = append(r.Errors, bad.Findings...)
	case err != nil:
		r.errorf(cfgPath, 0, "", "%v", err)
	}
	if cfg != nil {
		c := &checker{Report: &r, cfg: cfg, cfgPath: cfgPath}
		c.model()
		c.group()
		c.paths()
		if nginxPath == "" {
			c.keys()
		}
		for i := range cfg.Pools {
			if p := &cfg.Pools[i]; p.PeersFile != "" {
				wrong, warnings := p.PeersFileFindings()
				r.Errors = append(r.Errors, wrong...)
				r.Warnings = append(r.Warnings, warnings...)
			}
		}
	}
	if nginxPath != "" {
		tree, problems := nginxconf.Read(nginxPath)
		for _, p := range problems {
			r.errorf(p.File, p.Line, "", "%s", p.Message)
		}
		if env == nil {
			env = os.LookupEnv
		}
		c := checker{Report: &r, env: env, cfg: cfg, cfgPath: cfgPath, complete: len(problems) == 0}
		c.tree(nginxPath, tree)
		if cfg != nil {
			c.workers(tree)
			c.keys()
		}
	}
	r.tidy()
	return r
}

// checker holds what the rules share.
type checker struct {
	*Report
	env      func(string) (string, bool)
	cfg      *config.Config // nil when it was refused: rules that need it are left out
	cfgPath  string
	complete bool // the NGINX configuration was read whole; else nothing is said to be missing from it
	used     map[string]bool
	// unreadBalancer: some upstream's balancer was not read, and may use any pool.
	unreadBalancer bool
	// mentioned are the variables that the http blocks speak of; nil when not all of them is known.
	mentioned map[string]bool
	dicts     map[string]bool    // lua_shared_dict of the http block, by name
	reqZones  map[string]float64 // rate of each limit_req_zone of the http block, a second
	dictName  string             // of Weir's own
	// asked are the locations that subrequests go to, of the server that is looked at.
	asked map[*nginxconf.Directive]*nginxconf.Directive

	secretFile string // of sticky cookies, as init() is told; "" = not told
	secretAt   *nginxconf.Directive
	secretSeen bool
}

func (c *checker) tree(path string, main []*nginxconf.Directive) {
	c.used = map[string]bool{}
	if c.complete {
		c.mentioned = map[string]bool{}
		for _, d := range main {
			if d.Name == "http" {
				mentions(d.Block, c.mentioned)
			}
		}
	}
	var found *nginxconf.Directive
	dynamic := false
	for _, d := range main {
		if d.Name != "http" {
			continue
		}
		if found != nil {
			c.errorf(d.File, d.Line, d.Name, "is the second block of this name (the first is at %s), and NGINX takes only one: move what is in it there", place(found))
		} else {
			found = d
		}
		upstreams := map[string]*upstream{}
		var inOrder []*upstream
		for _, child := range d.Block {
			if child.Name != "upstream" {
				continue
			}
			if u := c.upstream(child); u != nil {
				upstreams[strings.ToLower(u.name)] = u
				inOrder = append(inOrder, u)
				dynamic = dynamic || u.dynamic
			}
		}
		c.dictName = "weir"
		if len(upstreams) > 0 {
			c.setup(d)
			c.clock(main)
		}
		c.zones(d)
		c.passes(d.Block, scope{}, given(d.Block), upstreams)
		uses := map[*config.Pool][]use{} // a pool may have several upstreams
		for _, u := range inOrder {
			c.shared(u)
			if u.pool != nil {
				uses[u.pool] = append(uses[u.pool], u.uses...)
			}
		}
		for pool, uses := range uses {
			c.checksSpeak(pool, uses)
		}
	}
	if found == nil && c.complete {
		c.errorf(path, 0, "", "has no http block: give the main file, as /etc/nginx/nginx.conf")
		return
	}
	if c.cfg == nil || dynamic || c.unreadBalancer || !c.complete {
		return
	}
	for _, p := range c.cfg.Pools {
		if !c.used[p.Name] {
			c.warnf(c.cfgPath, p.Line, "pools", "no NGINX upstream uses pool %q: name it in balancer_by_lua_block { require(\"resty.weir\").balance(%q) }", p.Name, p.Name)
		}
	}
}

// knownPools lists the pools for an error, not without bound.
func (c *checker) knownPools() string {
	const most = 20
	var names []string
	for i, p := range c.cfg.Pools {
		if i == most {
			names = append(names, "...")
			break
		}
		names = append(names, p.Name)
	}
	if len(names) == 0 {
		return "it has none"
	}
	return "it has " + strings.Join(names, ", ")
}
