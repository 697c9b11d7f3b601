package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
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

// cpuCmd measures what Weir costs NGINX: the CPU time of one worker per proxied request, beside plain least_conn.
type cpuCmd struct {
	Rounds   int           `default:"40" help:"Rounds; each runs every variant once."`
	Sets     int           `default:"4" help:"Sets the rounds come in; each starts every NGINX anew, since LuaJIT compiles by chance one way or another."`
	For      time.Duration `default:"400ms" help:"Length of a run. Many short ones find the quiet moments of a shared machine."`
	Only     []string      `help:"Only these variants (the plain ones they are compared with are added)."`
	Connect  int           `name:"connections" default:"16" help:"Connections of wrk."`
	Peers    int           `default:"10" help:"Peers of the pool."`
	Pin      string        `default:"remote" enum:"remote,none,worker,one" help:"remote: the worker has a core to itself, and client and peers poll on another, so that it wakes nobody; worker: they sleep; one: all share one core; none: the kernel places all."`
	Features bool          `help:"What each feature of operators costs while it is on: weir-FEATURE beside weir, each with a pool of its own."`
	Beside   string        `help:"Another checkout, whose Lua is measured too, as weir-beside: what a change brings." placeholder:"DIR"`
	Seed     uint64        `default:"1" help:"Of the order of the variants in each round."`

	reporting []string // peers of --features that send load reports
}

func (c cpuCmd) name() string {
	if c.Features {
		return "cpu-features"
	}
	return "cpu"
}

func (c cpuCmd) limit() time.Duration {
	if c.Features {
		return 20 * time.Minute // twice as many variants
	}
	return 10 * time.Minute
}

// variant is one way to balance, and the one it is compared with.
type variant struct {
	name, base, what string
	paths            bool   // a different path in each request
	shows            string // what /weir-status must have; empty = nothing
	cookie           bool   // the client comes back with the cookie it was given
	sent             string // that cookie
	target           float64

	site   site
	proc   *process
	worker int
	runs   []cpuRun
}

// cpuRun is one run of one variant.
type cpuRun struct {
	Requests int     `json:"requests"`
	US       float64 `json:"us"`      // on a core, from the scheduler's own count
	UserUS   float64 `json:"user_us"` // how the kernel's sampling divides it
	SystemUS float64 `json:"system_us"`
	PerS     float64 `json:"per_s"`
	Busy     float64 `json:"busy"` // share of the run the worker was on a core
	Bad      string  `json:"bad,omitempty"`
}

// plainJSON is as long as weir_json with the values it has here: the difference is then Weir's variables, not the bytes.
const plainJSON = `    log_format plain_json escape=json
    '{"time":"$time_iso8601","remote_addr":"$remote_addr","method":"$request_method","host":"$host","uri":"$uri",'
    '"status":$status,"bytes":$body_bytes_sent,"request_s":$request_time,'
    '"upstream_addr":"$upstream_addr","upstream_status":"$upstream_status","upstream_s":"$upstream_response_time",'
    '"pad1_peer":"127.0.0.1:21001","pad2_class":"GET /users/{n}/orders","padd_policy":"analytic",'
    '"padd_predicted_ms":"0.3","padd_attempts":"1"}';
`

const fixedPath = "/users/123456/orders"

func (c *cpuCmd) variants(b *bench, peers []string, socket string) []*variant {
	ports := make([]string, len(peers))
	for i, p := range peers {
		ports[i] = p[strings.LastIndex(p, ":")+1:]
	}
	bare := fmt.Sprintf("        balancer_by_lua_block { require(\"ngx.balancer\").set_current_peer(\"127.0.0.1\", %s) }\n", ports[0])
	hooks := site{
		Lua:      true,
		HTTP:     "    init_by_lua_block { PORTS = {" + strings.Join(ports, ", ") + "} }\n    log_by_lua_block { require(\"resty.core.base\").get_request() }\n",
		Upstream: placeholder + "        balancer_by_lua_block { require(\"ngx.balancer\").set_current_peer(\"127.0.0.1\", PORTS[math.random(#PORTS)]) }\n",
	}
	naive := site{
		Lua: true, Upstream: placeholder + "        balancer_by_lua_file \"" + filepath.Join(b.repo, "bench", "lua", "naive_balance.lua") + "\";\n",
		HTTP: "    lua_shared_dict naive 1m;\n    init_by_lua_block { PORTS = {" + strings.Join(ports, ", ") + "} }\n" +
			"    log_by_lua_file \"" + filepath.Join(b.repo, "bench", "lua", "naive_log.lua") + "\";\n",
	}
	plain := site{Upstream: servers(peers) + "        least_conn;\n"}
	weir := site{Lua: true, HTTP: b.weirHTTP(false), Upstream: weirUpstream(peers), Server: b.statusServer(), Socket: socket}
	alone := weir
	alone.Socket = filepath.Join(b.dir, "nobody.sock")
	plainLog, weirLog := plain, weir
	plainLog.HTTP, plainLog.Access = plainJSON, "/dev/null plain_json"
	weirLog.HTTP, weirLog.Access = b.weirHTTP(true), "/dev/null weir_json"
	all := []*variant{
		{name: "least_conn", what: "plain NGINX", site: plain},
		{name: "bare", base: "least_conn", what: "balancer_by_lua that names one peer", site: site{Lua: true, Upstream: placeholder + bare}},
		{name: "hooks", base: "least_conn", what: "balancer_by_lua that names a random peer, log_by_lua that does nothing: what ngx_lua costs by itself", site: hooks},
		{name: "naive", base: "least_conn", what: "least in-flight of all peers, counted in a shared dict and taken off in a log phase: a yardstick for the machine", site: naive},
		{name: "weir-alone", base: "least_conn", what: "Weir, no engine: two choices, in-flight, records kept", site: alone},
		{name: "weir", base: "least_conn", what: "Weir, live engine: class, table, in-flight, records sent", site: weir, target: 1.2},
		{name: "least_conn-log", what: "plain NGINX, JSON access log to /dev/null", site: plainLog},
		{name: "weir-log", base: "least_conn-log", what: "Weir, live engine, JSON access log with its variables", site: weirLog},
		{name: "least_conn-paths", what: "plain NGINX, each request another path", site: plain, paths: true},
		{name: "weir-paths", base: "least_conn-paths", what: "Weir, live engine, each request another path", site: weir, paths: true},
	}
	if c.Features {
		all = append([]*variant{all[0]}, c.features(b, weir, peers)...)
	}
	if c.Beside != "" && !c.Features {
		beside := weir
		beside.HTTP, beside.LuaFrom = strings.ReplaceAll(weir.HTTP, b.repo, c.Beside), c.Beside
		all = append(all, &variant{name: "weir-beside", base: "weir", what: "Weir of " + c.Beside, site: beside})
		besideLog := weirLog
		besideLog.HTTP, besideLog.LuaFrom = strings.ReplaceAll(weirLog.HTTP, b.repo, c.Beside), c.Beside
		all = append(all, &variant{name: "weir-log-beside", base: "weir-log", what: "Weir of " + c.Beside + ", access log", site: besideLog})
	}
	if len(c.Only) == 0 {
		return all
	}
	wanted := map[string]bool{}
	for _, v := range all {
		if slices.Contains(c.Only, v.name) {
			for w := v; w != nil; w = find(all, w.base) {
				wanted[w.name] = true
			}
		}
	}
	return slices.DeleteFunc(all, func(v *variant) bool { return !wanted[v.name] })
}

func find(all []*variant, name string) *variant {
	for _, v := range all {
		if v.name == name {
			return v
		}
	}
	return nil
}

// warmUp is load for each variant before what counts: it compiles traces and opens connections. In the first second after a start Weir costs a tenth more.
const warmUp = 2 * time.Second

func (c *cpuCmd) measure(b *bench) (*result, error) {
	if err := need("nginx", "wrk"); err != nil {
		return nil, err
	}
	peers, err := b.addrs(c.Peers)
	if err != nil {
		return nil, err
	}
	at, err := b.place(c.Pin)
	if err != nil {
		return nil, err
	}
	if _, err := b.nginx(site{Name: "peers", Template: "static", Peers: peers, CPUMask: at.peersMask, Preload: at.preload}); err != nil {
		return nil, err
	}
	var eng *engine
	if c.Features {
		eng, err = c.featuresEngine(b, peers, at)
	} else {
		eng, err = b.engine("engine", peers, "")
	}
	if err != nil {
		return nil, err
	}
	if at.engineMask != "" {
		if err := exec.CommandContext(b.ctx, "taskset", "-a", "-p", at.engineMask, fmt.Sprint(eng.pid())).Run(); err != nil {
			return nil, fmt.Errorf("pinning the engine: %w", err)
		}
	}
	variants := c.variants(b, peers, eng.socket)
	order := rand.New(rand.NewPCG(c.Seed, 0))
	var lost []string
	warm := int((warmUp + c.For - 1) / c.For)
	for set := range c.Sets {
		for _, v := range variants {
			if err := b.startVariant(v, at.workerMask); err != nil {
				return nil, err
			}
		}
		if err := b.sleep(time.Second); err != nil { // tables arrive
			return nil, err
		}
		for _, v := range variants {
			if err := v.fetchCookie(); err != nil {
				return nil, fmt.Errorf("%s: %w", v.name, err)
			}
		}
		from, to := set*c.Rounds/c.Sets, (set+1)*c.Rounds/c.Sets
		for round := from - warm; round < to; round++ {
			for _, i := range order.Perm(len(variants)) {
				run, err := c.once(b, variants[i], at.client)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", variants[i].name, err)
				}
				if round >= from {
					variants[i].runs = append(variants[i].runs, run)
				}
			}
		}
		b.say("%d of %d rounds", to, c.Rounds)
		lost = b.recordsLost(variants)
		for _, v := range variants {
			if err := v.on(); err != nil {
				return nil, fmt.Errorf("%s: %w", v.name, err)
			}
		}
		for _, v := range variants {
			v.proc.stop()
		}
	}
	r := c.result(variants, at)
	r.Notes = append(r.Notes, lost...)
	return r, nil
}

func (b *bench) startVariant(v *variant, mask string) error {
	if v.site.Listen == "" {
		addr, err := b.addrs(1)
		if err != nil {
			return err
		}
		v.site.Name, v.site.Listen, v.site.CPUMask = v.name, addr[0], mask
	}
	var err error
	if v.proc, err = b.nginx(v.site); err != nil {
		return err
	}
	return b.await(v.proc, "the worker of "+v.name, func() (err error) {
		v.worker, err = child(v.proc.pid())
		return err
	})
}

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in `)
	wrkPerS     = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	wrkBad      = regexp.MustCompile(`(?m)^\s*(Non-2xx.*|Socket errors.*)$`)
)

func (c *cpuCmd) once(b *bench, v *variant, prefix []string) (run cpuRun, err error) {
	args := append(slices.Clone(prefix), "wrk", "-t1", fmt.Sprintf("-c%d", c.Connect), "-d60s")
	// wrk takes whole seconds only; it is interrupted after the time wanted and then reports what it has
	if v.paths {
		args = append(args, "-s", filepath.Join(b.repo, "bench", "wrk", "paths.lua"))
	}
	if v.sent != "" {
		args = append(args, "-H", "Cookie: "+v.sent)
	}
	args = append(args, "http://"+v.site.Listen+fixedPath)
	user, system, err := cpuOf(v.worker)
	if err != nil {
		return run, err
	}
	before, err := onCore(v.worker)
	if err != nil {
		return run, err
	}
	began := time.Now()
	text, err := b.interrupted(c.For, args)
	took := time.Since(began)
	if err != nil {
		return run, fmt.Errorf("wrk: %w\n%s", err, text)
	}
	userAfter, systemAfter, err := cpuOf(v.worker)
	if err != nil {
		return run, err
	}
	after, err := onCore(v.worker)
	if err != nil {
		return run, err
	}
	n, perS := wrkRequests.FindStringSubmatch(text), wrkPerS.FindStringSubmatch(text)
	if n == nil || perS == nil {
		return run, fmt.Errorf("wrk said something else:\n%s", text)
	}
	run.Requests, _ = strconv.Atoi(n[1])
	if run.Requests == 0 {
		return run, errors.New("no request was answered")
	}
	run.PerS, _ = strconv.ParseFloat(perS[1], 64)
	run.US = float64((after - before).Nanoseconds()) / 1e3 / float64(run.Requests)
	run.UserUS = float64((userAfter - user).Microseconds()) / float64(run.Requests)
	run.SystemUS = float64((systemAfter - system).Microseconds()) / float64(run.Requests)
	run.Busy = (after - before).Seconds() / took.Seconds()
	if bad := wrkBad.FindString(text); bad != "" {
		run.Bad = strings.TrimSpace(bad)
	}
	return run, nil
}

// interrupted runs a program, sends it SIGINT after a while and returns what it printed.
func (b *bench) interrupted(after time.Duration, args []string) (string, error) {
	cmd := exec.CommandContext(b.ctx, args[0], args[1:]...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Signal(os.Interrupt) })
	defer timer.Stop()
	err := cmd.Wait()
	return out.String(), err
}

// recordsLost asks each Weir whether outcomes were dropped, which would make it look cheaper than it is.
func (b *bench) recordsLost(variants []*variant) (notes []string) {
	for _, v := range variants {
		if v.site.Server == "" {
			continue
		}
		var status struct {
			Underflow int `json:"underflow"`
			Worker    struct {
				Records struct{ Sent, Dropped int } `json:"records"`
			} `json:"worker"`
		}
		if err := getJSON(&http.Client{Timeout: 5 * time.Second}, "http://"+v.site.Listen+"/weir-status", &status); err != nil {
			notes = append(notes, fmt.Sprintf("%s: status page: %v", v.name, err))
			continue
		}
		notes = append(notes, fmt.Sprintf("%s: %d outcome records sent, %d dropped, in-flight underflows %d", v.name, status.Worker.Records.Sent, status.Worker.Records.Dropped, status.Underflow))
	}
	return notes
}

// quiet is the lowest decile.
func quiet(runs []cpuRun) float64 {
	var us []float64
	for _, r := range runs {
		us = append(us, r.US)
	}
	return rank(slices.Sorted(slices.Values(us)), 0.1)
}

func (c *cpuCmd) result(variants []*variant, at placement) *result {
	r := &result{
		Seeds: []uint64{c.Seed},
		Setup: fmt.Sprintf("wrk -t1 -c%d, keep-alive on both sides, 5-byte answers, %d peers served by one other NGINX; one worker a variant, all idle but one. "+
			"%d rounds of %v each variant in an order drawn for each round, every NGINX started anew %d times. CPU is what the worker was on a core, user and system. "+
			"The ratio is taken within each round, against the plain variant of the same kind; "+
			"the quietest tenth is the ratio of the lowest deciles, since others on the machine only ever add to a time. %s",
			c.Connect, c.Peers, c.Rounds, c.For, c.Sets, at.said),
	}
	ratio := table{Title: "CPU a request, ratio to plain NGINX", Columns: []string{"variant", "ratio", "quartiles", "extremes", "quietest tenth", "us a request", "quartiles", "user", "system", "requests/s", "busy", "against"}}
	byName := map[string]*variant{}
	raw := map[string][]cpuRun{}
	bad := 0
	for _, v := range variants {
		byName[v.name] = v
		raw[v.name] = v.runs
		var us, user, system, perS, busy, paired []float64
		for i, run := range v.runs {
			us, user, system = append(us, run.US), append(user, run.UserUS), append(system, run.SystemUS)
			perS, busy = append(perS, run.PerS), append(busy, run.Busy)
			if v.base != "" {
				paired = append(paired, run.US/byName[v.base].runs[i].US)
			}
			if run.Bad != "" {
				bad++
				r.note("%s, round %d: %s", v.name, i+1, run.Bad)
			}
		}
		s := spreadOf(us)
		row := []string{v.name, "1", "", "", ""}
		if v.base != "" {
			p := spreadOf(paired)
			row = []string{v.name, fmt.Sprintf("%.3f", p.Median), p.quartiles("%.3f"), p.extremes("%.2f"), fmt.Sprintf("%.3f", quiet(v.runs)/quiet(byName[v.base].runs))}
			if v.target > 0 {
				r.Targets = append(r.Targets, atMost(v.what+", CPU beside least_conn", v.target, p.Median, "x"))
			}
		}
		ratio.Rows = append(ratio.Rows, append(row, fmt.Sprintf("%.2f", s.Median), s.quartiles("%.2f"), fmt.Sprintf("%.2f", spreadOf(user).Median),
			fmt.Sprintf("%.2f", spreadOf(system).Median), fmt.Sprintf("%.0f", spreadOf(perS).Median), fmt.Sprintf("%.0f %%", 100*spreadOf(busy).Median), v.base))
	}
	r.Tables = append(r.Tables, ratio)
	what := table{Title: "Variants"}
	for _, v := range variants {
		what.Rows = append(what.Rows, []string{v.name, v.what})
	}
	r.Tables = append(r.Tables, what)
	if bad == 0 {
		r.note("every answer was 200")
	}
	r.Raw = raw
	return r
}
