package nginx

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/config/check"
)

// Each folder of examples/ is one example: nginx.conf and weir.yaml, and whatever else they read. It is started as it is, but for
// the places of files and ports: each address 10.x.x.x:PORT becomes a backend of this test, /etc/weir, /run/weir and /var/lib/weir a folder of it.
//
// An example passes when `weir check` finds nothing, nginx -t takes it, and with its engine running it answers GET / with 200 from a backend.

var weirBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "weir-examples-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir+"/weir", "../engine/cmd/weir").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return dir + "/weir", err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if weir, _ := weirBinary(); weir != "" {
		_ = os.RemoveAll(filepath.Dir(weir))
	}
	os.Exit(code)
}

// run starts a program that ends with the test, by SIGTERM, and shows its log when the test failed.
func run(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, filepath.Base(name)+".out"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s:\n%s", name, text)
		}
	})
}

// lastPort is the one that freePort gave last. They lie between those of the end-to-end tests and those of outgoing connections, one of which
// could otherwise take a port before NGINX does.
var lastPort = 31001 + rand.IntN(1700)

func freePort(t *testing.T) string {
	t.Helper()
	for range 1700 {
		if lastPort++; lastPort > 32700 {
			lastPort = 31001
		}
		addr := fmt.Sprintf("127.0.0.1:%d", lastPort)
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

func TestEachExampleStartsAndAnswers(t *testing.T) {
	folders, err := filepath.Glob("examples/*/nginx.conf")
	if err != nil || len(folders) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	weir, err := weirBinary()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range folders {
		folder := filepath.Dir(file)
		t.Run(filepath.Base(folder), func(t *testing.T) { example(t, weir, folder) })
	}
}

func example(t *testing.T, weir, folder string) {
	dir, err := os.MkdirTemp("", "weir-example-") // not t.TempDir: a socket's path has room for 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	conf := read(t, filepath.Join(folder, "nginx.conf"))
	client := http.DefaultClient
	if strings.Contains(conf, "listen 80 http2;") {
		client = http2Client()
		t.Cleanup(client.CloseIdleConnections)
	}
	backends := map[string]string{}
	local := func(text string) string {
		text = regexp.MustCompile(`\b10\.\d+\.\d+\.\d+:\d+`).ReplaceAllStringFunc(text, func(addr string) string {
			if backends[addr] == "" {
				backends[addr] = backend(t, dir, addr, strings.Contains(conf, "proxy_pass https://"))
			}
			return backends[addr]
		})
		return strings.NewReplacer("/etc/weir/", dir+"/", "/run/weir/", dir+"/", "/var/lib/weir/", dir+"/").Replace(text)
	}
	web := freePort(t)
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text := local(read(t, filepath.Join(folder, e.Name())))
		if e.Name() == "nginx.conf" {
			text = strings.Replace(here(t, text, dir), "127.0.0.1:18080", web, 1)
			if os.Geteuid() == 0 {
				text = "user root;\n" + text
			}
		}
		if err := os.WriteFile(filepath.Join(dir, e.Name()), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// As it stands there: the workers are the user's that nginx.conf says, here they are root's.
	user := regexp.MustCompile(`(?m)^user ([^;]+);`).FindStringSubmatch(conf)
	if c, _, err := config.Load(dir+"/weir.yaml", func(string) (string, bool) { return "", false }); err != nil || len(user) != 2 || c.Socket.Group != user[1] {
		t.Errorf("socket.group is not the group of NGINX's workers, %q: they could not connect to the engine (%v)", user, err)
	}
	if r := check.Check(dir+"/weir.yaml", dir+"/nginx.conf", func(string) (string, bool) { return "", false }); len(r.Errors)+len(r.Warnings) > 0 {
		t.Errorf("weir check: %+v", r)
	}
	admin := freePort(t)
	env := []string{"WEIR_SOCKET=" + dir + "/engine.sock", "WEIR_ADMIN_LISTEN=" + admin, "WEIR_HISTORY_URL=off"}
	run(t, dir, env, weir, "serve", "--config", dir+"/weir.yaml")
	run(t, dir, env, binary, "-p", dir, "-e", dir+"/error.log", "-c", dir+"/nginx.conf", "-g", "daemon off;")
	eventually(t, dir, "the engine is watched by NGINX", func() error {
		body, err := get(http.DefaultClient, "http://"+admin+"/api/health")
		if err == nil && !regexp.MustCompile(`"watch_clients":[1-9]`).MatchString(body) {
			err = fmt.Errorf("%s", body)
		}
		return err
	})
	eventually(t, dir, "NGINX answers from a backend", func() error {
		body, err := get(client, "http://"+web+"/")
		if err == nil && backends[strings.TrimPrefix(body, "from ")] == "" {
			err = fmt.Errorf("the answer is %q", body)
		}
		return err
	})
}

func get(client *http.Client, url string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, body)
	}
	return string(body), err
}

func eventually(t *testing.T, dir, what string, holds func() error) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(dir + "/error.log")
			t.Fatalf("%s: %v\n%s", what, err, log)
		}
	}
}
