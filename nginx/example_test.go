// Package nginx holds the snippets for NGINX. Its tests run the examples that people copy: example.conf and the README's.
package nginx

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/config/check"
)

// binary is Debian's NGINX, which test/run.sh installs.
const binary, modules = "/usr/sbin/nginx", "/usr/lib/nginx/modules"

// here moves a configuration written for /etc/nginx, /run and /var/log into a folder, with the snippets and the Lua modules of
// this checkout. Everything else stays as people read it.
func here(t *testing.T, text, dir string) string {
	t.Helper()
	repo, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	mime := filepath.Join(dir, "mime.types")
	if err := os.WriteFile(mime, []byte("types { text/html html; }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	load := fmt.Sprintf("load_module %[1]s/ndk_http_module.so; load_module %[1]s/ngx_http_lua_module.so;", modules)
	text = strings.NewReplacer(
		"/etc/nginx/weir/", repo+"/nginx/",
		"include /etc/nginx/modules-enabled/*.conf;", load,
		"/etc/nginx/mime.types", mime,
		"/var/log/nginx/", dir+"/",
		"/run/nginx.pid", dir+"/nginx.pid",
		"user www-data;", "",
		"listen 80;", "listen 127.0.0.1:18080;",
		"listen 80 http2;", "listen 127.0.0.1:18080 http2;",
	).Replace(text)
	head, body, found := strings.Cut(text, "http {\n")
	if !found {
		t.Fatal("no http block in\n" + text)
	}
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		body = fmt.Sprintf("%s_temp_path %s/%s; ", kind, dir, kind) + body
	}
	if !strings.Contains(head, load) {
		head = load + " pid " + dir + "/nginx.pid; events {}\n" + head
	}
	return head + fmt.Sprintf("http { lua_package_path %q; ", repo+"/lua/?.lua;;") + body
}

// accepted has NGINX and `weir check` read a configuration and an engine's file.
func accepted(t *testing.T, conf, yaml string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"nginx.conf": here(t, conf, dir), "weir.yaml": yaml} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(binary, "-t", "-p", dir, "-e", dir+"/error.log", "-c", dir+"/nginx.conf").CombinedOutput(); err != nil {
		t.Errorf("nginx -t: %v\n%s", err, out)
	}
	r := check.Check(dir+"/weir.yaml", dir+"/nginx.conf", func(string) (string, bool) { return "", false })
	if len(r.Errors)+len(r.Warnings) > 0 {
		t.Errorf("weir check: %+v", r)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fenced is the first block of a kind in a Markdown text.
func fenced(t *testing.T, text, kind string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, "```"+kind+"\n")
	block, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatalf("no block of %s", kind)
	}
	return block
}

func TestTheExampleIsAcceptedByNginxAndByWeirCheck(t *testing.T) {
	accepted(t, read(t, "example.conf"), "pools: [{name: api, peers: [\"10.0.0.1:8080\", \"10.0.0.2:8080\"]}]\n")
}

func TestWhatTheReadmeSaysToWriteIsAcceptedByNginxAndByWeirCheck(t *testing.T) {
	readme := read(t, "../README.md")
	accepted(t, fenced(t, readme, "nginx"), fenced(t, readme, "yaml"))
}

func TestTheReadmesExampleAddsFiveLinesToAnNginxConfiguration(t *testing.T) {
	n := 0
	for line := range strings.Lines(fenced(t, read(t, "../README.md"), "nginx")) {
		if strings.Contains(line, "weir") || strings.Contains(line, "0.0.0.1") || strings.Contains(line, "keepalive") {
			n++
		}
	}
	if n != 5 {
		t.Errorf("%d lines", n)
	}
}
