package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
)

// StoreURL is where history is kept. It may carry a password, so it prints without it.
type StoreURL string

// HistoryOff is the URL that switches history off.
const HistoryOff StoreURL = "off"

func (u *StoreURL) fromText(s string) error {
	wrong := errors.New(`must be a URL as "postgres://user@host:5432/name", "mysql://user@host:3306/name" or "file:/var/lib/weir/history.db" (/ ? # and % of a password are written %2F %3F %23 and %25), or "off"`)
	switch strings.ToLower(s) {
	case "", "off", "false", "no":
		*u = ""
		if s != "" {
			*u = HistoryOff
		}
		return nil
	}
	p, err := url.Parse(s)
	if err != nil {
		return wrong
	}
	switch p.Scheme {
	case "postgresql":
		p.Scheme = "postgres"
		s = "postgres" + strings.TrimPrefix(s, "postgresql")
	case "mariadb":
		p.Scheme = "mysql"
		s = "mysql" + strings.TrimPrefix(s, "mariadb")
	}
	switch {
	case p.Scheme == "file" && p.Host == "" && p.Opaque == "" && strings.HasPrefix(p.Path, "/"):
	case p.Scheme == "postgres", p.Scheme == "mysql":
		if strings.Trim(p.Path, "/") == "" {
			return errors.New("must name a database after the host, as postgres://user@host:5432/weir")
		}
		if strings.Contains(p.Path, "@") { // a password with a / in it, whose rest would be shown as the database's name
			return wrong
		}
		if n, err := strconv.ParseUint(p.Port(), 10, 16); p.Port() != "" && (err != nil || n == 0) {
			return errors.New("must have a port from 1 to 65535 after the host")
		}
	default:
		return wrong
	}
	*u = StoreURL(s)
	return nil
}

// Reveal gives the URL with its password.
func (u StoreURL) Reveal() string { return string(u) }

func (u StoreURL) String() string {
	p, err := url.Parse(string(u))
	if err != nil {
		return redacted
	}
	if q := p.Query(); q.Has("password") {
		q.Set("password", "xxxxx")
		p.RawQuery = q.Encode()
	}
	return p.Redacted()
}

// Format covers every verb.
func (u StoreURL) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(u.String())) }

// MarshalText covers JSON and YAML.
func (u StoreURL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// mysqlPort tells a MySQL from a PostgreSQL when a database is told in parts.
const mysqlPort = 3306

// history makes the URL of what `database` says when there is none.
func (d *decoder) history(c *Config) {
	d.storeParameters("history", "history.url", c.History.URL)
	db := &c.Database
	if c.History.URL != "" {
		return
	}
	if db.Host == "" {
		if *db != (Database{}) { // as with DB_HOST misspelt
			d.warnf(d.where("database", "database.port", "database.user", "database.password", "database.name"), "counts for nothing without database.host (DB_HOST): the history goes into a file in history.dir")
		}
		return
	}
	u := url.URL{Scheme: "postgres", Host: db.Host, Path: "/" + db.Name}
	if db.Port == mysqlPort {
		u.Scheme = "mysql"
	}
	if db.Name == "" {
		u.Path = "/weir"
	}
	if strings.HasPrefix(db.Host, "/") { // the folder of a socket
		u.Host = ""
		u.RawQuery = url.Values{"host": {db.Host}}.Encode()
		if db.Port > 0 {
			u.RawQuery += "&port=" + strconv.Itoa(db.Port)
		}
	} else {
		bare := strings.Trim(db.Host, "[]")
		if db.Port > 0 {
			u.Host = net.JoinHostPort(bare, strconv.Itoa(db.Port))
		} else if a, err := netip.ParseAddr(bare); err == nil && a.Is6() { // what follows the last colon would be the port
			u.Host = "[" + bare + "]"
		}
		if p, err := url.Parse(u.String()); err != nil || p.Hostname() != bare && p.Host != bare {
			// Not shown: somebody may have put a whole URL there, with its password.
			d.errorf(d.where("database", "database.host"), "must be a host name or an address, as db.internal or 10.0.0.5, or the folder of a socket; a port goes into database.port, a URL into history.url")
			return
		}
	}
	switch password := db.Password.Reveal(); {
	case password != "":
		u.User = url.UserPassword(db.User, password)
	case db.User != "":
		u.User = url.User(db.User)
	}
	c.History.URL = StoreURL(u.String())
}

// storeParameters refuses parameters of a URL that would be passed over, as one of TLS that is another server's or misspelt.
func (d *decoder) storeParameters(section, key string, u StoreURL) {
	p, err := url.Parse(u.Reveal())
	if err != nil {
		return // it was refused already
	}
	query := p.Query()
	switch {
	case p.Scheme == "postgres" && (query.Has("tls") || query.Has("tls_ca")):
		d.errorf(d.where(section, key), "tls and tls_ca are for MySQL and MariaDB; PostgreSQL has sslmode=require, or sslmode=verify-full with sslrootcert=/path/ca.pem")
	case p.Scheme == "mysql":
		for _, name := range slices.Sorted(maps.Keys(query)) {
			switch name {
			case "socket", "host", "port", "tls_ca":
			case "tls":
				switch query.Get(name) {
				case "true", "false", "skip-verify", "preferred":
				default:
					d.errorf(d.where(section, key), "tls must be one of true, false, skip-verify, preferred, is %s", quote(query.Get(name)))
				}
			default:
				d.errorf(d.where(section, key), "there is no parameter %s for MySQL and MariaDB, only socket=/path, tls=true|false|skip-verify|preferred and tls_ca=/path/ca.pem", quote(name))
			}
		}
	}
}

// sharing finds where models are shared, when they are.
func (d *decoder) sharing(c *Config) {
	l := &c.Learn
	d.storeParameters("learn", "learn.share", l.Share)
	if !bool(l.Follow) && !bool(l.Federated) {
		return
	}
	key := "learn.follow"
	if l.Federated {
		key = "learn.federated"
		if !l.Enabled {
			d.errorf(d.where("learn", key), "what is averaged has to be trained: set learn.enabled to true, or only learn.follow")
		}
	}
	if l.Share == "" && !strings.HasPrefix(c.History.URL.Reveal(), "file:") { // a file of history is one engine's
		l.Share = c.History.URL
	}
	switch text := l.Share.Reveal(); {
	case strings.HasPrefix(text, "postgres:"), strings.HasPrefix(text, "mysql:"):
	case strings.HasPrefix(text, "file:"):
		u, err := url.Parse(text)
		if info, statErr := os.Stat(u.Path); err == nil && statErr == nil && !info.IsDir() {
			d.errorf(d.where("learn", "learn.share", key), "engines share models in a folder or a database, and %s is a file", u.Path)
		}
	default:
		d.errorf(d.where("learn", "learn.share", key), `engines share models in a database server or a folder: set learn.share to a URL as "postgres://user@host:5432/name", "mysql://user@host:3306/name" or "file:/var/lib/weir/models", or keep the history in a database server`)
	}
}
