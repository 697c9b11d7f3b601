package check

import (
	"errors"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"

	"github.com/weirlb/weir/engine/config/nginxconf"
)

// serviceUser is the engine's user by deploy/install.sh.
const serviceUser = "weir"

// workers warns of workers of NGINX that may not connect to the engine's socket. Nothing else would: NGINX starts, and decides by its local rule. Only users that
// this host knows are looked at, since NGINX and engine may be made for another one.
func (c *checker) workers(main []*nginxconf.Directive) {
	for _, d := range main {
		if d.Name != "user" || len(d.Args) == 0 || len(d.Args) > 2 {
			continue
		}
		who, err := user.Lookup(d.Args[0])
		if err != nil || who.Uid == "0" || c.cfg.Socket.Mode&0o002 != 0 {
			continue
		}
		group := who.Username // as NGINX has it
		if len(d.Args) == 2 {
			group = d.Args[1]
		}
		own, err := user.LookupGroup(group)
		if err != nil {
			continue // NGINX says so itself
		}
		groups, err := who.GroupIds()
		if err != nil || c.reaches(who.Uid, append(groups, own.Gid)) {
			continue
		}
		has := "the engine's own group"
		if c.cfg.Socket.Group != "" {
			has = "group " + strconv.Quote(c.cfg.Socket.Group)
		}
		where := c.at(c.cfg.SocketGroupAt, "socket.group")
		c.warnf(where.File, where.Line, where.Key, "NGINX's workers run as user %q (%s:%d) and may not connect to the engine's socket, which has %s and mode %04o: write `socket: {group: %s}`, and let the engine's user be in that group",
			who.Username, d.File, d.Line, has, uint32(c.cfg.Socket.Mode), own.Name)
	}
}

// reaches tells whether a user may connect to the socket, as far as that can be known before the engine makes it.
func (c *checker) reaches(uid string, groups []string) bool {
	in := func(gid int) bool { return slices.Contains(groups, strconv.Itoa(gid)) }
	if gid, err := c.cfg.Socket.GID(); err != nil || gid >= 0 {
		return err != nil || in(gid) // an error is told elsewhere
	}
	// The socket of an engine that runs has what the next one's will have.
	if info, err := os.Lstat(c.cfg.Socket.Path); err == nil {
		if owner, ok := info.Sys().(*syscall.Stat_t); ok && (strconv.Itoa(int(owner.Uid)) == uid || in(int(owner.Gid))) {
			return true
		}
	}
	if os.Geteuid() != 0 {
		return strconv.Itoa(os.Geteuid()) == uid || in(os.Getegid())
	}
	engine, err := user.Lookup(serviceUser)
	var unknown user.UnknownUserError
	switch {
	case errors.As(err, &unknown):
		return false
	case err != nil:
		return true
	}
	return engine.Uid == uid || slices.Contains(groups, engine.Gid)
}
