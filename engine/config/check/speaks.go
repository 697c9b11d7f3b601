package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/config/nginxconf"
)

// use is one pass of requests to an upstream: how the peers are spoken to there.
type use struct {
	at     *nginxconf.Directive // the pass
	scheme string               // http, https, grpc, grpcs, fastcgi, uwsgi, suwsgi, scgi, memcached; "" = only a request tells
	tls    []tlsSetting         // of a scheme with TLS; else nil
}

// tlsSetting is a directive that a connection is opened by, and that no request on it can change afterwards.
type tlsSetting struct {
	name  string               // as proxy_ssl_name
	value string               // "" = left as NGINX has it
	at    *nginxconf.Directive // nil = inherited from nobody
}

// What of TLS belongs to a connection, behind proxy_, grpc_ or uwsgi_. ssl_name counts only where it is sent or verified.
var ofConnection = [...]string{"ssl_name", "ssl_server_name", "ssl_verify", "ssl_trusted_certificate", "ssl_certificate"}

// ofTLS tells whether a directive is one of these.
func ofTLS(name string) bool {
	protocol, rest, _ := strings.Cut(name, "_")
	return slices.Contains(protocols[:], protocol) && slices.Contains(ofConnection[:], rest)
}

// speaks notes how a pass speaks to its upstream.
func (c *checker) speaks(protocol string, pass *nginxconf.Directive, in scope, to destination) {
	use := use{at: pass, scheme: protocol}
	if scheme, _, ok := strings.Cut(to.address, "://"); ok {
		use.scheme = strings.ToLower(scheme)
	}
	if strings.Contains(use.scheme, "$") {
		use.scheme = ""
	}
	switch use.scheme {
	case "https", "grpcs", "suwsgi":
		use.tls = tlsOf(protocol, in)
	}
	to.uses = append(to.uses, use)
}

func tlsOf(protocol string, in scope) []tlsSetting {
	settings := make([]tlsSetting, len(ofConnection))
	for i, rest := range ofConnection {
		s := tlsSetting{name: protocol + "_" + rest}
		if d := in[s.name]; d != nil && len(d.Args) == 1 {
			s.value, s.at = d.Args[0], d
		}
		if s.value == "off" || rest == "ssl_name" && s.value == "$"+protocol+"_host" { // their defaults
			s.value = ""
		}
		settings[i] = s
	}
	if settings[1].value == "" && settings[2].value == "" {
		settings[0] = tlsSetting{name: settings[0].name} // neither sent nor verified
	}
	if settings[2].value == "" {
		settings[3] = tlsSetting{name: settings[3].name}
	}
	return settings
}

// shared warns where requests would travel on a connection that was opened for other ones. NGINX keeps connections by upstream and address; by
// which name and certificates one was opened it does not ask.
func (c *checker) shared(u *upstream) {
	const remedy = "give each an upstream and a pool of its own"
	var first *use
	for i := range u.uses {
		use := &u.uses[i]
		if use.scheme == "" {
			continue
		}
		if first == nil {
			first = use
		}
		if use.scheme != first.scheme {
			c.warnf(use.at.File, use.at.Line, use.at.Name, "speaks %s to upstream %s, which %s speaks %s to: connections that are kept would be shared between the two; %s", use.scheme, u.name, place(first.at), first.scheme, remedy)
			continue
		}
		if !u.keepalive {
			continue
		}
		for k, s := range use.tls {
			at := s.at
			if at == nil {
				at = use.at
			}
			switch other := first.tls[k]; {
			case strings.Contains(s.value, "$"):
				c.warnf(at.File, at.Line, s.name, "%s is told by the request, but a kept connection of upstream %s goes on under the value of the request that opened it: write a fixed value, and give each value an upstream and a pool of its own", s.value, u.name)
			case s.value != other.value && !strings.Contains(other.value, "$"):
				c.warnf(at.File, at.Line, s.name, "is %s for upstream %s here and %s at %s: connections that are kept would be shared between the two; %s", word(s.value), u.name, word(other.value), place(first.at), remedy)
			}
		}
	}
}

// certificateOf is the directive by which a pass shows a certificate; nil: it shows none.
func certificateOf(u use) *nginxconf.Directive {
	for _, s := range u.tls {
		if strings.HasSuffix(s.name, "_ssl_certificate") && s.value != "" {
			return s.at
		}
	}
	return nil
}

func word(value string) string { return cmp.Or(value, "not set") }

func place(d *nginxconf.Directive) string { return fmt.Sprintf("%s:%d", d.File, d.Line) }

// checksSpeak warns of a pool whose active checks speak what none of the passes to it speaks: each would fail, and all its peers would be down.
func (c *checker) checksSpeak(pool *config.Pool, uses []use) {
	if !pool.Check.Enabled || len(uses) == 0 {
		return
	}
	check := string(pool.Check.Protocol)
	if pool.Check.Protocol.TLS() && pool.Check.Certificate == "" {
		for _, u := range uses {
			if at := certificateOf(u); at != nil {
				c.notef(at.File, at.Line, at.Name, "NGINX shows a certificate to the peers of pool %q, its active checks show none: peers that demand one are down; write `check: {certificate: ..., certificate_key: ...}` in the pool (%s:%d)", pool.Name, c.cfgPath, pool.Line)
				break
			}
		}
	}
	if slices.ContainsFunc(uses, func(u use) bool { return u.scheme == "" || u.scheme == check }) {
		return
	}
	at, scheme := uses[0].at, uses[0].scheme
	remedy := fmt.Sprintf("write `check: {protocol: %s}` in pool %q (%s:%d)", scheme, pool.Name, c.cfgPath, pool.Line)
	if !slices.Contains(config.CheckProtocols(), config.Protocol(scheme)) {
		remedy = fmt.Sprintf("no check speaks %s: write `check: off` in pool %q (%s:%d), or have the peers answer %s too", scheme, pool.Name, c.cfgPath, pool.Line, check)
	}
	c.warnf(at.File, at.Line, at.Name, "speaks %s to the peers of pool %q, but its active checks speak %s, and peers that do not are down: %s", scheme, pool.Name, check, remedy)
}
