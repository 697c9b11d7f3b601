package nginx

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// backend answers each request with its name, by HTTP/1.1 and HTTP/2 on one port. With TLS its certificate is for example.com, and is written
// to peers-ca.pem in the example's folder.
func backend(t *testing.T, dir, name string, tls bool) (addr string) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "from "+name) }))
	t.Cleanup(s.Close)
	s.Config.Protocols = &http.Protocols{}
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	if !tls {
		s.Start()
		return s.Listener.Addr().String()
	}
	s.StartTLS()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(dir, "peers-ca.pem"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return s.Listener.Addr().String()
}

// http2Client speaks HTTP/2 without TLS.
func http2Client() *http.Client {
	p := &http.Protocols{}
	p.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: p}}
}
