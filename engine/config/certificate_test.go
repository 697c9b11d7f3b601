package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheCertificateOfChecksIsFoundBesideTheFileAndAMistakeInItRefused(t *testing.T) {
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		text := string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return text
	}
	secret := ""
	for _, name := range []string{"a", "b"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		of := x509.Certificate{SerialNumber: big.NewInt(1)}
		cert, err := x509.CreateCertificate(rand.Reader, &of, &of, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".crt", "CERTIFICATE", cert)
		secret = strings.Split(write(name+".key", "PRIVATE KEY", private), "\n")[1]
	}
	for check, want := range map[string]string{
		"certificate: a.crt, certificate_key: a.key, protocol: https":    "",
		"certificate: a.crt, certificate_key: b.key, protocol: grpcs":    "weir.yaml:2: pools[0].check.certificate: " + dir + "/a.crt with the key " + dir + "/b.key is no certificate for checks: tls: private key does not match",
		"certificate: b.key, certificate_key: b.key, protocol: https":    "is no certificate for checks",
		"certificate: none.crt, certificate_key: a.key, protocol: https": "none.crt: no such file",
		"certificate: a.crt, protocol: https":                            "weir.yaml:2: pools[0].check.certificate: needs check.certificate_key",
		"certificate_key: a.key, protocol: https":                        "weir.yaml:2: pools[0].check.certificate_key: needs check.certificate,",
		"certificate: a.crt, certificate_key: a.key":                     "weir.yaml:2: pools[0].check.certificate: is shown to nobody: checks of protocol http have no TLS",
	} {
		path := filepath.Join(dir, "weir.yaml")
		if err := os.WriteFile(path, []byte("pools:\n- {name: api, peers: ['10.0.0.1:80'], check: {"+check+"}}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, warnings, err := Load(path, none)
		said := ""
		for _, w := range warnings {
			said += w.String()
		}
		if err != nil {
			said += err.Error()
		}
		if want == "" && said != "" || !strings.Contains(said, want) || strings.Contains(said, secret) {
			t.Errorf("%s: %s\nwant %s", check, said, want)
		}
		if want == "" && c.Pools[0].Check.Certificate != filepath.Join(dir, "a.crt") {
			t.Errorf("%+v", c.Pools[0].Check)
		}
	}
}
