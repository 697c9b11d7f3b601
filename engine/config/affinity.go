package config

import (
	"errors"
	"regexp"
	"strings"
)

// Affinity keeps the requests of one client, or of one key, on one peer.
type Affinity struct {
	By AffinityBy `key:"by"`
	// Key is what is hashed: text with NGINX variables in it. Only for AffinityHash.
	Key string `key:"key"`
	// BreakAt is how many times the cheapest peer's cost the own one may cost before it is left; 0 = it never is for its cost.
	BreakAt float64 `key:"break_at" range:"0..1000"`
	// BalanceFactor bounds a peer's requests in flight to so many times its fair part; 0 = no bound. Only for AffinityHash.
	BalanceFactor float64 `key:"balance_factor" range:"0..100"`
	// DrainMS is how long a peer that goes out of use in good health keeps the clients that are bound to it. Only for AffinityCookie.
	DrainMS int    `key:"drain_ms" range:"0..604800000"`
	Cookie  Cookie `key:"cookie"`
}

// Cookie is how the cookie of AffinityCookie looks. What signs it is NGINX's alone (docs/affinity.md).
type Cookie struct {
	Name     string       `key:"name"`                          // empty = weir_ and the pool's name
	TTLMS    int          `key:"ttl_ms" range:"0..31536000000"` // 0 = until the browser is closed
	Path     string       `key:"path"`
	SameSite SameSite     `key:"samesite"`
	Secure   CookieSecure `key:"secure"`
	HTTPOnly Switch       `key:"httponly"`
}

// AffinityBy is what requests that belong together are known by.
type AffinityBy string

// The ways: none, a cookie that Weir sets, or the hash of a key.
const (
	AffinityNone   AffinityBy = "none"
	AffinityCookie AffinityBy = "cookie"
	AffinityHash   AffinityBy = "hash"
)

func (a *AffinityBy) fromText(s string) error {
	return oneOf(a, s, AffinityNone, AffinityCookie, AffinityHash)
}

// SameSite is the cookie's attribute of that name.
type SameSite string

func (v *SameSite) fromText(s string) error {
	for _, known := range []SameSite{"Lax", "Strict", "None"} {
		if strings.EqualFold(s, string(known)) {
			*v = known
			return nil
		}
	}
	return errors.New("must be one of Lax, Strict, None")
}

// CookieSecure says whether the cookie is Secure: true, false, or auto, on requests that came by https.
type CookieSecure string

func (v *CookieSecure) fromText(s string) error { return oneOf(v, s, "auto", "true", "false") }

// CookieName is the name of the cookie of a pool.
func (p *Pool) CookieName() string {
	if p.Affinity.Cookie.Name != "" {
		return p.Affinity.Cookie.Name
	}
	return "weir_" + p.Name
}

// DefaultAffinity is what a pool has that says nothing of it.
func DefaultAffinity() Affinity {
	return Affinity{
		By: AffinityNone, BreakAt: 3, BalanceFactor: 1.25, DrainMS: 600_000,
		Cookie: Cookie{Path: "/", SameSite: "Lax", Secure: "auto", HTTPOnly: true},
	}
}

var (
	cookieName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$") // a token of RFC 6265
	cookiePath = regexp.MustCompile(`^/[!-:<-~]{0,255}$`)                 // no space, no semicolon
	keyPart    = regexp.MustCompile(`\$(?:\{([^}]*)\}|([A-Za-z0-9_]*))`)
	varName    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)
)

// affinity checks what no single value shows.
func (d *decoder) affinity(a *Affinity, at func(keys ...string) place) {
	if a.Cookie.Name != "" && !cookieName.MatchString(a.Cookie.Name) {
		d.errorf(at("affinity.cookie.name"), "must be 1 to 64 of the letters, digits and signs that a cookie's name may have, is %s", quote(a.Cookie.Name))
	}
	if !cookiePath.MatchString(a.Cookie.Path) {
		d.errorf(at("affinity.cookie.path"), "must begin with / and have neither spaces nor semicolons, is %s", quote(a.Cookie.Path))
	}
	if a.Cookie.SameSite == "None" && a.Cookie.Secure != "true" {
		d.errorf(at("affinity.cookie.samesite", "affinity.cookie.secure"), "None needs `secure: true`: browsers drop such a cookie otherwise")
	}
	if a.BreakAt > 0 && a.BreakAt < 1 {
		d.errorf(at("affinity.break_at"), "must be 0, or from 1 on: below 1 a peer would be left for a dearer one, is %v", a.BreakAt)
	}
	if a.BalanceFactor > 0 && a.BalanceFactor < 1.01 {
		d.errorf(at("affinity.balance_factor"), "must be 0, or from 1.01 on: no peer can have less than its fair part, is %v", a.BalanceFactor)
	}
	if a.By != AffinityHash {
		return
	}
	if a.Key == "" {
		d.errorf(at("affinity.key", "affinity.by"), "affinity by hash needs a key: add `key: \"$arg_user\"` with a variable of NGINX")
		return
	}
	if problem := keyProblem(a.Key); problem != "" {
		d.errorf(at("affinity.key"), "%s, is %s", problem, quote(a.Key))
	}
}

// keyProblem says what is wrong with a key; "" = nothing.
func keyProblem(key string) string {
	const most = 16
	if len(key) > 512 {
		return "may have 512 bytes"
	}
	parts := keyPart.FindAllStringSubmatch(key, -1)
	switch {
	case len(parts) == 0:
		return `must have a variable of NGINX in it, as "$arg_user"`
	case len(parts) > most:
		return "may have 16 variables"
	}
	for _, p := range parts {
		name := p[1] + p[2]
		switch {
		case name != "" && strings.Trim(name, "0123456789") == "":
			return "must not have captures as $1: `set` a variable of your own from them"
		case !varName.MatchString(name):
			return "has a $ without the name of a variable after it; a $ itself cannot be in a key"
		}
	}
	return ""
}
