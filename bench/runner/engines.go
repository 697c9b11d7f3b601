package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// enginesCmd measures what several NGINX, each with an engine of its own, do to peers that they share, and whether the engines find out
// how much of the peers' load is the others' (docs/estimators.md#other-balancers).
//
// Fleets run at the same time, each with peers of its own: the same kinds, the same arrivals and sizes. So a slice of time is compared with
// the same slice, whatever else the machine did in it. `many-balancers` in bench/scenarios is the same world, simulated.
type enginesCmd struct {
	Fronts int           `default:"4" help:"NGINX that share the peers, each with an engine."`
	For    time.Duration `default:"8m" help:"Length of a round."`
	Slice  time.Duration `default:"30s" help:"Slices of time it is told in."`
	Warmup time.Duration `default:"4m" help:"Of the round, not in the comparison: what the engines found out by then shows in the slices."`
	Rounds int           `default:"1" help:"Rounds; each starts everything anew."`
	Rate   float64       `default:"480" help:"Requests a second to each fleet, open loop, split evenly over its NGINX."`
	World  string        `default:"two-speeds" enum:"two-speeds,uneven,slots" help:"two-speeds: twenty peers, half of them of half the speed, and exponential sizes. uneven: six peers as in peers. slots: five peers that work on two requests at a time and five on sixteen, as in uneven-slots; a load of 0.85 is --rate 765."`
	Only   []string      `help:"Only these fleets: least_conn, found, told, one_least_conn, one_weir."`
	Seed   uint64        `default:"1" help:"Of arrivals and sizes; each round takes the next ones."`
}

func (enginesCmd) name() string { return "engines" }
func (c enginesCmd) limit() time.Duration {
	return time.Duration(c.Rounds)*(c.For+3*time.Minute) + 3*time.Minute
}

// fleet is some NGINX in front of peers that they share.
type fleet struct {
	name   string
	fronts int
	weir   bool
	pool   string // settings of the pool, YAML

	arms  []*arm
	loads []*arm // load generators, at arms in turn; they hold what those told
	peers []*process
	now   []float64   // load_ratio of each engine, as it was last looked at
	ratio [][]float64 // the same at the end of each slice
	shows []float64   // s from the start until each engine's load_ratio was above 1; negative = never
}

// enginesWorld is peers and load.
type enginesWorld struct {
	what  string
	peers [][]string // arguments of each backend
	load  []string
}

func (c *enginesCmd) world() enginesWorld {
	if c.World == "uneven" {
		w := enginesWorld{what: "six peers of 4 slots:", load: unevenLoad}
		for i, k := range uneven {
			w.what += map[bool]string{true: " ", false: "; "}[i == 0] + k.what
			w.peers = append(w.peers, k.args)
		}
		return w
	}
	if c.World == "slots" {
		w := enginesWorld{what: "ten peers, five of 2 slots and five of 16", load: []string{"any:1:100:exp"}}
		for i := range 10 {
			w.peers = append(w.peers, []string{"--slots", map[bool]string{true: "2", false: "16"}[i < 5]})
		}
		return w
	}
	w := enginesWorld{what: "twenty peers of 4 slots, ten of speed 1 and ten of speed 0.5", load: []string{"any:1:100:exp"}}
	for i := range 20 {
		w.peers = append(w.peers, []string{"--speed", map[bool]string{true: "1", false: "0.5"}[i < 10]})
	}
	return w
}

func (c *enginesCmd) measure(b *bench) (*result, error) {
	if err := need("nginx"); err != nil {
		return nil, err
	}
	if len(c.fleets()) == 0 {
		return nil, errors.New("--only: none of the fleets is called so")
	}
	if c.Fronts < 1 || c.Slice <= 0 || c.Warmup%c.Slice != 0 || c.For%c.Slice != 0 || c.For <= c.Warmup || c.Rate <= 0 {
		return nil, errors.New("--for and --warmup must be whole numbers of slices, --for the longer one; --fronts and --rate above 0")
	}
	for _, pkg := range []string{"./test/backend/cmd/backend", "./bench/load", "./engine/cmd/weir"} {
		if _, err := b.build(pkg); err != nil {
			return nil, err
		}
	}
	w := c.world()
	r := &result{Setup: fmt.Sprintf("Each fleet has %s. Load by Poisson, open loop, %.0f/s to each fleet, split over %d load generators: %v (share, mean ms, distribution). Fleets run at the same time "+
		"with the same arrivals and sizes: %d NGINX (one worker each) with least_conn; as many, each with an engine that finds out how many share the peers; the same, told (balancers: %d); one NGINX with least_conn under the whole load; one with one engine. "+
		"Defaults otherwise, no state from before. Rounds of %v; figures are of what came after %v. Times are NGINX's, from the request's first byte to the answer's last.",
		w.what, c.Rate, c.Fronts, w.load, c.Fronts, c.Fronts, c.For, c.Warmup)}
	raw := &enginesRaw{}
	r.Raw = raw
	for round := range c.Rounds {
		fleets, err := c.round(b, &w, round)
		if err != nil {
			return nil, fmt.Errorf("round %d: %w", round+1, err)
		}
		for i := range c.Fronts {
			r.Seeds = append(r.Seeds, c.seed(round, i))
		}
		c.sum(raw, round, fleets)
		b.say("round %d of %d", round+1, c.Rounds)
	}
	c.report(r, raw)
	return r, nil
}

// seed of a load generator.
func (c *enginesCmd) seed(round, generator int) uint64 {
	return c.Seed + uint64(round*c.Fronts+generator)
}

// fleets are those that run, in the order they are shown.
func (c *enginesCmd) fleets() []*fleet {
	all := []*fleet{
		{name: "least_conn", fronts: c.Fronts},
		{name: "found", fronts: c.Fronts, weir: true},
		{name: "told", fronts: c.Fronts, weir: true, pool: fmt.Sprintf("    balancers: %d\n", c.Fronts)},
		{name: "one_least_conn", fronts: 1},
		{name: "one_weir", fronts: 1, weir: true},
	}
	return slices.DeleteFunc(all, func(f *fleet) bool { return len(c.Only) > 0 && !slices.Contains(c.Only, f.name) })
}

func (c *enginesCmd) round(b *bench, w *enginesWorld, round int) ([]*fleet, error) {
	fleets := c.fleets()
	defer b.stopAll()
	for _, f := range fleets {
		if err := c.start(b, w, f, round); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	if err := b.sleep(500 * time.Millisecond); err != nil { // tables arrive
		return nil, err
	}
	began := time.Now()
	for _, f := range fleets {
		if err := c.send(b, w, f, round); err != nil {
			return nil, err
		}
	}
	for t := c.Slice; t <= c.For; t += c.Slice {
		for time.Since(began) < t {
			if err := b.sleep(min(time.Second, time.Until(began.Add(t)))); err != nil {
				return nil, err
			}
			for _, f := range fleets {
				if err := f.look(time.Since(began)); err != nil {
					return nil, err
				}
			}
		}
		for _, f := range fleets {
			f.ratio = append(f.ratio, slices.Clone(f.now))
		}
		text := ""
		for _, f := range fleets {
			if f.weir {
				text += fmt.Sprintf(", %s %s", f.name, ratios(f.now))
			}
		}
		b.say("%v of %v, load_ratio%s", t, c.For, strings.TrimPrefix(text, ","))
	}
	for _, f := range fleets {
		for _, l := range f.loads {
			if err := l.sent(b); err != nil {
				return nil, fmt.Errorf("%s: %w", l.name, err)
			}
		}
		for _, a := range f.arms {
			var err error
			if a.seen, err = readAccess(a.access); err != nil {
				return nil, err
			}
			if a.eng != nil {
				user, system, err := cpuOf(a.eng.pid())
				if err != nil {
					return nil, err
				}
				a.cpu = user + system
			}
		}
	}
	return fleets, nil
}

// start starts a fleet but for its load.
func (c *enginesCmd) start(b *bench, w *enginesWorld, f *fleet, round int) error {
	peers, err := b.addrs(len(w.peers))
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s-%d", f.name, round)
	for i, kind := range w.peers {
		args := []string{"--name", fmt.Sprint(i), "--listen", peers[i], "--slots", "4", "--seed", fmt.Sprint(i + 1)}
		for _, class := range w.load { // the load generator tells the work of each request; this names the classes
			class, _, _ := strings.Cut(class, ":")
			args = append(args, "--class", class+":1")
		}
		p, err := b.start(fmt.Sprintf("%s-peer-%d", name, i), nil, filepath.Join(b.dir, "bin-backend"), append(args, kind...)...)
		if err != nil {
			return err
		}
		f.peers = append(f.peers, p)
	}
	for i, p := range f.peers {
		if err := b.awaitPort(p, peers[i]); err != nil {
			return err
		}
	}
	for i := range f.fronts {
		a := &arm{name: fmt.Sprintf("%s-%d", name, i)}
		listen, err := b.addrs(1)
		if err != nil {
			return err
		}
		a.listen, a.access = listen[0], filepath.Join(b.dir, a.name+"-access.log")
		const format = "    log_format times '$msec $request_time $status %s';\n"
		// A worker writes its log itself, and stands still while the file system does: for 13 s once, beside engines that keep history.
		s := site{Name: a.name, Listen: a.listen, Peers: peers, Access: a.access + " times buffer=64k flush=1s", HTTP: fmt.Sprintf(format, f.name), Upstream: servers(peers) + "        least_conn;\n"}
		if f.weir {
			if a.eng, err = b.engine(a.name+"-engine", peers, f.pool); err != nil {
				return err
			}
			s.Lua, s.HTTP, s.Upstream, s.Socket = true, b.weirHTTP(false)+s.HTTP, weirUpstream(peers), a.eng.socket
		}
		if _, err := b.nginx(s); err != nil {
			return err
		}
		f.arms, f.shows = append(f.arms, a), append(f.shows, -1)
	}
	return nil
}

// send starts the load generators. There are as many for one NGINX as for several, so that all fleets meet the same arrivals.
func (c *enginesCmd) send(b *bench, w *enginesWorld, f *fleet, round int) (err error) {
	for i := range c.Fronts {
		a := f.arms[i%len(f.arms)]
		l := &arm{name: fmt.Sprintf("%s-load-%d", a.name, i), access: a.access}
		args := []string{"--json", "--url", "http://" + a.listen, "--rate", fmt.Sprint(c.Rate / float64(c.Fronts)), "--for", c.For.String(), "--seed", fmt.Sprint(c.seed(round, i)), "--timeout", "60s"}
		for _, class := range w.load {
			args = append(args, "--class", class)
		}
		a.began = time.Now()
		if l.load, err = b.start(l.name, nil, filepath.Join(b.dir, "bin-load"), args...); err != nil {
			return err
		}
		f.loads = append(f.loads, l)
	}
	return nil
}

// ratio is the load_ratio of the arm's pool.
func (a *arm) ratio() (float64, error) {
	var v struct {
		Pools []struct {
			LoadRatio float64 `json:"load_ratio"`
		} `json:"pools"`
	}
	if err := getJSON(a.eng.web, "http://"+a.eng.admin+"/api/metrics", &v); err != nil {
		return 0, err
	}
	if len(v.Pools) != 1 {
		return 0, fmt.Errorf("%s: %d pools", a.name, len(v.Pools))
	}
	return v.Pools[0].LoadRatio, nil
}

// look asks the engines what they found by now.
func (f *fleet) look(at time.Duration) error {
	if !f.weir {
		return nil
	}
	f.now = f.now[:0]
	for i, a := range f.arms {
		r, err := a.ratio()
		if err != nil {
			return err
		}
		f.now = append(f.now, r)
		if r > 1 && f.shows[i] < 0 {
			f.shows[i] = at.Seconds()
		}
	}
	return nil
}
