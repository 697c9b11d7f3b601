// Package dnsserver is a DNS server for tests: real messages over UDP and TCP on loopback, with the faults that DNS servers have.
package dnsserver

import (
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// Fault is how the server fails.
type Fault int

// The faults. Empty: NOERROR without records. Cut: UDP answers hold one record and say that they are truncated.
const (
	None Fault = iota
	ServFail
	Refused
	NXDomain
	Empty
	Silent
	Cut
	CutEverywhere // over TCP too
	Referral
	OldServer   // FORMERR for EDNS
	OtherAnswer // to another question than was asked
)

// Server is a running server. Safe for concurrent use.
type Server struct {
	Addr string // host:port, the same for UDP and TCP

	mu     sync.Mutex // guards what follows
	zone   map[string][]dns.RR
	fault  map[uint16]Fault // by type; 0 = all types
	ttls   []uint32         // taken in turn, one an answer; nil = as in the zone
	turn   int
	rotate bool
	udp    int
	tcp    int
}

// Start starts a server; the test's end stops it.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{zone: map[string][]dns.RR{}, fault: map[uint16]Fault{}}
	var packets net.PacketConn
	var stream net.Listener
	for range 20 { // the port of one may be in use for the other
		var err error
		if packets, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if stream, err = net.Listen("tcp", packets.LocalAddr().String()); err == nil {
			break
		}
		_ = packets.Close()
	}
	if stream == nil {
		t.Fatal("no port is free for both UDP and TCP")
	}
	s.Addr = packets.LocalAddr().String()
	for _, one := range []*dns.Server{{PacketConn: packets}, {Listener: stream}} {
		one.Handler = dns.HandlerFunc(s.serve)
		up := make(chan struct{})
		one.NotifyStartedFunc = func() { close(up) }
		go func() { _ = one.ActivateAndServe() }()
		<-up
		t.Cleanup(func() { _ = one.Shutdown() })
	}
	return s
}

// Set replaces the records of a name by these, as lines of a zone file: "app.internal. 30 IN A 127.0.0.1".
func (s *Server) Set(t testing.TB, name string, lines ...string) {
	t.Helper()
	var rrs []dns.RR
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		rrs = append(rrs, rr)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zone[dns.CanonicalName(name)] = rrs
}

// Fail makes answers about a type fail, those about all types with 0.
func (s *Server) Fail(qtype uint16, how Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault[qtype] = how
}

// Rotate turns the order of the records with each answer.
func (s *Server) Rotate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rotate = true
}

// TTLs are given to the answers in turn, whatever the zone says.
func (s *Server) TTLs(ttls ...uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ttls = ttls
}

// Queries counts what was asked so far over UDP and TCP.
func (s *Server) Queries() (udp, tcp int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.udp, s.tcp
}

func (s *Server) serve(w dns.ResponseWriter, q *dns.Msg) {
	s.mu.Lock()
	out, udp := s.answer(w, q)
	s.mu.Unlock()
	if out == nil {
		return
	}
	if udp {
		size := dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = int(opt.UDPSize())
		}
		out.Truncate(size)
	}
	_ = w.WriteMsg(out)
}

func (s *Server) answer(w dns.ResponseWriter, q *dns.Msg) (out *dns.Msg, udp bool) {
	_, udp = w.RemoteAddr().(*net.UDPAddr)
	if udp {
		s.udp++
	} else {
		s.tcp++
	}
	asked := q.Question[0]
	how := s.fault[asked.Qtype]
	if how == None {
		how = s.fault[0]
	}
	out = new(dns.Msg).SetReply(q)
	out.RecursionAvailable = true
	switch how {
	case Silent:
		return nil, udp
	case ServFail, Refused, NXDomain:
		out.Rcode = map[Fault]int{ServFail: dns.RcodeServerFailure, Refused: dns.RcodeRefused, NXDomain: dns.RcodeNameError}[how]
		return out, udp
	case Empty:
		return out, udp
	case Referral:
		ns, _ := dns.NewRR("internal. 60 IN NS ns.internal.")
		out.Ns = []dns.RR{ns}
		return out, udp
	case OtherAnswer:
		out.Question[0].Name = "other.internal."
		return out, udp
	case OldServer:
		if q.IsEdns0() != nil {
			out.Rcode = dns.RcodeFormatError
			return out, udp
		}
	}
	s.fill(out, asked)
	if how == CutEverywhere || how == Cut && udp {
		out.Truncated = true
		out.Answer = out.Answer[:min(1, len(out.Answer))]
	}
	return out, udp
}

// fill puts the records of a name into an answer, those of its alias too, and the addresses of SRV targets.
func (s *Server) fill(out *dns.Msg, asked dns.Question) {
	name := dns.CanonicalName(asked.Name)
	for range 8 {
		alias := ""
		for _, rr := range s.zone[name] {
			if c, ok := rr.(*dns.CNAME); ok {
				alias = dns.CanonicalName(c.Target)
				out.Answer = append(out.Answer, dns.Copy(rr))
			} else if rr.Header().Rrtype == asked.Qtype {
				out.Answer = append(out.Answer, dns.Copy(rr))
			}
			if srv, ok := rr.(*dns.SRV); ok && asked.Qtype == dns.TypeSRV && !strings.HasPrefix(srv.Target, "far") {
				for _, glue := range s.zone[dns.CanonicalName(srv.Target)] {
					out.Extra = append(out.Extra, dns.Copy(glue))
				}
			}
		}
		if name = alias; name == "" {
			break
		}
	}
	if len(out.Answer) == 0 && s.zone[dns.CanonicalName(asked.Name)] == nil {
		out.Rcode = dns.RcodeNameError
	}
	if n := len(out.Answer); s.rotate && n > 1 {
		out.Answer = slices.Concat(out.Answer[s.turn%n:], out.Answer[:s.turn%n])
	}
	if len(s.ttls) > 0 {
		for _, rr := range out.Answer {
			rr.Header().Ttl = s.ttls[s.turn%len(s.ttls)]
		}
	}
	s.turn++
}
