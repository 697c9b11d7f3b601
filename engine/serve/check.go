package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/pool"
)

// check is the active check of one peer: one goroutine, which the pool starts and stops. Its results count only while it is
// the pool's check of that address, so a check that ends late cannot speak for a peer that joined again since.
type check struct {
	pool  *livePool
	addr  string
	conf  config.Check
	first chan struct{} // held during the first check; nil = nothing is
	stop  context.CancelFunc
	ended chan struct{}
}

const (
	// firstChecks is the time in which the first checks of a pool begin that NGINX has not heard of, and checksMS how long it waits for what they say.
	firstChecks = 100 * time.Millisecond
	checksMS    = 2000
	// firstAtOnce of them run at a time, over all pools: TLS handshakes of a thousand peers at one moment would take longer than a check may.
	firstAtOnce = 32

	maxBody   = 64 << 10 // bytes of an answer that have to come
	maxDetail = 300      // bytes of why an answer is none
)

// ProbeView is the last active check of a peer.
type ProbeView struct {
	Pass   bool    `json:"pass"`
	Detail string  `json:"detail"` // why it passed or failed
	AgeMS  float64 `json:"age_ms"`
	TookMS float64 `json:"took_ms"`

	at float64
}

// startChecks allows the pool's checks and starts them.
func (p *livePool) startChecks() {
	p.mu.Lock()
	defer p.unlock()
	p.started = true
	p.startChecksLocked()
	p.startCollectors()
}

func (p *livePool) startChecksLocked() {
	if !p.conf.Check.Enabled || p.retired {
		return
	}
	if p.probedAt == 0 && len(p.members) > 0 {
		p.probedAt = p.eng.now()
	}
	for i, m := range p.members {
		if p.checks[m.addr] != nil {
			continue
		}
		ctx, stop := context.WithCancel(p.eng.life)
		c := &check{pool: p, addr: m.addr, conf: p.conf.Check, stop: stop, ended: make(chan struct{})}
		p.checks[m.addr] = c
		// All peers are checked within one interval, spread out, when a change of the settings starts all checks anew. One that is down, as
		// while it waits for its first pass after it joined, is checked at once, and all are soon while NGINX waits to hear of the pool.
		within := c.interval()
		switch {
		case p.health.View(i).State == pool.Down:
			within = 0
		case p.pending:
			within, c.first = min(within, firstChecks), p.eng.firstChecks
		}
		first := time.Duration(rand.Float64() * float64(within))
		p.eng.running.Go(func() { c.run(ctx, first) })
	}
}

// stopChecks tells the checks that match to end and returns them; they are waited for without the mutex.
func (p *livePool) stopChecks(match func(*check) bool) (stopped []*check) {
	for addr, c := range p.checks {
		if match(c) {
			c.stop()
			delete(p.checks, addr)
			stopped = append(stopped, c)
		}
	}
	return stopped
}

func (c *check) wait() { <-c.ended }

func (c *check) interval() time.Duration { return time.Duration(c.conf.IntervalMS) * time.Millisecond }

func (c *check) run(ctx context.Context, first time.Duration) {
	defer close(c.ended)
	defer c.stop()
	client := c.transport()
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		first, held := c.first != nil, false
		if first {
			select {
			case <-ctx.Done():
				return
			case c.first <- struct{}{}:
				held = true
			case <-time.After(c.interval()): // those that hold all places hang: it has waited long enough
			}
		}
		began := time.Now()
		pass, detail, err := c.probe(ctx, client)
		took := time.Since(began)
		if held {
			<-c.first
		}
		c.first = nil
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			c.pool.eng.log.Repeated("checks").Str("error", err.Error()).Msg("active checks cannot be made for now: the peers stay as they are")
		default:
			c.pool.probed(c, &ProbeView{Pass: pass, Detail: detail, TookMS: float64(took) / float64(time.Millisecond)})
		}
		// A tenth of jitter keeps checks of many peers, and of many engines, from falling into step.
		next := time.Duration(float64(c.interval()) * (0.9 + 0.2*rand.Float64()))
		if first { // from here on they are spread out
			next = time.Duration(rand.Float64() * float64(c.interval()))
		}
		timer.Reset(max(next-took, 10*time.Millisecond))
	}
}

// transport connects to the peer and nowhere else, anew for each probe: a probe is to find out whether the peer accepts
// connections. Redirects are not followed; a 302 passes or fails by its number.
func (c *check) transport() *http.Transport {
	network, address := "tcp", c.addr
	if path, ok := strings.CutPrefix(c.addr, "unix:"); ok {
		network, address = "unix", path
	}
	speaks := &http.Protocols{}
	switch c.conf.Protocol {
	case config.CheckGRPC:
		speaks.SetUnencryptedHTTP2(true)
	case config.CheckGRPCS:
		speaks.SetHTTP2(true)
	default:
		speaks.SetHTTP1(true)
	}
	var shown func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
	if c.conf.Certificate != "" {
		shown = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := c.conf.ClientCertificate()
			if err != nil {
				return nil, &ownError{err}
			}
			return pair, nil
		}
	}
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
		Protocols: speaks, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
		// A check asks whether the peer answers. Whether it is who it should be, NGINX asks at each connection, where proxy_ssl_verify is on.
		// Nor is it the check's to refuse an old server that NGINX's OpenSSL talks to, or can be told to: Go leaves out what is weak.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, CipherSuites: everyCipher(), GetClientCertificate: shown},
	}
}

// ownError is one that says nothing of the peer.
type ownError struct{ error }

func (e *ownError) Unwrap() error { return e.error }

func everyCipher() (ids []uint16) {
	for _, c := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		ids = append(ids, c.ID)
	}
	return ids
}

// probe asks once. What passes is written down in the configuration: an answer in time, with its end, whose status is in check.pass. With an error the peer was not
// asked, for want of what this host should have: all peers would be down at a time for that, and NGINX may serve well from them.
func (c *check) probe(ctx context.Context, via *http.Transport) (pass bool, detail string, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(c.conf.TimeoutMS)*time.Millisecond)
	defer cancel()
	host := c.conf.Host
	switch {
	case host != "":
	case strings.HasPrefix(c.addr, "unix:"):
		host = "localhost"
	default:
		host = c.addr
	}
	scheme := "http"
	if c.conf.Protocol.TLS() {
		scheme = "https"
	}
	if c.conf.Protocol.GRPC() {
		pass, detail, err = askGRPC(ctx, via, &url.URL{Scheme: scheme, Host: host}, strings.TrimPrefix(c.conf.Path, "/"))
		if err != nil {
			return c.noAnswer(err)
		}
		return pass, detail, nil
	}
	req := (&http.Request{
		Method: string(c.conf.Method), Host: host, Close: true,
		// Opaque is sent as it is: the path was checked when the file was read, and is nobody's to rewrite.
		URL:    &url.URL{Scheme: scheme, Host: host, Opaque: c.conf.Path},
		Header: http.Header{"User-Agent": {"weir-check"}, "Accept": {"*/*"}},
		Proto:  "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	res, err := via.RoundTrip(req)
	if err != nil {
		return c.noAnswer(err)
	}
	_, body := io.CopyN(io.Discard, res.Body, maxBody)
	_ = res.Body.Close()
	status := fmt.Sprintf("status %d", res.StatusCode)
	switch {
	case !c.conf.Pass.Contains(res.StatusCode):
		return false, fmt.Sprintf("%s is not in %s", status, c.conf.Pass), nil
	case body == nil, errors.Is(body, io.EOF): // the whole, or more than is looked at
		return true, status, nil
	case errors.Is(body, context.DeadlineExceeded):
		return false, fmt.Sprintf("%s, but the answer does not end within %d ms", status, c.conf.TimeoutMS), nil
	}
	_, why, own := c.noAnswer(body)
	return false, status + ", but the answer breaks off: " + why, own
}

// noAnswer tells what an error says of the peer, as probe does.
func (c *check) noAnswer(err error) (pass bool, detail string, own error) {
	if errors.Is(err, context.DeadlineExceeded) {
		return false, fmt.Sprintf("no answer within %d ms", c.conf.TimeoutMS), nil
	}
	if e := (*ownError)(nil); errors.As(err, &e) {
		return false, "", e.error
	}
	for _, short := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, short) {
			return false, "", short
		}
	}
	why := err.Error()
	// The port that the probe had here is another one each time. It says nothing of the peer, and the log tells the same cause once a minute only.
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Source != nil {
		far := *op
		far.Source = nil
		why = strings.Replace(why, op.Error(), far.Error(), 1)
	}
	// This is there or not by who notices first. What follows quotes what came.
	why = strings.TrimPrefix(why, "net/http: HTTP/1.x transport connection broken: ")
	if len(why) > maxDetail {
		why = strings.ToValidUTF8(why[:maxDetail], "") + " ..."
	}
	return false, why, nil
}

// probed takes in the result of a check.
func (p *livePool) probed(c *check, v *ProbeView) {
	p.mu.Lock()
	defer p.unlock()
	if p.retired || p.checks[c.addr] != c {
		return
	}
	at := p.health.Index(c.addr)
	if at < 0 {
		return
	}
	now := p.eng.now()
	v.at = now
	m := p.members[at]
	m.probe = v
	m.tel.Check(v.Pass)
	if !v.Pass {
		what, _, _ := strings.Cut(v.Detail, `"`) // what a peer sends in place of an answer is quoted, and may be another thing each time
		p.later(func() {
			p.eng.log.Repeated("check "+p.name+" "+c.addr+" "+what).Str("pool", p.name).Str("peer", c.addr).
				Str("detail", v.Detail).Msg("active check failed")
		})
	}
	p.health.Probe(now, at, v.Pass)
	p.changed(now)
	p.showPending(now)
}
