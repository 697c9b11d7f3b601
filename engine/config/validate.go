package config

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
)

// where finds the place of the first of these keys that was set; the base place when none was.
func (d *decoder) where(base string, paths ...string) place {
	for _, p := range paths {
		if at, ok := d.places[p]; ok {
			return at
		}
	}
	if at, ok := d.places[base]; ok {
		return at
	}
	return place{file: d.file, key: base}
}

// validate checks what no single value shows. It runs even after errors, so that one run tells all; values that were
// refused stand at their defaults here and cause no second error.
func (d *decoder) validate(c *Config) {
	d.socket(c)
	d.admin(c)
	d.history(c)
	d.sharing(c)
	if at := d.where("socket", "socket.path"); at.line > 0 || at.file != d.file {
		c.SocketPathAt = at.finding("") // of `socket: PATH` too
	}
	c.HistoryURLAt = d.places["history.url"].finding("")
	c.HistoryDirAt = d.places["history.dir"].finding("")
	c.ShareAt = d.places["learn.share"].finding("")
	c.PoolsAt = d.places["pools"].finding("")
	c.SocketGroupAt = d.places["socket.group"].finding("")
	c.Model.FileAt = d.places["model.file"].finding("")
	c.Model.LibraryAt = d.places["model.library"].finding("")
	d.label("zone", c.Zone)
	d.label("instance", c.Instance)
	if c.StateFile != "" {
		d.warnf(d.where("state_file"), "is not used yet: what is learned ends with the engine")
	}
	d.settings(&c.Defaults, "defaults")
	for i := range c.Pools {
		at := "pools[" + strconv.Itoa(i) + "]"
		d.settings(&c.Pools[i].Settings, at)
		d.checkMetrics(c, &c.Pools[i], at)
		d.split(&c.Pools[i], at)
		d.shadow(c, &c.Pools[i], at)
		for j, peer := range c.Pools[i].Peers {
			if peer.Zone != "" && c.Zone == "" {
				d.warnf(d.where(at, at+".peers["+strconv.Itoa(j)+"].zone"), "counts for nothing: the engine's own zone is not told; add `zone: NAME` at the top level")
				break
			}
		}
	}
}

func (d *decoder) socket(c *Config) {
	at := d.where("socket", "socket.path")
	switch {
	case !strings.HasPrefix(c.Socket.Path, "/"):
		d.errorf(at, "must be an absolute path, as /run/weir/engine.sock, is %s", quote(c.Socket.Path))
	case len(c.Socket.Path) > maxUnixPath:
		d.errorf(at, "may have %d bytes, which is what a Unix socket's name holds, has %d", maxUnixPath, len(c.Socket.Path))
	case strings.ContainsFunc(c.Socket.Path, unicode.IsControl):
		d.errorf(at, "must have no control characters, is %s", quote(c.Socket.Path))
	}
}

// Public reports whether other hosts may reach the admin listener.
func (a *Admin) Public() bool {
	host, _, _ := net.SplitHostPort(a.Listen)
	ip, err := netip.ParseAddr(host)
	return host != "localhost" && (err != nil || !ip.IsLoopback())
}

// admin refuses to expose the API without a token: whoever reaches it can drain every peer.
func (d *decoder) admin(c *Config) {
	at := d.where("admin", "admin.listen")
	host, port, err := net.SplitHostPort(c.Admin.Listen)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil {
		d.errorf(at, `must be an address and a port, as "127.0.0.1:9180" or "[::1]:9180", is %s`, quote(c.Admin.Listen))
		return
	}
	c.Admin.Listen = net.JoinHostPort(host, strconv.FormatUint(n, 10))
	if c.Admin.Token != "" && c.Admin.TokenFile != "" {
		d.errorf(d.where("admin", "admin.token_file"), "token and token_file are both set: keep one")
	}
	loopback := !c.Admin.Public()
	if !loopback && c.Admin.Token == "" && c.Admin.TokenFile == "" {
		d.errorf(at, "%s can be reached from other hosts: set admin.token or admin.token_file, or listen on 127.0.0.1", quote(c.Admin.Listen))
	}
	const short = 16
	if t := c.Admin.Token.Reveal(); t != "" && len(t) < short && !loopback {
		d.warnf(d.where("admin", "admin.token"), "has fewer than %d characters and can be guessed", short)
	}
	for _, b := range []byte(c.Admin.Token.Reveal()) {
		if b <= ' ' || b > '~' {
			d.errorf(d.where("admin", "admin.token"), "must be printable ASCII without spaces: it travels in a header")
			break
		}
	}
}

// label checks a text that becomes a metric label and a log field.
func (d *decoder) label(key, s string) {
	if s != "" && !validName(s) {
		d.errorf(d.where(key), "must be at most %d of A-Z a-z 0-9 . _ -, is %s", maxNameSize, quote(s))
	}
}

// settings checks one pool's settings, or the defaults. An error about values that a pool only inherited points at the
// defaults, and is told once.
func (d *decoder) settings(s *Settings, base string) {
	at := func(keys ...string) place {
		var paths []string
		for _, k := range keys {
			paths = append(paths, base+"."+k)
		}
		for _, k := range keys {
			paths = append(paths, "defaults."+k)
		}
		return d.where(base, paths...)
	}
	// A retry budget shorter than one connect means that a peer which swallows packets uses up the whole budget, and
	// no other peer is ever tried.
	if s.Retry.Tries > 1 && s.Retry.TimeoutMS <= s.ConnectTimeoutMS {
		d.errorf(at("retry.timeout_ms", "connect_timeout_ms", "retry.tries"),
			"retry.timeout_ms (%d) must be greater than connect_timeout_ms (%d) when retry.tries is %d: one connect that times out would use up all the time for another try",
			s.Retry.TimeoutMS, s.ConnectTimeoutMS, s.Retry.Tries)
	}
	if s.Eject.BaseMS > s.Eject.MaxMS {
		d.errorf(at("eject.base_ms", "eject.max_ms"), "eject.base_ms (%d) must not exceed eject.max_ms (%d)", s.Eject.BaseMS, s.Eject.MaxMS)
	}
	d.affinity(&s.Affinity, at)
	d.limits(&s.Limit, at)
	if !s.Check.Enabled {
		return
	}
	if s.Check.TimeoutMS > s.Check.IntervalMS {
		d.errorf(at("check.timeout_ms", "check.interval_ms"),
			"check.timeout_ms (%d) must not exceed check.interval_ms (%d): checks of one peer would pile up", s.Check.TimeoutMS, s.Check.IntervalMS)
	}
	if _, here := d.places[base+".check.certificate"]; here && s.Check.Certificate != "" && !s.Check.Protocol.TLS() {
		d.warnf(at("check.certificate"), "is shown to nobody: checks of protocol %s have no TLS; write `protocol: https` or `grpcs`, or leave it out", s.Check.Protocol)
	}
	if !validPath(s.Check.Path) {
		d.errorf(at("check.path"), "must begin with / and be printable ASCII without spaces, as /healthz, is %s", quote(s.Check.Path))
	}
	if !validHost(s.Check.Host) {
		d.errorf(at("check.host"), "must be a host name or address, with a port if need be, as app.example, is %s", quote(s.Check.Host))
	}
}

func validPath(s string) bool {
	return strings.HasPrefix(s, "/") && len(s) <= 1024 && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '#' }) < 0
}

func validHost(s string) bool {
	return len(s) <= 255 && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-_:[]", r))
	}) < 0
}
