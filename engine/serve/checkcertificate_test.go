package serve

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/config"
)

func TestChecksShowACertificateToPeersThatDemandOne(t *testing.T) {
	names := make(chan int, 10)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { names <- len(r.TLS.PeerCertificates) }))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	defer s.Close()
	own := s.TLS.Certificates[0] // any will do
	key, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	conf := config.DefaultCheck()
	conf.Protocol = config.CheckHTTPS
	c := &check{addr: s.Listener.Addr().String(), conf: conf}
	if pass, detail, err := c.probe(t.Context(), c.transport()); pass || err != nil || !strings.Contains(detail, "certificate required") {
		t.Errorf("without: pass %v, %q, %v", pass, detail, err)
	}

	dir := t.TempDir()
	c.conf.Certificate, c.conf.CertificateKey = filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	via := c.transport()
	// The peer cannot help it, and NGINX has its own.
	if pass, detail, err := c.probe(t.Context(), via); pass || detail != "" || err == nil || !strings.Contains(err.Error(), "crt: no such file") {
		t.Errorf("the file is not there: pass %v, %q, %v", pass, detail, err)
	}
	for path, block := range map[string]*pem.Block{
		c.conf.Certificate:    {Type: "CERTIFICATE", Bytes: own.Certificate[0]},
		c.conf.CertificateKey: {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if pass, detail, err := c.probe(t.Context(), via); !pass || err != nil {
		t.Errorf("with it: %q, %v", detail, err)
	} else if n := <-names; n != 1 {
		t.Errorf("%d certificates were shown", n)
	}
}
