package rig

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// NGINX is the NGINX of a rig.
type NGINX struct {
	// Addr is host:port of the server.
	Addr string

	rig    *Rig
	proc   process
	socket string // where NGINX looks for the engine
	killed []int  // workers ended by KillWorker
	daemon int    // pid of the master that its file named last, where it is a daemon; 0 = none yet
	old    int    // pid of the master that an upgrade is to replace; 0 = none
	web    *http.Client
}

func newNGINX(r *Rig) *NGINX {
	r.T.Helper()
	port, err := r.programs.freePort()
	if err != nil {
		r.T.Fatal(err)
	}
	return &NGINX{
		rig: r, Addr: fmt.Sprintf("127.0.0.1:%d", port), socket: r.Engine.socket,
		proc: process{name: "nginx", log: filepath.Join(r.dir, "nginx.out")},
		web:  &http.Client{Timeout: Patience, Transport: &http.Transport{DisableKeepAlives: true}},
	}
}

// accessFormat is the rig's own log format: what a test may want to know of a request.
const accessFormat = `log_format e2e escape=json '{"id":"$http_x_request_id","pid":$pid,"method":"$request_method","uri":"$request_uri","status":$status,'
    '"msec":$msec,"request_time":$request_time,"addr":"$upstream_addr","upstream_status":"$upstream_status",'
    '"peer":"$weir_peer","class":"$weir_class","policy":"$weir_policy","predicted_ms":"$weir_predicted_ms","attempts":"$weir_attempts"}';`

const upgrade = `proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";`

func (n *NGINX) config() string {
	var b strings.Builder
	opt, repo := n.rig.opt, n.rig.programs.Repo
	if m := n.rig.programs.Modules; m != "" {
		fmt.Fprintf(&b, "load_module %s/ndk_http_module.so;\nload_module %s/ngx_http_lua_module.so;\n", m, m)
	}
	if os.Geteuid() == 0 {
		user := opt.User
		if user == "" {
			user = "root"
		}
		fmt.Fprintf(&b, "user %s;\n", user)
	}
	fmt.Fprintf(&b, "worker_processes %d;\ndaemon %s;\nmaster_process on;\npid nginx.pid;\nerror_log error.log info;\nenv WEIR_SOCKET;\n%s\n", opt.Workers, onOff(opt.Daemon), opt.Main)
	b.WriteString("events { worker_connections 4096; }\nhttp {\n")
	lua := opt.Lua
	if lua == "" {
		lua = repo + "/lua"
	}
	snippet := opt.Snippet
	if snippet == "" {
		snippet = fmt.Sprintf("include %s/nginx/weir.conf;", repo)
	}
	fmt.Fprintf(&b, "  lua_package_path %q;\n  %s\n", lua+"/?.lua;;", snippet)
	if opt.NoLog {
		b.WriteString("  access_log off;\n")
	} else {
		fmt.Fprintf(&b, "  include %s/nginx/weir-log.conf;\n  %s\n  access_log access.log e2e;\n", repo, accessFormat)
	}
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&b, "  %s_temp_path temp_%s;\n", kind, kind)
	}
	fmt.Fprintf(&b, "  default_type text/plain;\n  %s\n", opt.HTTP)
	for _, p := range opt.Pools {
		static := p.Static
		if static == nil {
			static = p.Peers
		}
		var addrs []string
		for _, s := range static {
			name, words, _ := strings.Cut(s, " ")
			addr := n.rig.Addr(name)
			if p.Static != nil && words != "" {
				addr += " " + words
			}
			addrs = append(addrs, addr)
		}
		upstream := p.Upstream
		if upstream == "" {
			upstream = "keepalive 64;"
		}
		fmt.Fprintf(&b, "  upstream %s {\n    server 127.0.0.1:1;\n    balancer_by_lua_block { require(\"resty.weir\").balance(%q, %q) }\n    %s\n  }\n", p.Name, p.Name, strings.Join(addrs, ", "), upstream)
	}
	fmt.Fprintf(&b, "  server {\n    listen %s backlog=1024;\n    include %s/nginx/server.conf;\n", n.Addr, repo)
	b.WriteString("    location = /weir-status { access_log off; content_by_lua_block { require(\"resty.weir\").status() } }\n")
	for _, p := range opt.Pools {
		fmt.Fprintf(&b, "    location /%s/ {\n      proxy_pass http://%s/;\n      include %s/nginx/proxy.conf;\n      %s\n    }\n", p.Name, p.Name, repo, p.Location)
		fmt.Fprintf(&b, "    location /%s/ws {\n      proxy_pass http://%s/ws;\n      include %s/nginx/proxy.conf;\n      %s\n      %s\n    }\n", p.Name, p.Name, repo, upgrade, p.Location)
	}
	fmt.Fprintf(&b, "    %s\n  }\n}\n", opt.Server)
	return b.String()
}

// Start writes nginx.conf, starts NGINX and waits until it answers.
func (n *NGINX) Start() {
	t := n.rig.T
	t.Helper()
	file := n.File()
	if err := os.WriteFile(file, []byte(n.config()), 0o644); err != nil {
		t.Fatal(err)
	}
	// SIGTERM, not SIGKILL, when the test dies: a master that is killed leaves its workers behind.
	if err := n.proc.start(syscall.SIGTERM, append([]string{"WEIR_SOCKET=" + n.socket}, n.rig.opt.NGINXEnv...), n.rig.programs.NGINX, "-p", n.rig.dir, "-e", "error.log", "-c", file); err != nil {
		t.Fatal(err)
	}
	n.rig.Eventually("NGINX answers", func() error {
		if n.master() == 0 && !n.rig.opt.Daemon {
			t.Fatalf("NGINX ended: %s%s\n%s", n.proc.output(), n.ErrorLog(), n.config())
		}
		_, err := n.status()
		return err
	})
}

// Test runs nginx -t on the rig's configuration.
func (n *NGINX) Test() (bool, string) {
	cmd := exec.Command(n.rig.programs.NGINX, "-t", "-p", n.rig.dir, "-e", "test.log", "-c", n.File())
	cmd.Env = append(os.Environ(), "WEIR_SOCKET="+n.socket)
	out, err := cmd.CombinedOutput()
	return err == nil, string(out)
}

// Reload writes nginx.conf again and has NGINX start new workers; it returns when they answer. Old workers stay as long as they have requests.
func (n *NGINX) Reload() {
	t := n.rig.T
	t.Helper()
	before := n.Workers()
	if err := os.WriteFile(n.File(), []byte(n.config()), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := n.signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	n.rig.Eventually("NGINX has new workers", func() error {
		fresh := 0
		for _, pid := range n.Workers() {
			switch {
			case !slices.Contains(before, pid):
				fresh++
			case !shuttingDown(pid): // it takes connections yet, beside the new ones
				return fmt.Errorf("the old worker %d is not shutting down", pid)
			}
		}
		if fresh < n.rig.opt.Workers {
			return fmt.Errorf("%d of %d", fresh, n.rig.opt.Workers)
		}
		s, err := n.status()
		if err == nil && slices.Contains(before, s.Worker.PID) {
			err = fmt.Errorf("an old worker (%d) answers", s.Worker.PID)
		}
		return err
	})
}

// Stop ends NGINX in order, as for a restart.
func (n *NGINX) Stop() {
	n.rig.T.Helper()
	if err := n.stop(Patience); err != nil {
		n.rig.T.Errorf("stopping NGINX: %v", err)
	}
}

// SetWorkers changes the number of workers at the next reload.
func (n *NGINX) SetWorkers(count int) { n.rig.opt.Workers = count }

// SetDict changes the size of the shared dict at the next reload.
func (n *NGINX) SetDict(size string) {
	text, err := os.ReadFile(filepath.Join(n.rig.programs.Repo, "nginx", "weir.conf"))
	if err != nil {
		n.rig.T.Fatal(err)
	}
	n.rig.opt.Snippet = regexp.MustCompile(`lua_shared_dict weir \w+;`).ReplaceAllString(string(text), "lua_shared_dict weir "+size+";")
}

// SetStatic changes the snippet's own list of peers at the next reload.
func (n *NGINX) SetStatic(pool string, names ...string) {
	for i, p := range n.rig.opt.Pools {
		if p.Name == pool {
			n.rig.opt.Pools[i].Static = names
		}
	}
}

// Workers are the pids of the running workers, old ones that finish their requests included.
func (n *NGINX) Workers() (pids []int) { return workersOf(n.master()) }

func workersOf(master int) (pids []int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", master, master))
	for _, f := range strings.Fields(string(text)) {
		pid, _ := strconv.Atoi(f)
		if strings.Contains(title(pid), "worker process") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// title is what ps shows of a process; "" when it is gone.
func title(pid int) string {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return string(line)
}

// shuttingDown tells whether a worker has closed its listening sockets: NGINX does so right behind the title. A worker that is gone has.
func shuttingDown(pid int) bool {
	line := title(pid)
	return line == "" || strings.Contains(line, "shutting down")
}

// Kill ends a worker, an old one perhaps, with SIGKILL and returns at once.
func (n *NGINX) Kill(pid int) {
	n.killed = append(n.killed, pid)
	_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
}

// KillWorker ends a worker with SIGKILL and returns when the master has put another in its place.
func (n *NGINX) KillWorker(pid int) {
	t := n.rig.T
	t.Helper()
	count := len(n.Workers())
	n.killed = append(n.killed, pid)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.rig.Eventually("the master replaces the worker", func() error {
		if w := n.Workers(); len(w) < count || slices.Contains(w, pid) {
			return fmt.Errorf("workers %v", w)
		}
		return nil
	})
}

// File is the path of nginx.conf.
func (n *NGINX) File() string { return filepath.Join(n.rig.dir, "nginx.conf") }

// ErrorLog is the text of the error log.
func (n *NGINX) ErrorLog() string {
	text, _ := os.ReadFile(filepath.Join(n.rig.dir, "error.log"))
	return string(text)
}

// Entry is one line of the access log.
type Entry struct {
	ID             string  `json:"id"`
	PID            int     `json:"pid"`
	Method         string  `json:"method"`
	URI            string  `json:"uri"`
	Status         int     `json:"status"`
	Msec           float64 `json:"msec"` // Unix seconds at the end of the request
	RequestTime    float64 `json:"request_time"`
	Addr           string  `json:"addr"` // NGINX's own list: "a, b : c"
	UpstreamStatus string  `json:"upstream_status"`
	Peer           string  `json:"peer"`
	Class          string  `json:"class"`
	Policy         string  `json:"policy"`
	PredictedMS    string  `json:"predicted_ms"`
	Attempts       string  `json:"attempts"`
}

// Addrs are the addresses tried, in order.
func (e Entry) Addrs() []string {
	return strings.FieldsFunc(e.Addr, func(r rune) bool { return r == ',' || r == ' ' })
}

// Ended is when the request ended.
func (e Entry) Ended() time.Time { return time.UnixMilli(int64(e.Msec * 1000)) }

// AccessLog reads the access log from the given entry on. A line that is no JSON fails the test.
func (n *NGINX) AccessLog(from int) (entries []Entry) {
	n.rig.T.Helper()
	text, err := os.ReadFile(filepath.Join(n.rig.dir, "access.log"))
	if err != nil {
		n.rig.T.Fatal(err)
	}
	i := 0
	for line := range strings.Lines(string(text)) {
		if i++; i <= from || !strings.HasSuffix(line, "\n") {
			continue
		}
		var e Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			n.rig.T.Fatalf("access log, line %d: %v: %s", i, err, line)
		}
		entries = append(entries, e)
	}
	return entries
}

// Logged waits for the access-log entries of these requests and returns them in the same order.
func (n *NGINX) Logged(answers []Answer) []Entry {
	n.rig.T.Helper()
	var found []Entry
	n.rig.Eventually("the access log has the requests", func() error {
		byID := map[string]Entry{}
		for _, e := range n.AccessLog(0) {
			byID[e.ID] = e
		}
		found = found[:0]
		for _, a := range answers {
			e, ok := byID[a.ID]
			if !ok {
				return fmt.Errorf("no entry for %s", a.ID)
			}
			found = append(found, e)
		}
		return nil
	})
	return found
}

// Dial opens a TCP connection to NGINX, for what no HTTP client would do.
func (n *NGINX) Dial() net.Conn {
	n.rig.T.Helper()
	c, err := net.DialTimeout("tcp", n.Addr, Patience)
	if err != nil {
		n.rig.T.Fatal(err)
	}
	n.rig.T.Cleanup(func() { _ = c.Close() })
	return c
}
