package serve

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/weirlb/weir/engine/config"
)

func checkedBy(protocol, path string, peers ...string) string {
	text := "refresh_ms: 20\npools:\n  - name: api\n    check: {protocol: " + protocol + ", path: " + path + ", interval_ms: 100, timeout_ms: 100, rise: 1, fall: 2}\n    peers:\n"
	for _, p := range peers {
		text += "      - \"" + p + "\"\n"
	}
	return text
}

// detail waits until the check of a peer says so.
func detail(t *testing.T, e *Engine, addr, want string) {
	t.Helper()
	said := ""
	within(t, 5*time.Second, "the check of "+addr+" says "+want, func() bool {
		if f, _ := e.Peer("api", addr); f.Check != nil {
			said = f.Check.Detail
		}
		return said == want
	})
}

func TestChecksOfGRPCPeersAskTheHealthService(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, h := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(s, h)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	h.SetServingStatus("shop.Orders", grpc_health_v1.HealthCheckResponse_SERVING)
	addr, plain := l.Addr().String(), newBackend(t)

	e := live(t, checkedBy("grpc", "/shop.Orders", addr, plain.addr))
	detail(t, e, addr, "SERVING")
	within(t, 5*time.Second, "a peer that speaks no gRPC is down", func() bool { return state(t, e, plain.addr) == "down" })
	h.SetServingStatus("shop.Orders", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	detail(t, e, addr, "NOT_SERVING")
	within(t, 5*time.Second, "the peer is down", func() bool { return state(t, e, addr) == "down" })

	whole := live(t, checkedBy("grpc", "/", addr))
	detail(t, whole, addr, "SERVING")
	unknown := live(t, checkedBy("grpc", "/shop.Else", addr))
	detail(t, unknown, addr, `gRPC status "5"`)
}

func TestChecksOfHTTPSPeersSpeakTLS(t *testing.T) {
	names := make(chan string, 100)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case names <- r.TLS.ServerName:
		default:
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(s.Close)
	addr := s.Listener.Addr().String()
	e := live(t, checkedBy("https, host: app.example", "/up", addr))
	detail(t, e, addr, "status 204")
	if name := <-names; name != "app.example" {
		t.Errorf("the server was asked for %q", name)
	}
	over := live(t, checkedBy("http", "/up", addr))
	detail(t, over, addr, "status 400 is not in 200-399")
}

// Key exchange by RSA is all that some old servers and appliances have. NGINX with Debian's OpenSSL speaks to them.
func TestChecksReachServersWithOldTLS(t *testing.T) {
	for name, old := range map[string]*tls.Config{
		"RSA key exchange": {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}},
		"TLS 1.0":          {MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10},
	} {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		s.TLS = old
		s.StartTLS()
		t.Cleanup(s.Close)
		conf := config.DefaultCheck()
		conf.Protocol = config.CheckHTTPS
		c := &check{addr: s.Listener.Addr().String(), conf: conf}
		if pass, detail, _ := c.probe(t.Context(), c.transport()); !pass {
			t.Errorf("%s: %s", name, detail)
		}
	}
}

func FuzzServingStatus(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 2, 8, 1})
	f.Add([]byte{0, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 0, 3, 8, 0x80, 0x80})
	f.Fuzz(func(t *testing.T, frame []byte) {
		if n, ok := servingStatus(frame); ok && n == 1 && len(frame) < 7 {
			t.Errorf("%v serves", frame)
		}
	})
}
