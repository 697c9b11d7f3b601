package mysql

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhereAURLPointsAndWhomItTrusts(t *testing.T) {
	dir := t.TempDir()
	signed := httptest.NewTLSServer(http.NotFoundHandler())
	defer signed.Close()
	ca, text := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "text")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(text, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]string{ // network, address, user, password, database, or a part of the error
		"mysql://u:p%2F%3F%23%25%40:x@h/db":             "tcp h:3306 u p/?#%@:x db",
		"mysql://u@[::1]:3307/db":                       "tcp [::1]:3307 u  db",
		"mysql://u@/db?socket=/s":                       "unix /s u  db",
		"mysql://u@/db?host=" + dir:                     "unix " + dir + "/mysqld.sock u  db",
		"mysql://u@h/db?tls_ca=" + ca:                   "tcp h:3306 u  db",
		"mysql://u@h/db?tls=true&tls_ca=" + ca:          "tcp h:3306 u  db",
		"mysql://u:hun@h/db?tls_ca=" + text:             "holds no certificate",
		"mysql://u:hun@h/db?tls_ca=/no/such/file":       "no such file",
		"mysql://u:hun@h/db?tls=preferred&tls_ca=" + ca: "tls=preferred does without",
	} {
		u, err := url.Parse(from)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Config(u)
		if err != nil {
			if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hun") {
				t.Errorf("%s: %v, want %q", from, err, want)
			}
			continue
		}
		if got := strings.Join([]string{c.Net, c.Addr, c.User, c.Passwd, c.DBName}, " "); got != want {
			t.Errorf("%s: %q, want %q", from, got, want)
		}
		if trusts := c.TLS != nil && c.TLS.RootCAs != nil; trusts != u.Query().Has("tls_ca") {
			t.Errorf("%s: %+v", from, c.TLS)
		}
	}
}
