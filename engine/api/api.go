// Package api is HTTP in front of a running engine: the Unix socket that NGINX talks to (docs/protocol.md) and the admin
// listener for people and scrapers. openapi.yaml describes both; a test holds the servers to it.
package api

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/weirlb/weir/engine/serve"
	"github.com/weirlb/weir/engine/telemetry"
)

// Limits on what a client may send.
const (
	maxHeader      = 80 << 10 // request line and headers together
	maxAdminBody   = 64 << 10
	maxDecideBody  = 64 << 10
	maxConnections = 1024 // a listener
)

// call is one request on its way through a handler.
type call struct {
	*fasthttp.RequestCtx
	params [2]string // values of the {} in the route's pattern, unescaped
}

// route is one path with its methods.
type route struct {
	pattern string // "/api/pools/{pool}"
	parts   []string
	methods map[string]func(*call)
	allow   string
	count   *telemetry.Route
	strict  bool // query parameters other than these, or one twice, are refused
	takes   []string
}

// handler serves the routes of one listener.
type handler struct {
	eng      *serve.Engine
	name     string // of the listener, in metrics and logs
	routes   []*route
	fallback *telemetry.Route
	guard    func(*call) bool // runs first; false = it has answered
	protocol bool             // the answers carry Weir-Protocol
	maxBody  int              // bytes of a body that are read
	calls    sync.Pool        // of *call
}

func newHandler(eng *serve.Engine, name string, maxBody int) *handler {
	return &handler{
		eng: eng, name: name, maxBody: maxBody, fallback: eng.Metrics().Route(name, "none"),
		calls: sync.Pool{New: func() any { return new(call) }},
	}
}

// handle adds a route; pairs are method and function. HEAD is answered where GET is: fasthttp leaves the body out.
func (h *handler) handle(pattern string, methods map[string]func(*call)) *route {
	r := &route{
		pattern: pattern, parts: strings.Split(pattern[1:], "/"), methods: methods,
		count: h.eng.Metrics().Route(h.name, pattern),
	}
	for _, m := range []string{"GET", "POST", "PATCH"} {
		if methods[m] != nil {
			r.allow += ", " + m
		}
	}
	r.allow = strings.TrimPrefix(r.allow, ", ")
	h.routes = append(h.routes, r)
	return r
}

// method gives the function that answers a method, nil when none does.
func (r *route) method(name string) func(*call) {
	if name == "HEAD" {
		name = "GET"
	}
	return r.methods[name]
}

// only makes a route refuse query parameters other than these: a misspelt one that is passed over gets another answer than was asked for.
func (r *route) only(parameters ...string) { r.strict, r.takes = true, parameters }

// query tells whether a route takes the query parameters of a call; when not, it has answered.
func (r *route) query(c *call) bool {
	if !r.strict {
		return true
	}
	seen := map[string]bool{}
	for key := range c.QueryArgs().All() {
		name := string(key)
		switch {
		case !slices.Contains(r.takes, name) && len(r.takes) == 0:
			c.fail(fasthttp.StatusBadRequest, fmt.Sprintf("%s takes no parameter in its URL, there is %q", r.pattern, name))
			return false
		case !slices.Contains(r.takes, name):
			c.failKnown(fasthttp.StatusBadRequest, fmt.Sprintf("%s takes no parameter %q", r.pattern, name), r.takes)
			return false
		case seen[name]:
			c.fail(fasthttp.StatusBadRequest, fmt.Sprintf("the parameter %q is there twice", name))
			return false
		}
		seen[name] = true
	}
	return true
}

// serve is the fasthttp handler.
func (h *handler) serve(ctx *fasthttp.RequestCtx) {
	c := h.calls.Get().(*call)
	*c = call{RequestCtx: ctx}
	count := h.fallback
	defer func() {
		if r := recover(); r != nil {
			h.eng.Log().Repeated("panic "+h.name).Str("panic", fmt.Sprint(r)).Bytes("stack", debug.Stack()).Msg("a request handler panicked")
			ctx.Response.Reset()
			c.fail(fasthttp.StatusInternalServerError, "the engine failed to answer; its log says why")
		}
		if h.protocol {
			ctx.Response.Header.Set(protocolHeader, protocolVersion)
		}
		count.Count(ctx.Response.StatusCode())
		h.calls.Put(c)
	}()
	r := h.find(c)
	if r != nil {
		count = r.count
	}
	if h.guard != nil && !h.guard(c) {
		return
	}
	if r == nil {
		known := make([]string, len(h.routes))
		for i, r := range h.routes {
			known[i] = r.allow + " " + r.pattern
		}
		c.failKnown(fasthttp.StatusNotFound, "there is nothing at this path", known)
		return
	}
	run := r.method(string(ctx.Method()))
	if run == nil {
		ctx.Response.Header.Set("Allow", strings.Replace(r.allow, "GET", "GET, HEAD", 1))
		c.fail(fasthttp.StatusMethodNotAllowed, r.pattern+" takes "+r.allow)
		return
	}
	if r.query(c) {
		run(c)
	}
}

// find matches the path as it was sent: a peer's address may hold an escaped slash, which must not cut the path.
func (h *handler) find(c *call) *route {
	path := c.URI().PathOriginal()
	for _, r := range h.routes {
		if string(path) == r.pattern {
			return r
		}
	}
	for _, r := range h.routes {
		if c.match(r.parts, path) {
			return r
		}
	}
	return nil
}

func (c *call) match(parts []string, path []byte) bool {
	if len(path) == 0 || path[0] != '/' || bytes.Count(path, []byte{'/'}) != len(parts) {
		return false
	}
	n := 0
	rest := path[1:]
	for _, part := range parts {
		var segment []byte
		segment, rest, _ = bytes.Cut(rest, []byte{'/'})
		if part[0] != '{' {
			if string(segment) != part {
				return false
			}
			continue
		}
		value, err := url.PathUnescape(string(segment))
		if err != nil || value == "" {
			return false
		}
		c.params[n] = value
		n++
	}
	return true
}

// problem is the body of every error.
type problem struct {
	Error    string   `json:"error"`
	Known    []string `json:"known,omitempty"`
	Record   *int     `json:"record,omitempty"`
	Accepted *int     `json:"accepted,omitempty"`
}

func (c *call) fail(status int, message string) { c.problem(status, problem{Error: message}) }

func (c *call) failKnown(status int, message string, known []string) {
	c.problem(status, problem{Error: message, Known: known})
}

// failError answers with what an error of the engine stands for.
func (c *call) failError(err error) {
	var unknown *serve.UnknownError
	var conflict *serve.ConflictError
	var outside *serve.RangeError
	var model *serve.ModelError
	var none *serve.NoSplitError
	var share *serve.ShareError
	switch {
	case errors.As(err, &unknown):
		c.failKnown(fasthttp.StatusNotFound, err.Error(), unknown.Known)
	case errors.As(err, &conflict), errors.As(err, &model):
		c.fail(fasthttp.StatusConflict, err.Error())
	case errors.As(err, &none):
		c.fail(fasthttp.StatusNotFound, err.Error())
	case errors.As(err, &outside), errors.As(err, &share):
		c.fail(fasthttp.StatusBadRequest, err.Error())
	default:
		c.fail(fasthttp.StatusInternalServerError, err.Error())
	}
}

func (c *call) problem(status int, p problem) { c.json(status, p) }

func (c *call) json(status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // a value that JSON has no form for: a fault of ours
		status, body = fasthttp.StatusInternalServerError, []byte(`{"error":"the answer could not be encoded"}`)
	}
	c.raw(status, body)
}

// raw answers with JSON that is ready. The bytes are not copied and must not change.
func (c *call) raw(status int, body []byte) {
	c.SetStatusCode(status)
	c.Response.Header.SetContentType("application/json")
	c.Response.SetBodyRaw(body)
}

// badRequest answers what fasthttp could not read as a request.
func (h *handler) badRequest(ctx *fasthttp.RequestCtx, err error) {
	c := call{RequestCtx: ctx}
	status, message := fasthttp.StatusBadRequest, "the request cannot be read: "+err.Error()
	var small *fasthttp.ErrSmallBuffer
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &small):
		status, message = fasthttp.StatusRequestHeaderFieldsTooLarge,
			"request line and headers may have "+strconv.Itoa(maxHeader)+" bytes together"
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		status, message = fasthttp.StatusRequestEntityTooLarge,
			fmt.Sprintf("the body may have %d bytes", h.maxBody)
		linger(ctx.Conn())
	case errors.As(err, &timeout) && timeout.Timeout():
		status, message = fasthttp.StatusRequestTimeout, "the request did not arrive in time"
	}
	c.fail(status, message)
	if h.protocol {
		ctx.Response.Header.Set(protocolHeader, protocolVersion)
	}
	h.fallback.Count(status)
}

// Token is the admin token, which a reload may change. The zero value asks for none.
type Token struct {
	hash atomic.Pointer[[sha256.Size]byte]
}

// Set changes the token; "" asks for none.
func (t *Token) Set(token string) {
	if token == "" {
		t.hash.Store(nil)
		return
	}
	sum := sha256.Sum256([]byte(token))
	t.hash.Store(&sum)
}

// allows compares in constant time, through hashes so that not even the length shows.
func (t *Token) allows(authorization []byte) bool {
	want := t.hash.Load()
	if want == nil {
		return true
	}
	const scheme = "bearer "
	if len(authorization) < len(scheme) || !strings.EqualFold(string(authorization[:len(scheme)]), scheme) {
		return false
	}
	got := sha256.Sum256(bytes.TrimSpace(authorization[len(scheme):]))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// timeouts of both listeners. A long poll is not limited by them: they are for reading a request and writing an answer.
const (
	readTimeout  = 10 * time.Second
	writeTimeout = 10 * time.Second
	idleTimeout  = 2 * time.Minute
)
