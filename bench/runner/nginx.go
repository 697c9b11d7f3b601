package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// site is one NGINX, as bench/conf/*.conf.tmpl has it.
type site struct {
	Name string
	// Template is proxy or static.
	Template string
	Listen   string
	Peers    []string
	Upstream string // in the upstream block
	HTTP     string // in the http block
	Server   string // in the server block
	Location string // in the location that is measured
	Access   string // what follows access_log; empty = off
	Workers  int    // 0 = 1
	CPUMask  string // worker_cpu_affinity
	Lua      bool
	LuaFrom  string // another checkout than this
	Socket   string // of the engine
	Preload  string // LD_PRELOAD; empty = none

	b   *bench
	Dir string
}

func (s *site) Root() bool        { return os.Geteuid() == 0 }
func (s *site) Repo() string      { return orElse(s.LuaFrom, s.b.repo) }
func (s *site) AccessLog() string { return orElse(s.Access, "off") }

func orElse(s, empty string) string {
	if s == "" {
		return empty
	}
	return s
}

// Modules are the dynamic modules Lua needs; none in an NGINX that has Lua built in (OpenResty).
func (s *site) Modules() []string {
	if !s.Lua {
		return nil
	}
	const dir = "/usr/lib/nginx/modules/"
	if _, err := os.Stat(dir + "ngx_http_lua_module.so"); err != nil {
		return nil
	}
	return []string{dir + "ndk_http_module.so", dir + "ngx_http_lua_module.so"}
}

// nginx starts one, and waits until it listens.
func (b *bench) nginx(s site) (*process, error) {
	s.b, s.Dir, s.Template, s.Workers = b, filepath.Join(b.dir, s.Name), orElse(s.Template, "proxy"), max(1, s.Workers)
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(s.Dir, "nginx.conf")
	if err := b.render(s.Template+".conf", file, &s); err != nil {
		return nil, err
	}
	env := []string{"WEIR_SOCKET=" + s.Socket}
	if s.Preload != "" {
		env = append(env, "LD_PRELOAD="+s.Preload)
	}
	p, err := b.start(s.Name, env, "nginx", "-p", s.Dir, "-c", file)
	if err != nil {
		return nil, err
	}
	return p, b.awaitPort(p, orElse(s.Listen, append(s.Peers, "")[0]))
}

// render fills a template of bench/conf.
func (b *bench) render(name, into string, data any) error {
	dir := filepath.Join(b.repo, "bench", "conf")
	t, err := template.ParseFiles(filepath.Join(dir, name+".tmpl"), filepath.Join(dir, "proxy.conf.tmpl"))
	if err != nil {
		return fmt.Errorf("template %s: %w", name, err)
	}
	f, err := os.Create(into)
	if err != nil {
		return err
	}
	if err := t.ExecuteTemplate(f, name+".tmpl", data); err != nil {
		return errors.Join(fmt.Errorf("template %s: %w", name, err), f.Close())
	}
	return f.Close()
}

// servers is an upstream's list of peers.
func servers(peers []string) string {
	var b strings.Builder
	for _, p := range peers {
		b.WriteString("        server " + p + ";\n")
	}
	return b.String()
}

const placeholder = "        server 127.0.0.1:1; # never used: balancer_by_lua picks\n"

// weirUpstream is what an operator writes.
func weirUpstream(peers []string) string { return poolUpstream("api", peers) }

func poolUpstream(pool string, peers []string) string {
	return placeholder + fmt.Sprintf("        balancer_by_lua_block { require(\"resty.weir\").balance(\"%s\", \"%s\") }\n", pool, strings.Join(peers, ", "))
}

// weirHTTP is the include, and the log format when it is wanted.
func (b *bench) weirHTTP(log bool) string {
	text := fmt.Sprintf("    include %s/nginx/weir.conf;\n", b.repo)
	if log {
		text += fmt.Sprintf("    include %s/nginx/weir-log.conf;\n", b.repo)
	}
	return text
}

const statusPage = "        include %s/nginx/status.conf;\n"

func (b *bench) statusServer() string { return fmt.Sprintf(statusPage, b.repo) }
