package rig

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// Request describes what to send. The zero value is GET on a new or kept connection.
type Request struct {
	Path   string
	Method string // empty = GET, or POST with a Body
	Body   string
	Header map[string]string
	// Timeout after which the client gives up; 0 means Patience.
	Timeout time.Duration
	// Fresh opens a connection for each request, which spreads them over NGINX's workers.
	Fresh bool
}

// Answer is what came of one request.
type Answer struct {
	ID     string // the X-Request-Id it was sent with
	Status int    // 0 when there was no answer
	Peer   string // the name of the backend that answered
	Body   string
	Header http.Header
	Began  time.Time
	Took   time.Duration
	Err    error
}

var lastID atomic.Int64 // request ids are unique in a test binary

func newClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Do sends one request and reads the whole answer.
func (r *Rig) Do(q Request) (a Answer) {
	if q.Timeout == 0 {
		q.Timeout = Patience
	}
	ctx, cancel := context.WithTimeout(context.Background(), q.Timeout)
	defer cancel()
	return r.DoContext(ctx, q)
}

// DoContext is Do for a request that is given up when the context ends.
func (r *Rig) DoContext(ctx context.Context, q Request) (a Answer) {
	a.ID = fmt.Sprintf("r%d", lastID.Add(1))
	a.Began = time.Now()
	defer func() { a.Took = time.Since(a.Began) }()
	method := q.Method
	if method == "" {
		method = http.MethodGet
		if q.Body != "" {
			method = http.MethodPost
		}
	}
	var body io.Reader
	if q.Body != "" {
		body = strings.NewReader(q.Body)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+r.NGINX.Addr+q.Path, body)
	if err != nil {
		a.Err = err
		return a
	}
	req.Header.Set("X-Request-Id", a.ID)
	for k, v := range q.Header {
		req.Header.Set(k, v)
	}
	req.Close = q.Fresh
	resp, err := r.client.Do(req)
	if err != nil {
		a.Err = err
		return a
	}
	defer func() { _ = resp.Body.Close() }()
	a.Status, a.Header, a.Peer = resp.StatusCode, resp.Header, resp.Header.Get("X-Backend")
	text, err := io.ReadAll(resp.Body)
	a.Body, a.Err = string(text), err
	return a
}

// Send sends n requests, at most `parallel` at a time, and waits for all.
func (r *Rig) Send(n, parallel int, q Request) []Answer {
	answers := make([]Answer, n)
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(parallel, n) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				answers[i] = r.Do(q)
			}
		})
	}
	all.Wait()
	return answers
}

// Load is traffic in the background.
type Load struct {
	stop    context.CancelFunc
	all     sync.WaitGroup
	mu      sync.Mutex // guards answers
	answers []Answer
}

// StartLoad sends requests until Stop (or the test's end): `parallel` clients, each of which waits for its answer and then for the pause.
func (r *Rig) StartLoad(parallel int, pause time.Duration, q Request) *Load {
	ctx, stop := context.WithCancel(context.Background())
	l := &Load{stop: stop}
	for range parallel {
		l.all.Go(func() {
			for ctx.Err() == nil {
				a := r.Do(q)
				l.mu.Lock()
				l.answers = append(l.answers, a)
				l.mu.Unlock()
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	r.T.Cleanup(func() { l.Stop() })
	return l
}

// Answers are those up to now.
func (l *Load) Answers() []Answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Answer(nil), l.answers...)
}

// Stop ends the load, waits for the last answers and returns all.
func (l *Load) Stop() []Answer {
	l.stop()
	l.all.Wait()
	return l.Answers()
}

// Share is the part of the answers that came from the backend.
func Share(answers []Answer, backend string) float64 {
	n := 0
	for _, a := range answers {
		if a.Peer == backend {
			n++
		}
	}
	return float64(n) / float64(max(1, len(answers)))
}

// WantAll fails the test when an answer is none or has another status.
func (r *Rig) WantAll(answers []Answer, status int) {
	r.T.Helper()
	bad := 0
	for _, a := range answers {
		if a.Err != nil || a.Status != status {
			if bad++; bad <= 5 {
				r.T.Errorf("request %s of %s took %v: status %d, error %v, %.200q", a.ID, a.Began.Format("05.000"), a.Took, a.Status, a.Err, a.Body)
			}
		}
	}
	if bad > 0 {
		r.T.Errorf("%d of %d requests failed (want status %d)", bad, len(answers), status)
	}
	if len(answers) == 0 {
		r.T.Error("no request was sent")
	}
}

// WebSocket opens a WebSocket through NGINX and holds it until the returned function or the end of the test closes it.
func (r *Rig) WebSocket(path string) (peer string, closeIt func()) {
	r.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	ws, resp, err := websocket.Dial(ctx, "ws://"+r.NGINX.Addr+path, nil)
	if err != nil {
		r.T.Fatalf("WebSocket %s: %v", path, err)
	}
	closeIt = func() { _ = ws.CloseNow() }
	r.T.Cleanup(closeIt)
	return resp.Header.Get("X-Backend"), closeIt
}

// Pending are requests on their way.
type Pending struct {
	abort   context.CancelFunc
	all     sync.WaitGroup
	open    atomic.Int64
	answers []Answer
}

// Open is how many have no answer yet.
func (p *Pending) Open() int { return int(p.open.Load()) }

// Begin sends n requests at once and returns without waiting for their answers.
func (r *Rig) Begin(n int, q Request) *Pending {
	ctx, abort := context.WithTimeout(context.Background(), 4*Patience)
	p := &Pending{abort: abort, answers: make([]Answer, n)}
	p.open.Store(int64(n))
	for i := range n {
		p.all.Go(func() {
			p.answers[i] = r.DoContext(ctx, q)
			p.open.Add(-1)
		})
	}
	r.T.Cleanup(func() { p.Abort() })
	return p
}

// Wait returns all answers.
func (p *Pending) Wait() []Answer {
	p.all.Wait()
	p.abort()
	return p.answers
}

// Abort has the clients leave.
func (p *Pending) Abort() []Answer {
	p.abort()
	return p.Wait()
}
