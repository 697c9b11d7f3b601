package main

import (
	"context"
	_ "embed"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"
)

//go:embed nginx.conf.tmpl
var nginxConf string

//go:embed weir.yaml.tmpl
var weirYAML string

// facts is what the two configurations are made from.
type facts struct {
	Dir, Repo          string
	Modules            []string
	Root               bool
	Plain, Weir, Admin string
	Static             string // the peers, for NGINX without an engine
	Backends           []*peer
}

// prepare takes the ports and writes the configurations.
func (d *demo) prepare() error {
	d.backends = cast()
	addrs := []*string{&d.plain, &d.weir, &d.admin}
	for _, b := range d.backends {
		addrs = append(addrs, &b.Addr)
	}
	for _, a := range addrs {
		var err error
		if *a, err = d.ports.take(); err != nil {
			return err
		}
	}
	f := facts{Dir: d.dir, Repo: d.opt.Repo, Modules: luaModules(), Root: os.Geteuid() == 0, Plain: d.plain, Weir: d.weir, Admin: d.admin, Backends: d.backends}
	static := make([]string, len(d.backends))
	for i, b := range d.backends {
		static[i] = b.Addr
	}
	f.Static = strings.Join(static, ", ")
	for name, text := range map[string]string{"nginx.conf": nginxConf, "weir.yaml": weirYAML} {
		var b strings.Builder
		if err := template.Must(template.New(name).Parse(text)).Execute(&b, f); err != nil {
			return fmt.Errorf("making %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(b.String()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// luaModules are Debian's dynamic modules. An NGINX with Lua inside (OpenResty) has none there.
func luaModules() (paths []string) {
	for _, m := range []string{"ndk_http_module.so", "ngx_http_lua_module.so"} {
		path := "/usr/lib/nginx/modules/" + m
		if _, err := os.Stat(path); err == nil {
			paths = append(paths, path)
		}
	}
	return paths
}

func nginxPath() string {
	if path, err := exec.LookPath("nginx"); err == nil {
		return path
	}
	return "/usr/sbin/nginx" // not in the PATH of most users
}

func (d *demo) startNGINX(ctx context.Context) error {
	// SIGTERM at the demo's death, not SIGKILL: a master that is killed leaves its workers.
	p, err := d.start("nginx", syscall.SIGTERM, []string{"WEIR_SOCKET=" + filepath.Join(d.dir, "engine.sock")},
		nginxPath(), "-p", d.dir, "-e", "error.log", "-c", filepath.Join(d.dir, "nginx.conf"))
	if err != nil {
		return err
	}
	return d.until(ctx, p, func() error {
		c, err := net.Dial("tcp", d.weir)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
}

func (d *demo) startEngine(ctx context.Context) error {
	p, err := d.start("engine", syscall.SIGTERM, nil, filepath.Join(d.opt.Bin, "weir"), "serve", "--config", filepath.Join(d.dir, "weir.yaml"))
	if err != nil {
		return err
	}
	client := http.Client{Timeout: time.Second}
	return d.until(ctx, p, func() error {
		r, err := client.Get("http://" + d.admin + "/api/health")
		if err != nil {
			return err
		}
		_ = r.Body.Close()
		if r.StatusCode != http.StatusOK {
			return fmt.Errorf("health: %s", r.Status)
		}
		return nil
	})
}
