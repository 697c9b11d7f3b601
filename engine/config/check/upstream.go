package check

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/config/nginxconf"
)

// upstream is an `upstream` block that Weir balances.
type upstream struct {
	name      string
	pool      *config.Pool // nil when not known
	dynamic   bool         // the pool is named by an expression
	keepalive bool         // its connections are kept
	uses      []use        // in the order of the file
}

// upstream checks one upstream block; nil when it is none of Weir's.
func (c *checker) upstream(d *nginxconf.Directive) *upstream {
	balancer := slices.IndexFunc(d.Block, func(b *nginxconf.Directive) bool { return callsWeir(b, "balancer", "balance") })
	if balancer < 0 || len(d.Args) == 0 {
		for _, b := range d.Block {
			if unread(b, "balancer") {
				c.unreadBalancer = true
				c.warnf(b.File, b.Line, b.Name, "its file is not read (one of Lua's text, named from / on, is), and upstream %s is taken for none of Weir's: name it from / on if it calls require(\"resty.weir\").balance()", strings.Join(d.Args, " "))
			}
		}
		return nil
	}
	u := &upstream{name: d.Args[0]}
	key := "upstream " + u.name
	call, _ := weirCall(lua(d.Block[balancer]), "balance")
	at := d.Block[balancer]
	switch {
	case call.pool == "" && call.poolGiven:
		u.dynamic = true
		c.warnf(at.File, call.line, key, "the pool is named by an expression: whether it exists cannot be checked")
	case call.pool == "":
		c.errorf(at.File, call.line, key, `balance() needs the pool's name: balance("NAME", "10.0.0.1:8080")`)
	case c.cfg != nil:
		u.pool = c.cfg.Pool(call.pool)
		c.used[call.pool] = true
		if u.pool == nil {
			c.errorf(at.File, call.line, key, "names pool %q, which %s does not have (%s)%s", call.pool, c.cfgPath, c.knownPools(), c.didYouMean(call.pool))
		}
	}
	c.staticPeers(at.File, key, call, u)
	c.order(d, balancer, key)
	u.keepalive = slices.ContainsFunc(d.Block[balancer:], func(b *nginxconf.Directive) bool { return b.Name == "keepalive" })
	return u
}

func (c *checker) didYouMean(name string) string {
	names := make([]string, len(c.cfg.Pools))
	for i, p := range c.cfg.Pools {
		names[i] = p.Name
	}
	if s := config.Nearest(name, names); s != "" {
		return "; did you mean " + strconv.Quote(s) + "?"
	}
	return ""
}

// order checks what NGINX itself leaves to the reader: `keepalive` wraps the balancer that was chosen before it.
func (c *checker) order(d *nginxconf.Directive, balancer int, key string) {
	keepalive := -1
	var servers []*nginxconf.Directive
	for i, b := range d.Block {
		switch b.Name {
		case "keepalive":
			keepalive = i
		case "server":
			servers = append(servers, b)
		case "least_conn", "ip_hash", "hash", "random", "least_time", "sticky":
			c.errorf(b.File, b.Line, key, "%s beside balancer_by_lua: NGINX uses only the last of them; remove it", b.Name)
		}
	}
	switch {
	case keepalive < 0 && c.complete:
		c.warnf(d.File, d.Line, key, "has no keepalive: each request opens a connection; add `keepalive 64;` after the balancer block")
	case keepalive >= 0 && keepalive < balancer:
		c.errorf(d.Block[keepalive].File, d.Block[keepalive].Line, key, "keepalive must come after the balancer block (line %d): before it, NGINX keeps no connections", d.Block[balancer].Line)
	}
	if len(servers) == 0 && c.complete {
		c.errorf(d.File, d.Line, key, "has no server: NGINX refuses an upstream without one; add `server 0.0.0.1;` as a placeholder, it is never used")
	}
	c.placeholder(servers, key)
}

// placeholder checks the servers of an upstream with a balancer. No request goes to one, but NGINX gives each request as many tries as there are
// addresses that are not down, and Weir (lua/resty/weir/balancer.lua) reckons with one: it takes a try it did not ask for as the sign of
// a kept connection that was closed.
func (c *checker) placeholder(servers []*nginxconf.Directive, key string) {
	if len(servers) > 1 {
		c.errorf(servers[1].File, servers[1].Line, key, "has %d servers beside balancer_by_lua: NGINX tries a request once for each of them, whatever the pool's retry says, and failures are taken for connections closed by chance; leave one `server 0.0.0.1;` as a placeholder", len(servers))
		return
	}
	for _, b := range servers {
		if len(b.Args) == 0 {
			continue
		}
		if slices.Contains(b.Args[1:], "down") {
			c.errorf(b.File, b.Line, key, "its server is down: NGINX then has one try less, and requests are not tried again; write `server 0.0.0.1;`")
		}
		addr := b.Args[0]
		if _, err := netip.ParseAddrPort(addr); err == nil || strings.HasPrefix(addr, "unix:") {
			continue
		}
		if _, err := netip.ParseAddr(strings.Trim(addr, "[]")); err != nil {
			c.warnf(b.File, b.Line, key, "its server is a name: with several addresses NGINX tries a request once for each, whatever the pool's retry says; write `server 0.0.0.1;`, it is never used")
		}
	}
}

// staticPeers checks the peers that NGINX uses until it has heard the engine once.
func (c *checker) staticPeers(file, key string, call weirCallArgs, u *upstream) {
	if call.pool == "" {
		return
	}
	if !call.staticGiven {
		if u.pool != nil && len(u.pool.Peers) > 0 {
			c.warnf(file, call.line, key, "has no static peers: until NGINX has heard the engine once, requests are answered 503; write balance(%q, %q)", call.pool, staticList(u.pool))
		}
		return
	}
	if call.static == nil {
		return // an expression
	}
	peers, problems := StaticPeers(*call.static)
	for _, p := range problems {
		c.errorf(file, call.line, key, "static peers: %s", p)
	}
	if len(peers) == 0 && len(problems) == 0 {
		c.warnf(file, call.line, key, "the static peers are empty: until NGINX has heard the engine once, requests are answered 503")
	}
	if u.pool == nil {
		return
	}
	if u.pool.Discovers() {
		return // who will be in the pool is not in the configuration
	}
	for _, p := range peers {
		at := slices.IndexFunc(u.pool.Peers, func(q config.Peer) bool { return q.Address == p.Address })
		if at >= 0 && u.pool.Peers[at].Tier != p.Tier {
			c.warnf(file, call.line, key, "static peer %s is of tier %d here and of tier %d in pool %q of %s: write %s", p.Address, p.Tier,
				u.pool.Peers[at].Tier, call.pool, c.cfgPath, strings.TrimSpace(p.Address+tierWord(u.pool.Peers[at].Tier)))
		}
		if at < 0 {
			c.warnf(file, call.line, key, "static peer %s is not in pool %q of %s: it gets traffic until NGINX has heard the engine", p.Address, call.pool, c.cfgPath)
		}
	}
}

// staticList is what to write for a pool's peers: all of them, since those that NGINX does not know get nothing until it has heard the engine.
// The group of a split is left out, since NGINX knows no groups then.
func staticList(p *config.Pool) string {
	const most = 16 // who has more finds them in the file
	var list []string
	for _, peer := range p.Peers {
		switch {
		case p.Split.Group != "" && peer.Group == p.Split.Group:
			continue
		case len(list) == most:
			return strings.Join(list, ", ") + ", ..."
		}
		text := peer.Address
		if peer.Weight != 1 {
			text += " weight=" + strconv.FormatFloat(peer.Weight, 'g', -1, 64)
		}
		list = append(list, text+tierWord(peer.Tier))
	}
	return strings.Join(list, ", ")
}

func tierWord(tier int) string {
	switch tier {
	case 0:
		return ""
	case 1:
		return " backup"
	}
	return " tier=" + strconv.Itoa(tier)
}

// StaticPeers reads the second argument of balance(): addresses separated by commas, semicolons or space, each with an
// optional weight=N, backup or tier=N behind it. It gives the good ones and what is wrong with the others.
func StaticPeers(s string) ([]config.Peer, []string) {
	var peers []config.Peer
	var problems []string
	fresh, open := false, false // the last words were an address that may still get its weight, or its tier
	words := strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" \t\r\n\f\v,;", r) })
	for _, word := range words {
		if w, ok := strings.CutPrefix(word, "weight="); ok {
			weight, err := strconv.ParseFloat(w, 64)
			switch {
			case err != nil || !(weight >= 0.01 && weight <= 1000):
				problems = append(problems, quoted(word)+": a weight is a number from 0.01 to 1000")
			case !fresh:
				problems = append(problems, quoted(word)+": a weight follows the address it is for")
			default:
				peers[len(peers)-1].Weight = weight
			}
			fresh = false
			continue
		}
		if n, ok := strings.CutPrefix(word, "tier="); ok || word == "backup" {
			tier, err := strconv.Atoi(n)
			if word == "backup" {
				tier, err = 1, nil
			}
			switch {
			case err != nil || tier < 0 || tier > 15:
				problems = append(problems, quoted(word)+": a tier is a whole number from 0 to 15")
			case !open:
				problems = append(problems, quoted(word)+": backup or a tier follows the address it is for")
			default:
				peers[len(peers)-1].Tier = tier
			}
			open = false
			continue
		}
		fresh, open = false, false
		addr, err := config.ParseAddress(word)
		switch {
		case err != nil:
			problems = append(problems, quoted(word)+": "+err.Error())
		case addr != word:
			// NGINX reads it as that (lua/resty/weir/pools.lua), but who looks for the peer in logs and figures finds it by one spelling only.
			problems = append(problems, quoted(word)+": write it as the engine does: "+addr)
		case slices.ContainsFunc(peers, func(p config.Peer) bool { return p.Address == addr }):
			problems = append(problems, quoted(word)+": is there twice")
		default:
			peers = append(peers, config.Peer{Address: addr, Weight: 1})
			fresh, open = true, true
		}
	}
	return peers, problems
}

func quoted(s string) string {
	const most = 100
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strconv.Quote(s)
}
