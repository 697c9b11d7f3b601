package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/weirlb/weir/engine/telemetry"
)

// Server is one listener with its connections.
type Server struct {
	http  *fasthttp.Server
	ln    *listener
	done  chan error    // the result of Serve
	stop  chan struct{} // closed when shutdown begins: long polls end
	once  sync.Once
	after func() // runs when everything is closed
}

// newServer makes a server; nothing is accepted before start.
func newServer(ln net.Listener, h *handler, stop chan struct{}, after func()) *Server {
	return &Server{
		http: &fasthttp.Server{
			Handler: h.serve, ErrorHandler: h.badRequest,
			ReadBufferSize: maxHeader, MaxRequestBodySize: h.maxBody, Concurrency: maxConnections,
			ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
			CloseOnShutdown: true, NoDefaultServerHeader: true, NoDefaultDate: true, NoDefaultContentType: true,
			DisablePreParseMultipartForm: true, LazyRequestTime: true, Logger: quiet{},
		},
		ln: newListener(ln, h.eng.Log()), done: make(chan error, 1), stop: stop, after: after,
	}
}

// quiet drops fasthttp's own lines: they may quote what a client sent.
type quiet struct{}

func (quiet) Printf(string, ...any) {}

func (s *Server) start() {
	go func() { s.done <- s.http.Serve(s.ln) }()
}

// Addr returns the address that is listened on.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Failed gives the error when the server ends by itself.
func (s *Server) Failed() <-chan error { return s.done }

// Shutdown stops accepting, answers what is being answered, long polls with 204, and closes every connection. What is not
// done when ctx ends is cut. It may be called once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.once.Do(func() { close(s.stop) })
	err := s.http.ShutdownWithContext(ctx)
	s.ln.closeAll()
	// Serve returns when the listener is closed; a server that was never started has nothing to wait for.
	select {
	case <-s.done:
	case <-time.After(100 * time.Millisecond):
	}
	if s.after != nil {
		s.after()
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("stopping the listener on %s: %w", s.Addr(), err)
	}
	return nil
}

// listener keeps its open connections, so that they can be closed when time is up: fasthttp waits for those that have
// not sent a request yet.
type listener struct {
	net.Listener
	log    *telemetry.Log
	mu     sync.Mutex // guards conns
	conns  map[*conn]struct{}
	closed bool
}

func newListener(ln net.Listener, log *telemetry.Log) *listener {
	return &listener{Listener: ln, log: log, conns: map[*conn]struct{}{}}
}

// acceptAgain is how long a connection waits that cannot be taken for want of file descriptors or memory.
const acceptAgain = 50 * time.Millisecond

// Accept returns the next connection. Want of file descriptors, the engine's own or the system's, passes; fasthttp would take it for the
// end of the listener, and the engine would end with it.
func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	for ; scarce(err); nc, err = l.Listener.Accept() {
		l.log.Repeated("accept "+l.Addr().String()).Str("error", err.Error()).Msg("connections cannot be taken for now: they wait")
		time.Sleep(acceptAgain)
	}
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, from: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = nc.Close()
	} else {
		l.conns[c] = struct{}{}
	}
	return c, nil
}

func scarce(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}

func (l *listener) closeAll() {
	_ = l.Close()
	l.mu.Lock()
	l.closed = true
	open := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		open = append(open, c)
	}
	l.mu.Unlock()
	for _, c := range open {
		c.lingers.Store(false)
		_ = c.Close()
	}
}

type conn struct {
	net.Conn
	from    *listener
	lingers atomic.Bool
}

// lingerFor and lingerBytes bound how long a refused body is read on after its answer.
const (
	lingerFor   = time.Second
	lingerBytes = 64 << 20
)

// linger makes the connection read on for a moment when it is closed. Closing it with a body unread would reset it, and
// the client might never see the answer that says why.
func linger(nc net.Conn) {
	if c, ok := nc.(*conn); ok {
		c.lingers.Store(true)
	}
}

func (c *conn) Close() error {
	c.from.mu.Lock()
	_, open := c.from.conns[c]
	delete(c.from.conns, c)
	c.from.mu.Unlock()
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && open && c.lingers.Load() && half.CloseWrite() == nil {
		_ = c.SetReadDeadline(time.Now().Add(lingerFor))
		_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
	}
	return c.Conn.Close()
}
