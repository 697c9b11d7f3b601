package config

import (
	"crypto/tls"
	"fmt"
	"strconv"
)

// ClientCertificate reads the certificate that checks show, and its key. Errors name the file, never its content.
func (c *Check) ClientCertificate() (*tls.Certificate, error) {
	var parts [2][]byte
	for i, path := range [...]string{c.Certificate, c.CertificateKey} {
		data, err := readBounded(path, 1<<20)
		if err != nil {
			return nil, fmt.Errorf("reading the certificate for checks: %w", err)
		}
		parts[i] = data
	}
	pair, err := tls.X509KeyPair(parts[0], parts[1])
	if err != nil {
		return nil, fmt.Errorf("%s with the key %s is no certificate for checks: %w", c.Certificate, c.CertificateKey, err)
	}
	return &pair, nil
}

// certificates finds what checks show to their peers. It is read again at each check that is asked for it; here, so that a mistake is found before.
func (d *decoder) certificates(c *Config, dir string) error {
	var wrong []Finding
	for i := range c.Pools {
		check := &c.Pools[i].Check
		check.Certificate, check.CertificateKey = within(dir, check.Certificate), within(dir, check.CertificateKey)
		if !check.Enabled || !check.Protocol.TLS() || check.Certificate == "" && check.CertificateKey == "" {
			continue
		}
		base := "pools[" + strconv.Itoa(i) + "]"
		at := func(key string) place { return d.where(base, base+".check."+key, "defaults.check."+key) }
		if check.CertificateKey == "" {
			wrong = append(wrong, at("certificate").finding("needs check.certificate_key, the file of its key"))
		} else if check.Certificate == "" {
			wrong = append(wrong, at("certificate_key").finding("needs check.certificate, the file of the certificate that it is the key of"))
		} else if _, err := check.ClientCertificate(); err != nil {
			wrong = append(wrong, at("certificate").finding("%v", err))
		}
	}
	if len(wrong) > 0 {
		return &Error{Findings: tidy(wrong)}
	}
	return nil
}
