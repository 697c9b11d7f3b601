package mysql

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// Config is what the driver needs to know of a URL like mysql://user:password@host:3306/name. socket=/path is a Unix socket, host=/path too
// or the folder of one; tls is true (or skip-verify, preferred), and tls_ca the file of the authority that signed the server's certificate,
// in place of those that the system trusts. Errors hold no password.
func Config(u *url.URL) (*mysql.Config, error) {
	conf := mysql.NewConfig()
	conf.User = u.User.Username()
	conf.Passwd, _ = u.User.Password()
	conf.DBName = strings.Trim(u.Path, "/")
	conf.Net, conf.Addr = "tcp", u.Host
	if u.Port() == "" {
		conf.Addr += ":3306"
	}
	query := u.Query()
	for _, key := range []string{"socket", "host"} { // host: as database.host may be
		path := query.Get(key)
		if path == "" {
			continue
		}
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			path = filepath.Join(path, "mysqld.sock")
		}
		conf.Net, conf.Addr = "unix", path
	}
	conf.Logger = quiet{}
	conf.TLSConfig = query.Get("tls")
	if file := query.Get("tls_ca"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("tls_ca: %w", err)
		}
		conf.TLS = &tls.Config{RootCAs: x509.NewCertPool()} // the driver adds the host's name
		if !conf.TLS.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("tls_ca: %s holds no certificate in PEM form", file)
		}
		if conf.TLSConfig != "" && conf.TLSConfig != "true" {
			return nil, errors.New("tls_ca has the server's certificate verified, which tls=" + conf.TLSConfig + " does without")
		}
	}
	return conf, nil
}

// Check tells what is wrong with a URL, as far as that shows without connecting anywhere. Errors hold no password.
func Check(u *url.URL) error {
	conf, err := Config(u)
	if err != nil {
		return err
	}
	_, err = mysql.NewConnector(conf)
	return err
}

// quiet drops the driver's own lines: its errors come back as errors.
type quiet struct{}

func (quiet) Print(...any) {}
