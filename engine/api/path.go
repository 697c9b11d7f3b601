package api

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/telemetry"
)

// lookAfterPath is how often the socket's file is looked for.
const lookAfterPath = 500 * time.Millisecond

// pathListener listens on a Unix socket and makes its file anew when somebody removed it (a clean-up of /run or /tmp, a volume that was emptied):
// the engine would run on and no NGINX ever find it again. A path that something else has taken is left alone.
type pathListener struct {
	conf config.Socket
	log  *telemetry.Log

	mu     sync.Mutex // guards all below
	ln     *net.UnixListener
	ours   fs.FileInfo // of the file at the time it was made
	closed bool
	told   bool // that the file is gone and could not be made
}

func newPathListener(c config.Socket, log *telemetry.Log) (*pathListener, error) {
	ln, ours, err := listenUnix(c)
	if err != nil {
		return nil, err
	}
	return &pathListener{conf: c, log: log, ln: ln, ours: ours}, nil
}

// current is the listener of the moment; false when there will be no other.
func (p *pathListener) current() (*net.UnixListener, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ln, !p.closed
}

// Accept returns the next connection, whichever of the files it came by.
func (p *pathListener) Accept() (net.Conn, error) {
	for {
		ln, open := p.current()
		nc, err := ln.Accept()
		if err == nil || !open {
			return nc, err
		}
		if now, open := p.current(); !open || now == ln {
			return nil, err
		}
	}
}

// Addr returns the socket's path.
func (p *pathListener) Addr() net.Addr {
	ln, _ := p.current()
	return ln.Addr()
}

// Close ends Accept. The file stays.
func (p *pathListener) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return p.ln.Close()
}

// remove takes the file away, only our own: another engine may have taken the path since.
func (p *pathListener) remove() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if now, err := os.Lstat(p.conf.Path); err == nil && os.SameFile(now, p.ours) {
		_ = os.Remove(p.conf.Path)
	}
}

// keep looks after the file until stop is closed.
func (p *pathListener) keep(stop <-chan struct{}) {
	tick := time.NewTicker(lookAfterPath)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			p.look()
		}
	}
}

func (p *pathListener) look() {
	if _, err := os.Lstat(p.conf.Path); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	ln, ours, err := listenUnix(p.conf)
	if err != nil {
		if !p.told {
			p.told = true
			p.log.Error().Str("socket", p.conf.Path).Err(err).Msg("the socket's file was removed and cannot be made anew yet: NGINX does not find the engine")
		}
		return
	}
	p.told = false
	_ = p.ln.Close() // Accept goes on with the new one
	p.ln, p.ours = ln, ours
	p.log.Warn().Str("socket", p.conf.Path).Msg("the socket's file was removed by somebody, and has been made anew")
}
