package main

import (
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirlb/weir/test/dbserver"
)

// historyCmd measures what keeping history costs and how fast it is read: a running engine under a steady load of outcomes, with each
// store and without, and then the stores by themselves.
type historyCmd struct {
	PerS     int           `name:"rate" default:"20000" help:"Outcomes a second that the engine is told."`
	Calls    float64       `default:"1000" help:"/decide calls a second meanwhile."`
	For      time.Duration `default:"8s" help:"Length of each run."`
	Rounds   int           `default:"5" help:"Rounds; each runs every store once."`
	Rows     int           `default:"10000000" help:"Outcomes to read again."`
	Stores   []string      `default:"off,file,postgres,mariadb" help:"Which; off is needed for the ratios."`
	LiveOnly bool          `help:"Only the running engines."`
	Seed     uint64        `default:"1"`
}

func (historyCmd) name() string { return "history" }

func (c historyCmd) limit() time.Duration {
	return time.Duration(c.Rounds*len(c.Stores))*(c.For+10*time.Second) + 12*time.Minute
}

// kept is one kind of store with its engine and what was measured of it.
type kept struct {
	name   string
	url    string // "" = the file
	server *dbserver.Server
	eng    *engine
	load   *traffic
	ask    *call
	runs   []keptRun
}

// keptRun is one run of the engine with a store.
type keptRun struct {
	Sent      int     `json:"outcomes_sent"`
	Stored    float64 `json:"outcomes_stored_per_s"` // until the last one was
	Waiting   float64 `json:"rows_waiting_at_end"`
	Dropped   float64 `json:"rows_dropped"`
	P50       float64 `json:"decide_p50_ms"`
	P99       float64 `json:"decide_p99_ms"`
	EngineCPU float64 `json:"engine_cpu_us_per_outcome"`
	ServerCPU float64 `json:"server_cpu_us_per_outcome"`
}

func (c *historyCmd) measure(b *bench) (*result, error) {
	r := &result{
		Seeds: []uint64{c.Seed},
		Setup: fmt.Sprintf("`weir serve` told %d outcomes a second (20 peers, 10 classes) in batches each 100 ms, and asked by POST /decide at %.0f/s (Poisson, 16 connections); %v a run, %d rounds, every store once a round. "+
			"Stores: off, the embedded file, PostgreSQL and MariaDB over their sockets, on the same cores and disk.", c.PerS, c.Calls, c.For, c.Rounds),
	}
	stores, stop, err := c.prepare(b)
	defer stop()
	if err != nil {
		return nil, err
	}
	for round := range c.Rounds {
		for _, k := range stores {
			b.say("round %d of %d: %s", round+1, c.Rounds, k.name)
			if err := c.run(b, k, c.Seed+uint64(round)); err != nil {
				return nil, fmt.Errorf("%s: %w", k.name, err)
			}
		}
	}
	c.live(r, stores)
	if !c.LiveOnly {
		for _, k := range stores {
			if err := c.alone(b, r, k); err != nil {
				return nil, fmt.Errorf("%s: %w", k.name, err)
			}
		}
	}
	raw := map[string][]keptRun{}
	for _, k := range stores {
		raw[k.name] = k.runs
	}
	r.Raw = raw
	r.note("database servers, engine and load share the cores; fsync is off in PostgreSQL, MariaDB flushes its log once a second")
	r.note("p99 ratios are of runs of one round, their median is told; one busy neighbour in one run moves one ratio")
	return r, nil
}

// prepare starts servers and engines.
func (c *historyCmd) prepare(b *bench) (stores []*kept, stop func(), err error) {
	stop = func() {
		for _, k := range stores {
			if k.server != nil {
				k.server.Remove()
			}
		}
	}
	peers := make([]string, 20)
	for i := range peers {
		peers[i] = fmt.Sprintf("10.0.0.%d:8080", i+1)
	}
	for _, name := range c.Stores {
		k := &kept{name: name}
		stores = append(stores, k)
		conf := "{url: off}"
		switch name {
		case "off":
		case "file":
			conf = fmt.Sprintf("{dir: %s-history, sample_above: 0}", name)
		case "postgres", "mariadb":
			start := dbserver.Postgres
			if name == "mariadb" {
				start = dbserver.MariaDB
			}
			if k.server, err = start(); err != nil {
				return stores, stop, err
			}
			if _, k.url, err = k.server.Database(); err != nil {
				return stores, stop, err
			}
			conf = fmt.Sprintf("{dir: %s-history, sample_above: 0, url: %q}", name, k.url)
		default:
			return stores, stop, fmt.Errorf("there is no store %q", name)
		}
		if k.eng, err = b.engineKeeping(name, peers, "", conf); err != nil {
			return stores, stop, err
		}
		k.load = &traffic{eng: k.eng, peers: peers, classes: 10, perS: c.PerS, seed: c.Seed}
		k.ask = &call{name: name, body: `{"pool":"api","class":"GET /c1/{n}"}`, socket: k.eng.socket, pid: k.eng.pid()}
		if err := k.load.run(b, time.Second); err != nil { // tables with something in them, and series that the store knows
			return stores, stop, err
		}
	}
	return stores, stop, b.sleep(3 * time.Second)
}

// run loads one engine and waits until the store has everything.
func (c *historyCmd) run(b *bench, k *kept, seed uint64) error {
	before, err := k.metrics()
	if err != nil {
		return err
	}
	sent, began := k.load.sent, time.Now()
	engineCPU, serverCPU := k.cpu()
	failed := make(chan error, 1)
	go func() { failed <- k.load.run(b, c.For) }()
	d := decideCmd{Rate: c.Calls, For: c.For, Conns: 16}
	err = d.ask(b, k.ask, seed)
	if more := <-failed; err == nil {
		err = more
	}
	if err != nil {
		return err
	}
	after, err := k.metrics()
	if err != nil {
		return err
	}
	run := keptRun{Sent: k.load.sent - sent, Waiting: after.waiting, P50: k.ask.runs[len(k.ask.runs)-1].P50, P99: k.ask.runs[len(k.ask.runs)-1].P99}
	for k.name != "off" && after.waiting > 0 {
		if time.Since(began) > c.For+30*time.Second {
			return fmt.Errorf("%.0f rows still wait 30 s after the load", after.waiting)
		}
		if err := b.sleep(20 * time.Millisecond); err != nil {
			return err
		}
		if after, err = k.metrics(); err != nil {
			return err
		}
	}
	took := time.Since(began).Seconds()
	e, s := k.cpu()
	run.EngineCPU, run.ServerCPU = micro(e-engineCPU, run.Sent), micro(s-serverCPU, run.Sent)
	run.Dropped = after.dropped - before.dropped
	run.Stored = min((after.written-before.written)/took, float64(run.Sent)/took)
	k.runs = append(k.runs, run)
	return b.sleep(500 * time.Millisecond)
}

func micro(d time.Duration, n int) float64 { return float64(d.Microseconds()) / float64(n) }

func (k *kept) cpu() (engine, server time.Duration) {
	of := func(pid int) time.Duration {
		user, system, _ := cpuOf(pid) // one that ended counts no more
		return user + system
	}
	if k.server != nil {
		for _, pid := range k.server.Processes() {
			server += of(pid)
		}
	}
	return of(k.eng.pid()), server
}

type keptMetrics struct{ written, waiting, dropped float64 }

var historyLine = regexp.MustCompile(`(?m)^weir_history_(\w+?)(?:\{[^}]*\})? (\S+)$`)

func (k *kept) metrics() (keptMetrics, error) { return metricsOf(k.eng) }

func metricsOf(eng *engine) (m keptMetrics, err error) {
	resp, err := eng.web.Get("http://" + eng.admin + "/metrics")
	if err != nil {
		return m, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	for _, line := range historyLine.FindAllStringSubmatch(string(text), -1) {
		x, _ := strconv.ParseFloat(line[2], 64)
		switch line[1] {
		case "written_rows_total":
			m.written += x
		case "dropped_rows_total":
			m.dropped += x
		case "queue_rows", "spool_rows":
			m.waiting += x
		}
	}
	return m, err
}

// live makes the table of the running engines.
func (c *historyCmd) live(r *result, stores []*kept) {
	tab := table{
		Title:   "Running engines, medians over the rounds",
		Columns: []string{"store", "outcomes/s stored", "least", "dropped", "waiting at end", "decide p50 ms", "decide p99 ms", "p99 / off", "extremes", "engine CPU us/outcome", "server CPU us/outcome"},
	}
	off := slices.IndexFunc(stores, func(k *kept) bool { return k.name == "off" })
	for _, k := range stores {
		of := func(f func(keptRun) float64) spread {
			var v []float64
			for _, run := range k.runs {
				v = append(v, f(run))
			}
			return spreadOf(v)
		}
		var ratios []float64
		for i, run := range k.runs {
			if off >= 0 {
				ratios = append(ratios, run.P99/stores[off].runs[i].P99)
			}
		}
		ratio, stored := spreadOf(ratios), of(func(r keptRun) float64 { return r.Stored })
		dropped := of(func(r keptRun) float64 { return r.Dropped })
		tab.Rows = append(tab.Rows, []string{
			k.name, fmt.Sprintf("%.0f", stored.Median), fmt.Sprintf("%.0f", stored.Min), fmt.Sprintf("%.0f", dropped.Max), fmt.Sprintf("%.0f", of(func(r keptRun) float64 { return r.Waiting }).Max),
			fmt.Sprintf("%.3f", of(func(r keptRun) float64 { return r.P50 }).Median), fmt.Sprintf("%.3f", of(func(r keptRun) float64 { return r.P99 }).Median),
			fmt.Sprintf("%.3f", ratio.Median), ratio.extremes("%.2f"), fmt.Sprintf("%.2f", of(func(r keptRun) float64 { return r.EngineCPU }).Median), fmt.Sprintf("%.2f", of(func(r keptRun) float64 { return r.ServerCPU }).Median),
		})
		switch k.name {
		case "file":
			r.Targets = append(r.Targets, atLeast("embedded: outcomes/s stored, median", 10_000, stored.Median, "1/s"))
		case "postgres":
			r.Targets = append(r.Targets, atLeast("PostgreSQL: outcomes/s stored, median (the load is just that)", 0.95*float64(c.PerS), stored.Median, "1/s"),
				atMost("PostgreSQL: p99 of /decide over that without history, median of the rounds", 1.1, ratio.Median, "x"))
		}
	}
	r.Tables = append(r.Tables, tab)
}

func atLeast(what string, limit, reached float64, unit string) target {
	return target{what, limit, reached, unit, reached >= limit}
}

// place is where a store's engine keeps what it keeps.
func (k *kept) place(b *bench) string {
	if k.url != "" {
		return k.url
	}
	return "file:" + filepath.Join(b.dir, strings.TrimSpace(k.name)+"-alone", "history.db")
}
