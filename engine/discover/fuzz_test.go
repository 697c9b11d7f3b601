package discover

import (
	"context"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirlb/weir/engine/config"
)

// Whatever a server sends: no crash, and every peer that is told is one.
func FuzzAnswer(f *testing.F) {
	for _, line := range []string{"app.internal. 30 IN A 10.0.0.1", "app.internal. 30 IN AAAA ::ffff:0.0.0.0", "app.internal. 30 IN SRV 0 0 0 .", "app.internal. 30 IN CNAME app.internal.", "app.internal. 30 IN SRV 1 65535 65535 app.internal."} {
		rr, err := dns.NewRR(line)
		if err != nil {
			f.Fatal(err)
		}
		m := new(dns.Msg).SetQuestion("app.internal.", rr.Header().Rrtype)
		m.Response, m.Answer, m.Extra = true, []dns.RR{rr, rr}, []dns.RR{rr}
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	// Records without any data, which the library takes for those of a dynamic update.
	head := "\x00\x01\x80\x00\x00\x01\x00\x01\x00\x00\x00\x00\x03app\x08internal\x00\x00"
	for _, kind := range []string{"\x01", "\x1c", "\x21"} {
		f.Add([]byte(head + kind + "\x00\x01\xc0\x0c\x00" + kind + "\x00\x01\x00\x00\x00\x1e\x00\x00"))
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		for _, kind := range []config.RecordType{config.RecordBoth, config.RecordSRV} {
			conf := config.DefaultDNS()
			conf.Name, conf.Port, conf.Type, conf.Resolvers, conf.KeepEmptyMS = "app.internal", 80, kind, config.Addresses{"192.0.2.1:53"}, 0
			d := NewDNS(conf)
			d.ask.exchange = func(_ context.Context, q *dns.Msg, _, _ string) (*dns.Msg, error) {
				m := new(dns.Msg)
				if err := m.Unpack(wire); err != nil {
					return m, err
				}
				m.Question = q.Question
				return m, nil
			}
			u, ttl := d.look(t.Context())
			if ttl < 0 || u.Err == nil && !u.Known {
				t.Fatalf("%+v, TTL %v", u, ttl)
			}
			if u.Err == nil && len(u.Peers) > 0 && ttl > 1<<31*time.Second {
				t.Fatalf("a TTL of %v", ttl)
			}
			for i, p := range u.Peers {
				if again, err := config.ParseAddress(p.Address); err != nil || again != p.Address || !(p.Weight >= 0.01 && p.Weight <= 1000) {
					t.Fatalf("%+v is a peer", p)
				}
				if i > 0 && u.Peers[i-1].Address >= p.Address {
					t.Fatalf("%v is out of order", u.Peers)
				}
			}
		}
	})
}
