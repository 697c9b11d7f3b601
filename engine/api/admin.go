package api

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/serve"
)

// admin is the handlers of the admin listener.
type admin struct {
	eng   *serve.Engine
	token *Token
	asked questions
	past  histories
}

// NewAdmin listens on a TCP address for people and scrapers. token is asked of every request; it may change later.
func NewAdmin(eng *serve.Engine, address string, token *Token) (*Server, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening on admin.listen: %w", err)
	}
	s := newServer(ln, adminHandler(eng, token), make(chan struct{}), nil)
	s.start()
	return s, nil
}

func adminHandler(eng *serve.Engine, token *Token) *handler {
	a := &admin{eng: eng, token: token, asked: newQuestions(), past: newHistories()}
	h := newHandler(eng, "admin", maxAdminBody)
	h.guard = a.guard
	h.handle("/api/health", map[string]func(*call){"GET": a.health}).only()
	h.handle("/api/route", map[string]func(*call){"POST": a.route}).only()
	h.handle("/api/metrics", map[string]func(*call){"GET": a.figures}).only()
	h.handle("/api/pools", map[string]func(*call){"GET": a.pools}).only()
	h.handle("/api/pools/{pool}", map[string]func(*call){"GET": a.pool}).only()
	h.handle("/api/pools/{pool}/peers/{peer}", map[string]func(*call){"GET": a.peer, "PATCH": a.order}).only()
	h.handle("/api/pools/{pool}/split", map[string]func(*call){"GET": a.split, "PATCH": a.share}).only()
	h.handle("/api/pools/{pool}/shadow", map[string]func(*call){"GET": a.shadow}).only()
	h.handle("/api/explain", map[string]func(*call){"GET": a.explain}).only("pool", "class")
	h.handle("/api/models", map[string]func(*call){"GET": a.models}).only()
	h.handle("/api/models/{model}/file", map[string]func(*call){"GET": a.modelFile}).only()
	h.handle("/api/models/{model}/promote", map[string]func(*call){"POST": a.promote}).only()
	h.handle("/api/models/{model}/rollback", map[string]func(*call){"POST": a.rollback}).only()
	h.handle("/api/history", map[string]func(*call){"GET": a.history}).only("pool", "peer", "class", "from", "to", "step", "by", "metric")
	h.handle("/api/history/events", map[string]func(*call){"GET": a.events}).only("kind", "pool", "from", "to", "limit")
	h.handle("/metrics", map[string]func(*call){"GET": a.metrics})
	h.handle("/openapi.yaml", map[string]func(*call){"GET": a.openapi})
	return h
}

// guard asks for the token, and refuses what another site's page makes a browser send: without a token, being on this host is all the
// right there is, and a browser on it lends that to every page.
func (a *admin) guard(c *call) bool {
	changes := !c.IsGet() && !c.IsHead()
	if changes && foreign(c) {
		c.fail(fasthttp.StatusForbidden, "a page of another site may not change anything here")
		return false
	}
	if changes && a.token.hash.Load() == nil && len(c.Request.Header.Peek("Origin")) > 0 && named(string(c.Host())) {
		c.fail(fasthttp.StatusForbidden, "a page may change something here by the listener's address or localhost only, since a name can be another site's: "+
			"use that, or set admin.token")
		return false
	}
	if a.token.allows(c.Request.Header.Peek("Authorization")) {
		return true
	}
	c.Response.Header.Set("WWW-Authenticate", "Bearer")
	c.fail(fasthttp.StatusUnauthorized, "this listener asks for the token in admin.token: send the header Authorization: Bearer TOKEN")
	return false
}

// foreign tells whether a browser says that a page of another origin asks. Other clients say nothing of the kind.
func foreign(c *call) bool {
	origin := string(c.Request.Header.Peek("Origin"))
	_, host, ok := strings.Cut(origin, "://")
	return origin != "" && (!ok || !strings.EqualFold(host, string(c.Host())))
}

// named tells whether a Host header is a name that anybody may point at this host: a site's own name that resolves to 127.0.0.1 for a moment makes
// its page of one origin with this listener (DNS rebinding).
func named(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err != nil && !strings.EqualFold(host, "localhost")
}

func (a *admin) health(c *call) {
	r := a.eng.Report()
	code := fasthttp.StatusOK
	if r.Status == serve.Unavailable {
		code = fasthttp.StatusServiceUnavailable
	}
	c.json(code, r)
}

func (a *admin) figures(c *call) { c.json(fasthttp.StatusOK, a.eng.Figures()) }

func (a *admin) metrics(c *call) {
	var text bytes.Buffer
	if err := a.eng.Metrics().Write(&text); err != nil {
		c.failError(fmt.Errorf("writing the metrics: %w", err))
		return
	}
	c.Response.Header.SetContentType("text/plain; version=0.0.4; charset=utf-8")
	c.Response.SetBodyRaw(text.Bytes())
}

// poolSummary is a pool in the list of pools.
type poolSummary struct {
	Name    string   `json:"name"`
	Version uint64   `json:"version"`
	Policy  string   `json:"policy"`
	Panic   bool     `json:"panic"`
	Peers   []string `json:"peers"`
	Usable  int      `json:"usable"`
	Classes int      `json:"classes"`
}

func (a *admin) pools(c *call) {
	list := []poolSummary{}
	for _, s := range a.eng.State().Pools {
		p := poolSummary{
			Name: s.Name, Version: s.Version, Policy: s.Policy, Panic: s.Panic, Peers: []string{}, Classes: len(s.Table.Classes),
		}
		for i := range s.Peers {
			p.Peers = append(p.Peers, s.Peers[i].Addr)
			if s.Peers[i].Usable {
				p.Usable++
			}
		}
		list = append(list, p)
	}
	c.json(fasthttp.StatusOK, map[string]any{"pools": list})
}

func (a *admin) pool(c *call) {
	f, err := a.eng.Pool(c.params[0])
	if err != nil {
		c.failError(err)
		return
	}
	c.json(fasthttp.StatusOK, f)
}

// canonical is a peer's address as the engine knows it, however it was spelled. What is no address stays, to be told as unknown.
func canonical(peer string) string {
	if addr, err := config.ParseAddress(peer); err == nil {
		return addr
	}
	return peer
}

func (a *admin) peer(c *call) {
	f, err := a.eng.Peer(c.params[0], canonical(c.params[1]))
	if err != nil {
		c.failError(err)
		return
	}
	c.json(fasthttp.StatusOK, f)
}

// order is PATCH on a peer.
func (a *admin) order(c *call) {
	var body struct {
		Drain  *bool    `json:"drain"`
		Weight *float64 `json:"weight"`
		Force  bool     `json:"force"`
	}
	if err := strict(c.PostBody(), &body); err != nil {
		c.fail(fasthttp.StatusBadRequest, `the body must be as {"drain": true} or {"weight": 2}: `+err.Error())
		return
	}
	if body.Drain == nil && body.Weight == nil {
		c.fail(fasthttp.StatusBadRequest, `the body must have "drain" or "weight"`)
		return
	}
	f, err := a.eng.Order(c.params[0], canonical(c.params[1]), serve.Order{Drain: body.Drain, Weight: body.Weight, Force: body.Force})
	if err != nil {
		c.failError(err)
		return
	}
	c.json(fasthttp.StatusOK, f)
}

func (a *admin) split(c *call) {
	f, err := a.eng.Split(c.params[0])
	if err != nil {
		c.failError(err)
		return
	}
	c.json(fasthttp.StatusOK, f)
}

func (a *admin) shadow(c *call) {
	f, err := a.eng.Shadow(c.params[0])
	if err != nil {
		c.failError(err)
		return
	}
	c.json(fasthttp.StatusOK, f)
}

// share is PATCH on a split.
func (a *admin) share(c *call) {
	var body struct {
		Share *float64 `json:"share"`
	}
	err := strict(c.PostBody(), &body)
	if err == nil && body.Share == nil {
		err = errors.New("it has no share")
	}
	if err != nil {
		c.fail(fasthttp.StatusBadRequest, `the body must be as {"share": 0.25}: `+err.Error())
		return
	}
	f, err := a.eng.SetShare(c.params[0], *body.Share)
	if err != nil {
		c.failError(err)
		return
	}
	c.json(fasthttp.StatusOK, f)
}

// routed is the answer of /api/route.
type routed struct {
	Pool   string `json:"pool"`
	Class  string `json:"class"`
	Policy string `json:"policy"`
	picked
}

// route picks a peer for a request that is described, and says why. It sends nothing anywhere and learns nothing.
func (a *admin) route(c *call) {
	q := a.asked.get()
	defer a.asked.put(q)
	if err := q.read(c.PostBody()); err != nil {
		c.fail(fasthttp.StatusBadRequest, "the body does not describe a request: "+err.Error())
		return
	}
	snap, row, ok := q.find(c, a.eng)
	if !ok {
		return
	}
	p, ok := choose(snap, row, q)
	if !ok {
		c.fail(fasthttp.StatusServiceUnavailable, fmt.Sprintf("pool %q has no usable peer", snap.Name))
		return
	}
	c.json(fasthttp.StatusOK, routed{Pool: snap.Name, Class: snap.ClassName(row), Policy: snap.Policy, picked: p})
}
