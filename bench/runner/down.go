package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/weirlb/weir/test/backend"
)

// downCmd measures how a pool of four takes the loss of a peer under load. NGINX sets a peer that it cannot reach aside by itself, after which
// there is little passive evidence for the engine, so active checks tell the engine; they pass on a peer that answers users with 500, which
// is then ejected on passive evidence alone. One that answers users and fails its checks is known to the engine alone.
type downCmd struct {
	Rounds int           `default:"5" help:"Rounds; each loses a peer in every way once, with everything started anew."`
	Rate   float64       `default:"400" help:"GETs a second, open loop."`
	For    time.Duration `default:"6s" help:"Length of a run; the peer is lost in the middle."`
	Only   []string      `help:"Only these ways."`
	Seed   uint64        `default:"1" help:"Of the arrivals; each round takes the next."`
}

func (downCmd) name() string { return "down" }
func (c downCmd) limit() time.Duration {
	return time.Duration(c.Rounds*len(ways))*(c.For+8*time.Second) + time.Minute
}

// way is one way to lose a peer.
type way struct {
	name, what string
	patch      string // settings of the backend; empty = the process is killed
}

var ways = []way{
	{"killed", "the process is killed: connections are reset, then refused", ""},
	{"refused", "the port is closed: running requests end well, new connections are refused", `{"refuse":true}`},
	{"500", "every answer is a 500, at once; checks pass", `{"fail":{"status":500,"after_ms":1,"share":1}}`},
	{"silent", "connections are neither accepted nor refused", `{"blackhole":true}`},
	{"unhealthy", "users get their answers, checks a 503: NGINX goes by what the engine tells it alone", `{"health":503}`},
}

// downRun is one run of one way. Times are ms.
type downRun struct {
	Way      string  `json:"way"`
	Sent     int     `json:"sent"`
	Lost     int     `json:"lost"`           // GETs that ended without an answer or with a 5xx
	Known    float64 `json:"known_ms"`       // from the loss until the engine's /watch said that the peer is not usable
	LastPick float64 `json:"last_pick_ms"`   // from then until the last pick of the peer; below 0: before it
	After    int     `json:"picks_after"`    // picks between then and the peer's return
	After100 int     `json:"picks_after100"` // of these, those more than 100 ms later
	Failures int     `json:"failures"`       // attempts that had failed there when the engine said so
	Attempts int     `json:"attempts"`       // picks of the peer from its loss on
}

const downLog = `    log_format down '$msec $request_time $status|$upstream_addr|$upstream_status|$upstream_response_time';
`

func (c *downCmd) measure(b *bench) (*result, error) {
	if err := need("nginx"); err != nil {
		return nil, err
	}
	peer, err := b.build("./test/backend/cmd/backend")
	if err != nil {
		return nil, err
	}
	load, err := b.build("./bench/load")
	if err != nil {
		return nil, err
	}
	r := &result{Setup: fmt.Sprintf("Four peers of 8 slots, 5 ms exponential; %.0f GETs a second, Poisson, open loop; NGINX with 2 workers, keep-alive. "+
		"Active checks each 500 ms, time-out 200 ms, two failures make down. "+
		"Each run starts all anew and loses one peer after %v of %v. Picks from NGINX's access log, knowledge from a /watch of the benchmark's own. "+
		"proxy_next_upstream error timeout http_500.", c.Rate, c.For/2, c.For)}
	runs := map[string][]downRun{}
	for round := range c.Rounds {
		seed := c.Seed + uint64(round)
		r.Seeds = append(r.Seeds, seed)
		for _, w := range ways {
			if len(c.Only) > 0 && !strings.Contains(" "+strings.Join(c.Only, " ")+" ", " "+w.name+" ") {
				continue
			}
			run, err := c.once(b, w, fmt.Sprintf("%s-%d", w.name, round), peer, load, seed)
			if err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", w.name, round+1, err)
			}
			runs[w.name] = append(runs[w.name], run)
		}
		b.say("round %d of %d", round+1, c.Rounds)
	}
	c.report(r, runs)
	return r, nil
}

func (c *downCmd) once(b *bench, w way, name, peer, load string, seed uint64) (run downRun, err error) {
	first := len(b.started)
	defer func() {
		for i := len(b.started) - 1; i >= first; i-- {
			b.started[i].stop()
		}
	}()
	addrs, err := b.addrs(9)
	if err != nil {
		return run, err
	}
	peers, controls, listen := addrs[:4], addrs[4:8], addrs[8]
	var victim *process
	for i := range peers {
		p, err := b.start(fmt.Sprintf("%s-peer%d", name, i), nil, peer, "--name", fmt.Sprint(i), "--listen", peers[i], "--control", controls[i],
			"--slots", "8", "--class", "*:5:exp", "--seed", fmt.Sprint(10*seed+uint64(i)))
		if err != nil {
			return run, err
		}
		if err := b.awaitPort(p, peers[i]); err != nil {
			return run, err
		}
		if i == 0 {
			victim = p
		}
	}
	eng, err := b.engine(name+"-engine", peers, "    check: {path: /healthz, interval_ms: 500, timeout_ms: 200, fall: 2}\n")
	if err != nil {
		return run, err
	}
	s := site{
		Name: name, Listen: listen, Workers: 2, Lua: true, HTTP: b.weirHTTP(false) + downLog, Upstream: weirUpstream(peers), Socket: eng.socket,
		Server: "        proxy_next_upstream error timeout http_500;\n",
	}
	log := filepath.Join(b.dir, name, "access.log")
	s.Access = log + " down"
	if _, err := b.nginx(s); err != nil {
		return run, err
	}
	if err := b.sleep(500 * time.Millisecond); err != nil { // tables arrive
		return run, err
	}

	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	heard := make(chan []change, 1)
	go func() { heard <- eng.follow(ctx, peers[0]) }()
	cmd := exec.CommandContext(ctx, load, "--json", "--url", "http://"+listen, "--rate", fmt.Sprint(c.Rate), "--for", c.For.String(), "--seed", fmt.Sprint(seed))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out, complaints strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Start(); err != nil {
		return run, err
	}
	serr := b.sleep(c.For / 2)
	lost := time.Now()
	if serr == nil {
		if w.patch == "" {
			serr = syscall.Kill(-victim.pid(), syscall.SIGKILL)
		} else {
			serr = backend.Control{URL: "http://" + controls[0]}.Patch(ctx, w.patch)
		}
	}
	if err := errors.Join(serr, cmd.Wait()); err != nil {
		return run, fmt.Errorf("%w\n%s", err, complaints.String())
	}
	var told struct {
		All struct{ Requests, Failed int } `json:"all"`
	}
	if err := json.Unmarshal([]byte(out.String()), &told); err != nil {
		return run, fmt.Errorf("bench/load printed something else: %w", err)
	}
	cancel()
	changes := <-heard
	attempts, err := attemptsOn(log, peers[0])
	if err != nil {
		return run, err
	}
	run, err = judge(attempts, changes, lost)
	run.Way, run.Sent, run.Lost = w.name, told.All.Requests, told.All.Failed
	return run, err
}

// change is when the engine first said that a peer is usable or that it is not.
type change struct {
	at     time.Time
	usable bool
}

// follow listens to /watch until the context ends.
func (e *engine) follow(ctx context.Context, peer string) (out []change) {
	version, epoch := uint64(0), ""
	for ctx.Err() == nil {
		var answer struct {
			Version uint64
			Epoch   string
			Pools   []struct {
				Peers []struct {
					Addr   string
					Usable bool
				}
			}
		}
		if getJSON(e.unix, fmt.Sprintf("http://engine/watch?since=%d&epoch=%s&wait=100", version, epoch), &answer) != nil {
			continue // 204: nothing new
		}
		now := time.Now()
		version, epoch = answer.Version, answer.Epoch
		for _, pool := range answer.Pools {
			for _, p := range pool.Peers {
				if p.Addr == peer && (len(out) == 0 || out[len(out)-1].usable != p.Usable) {
					out = append(out, change{now, p.Usable})
				}
			}
		}
	}
	return out
}

// attempt is one line's part for one peer.
type attempt struct {
	picked, ended time.Time
	failed        bool
}

// attemptsOn reads those of a peer from NGINX's access log, in which times have a resolution of 1 ms.
func attemptsOn(file, peer string) (out []attempt, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		part := strings.Split(lines.Text(), "|")
		if len(part) != 4 {
			return nil, fmt.Errorf("access log: %q", lines.Text())
		}
		head := strings.Fields(part[0])
		at, err1 := strconv.ParseFloat(head[0], 64)
		took, err2 := strconv.ParseFloat(head[1], 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("access log: %w", err)
		}
		addrs, statuses, times := strings.Split(part[1], ", "), strings.Split(part[2], ", "), strings.Split(part[3], ", ")
		if len(addrs) != len(statuses) || len(addrs) != len(times) {
			return nil, fmt.Errorf("access log: %q", lines.Text())
		}
		start := at - took
		for i, addr := range addrs {
			for1, _ := strconv.ParseFloat(times[i], 64) // "-": it took no time
			if addr == peer {
				status, _ := strconv.Atoi(statuses[i])
				out = append(out, attempt{seconds(start), seconds(start + for1), status >= 500 || status == 0})
			}
			start += for1
		}
	}
	return out, lines.Err()
}

func seconds(s float64) time.Time { return time.UnixMicro(int64(s * 1e6)) }

func judge(attempts []attempt, changes []change, lost time.Time) (run downRun, err error) {
	known, back := time.Time{}, time.Now()
	for _, ch := range changes {
		if known.IsZero() {
			if !ch.usable && ch.at.After(lost) {
				known = ch.at
			}
		} else if ch.usable { // an ejection ends by itself, to see whether the peer is back
			back = ch.at
			break
		}
	}
	if known.IsZero() {
		return run, errors.New("the engine never said that the peer is not usable")
	}
	run.Known = ms(known.Sub(lost))
	run.LastPick = -run.Known
	for _, a := range attempts {
		if a.picked.Before(lost) && !a.ended.After(lost) || !a.picked.Before(back) {
			continue
		}
		run.Attempts++
		run.LastPick = max(run.LastPick, ms(a.picked.Sub(known)))
		if a.picked.After(known) {
			run.After++
		}
		if a.picked.After(known.Add(100 * time.Millisecond)) {
			run.After100++
		}
		if a.failed && !a.ended.After(known) {
			run.Failures++
		}
	}
	return run, nil
}

func (c *downCmd) report(r *result, runs map[string][]downRun) {
	t := table{Title: "Losing one of four peers", Columns: []string{
		"way", "runs", "GETs", "lost", "engine knows, ms after", "last pick, ms after that", "picks after that", "failures until then", "attempts there in all",
	}}
	what := table{Title: "Ways"}
	lastPick, lost, failures, sent := 0.0, 0, 0.0, 0
	for _, w := range ways {
		all := runs[w.name]
		if len(all) == 0 {
			continue
		}
		var known, last, failed, attempts []float64
		gone, gets, after := 0, 0, 0
		for _, run := range all {
			known, last = append(known, run.Known), append(last, run.LastPick)
			failed, attempts = append(failed, float64(run.Failures)), append(attempts, float64(run.Attempts))
			gone, gets, after = gone+run.Lost, gets+run.Sent, after+run.After
		}
		cell := func(v []float64) string {
			s := spreadOf(v)
			return fmt.Sprintf("%.0f (%s)", s.Median, s.extremes("%.0f"))
		}
		t.Rows = append(t.Rows, []string{w.name, fmt.Sprint(len(all)), fmt.Sprint(gets), fmt.Sprint(gone), cell(known), cell(last), fmt.Sprint(after), cell(failed), cell(attempts)})
		what.Rows = append(what.Rows, []string{w.name, w.what})
		lastPick, lost, sent = max(lastPick, spreadOf(last).Max), lost+gone, sent+gets
		failures = max(failures, spreadOf(failed).Max)
	}
	r.Tables = []table{t, what}
	r.Targets = []target{
		atMost("last pick of the peer after the engine knows, worst run", 100, max(lastPick, 0), "ms"),
		atMost(fmt.Sprintf("GETs lost of %d", sent), 0, float64(lost), ""),
		atMost("failures there until the engine took it out, worst run", 10, failures, ""),
	}
	r.note("a cell is the median (extremes) of the runs; below 0: before the engine knew, since NGINX sets a peer aside by itself")
	r.Raw = runs
}
