package backend

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

type connKey struct{}

// conn is one accepted connection; it comes to the handlers through the request's context.
type conn struct {
	net.Conn
	number int64
	served atomic.Int64
}

// Answer is the body of a plain answer: what the backend saw of the request.
type Answer struct {
	Peer       string      `json:"peer"`
	Method     string      `json:"method"`
	URI        string      `json:"uri"`
	Host       string      `json:"host"`
	Proto      string      `json:"proto"`
	SNI        string      `json:"sni,omitempty"`     // server name that the TLS client asked for
	Chunked    bool        `json:"chunked,omitempty"` // the body came without a length
	Class      string      `json:"class"`
	BodyBytes  int64       `json:"body_bytes"`
	BodySHA256 string      `json:"body_sha256,omitempty"`
	Conn       int64       `json:"conn"`             // number of the connection, from 1
	ConnSeq    int64       `json:"conn_seq"`         // number of the request on it, from 1
	WaitMS     float64     `json:"wait_ms"`          // in the queue
	WorkMS     float64     `json:"work_ms"`          // with a worker
	Header     http.Header `json:"header,omitempty"` // only for /echo
}

// serve is the peer's port. First the scripted faults, then the paths:
//
//	/healthz                     the status in settings.health, no queue
//	/metrics                     memory and load in Prometheus' text format, no queue
//	/ws                          WebSocket, echoes until it is closed
//	/sse?n=10&every=100ms        events; n=0 until the client leaves
//	/poll?wait=2s                answers after a time, outside the queue
//	/bytes?n=1000000&chunk=65536&every=10ms
//	/status/503                  that status, with a body of its own
//	/early                       413 before the body is read
//	/accel?to=/internal/x        X-Accel-Redirect
//	/echo                        as any other path, and the headers
//	anything else                work by the class of its first segment, through the queue; X-Work-Ms gives the work instead
func (b *Backend) serve(w http.ResponseWriter, r *http.Request) {
	c, _ := r.Context().Value(connKey{}).(*conn)
	seq := c.served.Add(1)
	b.mu.Lock()
	s := b.settings
	fail := s.Fail != nil && (s.Fail.Method == "" || s.Fail.Method == r.Method) && b.rand.Float64() < s.Fail.Share
	hang := s.Hang > 0 && b.rand.Float64() < s.Hang
	reset := s.Reset != nil && b.rand.Float64() < s.Reset.Share
	b.mu.Unlock()

	if r.URL.Path == "/healthz" {
		b.counts.probes.Add(1)
		if s.Health == 0 {
			b.untilGone(r)
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(s.Health)
		return
	}
	if r.URL.Path == "/metrics" {
		b.metrics(w)
		return
	}
	b.counts.requests.Add(1)
	b.ledger.note(r.Header.Get("X-Request-Id"))
	n := b.counts.inflight.Add(1)
	for old := b.counts.maxInflight.Load(); n > old && !b.counts.maxInflight.CompareAndSwap(old, n); {
		old = b.counts.maxInflight.Load()
	}
	defer func() {
		b.counts.inflight.Add(-1)
		if r.Context().Err() != nil {
			b.counts.aborted.Add(1)
		}
	}()
	if s.CloseReused && seq > 1 {
		panic(http.ErrAbortHandler)
	}
	if s.Raw != "" {
		if raw, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_, _ = raw.Write([]byte(s.Raw))
			_ = raw.Close()
		}
		return
	}
	w.Header().Set("X-Backend", b.opt.Name)
	for name, value := range s.Headers {
		w.Header().Set(name, value)
	}
	if s.NoKeepAlive {
		w.Header().Set("Connection", "close")
	}
	if r.URL.Path == "/early" {
		http.Error(w, "too large for "+b.opt.Name, http.StatusRequestEntityTooLarge)
		return
	}
	a := Answer{
		Peer: b.opt.Name, Method: r.Method, URI: r.RequestURI, Host: r.Host, Proto: r.Proto, Chunked: r.ContentLength < 0,
		Conn: c.number, ConnSeq: seq,
	}
	if r.TLS != nil {
		a.SNI = r.TLS.ServerName
	}
	if b.opt.GRPC != nil && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		b.grpc(w, r, s, fail, &a) // which reads the body itself, message by message
		return
	}
	hash := sha256.New()
	var err error
	if a.BodyBytes, err = io.Copy(hash, r.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
	if a.BodyBytes > 0 {
		a.BodySHA256 = hex.EncodeToString(hash.Sum(nil))
	}
	switch {
	case hang:
		b.untilGone(r)
		panic(http.ErrAbortHandler)
	case reset && s.Reset.AfterBytes < 0:
		c.reset()
		panic(http.ErrAbortHandler)
	case reset:
		w.Header().Set("Content-Length", strconv.Itoa(s.Reset.AfterBytes+1))
		_, _ = w.Write(make([]byte, s.Reset.AfterBytes))
		_ = http.NewResponseController(w).Flush()
		c.reset()
		panic(http.ErrAbortHandler)
	case fail:
		b.sleep(time.Duration(s.Fail.AfterMS * float64(time.Millisecond)))
		w.WriteHeader(s.Fail.Status)
		_, _ = fmt.Fprintf(w, "scripted failure %d of %s\n", s.Fail.Status, b.opt.Name)
		return
	}
	b.route(w, r, s, a)
}

func (b *Backend) route(w http.ResponseWriter, r *http.Request, s Settings, a Answer) {
	first, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	query := r.URL.Query()
	switch first {
	case "ws":
		b.websocket(w, r)
		return
	case "sse":
		b.stream(w, r, "text/event-stream", queryInt(r, "n", 10), func(i int) []byte { return fmt.Appendf(nil, "data: %d\n\n", i) })
		return
	case "bytes":
		size := queryInt(r, "n", 1<<20)
		chunk := max(1, queryInt(r, "chunk", 1<<16))
		w.Header().Set("Content-Length", strconv.Itoa(size))
		b.stream(w, r, "application/octet-stream", (size+chunk-1)/chunk, func(i int) []byte { return make([]byte, min(chunk, size-i*chunk)) })
		return
	case "poll":
		wait, _ := time.ParseDuration(query.Get("wait"))
		b.sleep(wait)
	case "status":
		n, err := strconv.Atoi(rest)
		if err != nil || n < 200 || n > 599 {
			n = http.StatusNotFound
		}
		w.WriteHeader(n)
		if n != http.StatusNoContent && n != http.StatusNotModified {
			_, _ = fmt.Fprintf(w, "application page %d of %s\n", n, b.opt.Name)
		}
		return
	case "accel":
		w.Header().Set("X-Accel-Redirect", query.Get("to"))
		return
	case "echo":
		a.Header = r.Header
	}
	b.work(r, s, first, &a)
	if s.Reports != "" {
		name, value := b.report().Header(s.Reports)
		w.Header().Set(name, value)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a)
}

// work takes the request through the queue.
func (b *Backend) work(r *http.Request, s Settings, class string, a *Answer) {
	dist, ok := s.Classes[class]
	if !ok {
		class, dist = "", s.Default
	}
	a.Class = class
	b.mu.Lock()
	ms := dist.Draw(b.rand)
	cold := b.coldFactor(time.Since(b.opened))
	b.mu.Unlock()
	if told, err := strconv.ParseFloat(r.Header.Get("X-Work-Ms"), 64); err == nil && told >= 0 {
		ms = told
	}
	if f, ok := s.Affinity[class]; ok {
		ms *= f
	}
	waited, served := b.queue.serve(b.life, ms*cold)
	a.WaitMS = float64(waited) / float64(time.Millisecond)
	a.WorkMS = float64(served) / float64(time.Millisecond)
}

// grpc answers a call. A scripted failure is an answer of headers alone, with the gRPC status that stands for the HTTP one.
func (b *Backend) grpc(w http.ResponseWriter, r *http.Request, s Settings, fail bool, a *Answer) {
	if fail {
		code, ok := map[int]string{429: "8", 500: "13", 503: "14", 504: "4"}[s.Fail.Status]
		if !ok {
			code = "2"
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", code)
		w.Header().Set("Grpc-Message", "scripted failure of "+b.opt.Name)
		b.sleep(time.Duration(s.Fail.AfterMS * float64(time.Millisecond)))
		return
	}
	b.work(r, s, "grpc", a)
	b.opt.GRPC.ServeHTTP(w, r)
}

// stream sends n parts (0 = until the client leaves), with the time "every" between them.
func (b *Backend) stream(w http.ResponseWriter, r *http.Request, contentType string, n int, part func(i int) []byte) {
	b.counts.streams.Add(1)
	defer b.counts.streams.Add(-1)
	every, _ := time.ParseDuration(r.URL.Query().Get("every"))
	w.Header().Set("Content-Type", contentType)
	if contentType == "text/event-stream" {
		w.Header().Set("X-Accel-Buffering", "no")
	}
	flush := http.NewResponseController(w)
	for i := 0; n == 0 || i < n; i++ {
		if i > 0 && every > 0 && (!b.sleep(every) || r.Context().Err() != nil) {
			return
		}
		if _, err := w.Write(part(i)); err != nil {
			return
		}
		if every > 0 || i == 0 {
			_ = flush.Flush()
		}
	}
}

func (b *Backend) websocket(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	b.counts.streams.Add(1)
	defer b.counts.streams.Add(-1)
	defer func() { _ = ws.CloseNow() }()
	for {
		kind, text, err := ws.Read(b.life)
		if err != nil {
			return
		}
		if ws.Write(b.life, kind, text) != nil {
			return
		}
	}
}

// untilGone returns when the client has left or the backend ends.
func (b *Backend) untilGone(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-b.life.Done():
	}
}

// reset makes the close that follows a TCP reset.
func (c *conn) reset() {
	inner := c.Conn
	if t, ok := inner.(*tls.Conn); ok {
		inner = t.NetConn()
	}
	if t, ok := inner.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
}

func queryInt(r *http.Request, key string, missing int) int {
	if n, err := strconv.Atoi(r.URL.Query().Get(key)); err == nil && n >= 0 {
		return n
	}
	return missing
}
