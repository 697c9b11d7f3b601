package main

import (
	"context"
	_ "embed"
	"encoding/json"
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

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/model/ort"
	"github.com/weirlb/weir/engine/serve"
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
	Policy, Library    string // of weir.yaml
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
	if _, err := ort.Find(""); err != nil {
		f.Library = config.LibraryBuiltin
	}
	for name, text := range map[string]string{"nginx.conf": nginxConf, yamlOf(analytic): weirYAML, yamlOf(learned): weirYAML} {
		f.Policy = learned
		if name == yamlOf(analytic) {
			f.Policy = analytic
		}
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

// The two policies of Weir, as weir.yaml and NGINX's status name them.
const (
	analytic = string(config.Analytic)
	learned  = string(config.Learned)
)

// yamlOf names the configuration of the engine with a policy.
func yamlOf(policy string) string {
	if policy == learned {
		return "weir.yaml"
	}
	return "weir-" + policy + ".yaml"
}

// startEngine starts an engine and waits until NGINX has its tables, by the policy that is wanted.
func (d *demo) startEngine(ctx context.Context, policy string) error {
	p, err := d.start("engine "+policy, syscall.SIGTERM, nil, filepath.Join(d.opt.Bin, "weir"), "serve", "--config", filepath.Join(d.dir, yamlOf(policy)))
	if err != nil {
		return err
	}
	p.kind = engines
	return d.until(ctx, p, func() error {
		var health struct {
			Reasons []struct{ Message string }
		}
		if err := get("http://"+d.admin+"/api/health", &health); err != nil {
			return err
		}
		var status struct {
			Pools map[string]struct{ Engine, Policy string }
		}
		if err := get("http://"+d.weir+"/weir-status", &status); err != nil {
			return err
		}
		if pool := status.Pools["demo"]; pool.Engine != "connected" || pool.Policy != policy {
			return fmt.Errorf("NGINX decides by the %s policy, %s; the engine says %v", pool.Policy, pool.Engine, health.Reasons)
		}
		return nil
	})
}

// get reads JSON.
func get(url string, into any) error {
	client := http.Client{Timeout: time.Second}
	r, err := client.Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, r.Status)
	}
	return json.NewDecoder(r.Body).Decode(into)
}

// control tells what the learned policy's own control slice says.
func (d *demo) control(_ context.Context) {
	var m serve.ModelsFigures
	if err := get("http://"+d.admin+"/api/models", &m); err != nil || len(m.Control) != 1 {
		return // a figure less
	}
	printControl(d.out, &m.Control[0])
}
