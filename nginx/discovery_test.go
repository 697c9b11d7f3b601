package nginx

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/weirlb/weir/test/dnsserver"
)

// TestEachExampleStartsAndAnswers gives discovery-dns no DNS server, so it is answered by NGINX's own list. Here it gets one, and a list
// that leads nowhere.
func TestTheExampleOfDNSIsAnsweredByThePeersThatDNSNames(t *testing.T) {
	weir, err := weirBinary()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "weir-example-") // not t.TempDir: a socket's path has room for 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "named") }))
	t.Cleanup(backend.Close)
	_, port, _ := net.SplitHostPort(backend.Listener.Addr().String())
	server := dnsserver.Start(t)
	server.Set(t, "app.internal", "app.internal. 5 IN A 127.0.0.1")

	web, admin := freePort(t), freePort(t)
	conf := here(t, read(t, "examples/discovery-dns/nginx.conf"), dir)
	conf = strings.NewReplacer("127.0.0.1:18080", web, "10.0.0.1:8080", "127.0.0.1:9").Replace(conf)
	if os.Geteuid() == 0 {
		conf = "user root;\n" + conf
	}
	yaml := strings.NewReplacer("10.0.0.53:53", server.Addr, "port: 8080", "port: "+port).Replace(read(t, "examples/discovery-dns/weir.yaml"))
	for name, text := range map[string]string{"nginx.conf": conf, "weir.yaml": yaml} {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"WEIR_SOCKET=" + dir + "/engine.sock", "WEIR_ADMIN_LISTEN=" + admin, "WEIR_HISTORY_URL=off"}
	run(t, dir, env, weir, "serve", "--config", dir+"/weir.yaml")
	run(t, dir, env, binary, "-p", dir, "-e", dir+"/error.log", "-c", dir+"/nginx.conf", "-g", "daemon off;")
	eventually(t, dir, "NGINX answers from the peer that DNS names", func() error {
		body, err := get(http.DefaultClient, "http://"+web+"/")
		if err == nil && body != "named" {
			err = fmt.Errorf("the answer is %q", body)
		}
		return err
	})
}
