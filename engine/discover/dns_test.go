package discover

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/test/dnsserver"
)

// source is app.internal:80 on a server, with a clock of the test's own.
func source(s *dnsserver.Server, change func(*config.DNS)) (*DNS, *time.Time) {
	c := config.DefaultDNS()
	c.Name, c.Port, c.Resolvers, c.TimeoutMS = "app.internal", 80, config.Addresses{s.Addr}, 5000
	if change != nil {
		change(&c)
	}
	if c.Type == config.RecordSRV {
		c.Port = 0
	}
	d := NewDNS(c)
	now := time.Now()
	d.now = func() time.Time { return now }
	return d, &now
}

func impatient(c *config.DNS) { c.TimeoutMS = 100 }

func said(u Update) string {
	if !u.Known {
		return "unknown"
	}
	var all []string
	for _, p := range u.Peers {
		text := p.Address
		if p.Weight != 1 {
			text += fmt.Sprintf(" weight=%g", p.Weight)
		}
		if p.Tier != 0 {
			text += fmt.Sprintf(" tier=%d", p.Tier)
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

func want(t *testing.T, u Update, peers, fault string) {
	t.Helper()
	if got := said(u); got != peers {
		t.Errorf("it says %q, not %q; error %v", got, peers, u.Err)
	}
	switch {
	case (fault == "") != (u.Err == nil):
		t.Errorf("the error is %v, want %q", u.Err, fault)
	case fault != "" && !strings.Contains(u.Err.Error(), fault):
		t.Errorf("the error is %v, want %q", u.Err, fault)
	}
}

func TestAddressesOfBothFamiliesArePeers(t *testing.T) {
	s := dnsserver.Start(t)
	s.Set(t, "app.internal", "app.internal. 30 IN A 10.0.0.2", "app.internal. 20 IN A 10.0.0.1", "app.internal. 40 IN AAAA ::1", "app.internal. 40 IN AAAA ::ffff:10.0.0.1")
	for kind, peers := range map[config.RecordType]string{
		config.RecordBoth: "10.0.0.1:80, 10.0.0.2:80, [::1]:80",
		config.RecordA:    "10.0.0.1:80, 10.0.0.2:80",
		config.RecordAAAA: "10.0.0.1:80, [::1]:80",
	} {
		d, _ := source(s, func(c *config.DNS) { c.Type = kind })
		u, ttl := d.look(t.Context())
		want(t, u, peers, "")
		if kind == config.RecordBoth && ttl != 20*time.Second {
			t.Errorf("the TTL is %v", ttl)
		}
	}
}

func TestAnAliasIsFollowedAndItsTTLCounts(t *testing.T) {
	s := dnsserver.Start(t)
	s.Set(t, "app.internal", "app.internal. 5 IN CNAME b.internal.")
	s.Set(t, "b.internal", "b.internal. 50 IN A 10.0.0.1")
	d, _ := source(s, func(c *config.DNS) { c.Type = config.RecordA })
	u, ttl := d.look(t.Context())
	if want(t, u, "10.0.0.1:80", ""); ttl != 5*time.Second {
		t.Errorf("the TTL is %v", ttl)
	}
}

func TestAnAliasWithoutItsTargetIsNoAnswer(t *testing.T) {
	s := dnsserver.Start(t)
	s.Set(t, "app.internal", "app.internal. 5 IN CNAME b.elsewhere.")
	d, now := source(s, nil)
	d.look(t.Context())
	*now = now.Add(time.Hour)
	u, _ := d.look(t.Context())
	want(t, u, "unknown", "has an alias and not what it stands for")
}

func TestALookEndsWhenTooManyTargetsFail(t *testing.T) {
	s := dnsserver.Start(t)
	var lines []string
	for i := range 100 {
		lines = append(lines, fmt.Sprintf("app.internal. 30 IN SRV 0 1 80 far%d.internal.", i))
		s.Set(t, fmt.Sprintf("far%d.internal", i), fmt.Sprintf("far%d.internal. 30 IN A 10.0.0.%d", i, i+1))
	}
	s.Set(t, "app.internal", lines...)
	d, _ := source(s, func(c *config.DNS) { c.Type = config.RecordSRV })
	u, _ := d.look(t.Context())
	if u.Queries < 200 {
		t.Errorf("%d queries", u.Queries)
	}
	before := said(u)
	s.Fail(dns.TypeA, dnsserver.ServFail)
	u, _ = d.look(t.Context())
	want(t, u, before, "SERVFAIL")
	if u.Queries > 20 {
		t.Errorf("%d queries of a server that fails", u.Queries)
	}
}

func TestAFailingServerKeepsTheLastAnswer(t *testing.T) {
	for how, says := range map[dnsserver.Fault]string{
		dnsserver.ServFail: "SERVFAIL", dnsserver.Refused: "REFUSED", dnsserver.Silent: "no answer within 100 ms",
		dnsserver.CutEverywhere: "cut off", dnsserver.Referral: "refers to others", dnsserver.OtherAnswer: "another question",
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			s := dnsserver.Start(t)
			s.Set(t, "app.internal", "app.internal. 30 IN A 10.0.0.1", "app.internal. 30 IN AAAA fd00::1")
			d, now := source(s, nil)
			u, _ := d.look(t.Context())
			want(t, u, "10.0.0.1:80, [fd00::1]:80", "")
			s.Fail(0, how)
			d.ask = newResolver([]string{s.Addr}, 100*time.Millisecond)
			*now = now.Add(48 * time.Hour)
			u, _ = d.look(t.Context())
			want(t, u, "10.0.0.1:80, [fd00::1]:80", says)

			fresh, _ := source(s, impatient)
			u, _ = fresh.look(t.Context())
			want(t, u, "unknown", says)
		})
	}
}

func TestOneFamilyThatFailsKeepsItsOwnAddressesOnly(t *testing.T) {
	s := dnsserver.Start(t)
	s.Set(t, "app.internal", "app.internal. 30 IN A 10.0.0.1", "app.internal. 30 IN AAAA fd00::1")
	d, _ := source(s, nil)
	d.look(t.Context())
	s.Fail(dns.TypeAAAA, dnsserver.ServFail)
	s.Set(t, "app.internal", "app.internal. 30 IN A 10.0.0.2")
	u, _ := d.look(t.Context())
	want(t, u, "10.0.0.2:80, [fd00::1]:80", "SERVFAIL")
	s.Fail(dns.TypeAAAA, dnsserver.None)
	u, _ = d.look(t.Context())
	want(t, u, "10.0.0.2:80", "")
	s.Fail(dns.TypeAAAA, dnsserver.ServFail) // what was believed to be gone does not come back
	u, _ = d.look(t.Context())
	want(t, u, "10.0.0.2:80", "SERVFAIL")
}

func TestAnEmptyAnswerIsBelievedAfterAWhile(t *testing.T) {
	for _, how := range []dnsserver.Fault{dnsserver.NXDomain, dnsserver.Empty} {
		s := dnsserver.Start(t)
		s.Set(t, "app.internal", "app.internal. 30 IN A 10.0.0.1")
		d, now := source(s, nil)
		d.look(t.Context())
		s.Fail(0, how)
		u, _ := d.look(t.Context())
		want(t, u, "unknown", "stay for 5m0s more")
		*now = now.Add(4 * time.Minute)
		s.Fail(0, dnsserver.None)
		u, _ = d.look(t.Context())
		want(t, u, "10.0.0.1:80", "")
		s.Fail(0, how)
		u, _ = d.look(t.Context())
		want(t, u, "unknown", "stay for 5m0s more")
		*now = now.Add(5*time.Minute + time.Second)
		u, _ = d.look(t.Context())
		want(t, u, "", "app.internal A")
		s.Fail(0, dnsserver.ServFail) // the peers that are gone stay gone
		u, _ = d.look(t.Context())
		want(t, u, "unknown", "SERVFAIL")
	}
}

func TestACutAnswerIsAskedForAgainOverTCP(t *testing.T) {
	s := dnsserver.Start(t)
	var lines []string
	for i := range 200 {
		lines = append(lines, fmt.Sprintf("app.internal. 30 IN A 10.0.%d.%d", i/100, 1+i%100))
	}
	s.Set(t, "app.internal", lines...)
	d, _ := source(s, func(c *config.DNS) { c.Type = config.RecordA })
	u, _ := d.look(t.Context())
	if len(u.Peers) != 200 || u.Err != nil || u.Queries != 2 {
		t.Errorf("%d peers, %d queries, %v", len(u.Peers), u.Queries, u.Err)
	}
	if udp, tcp := s.Queries(); udp != 1 || tcp != 1 {
		t.Errorf("%d queries over UDP, %d over TCP", udp, tcp)
	}
}

func TestAServerFromBeforeEDNSIsUnderstood(t *testing.T) {
	s := dnsserver.Start(t)
	s.Set(t, "app.internal", "app.internal. 30 IN A 10.0.0.1")
	s.Fail(0, dnsserver.OldServer)
	d, _ := source(s, nil)
	u, _ := d.look(t.Context())
	want(t, u, "10.0.0.1:80", "")
}

func TestTheNextServerIsAskedWhenOneFailsAndTheGoodOneFirstAfterwards(t *testing.T) {
	bad, good := dnsserver.Start(t), dnsserver.Start(t)
	bad.Fail(0, dnsserver.ServFail)
	good.Set(t, "app.internal", "app.internal. 30 IN A 10.0.0.1")
	d, _ := source(bad, func(c *config.DNS) { c.Resolvers, c.Type = config.Addresses{bad.Addr, good.Addr}, config.RecordA })
	for range 5 {
		u, _ := d.look(t.Context())
		want(t, u, "10.0.0.1:80", "")
	}
	if n, _ := bad.Queries(); n != 1 {
		t.Errorf("the bad server was asked %d times", n)
	}
}

func TestTheServersOfResolvConfAreAskedWhenNoneAreConfigured(t *testing.T) {
	s := dnsserver.Start(t)
	s.Set(t, "app.internal", "app.internal. 30 IN A 10.0.0.1")
	d, _ := source(s, func(c *config.DNS) { c.Resolvers, c.Type = nil, config.RecordA })
	d.ask.conf = filepath.Join(t.TempDir(), "resolv.conf")
	u, _ := d.look(t.Context())
	want(t, u, "unknown", "resolv.conf: no such file")
	if err := os.WriteFile(d.ask.conf, []byte("search x\n# none\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	u, _ = d.look(t.Context())
	want(t, u, "unknown", "names no resolver")
	if err := os.WriteFile(d.ask.conf, []byte("search x\nnameserver 127.0.0.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.ask.exchange = func(ctx context.Context, m *dns.Msg, network, server string) (*dns.Msg, error) {
		if server != "127.0.0.1:53" {
			t.Errorf("%s is asked", server)
		}
		return newResolver(nil, time.Second).exchange(ctx, m, network, s.Addr)
	}
	u, _ = d.look(t.Context())
	want(t, u, "10.0.0.1:80", "")
}

func TestServiceRecordsHaveTheirOwnPortsWeightsAndPriorities(t *testing.T) {
	s := dnsserver.Start(t)
	s.Set(t, "app.internal", "app.internal. 30 IN SRV 0 20 8001 a.internal.", "app.internal. 30 IN SRV 0 60 8002 far.internal.",
		"app.internal. 30 IN SRV 0 0 8004 a.internal.", "app.internal. 30 IN SRV 9 7 8003 b.internal.")
	s.Set(t, "a.internal", "a.internal. 3 IN A 10.0.0.1", "a.internal. 30 IN AAAA ::1")
	s.Set(t, "b.internal", "b.internal. 30 IN A 10.0.0.2")
	s.Set(t, "far.internal", "far.internal. 30 IN A 10.0.0.3")
	d, _ := source(s, func(c *config.DNS) { c.Type = config.RecordSRV })
	u, ttl := d.look(t.Context())
	all := "10.0.0.1:8001 weight=0.5, 10.0.0.1:8004 weight=0.01, 10.0.0.2:8003 tier=1, 10.0.0.3:8002 weight=1.5, [::1]:8001 weight=0.5, [::1]:8004 weight=0.01"
	if want(t, u, all, ""); ttl != 3*time.Second {
		t.Errorf("the TTL is %v", ttl)
	}
	s.Fail(dns.TypeA, dnsserver.ServFail) // of far.internal only: the others come with the answer
	u, _ = d.look(t.Context())
	want(t, u, all, "far.internal A")
	s.Fail(0, dnsserver.ServFail)
	u, _ = d.look(t.Context())
	want(t, u, all, "SERVFAIL")

	s.Fail(0, dnsserver.None)
	s.Fail(dns.TypeA, dnsserver.None)
	s.Set(t, "app.internal", "app.internal. 30 IN SRV 0 0 0 .")
	u, _ = d.look(t.Context())
	want(t, u, "unknown", "decidedly not available")
}

// A pod's name may be gone for a moment while the records still name it: by that a pool must lose nobody. Nor may it by a server that gives no addresses
// with its answer for once.
func TestATargetWithoutAddressesKeepsItsLastOnesForAWhile(t *testing.T) {
	s := dnsserver.Start(t)
	s.Set(t, "app.internal", "app.internal. 30 IN SRV 0 1 80 a.internal.", "app.internal. 30 IN SRV 0 1 80 far.internal.", "app.internal. 30 IN SRV 0 1 80 none.internal.")
	s.Set(t, "a.internal", "a.internal. 30 IN A 10.0.0.1")
	s.Set(t, "far.internal", "far.internal. 30 IN A 10.0.0.2", "far.internal. 30 IN AAAA ::2")
	d, now := source(s, func(c *config.DNS) { c.Type = config.RecordSRV })
	look := func(peers, fault string) {
		t.Helper()
		u, _ := d.look(t.Context())
		want(t, u, peers, fault)
		if fault != "" && u.Known && len(u.Peers) > 0 && !u.Partly {
			t.Errorf("a fault of a part is told as one of all: %v", u.Err)
		}
	}
	const all = "10.0.0.1:80, 10.0.0.2:80, [::2]:80"
	look(all, "none.internal, which SRV records name, has no addresses")
	s.Set(t, "app.internal", "app.internal. 30 IN SRV 0 1 80 a.internal.", "app.internal. 30 IN SRV 0 1 80 far.internal.")
	look(all, "")
	s.Set(t, "far.internal")
	look(all, "far.internal, which SRV records name, has no addresses; those known before stay for 5m0s more")
	*now = now.Add(4 * time.Minute)
	look(all, "stay for 1m0s more")
	s.Set(t, "far.internal", "far.internal. 30 IN AAAA ::3") // one family is enough of an answer
	look("10.0.0.1:80, [::3]:80", "")
	s.Set(t, "far.internal")
	look("10.0.0.1:80, [::3]:80", "stay for 5m0s more")
	s.Set(t, "a.internal") // now nobody has
	look("unknown", "the peers known before stay for 5m0s more")
	s.Set(t, "a.internal", "a.internal. 30 IN A 10.0.0.1")
	*now = now.Add(5*time.Minute + time.Second)
	look("10.0.0.1:80", "far.internal, which SRV records name, has no addresses")
	s.Set(t, "app.internal", "app.internal. 30 IN SRV 0 1 80 a.internal.")
	look("10.0.0.1:80", "")
}

func TestAddressesThatCannotBePeersAreLeftOut(t *testing.T) {
	s := dnsserver.Start(t)
	s.Set(t, "app.internal", "app.internal. 30 IN A 0.0.0.0", "app.internal. 30 IN A 224.0.0.1", "app.internal. 30 IN A 10.0.0.1")
	d, _ := source(s, nil)
	u, _ := d.look(t.Context())
	want(t, u, "10.0.0.1:80", "0.0.0.0, which cannot be a peer")
}

// Case 23 under a clock of its own: with TTL 0, with TTLs of 0 and 30 in turn, and after idle minutes.
func TestLooksAreBoundedInNumberAndAChangeAfterIdleMinutesIsSeen(t *testing.T) {
	for name, c := range map[string]struct {
		ttls       []uint32
		min, max   int           // looks in ten minutes
		seenWithin time.Duration // a change
	}{
		"TTL 0":                {[]uint32{0}, 500, 600, 1200 * time.Millisecond},
		"TTL 0 and 30 in turn": {[]uint32{0, 30}, 34, 40, 34 * time.Second},
		"TTL of a day":         {[]uint32{86400}, 9, 10, 67 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conf := config.DefaultDNS()
				conf.Name, conf.Port, conf.Type, conf.Resolvers = "app.internal", 80, config.RecordA, config.Addresses{"192.0.2.1:53"}
				d := NewDNS(conf)
				var mu sync.Mutex // guards what follows
				addr, looks, last := "10.0.0.1", 0, ""
				// No sockets: a goroutine that waits for one keeps the clock of synctest from moving.
				d.ask.exchange = func(_ context.Context, m *dns.Msg, _, _ string) (*dns.Msg, error) {
					mu.Lock()
					defer mu.Unlock()
					rr, err := dns.NewRR(fmt.Sprintf("app.internal. %d IN A %s", c.ttls[looks%len(c.ttls)], addr))
					looks++
					out := new(dns.Msg).SetReply(m)
					out.Answer = []dns.RR{rr}
					return out, err
				}
				ctx, stop := context.WithCancel(t.Context())
				go d.Run(ctx, func(u Update) {
					mu.Lock()
					defer mu.Unlock()
					last = said(u)
				})
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				mu.Lock()
				if looks < c.min || looks > c.max+1 {
					t.Errorf("%d looks in ten minutes, want %d to %d", looks, c.min, c.max)
				}
				addr = "10.0.0.2"
				mu.Unlock()
				time.Sleep(c.seenWithin)
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				if last != "10.0.0.2:80" {
					t.Errorf("after %v it still says %s", c.seenWithin, last)
				}
				stop()
			})
		})
	}
}

func TestLooksThatFailGrowApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conf := config.DefaultDNS()
		conf.Name, conf.Port, conf.Type, conf.Resolvers = "app.internal", 80, config.RecordA, config.Addresses{"192.0.2.1:53"}
		d := NewDNS(conf)
		looks := 0
		d.ask.exchange = func(context.Context, *dns.Msg, string, string) (*dns.Msg, error) {
			looks++
			return nil, os.ErrDeadlineExceeded
		}
		go d.Run(t.Context(), func(Update) {})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if looks < 20 || looks > 26 {
			t.Errorf("%d looks in ten minutes", looks)
		}
	})
}

func TestASilentServerDoesNotHoldUpAnEngineThatStops(t *testing.T) {
	s := dnsserver.Start(t)
	s.Fail(0, dnsserver.Silent)
	d, _ := source(s, func(c *config.DNS) { c.TimeoutMS = 60_000 })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.Run(ctx, func(Update) {})
	}()
	for n := 0; n == 0; n, _ = s.Queries() {
		time.Sleep(time.Millisecond)
	}
	stop()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("it still waits")
	}
}
