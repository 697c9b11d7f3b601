package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// onlineCmd lets an engine learn from real traffic, and holds what `weir evaluate` says to what happens.
//
// Arms run at the same time, each with backends, NGINX and load of its own: the same arrivals, classes and sizes, and the same
// changes of the world. So a slice of time is compared with the same slice, whatever else the machine did in it.
type onlineCmd struct {
	For      time.Duration `default:"5m" help:"Length of the long run, in which one engine learns. In its second third a peer is slow."`
	Slice    time.Duration `default:"30s" help:"Slices of time it is told in."`
	Every    time.Duration `default:"30s" help:"learn.every_ms and learn.watch_ms: from one candidate to the next."`
	Rounds   int           `default:"3" help:"Rounds of estimates against what happened; 0 = none."`
	Round    time.Duration `default:"2m30s" help:"Length of each; what is judged comes after the first minute."`
	Warmup   time.Duration `default:"1m" help:"Of estimators, in each round."`
	Rate     float64       `default:"250" help:"Requests a second, open loop, of each arm; its backends can take about 400."`
	Slow     float64       `default:"0.3" help:"Speed of the peer that becomes slow."`
	Explore  float64       `default:"0.02" help:"explore of the pools."`
	Seed     uint64        `default:"1" help:"Of arrivals, classes and sizes; each round takes the next."`
	Scramble float64       `default:"0.8" help:"How bad the bad model of the rounds is: costs are taken to the power of 1 less this, so that dear peers look like cheap ones."`
}

func (onlineCmd) name() string { return "online" }
func (c onlineCmd) limit() time.Duration {
	return c.For + time.Duration(c.Rounds)*(c.Round+3*time.Minute) + 5*time.Minute
}

// onlineLoad is that of `peers` with all times doubled: history tells when attempts ended to the millisecond.
var onlineLoad = []string{"light:0.70:20:exp", "page:0.25:60:exp", "heavy:0.05:320:pareto:2.2"}

// arm is one balancer with all that is its own.
type arm struct {
	name  string // for people and files
	model string // as model.file has it; "" = plain NGINX with least_conn
	learn string // the value of learn; "" = does not

	eng      *engine
	listen   string
	controls []string // of the backends
	access   string   // NGINX's log
	history  string
	began    time.Time
	load     *process
	told     peersRun  // by the load generator
	seen     []seen    // by NGINX
	memory   []float64 // MiB, of the engine
	cpu      time.Duration
}

func (c *onlineCmd) measure(b *bench) (*result, error) {
	if err := need("nginx"); err != nil {
		return nil, err
	}
	for _, pkg := range []string{"./test/backend/cmd/backend", "./bench/load", "./engine/cmd/weir"} {
		if _, err := b.build(pkg); err != nil {
			return nil, err
		}
	}
	var kinds []string
	for _, k := range uneven {
		kinds = append(kinds, k.what)
	}
	r := &result{
		Seeds: []uint64{c.Seed},
		Setup: fmt.Sprintf("Each arm has six backends of 4 slots: %s. Load by Poisson, open loop, %.0f/s to each arm: %s (share, mean ms, distribution). Arms run at the same time with the same arrivals, classes and sizes. "+
			"Real NGINX (one worker), real engines, history in files; explore %g, spread 0.1, control 0.02. Times are NGINX's, from the request's first byte to the answer's last, slices by when requests came.",
			strings.Join(kinds, "; "), c.Rate, strings.Join(onlineLoad, ", "), c.Explore),
	}
	raw := &onlineRaw{}
	r.Raw = raw
	last, err := c.long(b, r, raw)
	if err != nil {
		return nil, err
	}
	for i := range c.Rounds {
		seed := c.Seed + 1 + uint64(i)
		r.Seeds = append(r.Seeds, seed)
		b.say("estimates against what happens, round %d of %d", i+1, c.Rounds)
		if err := c.round(b, raw, i, seed, last); err != nil {
			return nil, fmt.Errorf("round %d: %w", i+1, err)
		}
	}
	c.reportRounds(r, raw)
	return r, nil
}

// onlineRaw is every single value.
type onlineRaw struct {
	Slices   []sliceFigures `json:"slices"`
	Steps    []learned      `json:"steps"`
	LongRun  []offPolicy    `json:"estimates_of_the_long_run"`
	Compared []offPolicy    `json:"rounds"`
}

// start starts an arm but for its load.
func (c *onlineCmd) start(b *bench, a *arm) error {
	addrs, err := b.addrs(2*len(uneven) + 1)
	if err != nil {
		return err
	}
	peers := addrs[:len(uneven)]
	a.controls, a.listen = addrs[len(uneven):2*len(uneven)], addrs[2*len(uneven)]
	for i, kind := range uneven {
		args := []string{"--name", string(rune('a' + i)), "--listen", peers[i], "--control", a.controls[i], "--slots", "4", "--seed", fmt.Sprint(i + 1)}
		for _, class := range onlineLoad { // the load generator tells the work of each request; this names the classes
			class, _, _ := strings.Cut(class, ":")
			args = append(args, "--class", class+":1")
		}
		p, err := b.start(fmt.Sprintf("%s-%c", a.name, 'a'+i), nil, filepath.Join(b.dir, "bin-backend"), append(args, kind.args...)...)
		if err != nil {
			return err
		}
		if err := b.awaitPort(p, peers[i]); err != nil {
			return err
		}
	}
	a.access = filepath.Join(b.dir, a.name+"-access.log")
	s := site{Name: a.name, Listen: a.listen, Peers: peers, Access: a.access + " times"}
	const format = "    log_format times '$msec $request_time $status %s';\n"
	if a.model == "" {
		s.HTTP, s.Upstream = fmt.Sprintf(format, "least_conn"), servers(peers)+"        least_conn;\n"
		_, err = b.nginx(s)
		return err
	}
	if err := c.engine(b, a, peers, ""); err != nil {
		return err
	}
	s.Lua, s.HTTP, s.Upstream, s.Socket = true, b.weirHTTP(false)+fmt.Sprintf(format, "$weir_policy"), weirUpstream(peers), a.eng.socket
	if _, err = b.nginx(s); err != nil {
		return err
	}
	return b.sleep(500 * time.Millisecond) // tables arrive
}

// engine starts the arm's engine. Without ONNX Runtime the engine's own evaluation serves.
func (c *onlineCmd) engine(b *bench, a *arm, peers []string, library string) error {
	policy := "learned"
	file := a.model
	if a.model == analytic {
		policy, file = analytic, "none"
	}
	a.history = filepath.Join(b.dir, a.name+"-history", "history.db")
	top := fmt.Sprintf("history: {dir: %s-history, sample_above: 0}\nmodel: {file: %q%s}\n", a.name, file, library)
	if a.learn != "" {
		top += "learn: " + a.learn + "\n"
	}
	var err error
	if a.eng, err = b.engineWith(a.name+"-engine", peers, fmt.Sprintf("    policy: %s\n    explore: %g\n", policy, c.Explore), top); err != nil || policy == analytic {
		return err
	}
	v, err := a.models()
	if err != nil || v.Serves != nil {
		return err
	}
	if library != "" {
		return fmt.Errorf("the model of %s does not serve: %s", a.name, v.Fault)
	}
	a.eng.stop()
	return c.engine(b, a, peers, ", library: builtin")
}

// analytic is the word for the policy without a model, in weir.yaml and to weir evaluate.
const analytic = "analytic"

// modelsView is what is read of GET /api/models.
type modelsView struct {
	Serves    *string `json:"serves"`
	Evaluator string  `json:"evaluator"`
	Fault     string  `json:"fault"`
	Current   *string `json:"current"`
	Models    []struct {
		ID     string `json:"id"`
		Origin string `json:"origin"`
	} `json:"models"`
	Learning struct {
		CPUSeconds float64 `json:"cpu_seconds"`
		Candidates int     `json:"candidates"`
		Decisions  int     `json:"decisions"`
		Bytes      int     `json:"bytes"`
	} `json:"learning"`
}

func (a *arm) models() (v modelsView, err error) {
	return v, getJSON(a.eng.web, "http://"+a.eng.admin+"/api/models", &v)
}

// send starts the arm's load.
func (c *onlineCmd) send(b *bench, a *arm, seed uint64, long time.Duration) (err error) {
	args := []string{"--json", "--url", "http://" + a.listen, "--rate", fmt.Sprint(c.Rate), "--for", long.String(), "--seed", fmt.Sprint(seed), "--timeout", "60s"}
	for _, class := range onlineLoad {
		args = append(args, "--class", class)
	}
	a.began = time.Now()
	a.load, err = b.start(a.name+"-load", nil, filepath.Join(b.dir, "bin-load"), args...)
	return err
}

// sent waits for the end of the load, and reads what it and NGINX say.
func (a *arm) sent(b *bench) error {
	select {
	case <-a.load.done:
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
	text, err := os.ReadFile(a.load.log)
	if err != nil {
		return err
	}
	var told struct {
		LateP99 float64  `json:"late_p99_ms"`
		All     peersRun `json:"all"`
	}
	if err := json.Unmarshal(text, &told); err != nil {
		return fmt.Errorf("bench/load printed something else: %w\n%.500s", err, text)
	}
	a.told = told.All
	a.told.LateP99 = told.LateP99
	if err := b.sleep(time.Second); err != nil { // history is written four times a second
		return err
	}
	a.seen, err = readAccess(a.access)
	return err
}

// speed makes a backend slow, or itself again.
func (a *arm) speed(peer int, speed float64) error {
	req, err := http.NewRequest(http.MethodPatch, "http://"+a.controls[peer]+"/settings", strings.NewReader(fmt.Sprintf(`{"speed":%g}`, speed)))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("backend %c of %s: %s", 'a'+peer, a.name, resp.Status)
	}
	return nil
}
