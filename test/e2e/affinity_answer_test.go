package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/weirlb/weir/test/e2e/rig"
)

// What the client sees of a sticky cookie beside its value.

func TestTheApplicationsOwnCookiesAreKeptBesideTheStickyOne(t *testing.T) {
	t.Parallel()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for i := range len(r.URL.Query().Get("n")) {
			w.Header().Add("Set-Cookie", fmt.Sprintf("app%d=1; Path=/app", i))
		}
	}))
	defer app.Close()
	r := stickyRig(t, "break_at: 0", "a")
	addr := app.Listener.Addr().String()
	r.Engine.WriteFile(strings.ReplaceAll(r.ConfigText(), r.Addr("a"), addr))
	r.Eventually("NGINX has the application as its peer", func() error {
		if p := r.NGINX.Status().Pools["api"]; p.Peer(addr) == nil || len(p.Peers) != 1 {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	for n := range 4 {
		a := r.Do(rig.Request{Path: "/api/x?n=" + strings.Repeat("x", n)})
		var want []string
		for i := range n {
			want = append(want, fmt.Sprintf("app%d=1; Path=/app", i))
		}
		want = append(want, "weir_api="+stickyValue(secretOld, "api", addr)+"; Path=/; HttpOnly; SameSite=Lax")
		if got := a.Header.Values("Set-Cookie"); !slices.Equal(got, want) {
			t.Errorf("with %d cookies of the application the client gets %q, want %q", n, got, want)
		}
	}
}

func TestTheStickyCookieIsSecureOnHTTPS(t *testing.T) {
	t.Parallel()
	issuer := httptest.NewUnstartedServer(nil)
	issuer.StartTLS()
	defer issuer.Close()
	pair := issuer.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/pair.pem"
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	addr := programs.FreeAddr(t)
	r := start(t, rig.Options{
		Server: fmt.Sprintf("listen %s ssl; ssl_certificate %s; ssl_certificate_key %s;", addr, file, file),
		Pools:  []rig.Pool{{Name: "api", Peers: []string{"a"}, Location: header, Settings: "affinity: {by: cookie}\n"}},
	})
	client := &http.Client{Timeout: rig.Patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // its own certificate
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://" + addr + "/api/x")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if c := resp.Header.Get("Set-Cookie"); !strings.HasSuffix(c, "; SameSite=Lax; Secure") {
		t.Errorf("by https: %q", c)
	}
	if c := r.Do(rig.Request{Path: "/api/x"}).Header.Get("Set-Cookie"); !strings.HasSuffix(c, "; SameSite=Lax") {
		t.Errorf("by http: %q", c)
	}
	if log := r.NGINX.ErrorLog(); strings.Count(log, "no secret file") > 2 { // once a worker
		t.Errorf("the missing secret file is told again and again:\n%s", log)
	}
}
