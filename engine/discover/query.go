package discover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// udpSize is what an answer over UDP may have without being fragmented on any usual network (dnsflagday.net, 2020).
const udpSize = 1232

// resolvConf names the servers when the configuration does not.
const resolvConf = "/etc/resolv.conf"

// errNone is a definite answer: there are no such records. Every other error leaves open whether there are.
type errNone struct{ why string }

func (e *errNone) Error() string { return e.why }

// question is one name and type of record.
type question struct {
	name  string // fully qualified
	qtype uint16
}

func (q question) String() string {
	return strings.TrimSuffix(q.name, ".") + " " + dns.TypeToString[q.qtype]
}

// records is a good answer: at least one record of the type that was asked for.
type records struct {
	rrs  []dns.RR
	glue []dns.RR // of the additional section
	ttl  time.Duration
}

// resolver asks DNS servers. Not safe for concurrent use.
type resolver struct {
	servers []string // empty: those of resolvConf, read anew for each look
	conf    string
	timeout time.Duration
	sent    int // queries since it was set to 0
	good    string
	// exchange sends one message and waits for the answer, "udp" or "tcp".
	exchange func(ctx context.Context, m *dns.Msg, network, server string) (*dns.Msg, error)
}

func newResolver(servers []string, timeout time.Duration) *resolver {
	return &resolver{servers: servers, conf: resolvConf, timeout: timeout, exchange: func(ctx context.Context, m *dns.Msg, network, server string) (*dns.Msg, error) {
		c := dns.Client{Net: network, Timeout: timeout, UDPSize: udpSize}
		conn, err := c.DialContext(ctx, server)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		// The library looks at the context's deadline only; an engine that stops must not wait for a server that is silent.
		defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
		in, _, err := c.ExchangeWithConnContext(ctx, m, conn)
		return in, err
	}}
}

// list gives the servers in the order in which they are asked: the one that answered last comes first, so that a dead one costs its
// time-out once and not in each look.
func (r *resolver) list() ([]string, error) {
	servers := r.servers
	if len(servers) == 0 {
		c, err := dns.ClientConfigFromFile(r.conf)
		if err != nil {
			return nil, fmt.Errorf("reading the resolvers: %w", err)
		}
		for _, s := range c.Servers {
			servers = append(servers, net.JoinHostPort(s, c.Port))
		}
		if len(servers) == 0 {
			return nil, fmt.Errorf("%s names no resolver", r.conf)
		}
	}
	out := make([]string, 0, len(servers))
	for _, s := range servers {
		if s == r.good {
			out = append([]string{s}, out...)
		} else {
			out = append(out, s)
		}
	}
	return out, nil
}

// ask puts a question to the servers in turn until one gives a definite answer.
func (r *resolver) ask(ctx context.Context, q question) (records, error) {
	servers, err := r.list()
	if err != nil {
		return records{}, err
	}
	var failed []error
	for _, s := range servers {
		got, err := r.askOne(ctx, q, s)
		var none *errNone
		if err == nil || errors.As(err, &none) {
			r.good = s
			return got, err
		}
		if ctx.Err() != nil {
			return records{}, ctx.Err()
		}
		failed = append(failed, fmt.Errorf("%s from %s: %w", q, s, err))
	}
	return records{}, errors.Join(failed...)
}

func (r *resolver) askOne(ctx context.Context, q question, server string) (records, error) {
	m := new(dns.Msg).SetQuestion(q.name, q.qtype)
	m.SetEdns0(udpSize, false)
	in, err := r.send(ctx, m, "udp", server)
	if in != nil && err == nil && (in.Rcode == dns.RcodeFormatError || in.Rcode == dns.RcodeNotImplemented) {
		m.Extra = nil // a server from before EDNS
		in, err = r.send(ctx, m, "udp", server)
	}
	var netErr net.Error
	if in != nil && in.Truncated || err != nil && !errors.As(err, &netErr) {
		// A part of an answer is no answer: peers that are missing from it would be taken for gone. What cannot be read at all
		// may have been cut without saying so.
		if in, err = r.send(ctx, m, "tcp", server); err == nil && in.Truncated {
			err = errors.New("the answer is cut off even over TCP")
		}
	}
	if err != nil {
		if errors.As(err, &netErr) && netErr.Timeout() {
			return records{}, fmt.Errorf("no answer within %d ms", r.timeout.Milliseconds())
		}
		return records{}, err
	}
	return read(in, q)
}

func (r *resolver) send(ctx context.Context, m *dns.Msg, network, server string) (*dns.Msg, error) {
	r.sent++
	m.Id = dns.Id()
	return r.exchange(ctx, m, network, server)
}

// read takes the records out of an answer, those that the name and its aliases lead to.
func read(in *dns.Msg, q question) (records, error) {
	if len(in.Question) != 1 || !strings.EqualFold(in.Question[0].Name, q.name) || in.Question[0].Qtype != q.qtype {
		return records{}, errors.New("the answer is to another question")
	}
	switch in.Rcode {
	case dns.RcodeSuccess:
	case dns.RcodeNameError:
		return records{}, &errNone{fmt.Sprintf("%s: there is no such name (NXDOMAIN)", q)}
	default:
		return records{}, fmt.Errorf("the server says %s", dns.RcodeToString[in.Rcode])
	}
	names := map[string]bool{dns.CanonicalName(q.name): true}
	got := records{glue: in.Extra}
	ttl := uint32(1<<31 - 1)
	for range 16 { // as many aliases as are followed, in whatever order they stand
		found := len(names)
		for _, rr := range in.Answer {
			if c, ok := rr.(*dns.CNAME); ok && names[dns.CanonicalName(c.Hdr.Name)] {
				names[dns.CanonicalName(c.Target)] = true
				ttl = min(ttl, c.Hdr.Ttl)
			}
		}
		if len(names) == found {
			break
		}
	}
	for _, rr := range in.Answer {
		if h := rr.Header(); h.Rrtype == q.qtype && h.Class == dns.ClassINET && names[dns.CanonicalName(h.Name)] {
			got.rrs = append(got.rrs, rr)
			ttl = min(ttl, h.Ttl)
		}
	}
	if len(got.rrs) > 0 {
		if ttl > 1<<31-1 {
			ttl = 0 // RFC 2181, section 8
		}
		got.ttl = time.Duration(ttl) * time.Second
		return got, nil
	}
	switch {
	case referral(in):
		return records{}, errors.New("the server refers to others instead of answering")
	case len(names) > 1 && !slices.ContainsFunc(in.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA }):
		// Without the zone's word for it (RFC 2308, section 2.2) this is a server that does not look aliases up.
		return records{}, errors.New("the answer has an alias and not what it stands for")
	}
	return records{}, &errNone{fmt.Sprintf("%s: the name has no such records", q)}
}

// referral tells an answer that says nothing of the name: from a server that neither knows the zone nor looks for it.
func referral(in *dns.Msg) bool {
	ns := false
	for _, rr := range in.Ns {
		switch rr.(type) {
		case *dns.SOA:
			return false
		case *dns.NS:
			ns = true
		}
	}
	return ns && !in.Authoritative && len(in.Answer) == 0
}
