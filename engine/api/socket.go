package api

import (
	"fmt"
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/serve"
)

const (
	protocolHeader  = "Weir-Protocol"
	protocolVersion = "1" // serve.Protocol
)

// socket is the handlers of the Unix socket.
type socket struct {
	eng     *serve.Engine
	stop    chan struct{} // closed when shutdown begins
	asked   questions
	batches sync.Pool // of *observe.Batch
}

// NewSocket listens on the Unix socket and answers NGINX.
func NewSocket(eng *serve.Engine, conf config.Socket) (*Server, error) {
	ln, err := newPathListener(conf, eng.Log())
	if err != nil {
		return nil, err
	}
	stop := make(chan struct{})
	s := newServer(ln, socketHandler(eng, stop), stop, ln.remove)
	s.start()
	go ln.keep(stop)
	return s, nil
}

func socketHandler(eng *serve.Engine, stop chan struct{}) *handler {
	s := &socket{eng: eng, stop: stop, asked: newQuestions(), batches: sync.Pool{New: func() any { return new(observe.Batch) }}}
	h := newHandler(eng, "socket", observe.MaxBody)
	h.protocol = true
	h.guard = s.guard
	h.handle("/decide", map[string]func(*call){"POST": s.decide})
	h.handle("/observe", map[string]func(*call){"POST": s.observe})
	h.handle("/watch", map[string]func(*call){"GET": s.watch})
	h.handle("/healthz", map[string]func(*call){"GET": s.healthz})
	return h
}

// guard refuses other versions of the protocol. Without the header a request is taken: people use curl.
func (s *socket) guard(c *call) bool {
	theirs := c.Request.Header.Peek(protocolHeader)
	if len(theirs) == 0 || string(theirs) == protocolVersion {
		return true
	}
	s.mismatch(c, string(theirs))
	return false
}

func (s *socket) mismatch(c *call, theirs string) {
	theirs = theirs[:min(len(theirs), 16)]
	s.eng.Metrics().Mismatches.Inc()
	if s.eng.FirstSeen(theirs) {
		s.eng.Log().Warn().Str("theirs", theirs).Str("ours", protocolVersion).
			Msg("requests in another protocol version are refused; install the same Weir version on both sides")
	}
	c.Response.Header.Set("Upgrade", "Weir/"+protocolVersion)
	c.fail(fasthttp.StatusUpgradeRequired, fmt.Sprintf("the request speaks protocol %s, this engine speaks protocol %s: "+
		"install the same Weir version on both sides", theirs, protocolVersion))
}

func (s *socket) healthz(c *call) {
	status := s.eng.Report().Status
	code := fasthttp.StatusOK
	if status == serve.Unavailable {
		code = fasthttp.StatusServiceUnavailable
	}
	c.json(code, map[string]any{"status": status})
}
