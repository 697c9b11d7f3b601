// Package backend is an upstream peer whose behaviour is scripted: service times, a queue, failures of every kind, streams. Tests, the demo
// and the benchmarks put it behind NGINX and change it while traffic runs.
//
// It serves two ports: the peer's own, which it can close, open late or let go silent, and a control port that always answers.
package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Options is what holds for the whole life of a backend.
type Options struct {
	// Name is sent as X-Backend with each answer.
	Name string
	// Listen is the peer's address. With port 0 a free one is taken at the first opening and kept.
	Listen string
	// Settings is the behaviour at start.
	Settings Settings
	// TLS serves HTTPS, with HTTP/2 for clients that ask for it; nil serves plain HTTP/1.1 and HTTP/2 with prior knowledge on one port.
	TLS *tls.Config
	// GRPC answers requests whose content type is application/grpc; nil: the backend is none.
	GRPC http.Handler
	// KeepAlive is the time after which an idle connection is closed; 0 means never.
	KeepAlive time.Duration
	// OpenAfter delays the first opening of the port.
	OpenAfter time.Duration
	// Brownout lowers the speed from time to time; the zero value never does.
	Brownout Brownout
	// ColdFactor multiplies the service times when the port opens; it falls linearly to 1 over Warm.
	ColdFactor float64
	Warm       time.Duration
	// Full is called once when settings.memory is full, as the kernel's out-of-memory killer is; nil only fills it.
	Full func()
	// Seed makes the drawn service times repeatable; 0 takes a random one.
	Seed uint64
}

// Brownout is a slow-down that returns: for the time For, first at From and then each Every, the speed is at most Speed.
type Brownout struct {
	From, Every, For time.Duration
	Speed            float64
}

// Backend is one peer. Its goroutines end when the context given to Start does; Wait returns after them.
type Backend struct {
	opt    Options
	queue  *queue
	ledger *ledger
	counts counts
	life   context.Context
	tasks  sync.WaitGroup

	mu       sync.Mutex // guards all below
	settings Settings
	rand     *rand.Rand
	late     bool // the port has not been opened for the first time
	brown    bool // inside a brown-out
	addr     string
	opened   time.Time
	leaking  *Memory     // settings.memory at the time it was set
	leaks    time.Time   // then
	full     *time.Timer // to Options.Full
	door     door
}

// door is the peer's port in one of its states; the zero value is closed.
type door struct {
	server *http.Server  // accepting
	silent net.Listener  // open, but its accept queue is full
	fill   []net.Conn    // what fills the accept queue
	served chan struct{} // closed when the accept loop has ended
}

// quiet keeps refused TLS handshakes, which some tests provoke, out of the output.
var quiet = log.New(io.Discard, "", 0)

// counts is what /stats shows.
type counts struct {
	requests, probes, connections, aborted, inflight, maxInflight, streams atomic.Int64
}

// Start opens the peer (unless it is to open late or refuses) and returns at once.
func Start(ctx context.Context, opt Options) (*Backend, error) {
	if err := opt.Settings.Validate(); err != nil {
		return nil, fmt.Errorf("backend %s: %w", opt.Name, err)
	}
	if opt.ColdFactor == 0 {
		opt.ColdFactor = 1
	}
	if opt.Seed == 0 {
		opt.Seed = rand.Uint64()
	}
	b := &Backend{
		opt: opt, queue: newQueue(), ledger: newLedger(), life: ctx,
		settings: opt.Settings, rand: rand.New(rand.NewPCG(opt.Seed, 0)),
		addr: opt.Listen, late: opt.OpenAfter > 0,
	}
	if err := b.apply(func() {}); err != nil {
		return nil, err
	}
	if b.late {
		b.task(func() {
			if b.sleep(opt.OpenAfter) {
				_ = b.apply(func() { b.late = false }) // a taken port shows in /stats as open: false
			}
		})
	}
	if opt.Brownout.For > 0 {
		b.task(b.brownout)
	}
	b.task(func() {
		<-ctx.Done()
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.full != nil {
			b.full.Stop()
		}
		b.shut(true)
	})
	return b, nil
}

// Wait returns when the context has ended and all goroutines of b with it.
func (b *Backend) Wait() { b.tasks.Wait() }

// Addr is the peer's address.
func (b *Backend) Addr() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.addr
}

// Patch lays a JSON object over the settings and puts them into effect before it returns.
func (b *Backend) Patch(patch []byte) (Settings, error) {
	b.mu.Lock()
	s, err := b.settings.Merge(patch)
	b.mu.Unlock()
	if err != nil {
		return s, err
	}
	return s, b.apply(func() { b.settings = s })
}

func (b *Backend) task(f func()) {
	b.tasks.Add(1)
	go func() {
		defer b.tasks.Done()
		f()
	}()
}

// sleep says false when the backend's life ended first.
func (b *Backend) sleep(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-b.life.Done():
		return false
	}
}

func (b *Backend) brownout() {
	o := b.opt.Brownout
	for ok := b.sleep(o.From); ok; ok = b.sleep(o.Every - o.For) {
		_ = b.apply(func() { b.brown = true })
		if !b.sleep(o.For) {
			return
		}
		_ = b.apply(func() { b.brown = false })
		if o.Every <= o.For {
			return
		}
	}
}

// apply changes the state under the lock, then makes queue and port agree with it.
func (b *Backend) apply(change func()) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
	speed := b.settings.Speed
	if b.brown {
		speed = min(speed, b.opt.Brownout.Speed)
	}
	b.queue.set(b.settings.Slots, speed)
	b.leak()
	if b.life.Err() != nil {
		return nil
	}
	open := !b.late && !b.settings.Refuse && !b.settings.Blackhole
	silent := !b.late && b.settings.Blackhole
	if (b.door.server != nil) == open && (b.door.silent != nil) == silent {
		return nil
	}
	b.shut(false)
	if open {
		return b.open()
	}
	if silent {
		return b.silence()
	}
	return nil
}

// shut closes the port. Requests being served are finished, unless now. The caller holds mu.
func (b *Backend) shut(now bool) {
	if s := b.door.server; s != nil {
		if now {
			_ = s.Close()
		} else {
			b.task(func() { _ = s.Shutdown(b.life) })
		}
		<-b.door.served // the listener is closed first thing, so the port is free after this
	}
	if l := b.door.silent; l != nil {
		_ = l.Close()
		for _, c := range b.door.fill {
			_ = c.Close()
		}
	}
	b.door = door{}
}

// listen binds the peer's address and keeps the port it got. The caller holds mu.
func (b *Backend) listen() (net.Listener, error) {
	l, err := net.Listen("tcp", b.addr)
	if err != nil {
		return nil, fmt.Errorf("backend %s: opening %s: %w", b.opt.Name, b.addr, err)
	}
	b.addr = l.Addr().String()
	return l, nil
}

func (b *Backend) open() error {
	l, err := b.listen()
	if err != nil {
		return err
	}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{
		Handler: http.HandlerFunc(b.serve), IdleTimeout: b.opt.KeepAlive, Protocols: protocols, TLSConfig: b.opt.TLS, ErrorLog: quiet,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, &conn{Conn: c, number: b.counts.connections.Add(1)})
		},
	}
	served := make(chan struct{})
	b.task(func() {
		defer close(served)
		serve := func() error { return s.Serve(l) }
		if b.opt.TLS != nil {
			serve = func() error { return s.ServeTLS(l, "", "") }
		}
		if err := serve(); !errors.Is(err, http.ErrServerClosed) {
			_ = l.Close()
		}
	})
	b.door = door{server: s, served: served}
	b.opened = time.Now()
	return nil
}

// silence opens the port with an accept queue of one place, never accepts, and takes that place itself: Linux then drops every further SYN,
// and a connect hangs until its own time-out. No packet filter and no privilege is needed.
func (b *Backend) silence() error {
	l, err := b.listen()
	if err != nil {
		return err
	}
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err == nil {
		if e := raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) }); e != nil {
			err = e
		}
	}
	if err != nil {
		_ = l.Close()
		return fmt.Errorf("backend %s: shortening the accept queue of %s: %w", b.opt.Name, b.addr, err)
	}
	d := door{silent: l}
	for range 8 {
		c, err := net.DialTimeout("tcp", b.addr, 100*time.Millisecond)
		if err != nil {
			break
		}
		d.fill = append(d.fill, c)
	}
	b.door = d
	return nil
}

// coldFactor is what the service times are multiplied with so long after the opening.
func (b *Backend) coldFactor(since time.Duration) float64 {
	if b.opt.Warm <= 0 || since >= b.opt.Warm {
		return 1
	}
	return 1 + (b.opt.ColdFactor-1)*(1-float64(since)/float64(b.opt.Warm))
}
