package scenario

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weirlb/weir/engine/yamlread"
)

// Load reads one scenario file.
func Load(file string) (*Scenario, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading the scenario: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the scenario: %w", err)
	case len(data) > maxFile:
		return nil, fmt.Errorf("%s: it has more than %d bytes", file, maxFile)
	}
	return Parse(file, data)
}

// Parse reads a scenario from data. file is named in errors, and its base name is the scenario's when `name` is absent.
// The error joins every problem found, one a line.
func Parse(file string, data []byte) (*Scenario, error) {
	var doc, more yaml.Node
	documents := yamlread.New(data)
	if err := documents.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		line, msg := documents.Wrong(err)
		return nil, fmt.Errorf("%s:%d: %s", file, line, msg)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, fmt.Errorf("%s: the file is empty; a scenario has at least requests, arrivals, classes and peers", file)
	}
	if err := documents.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: it holds more than one document (a line with ---): keep one", file)
	}
	r := &reader{file: file}
	s := r.scenario(doc.Content[0])
	if err := r.err(); err != nil {
		return nil, err
	}
	if s.Name == "" {
		s.Name = strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	}
	return s, nil
}

func (r *reader) scenario(n *yaml.Node) *Scenario {
	f, ok := r.mapping(n, "", "name", "requests", "warmup", "episodes", "balancers", "arrivals", "classes", "peers",
		"events", "timeout_ms", "retries")
	if !ok {
		return nil
	}
	for _, key := range []string{"requests", "arrivals", "classes", "peers"} {
		if !f.has(key) {
			r.fail(f.at, "key %q is missing", key)
		}
	}
	s := &Scenario{
		Name:      f.text("name", ""),
		Requests:  f.integer("requests", 1, 1, maxRequests),
		Warmup:    f.integer("warmup", 0, 0, maxRequests),
		Episodes:  f.integer("episodes", 1, 1, maxRequests),
		Balancers: f.integer("balancers", 1, 1, maxBalancers),
		TimeoutMS: f.positive("timeout_ms", 0, maxSpan),
		Retries:   f.integer("retries", 0, 0, maxRetries),
	}
	if total := float64(s.Warmup) + float64(s.Requests)*float64(s.Episodes); total > maxRequests {
		r.fail(f.at, "warmup + requests x episodes is %.0f; at most %d are allowed", total, maxRequests)
	}
	if n := f.vals["classes"]; n != nil {
		s.Classes = r.classes(n)
	}
	if n := f.vals["peers"]; n != nil && len(s.Classes) > 0 {
		s.Peers = r.peers(n, s.Classes)
	}
	if n := f.vals["arrivals"]; n != nil && len(s.Peers) > 0 {
		s.Arrivals = r.arrivals(n, capacity(s.Classes, s.Peers))
	}
	// Arrivals are random: one request fewer than expected by the end of a step, and the next step is waited for.
	most := float64(s.Total()) + 6*math.Sqrt(float64(s.Total())) + 6
	if took := spanS(s.Arrivals, most); len(r.errs) == 0 && took > maxTimeS {
		r.fail(f.vals["arrivals"], "arrivals: the %d requests may take %.3g simulated seconds to come; at most %.0e are allowed", s.Total(), took, float64(maxTimeS))
	}
	for i := range s.Peers {
		if ms := s.MixMeanMS(i) / s.Peers[i].Speed; len(r.errs) == 0 && ms > maxSpan {
			r.fail(f.vals["peers"], "peers: on peer %d a request takes %.3g ms in the mean; at most %.0e are allowed", i, ms, maxSpan)
		}
	}
	if n := f.vals["events"]; n != nil && len(s.Peers) > 0 {
		s.Events = r.events(n, len(s.Peers))
	}
	return s
}

func (r *reader) classes(n *yaml.Node) []Class {
	nodes := r.list(n, "classes", maxClasses)
	if len(nodes) == 0 {
		r.fail(n, "classes must name at least one class")
		return nil
	}
	classes := make([]Class, 0, len(nodes))
	seen := map[string]bool{}
	sum := 0.0
	for i, cn := range nodes {
		path := fmt.Sprintf("classes[%d]", i)
		f, ok := r.mapping(cn, path, "name", "share", "service_ms", "weight_hint")
		if !ok {
			return nil
		}
		if !f.has("share") && len(nodes) > 1 {
			r.fail(cn, "%s needs a share: with several classes the shares must sum to 1", path)
		}
		c := Class{
			Name:       f.text("name", fmt.Sprintf("class%d", i)),
			Share:      f.number("share", 1, 0, 1),
			WeightHint: f.boolean("weight_hint"),
		}
		if seen[c.Name] {
			r.fail(cn, "%s: the class %q is there twice", path, c.Name)
		}
		seen[c.Name] = true
		if sn := f.vals["service_ms"]; sn == nil {
			r.fail(cn, "%s needs service_ms, as {mean: 100, dist: exp}", path)
		} else if !r.service(sn, path+".service_ms", &c) {
			return nil
		}
		sum += c.Share
		classes = append(classes, c)
	}
	if math.Abs(sum-1) > 1e-6 {
		r.fail(n, "the shares of the classes sum to %.6g; they must sum to 1", sum)
	}
	return classes
}

func (r *reader) service(n *yaml.Node, path string, c *Class) bool {
	f, ok := r.mapping(n, path, "mean", "dist", "cv", "shape")
	if !ok {
		return false
	}
	if !f.has("mean") {
		r.fail(n, "%s needs a mean", path)
	}
	c.MeanMS = f.number("mean", 1, minMeanMS, maxSpan)
	c.Dist = Exp
	if dn := f.vals["dist"]; dn != nil {
		found := false
		for d, name := range distNames {
			if dn.Value == name {
				c.Dist, found = Dist(d), true
			}
		}
		if !found {
			r.fail(dn, "%s.dist must be one of %s, not %s", path, strings.Join(distNames[:], ", "), describe(dn))
			return true
		}
	}
	r.only(&f, "cv", c.Dist == Lognormal, "lognormal")
	r.only(&f, "shape", c.Dist == Pareto, "pareto")
	switch c.Dist {
	case Lognormal:
		c.CV = f.positive("cv", 1, 100)
	case Pareto:
		c.Shape = f.number("shape", 2, 1, 1000)
		if c.Shape <= 1 {
			r.fail(f.vals["shape"], "%s must be above 1: a Pareto distribution has no mean at 1", f.name("shape"))
		}
	}
	return true
}

// only reports a key that is given for a distribution that has none, or is missing for the one that needs it.
func (r *reader) only(f *fields, key string, wanted bool, dist string) {
	switch {
	case wanted && !f.has(key):
		r.fail(f.at, "%s is needed with dist: %s", f.name(key), dist)
	case !wanted && f.has(key):
		r.fail(f.vals[key], "%s belongs to dist: %s", f.name(key), dist)
	}
}

func (r *reader) peers(n *yaml.Node, classes []Class) []Peer {
	nodes := r.list(n, "peers", maxPeers)
	if len(nodes) == 0 {
		r.fail(n, "peers must have at least one peer")
		return nil
	}
	names := make([]string, len(classes))
	for i, c := range classes {
		names[i] = c.Name
	}
	var peers []Peer
	for i, pn := range nodes {
		path := fmt.Sprintf("peers[%d]", i)
		f, ok := r.mapping(pn, path, "count", "slots", "speed", "affinity", "reports")
		if !ok {
			return nil
		}
		p := Peer{
			Slots:    f.integer("slots", 1, 1, maxSlots),
			Speed:    f.positive("speed", 1, 1e6),
			Affinity: r.affinity(&f, path, names),
		}
		switch reports := f.text("reports", "none"); reports {
		case "orca":
			p.ORCA = true
		case "none":
		default:
			r.fail(f.vals["reports"], "%s must be orca or none, not %q", f.name("reports"), reports)
		}
		count := f.integer("count", 1, 1, maxPeers)
		if len(peers)+count > maxPeers {
			r.fail(pn, "%s: more than %d peers in all", path, maxPeers)
			return nil
		}
		for range count {
			peers = append(peers, p) // Affinity is shared: nothing writes to it
		}
	}
	return peers
}

// affinity gives the factors by class, 1 where the file names none.
func (r *reader) affinity(f *fields, path string, classes []string) []float64 {
	factors := make([]float64, len(classes))
	for i := range factors {
		factors[i] = 1
	}
	n := f.vals["affinity"]
	if n == nil {
		return factors
	}
	if af, ok := r.mapping(n, path+".affinity", classes...); ok {
		for i, name := range classes {
			factors[i] = af.positive(name, 1, 1e6)
		}
	}
	return factors
}

func (r *reader) arrivals(n *yaml.Node, capacityPerS float64) []Step {
	f, ok := r.mapping(n, "arrivals", "load", "rate_per_s", "steps")
	if !ok {
		return nil
	}
	if len(f.vals) != 1 {
		r.fail(n, "arrivals needs exactly one of load, rate_per_s and steps")
		return nil
	}
	sn := f.vals["steps"]
	if sn == nil {
		step := Step{RatePerS: f.rate(capacityPerS)}
		if step.RatePerS <= 0 {
			r.fail(n, "arrivals must be above 0")
		}
		return []Step{step}
	}
	var steps []Step
	var sum float64
	for i, en := range r.list(sn, "arrivals.steps", maxSteps) {
		path := fmt.Sprintf("arrivals.steps[%d]", i)
		sf, ok := r.mapping(en, path, "for_s", "load", "rate_per_s")
		if !ok {
			return nil
		}
		if !sf.has("for_s") || sf.has("load") == sf.has("rate_per_s") {
			r.fail(en, "%s needs for_s and exactly one of load and rate_per_s", path)
			continue
		}
		step := Step{ForS: sf.number("for_s", 1, minSpanS, maxSpan), RatePerS: sf.rate(capacityPerS)}
		sum += step.RatePerS
		steps = append(steps, step)
	}
	if sum <= 0 && len(r.errs) == 0 {
		r.fail(sn, "arrivals.steps needs at least one step with arrivals above 0")
	}
	return steps
}

// spanS is in how many seconds so many requests come in the mean: whole rounds of the steps, and those steps of the last round that are begun.
// Seconds for each request in the mean of a round would not do: where few requests are asked for, a long step without any may come before them, or after them.
func spanS(steps []Step, requests float64) float64 {
	if len(steps) == 1 {
		return requests / steps[0].RatePerS
	}
	perRound, round := 0.0, 0.0
	for _, s := range steps {
		perRound, round = perRound+s.ForS*s.RatePerS, round+s.ForS
	}
	rounds := math.Floor(requests / perRound)
	took, left := rounds*round, requests-rounds*perRound
	for _, s := range steps {
		if come := s.ForS * s.RatePerS; come < left {
			took, left = took+s.ForS, left-come
			continue
		}
		if left > 0 {
			took += left / s.RatePerS
		}
		break
	}
	return took
}

// rate reads load or rate_per_s, whichever is there.
func (f *fields) rate(capacityPerS float64) float64 {
	if f.has("load") {
		return f.number("load", 0, 0, 100) * capacityPerS
	}
	return f.number("rate_per_s", 0, 0, 1e9)
}

func (r *reader) events(n *yaml.Node, peers int) []Event {
	var events []Event
	for i, en := range r.list(n, "events", maxEvents) {
		path := fmt.Sprintf("events[%d]", i)
		f, ok := r.mapping(en, path, "peer", "from_s", "for_s", "every_s", "speed", "fail", "leave", "join", "warm_s",
			"cold_factor")
		if !ok {
			return nil
		}
		if !f.has("peer") {
			r.fail(en, "%s needs a peer: a number from 0 to %d", path, peers-1)
		}
		e := Event{
			Peer:   f.integer("peer", 0, 0, peers-1),
			FromS:  f.number("from_s", 0, 0, maxSpan),
			ForS:   f.number("for_s", 0, minSpanS, maxSpan),
			EveryS: f.number("every_s", 0, minSpanS, maxSpan),
			Speed:  f.positive("speed", 0, 1e6),
			Leave:  f.boolean("leave"),
			Join:   f.boolean("join"),
			WarmS:  f.number("warm_s", 0, 0, maxSpan),
		}
		e.ColdFactor = f.positive("cold_factor", 1, 1e6)
		if fn := f.vals["fail"]; fn != nil {
			e.Fail = r.failure(fn, path+".fail")
		}
		if err := e.check(&f); err != nil {
			r.fail(en, "%s %s", path, err)
		}
		events = append(events, e)
	}
	return events
}

func (e *Event) check(f *fields) error {
	switch {
	case e.Leave && e.Join:
		return errors.New("cannot both leave and join")
	case !f.has("speed") && !f.has("fail") && !e.Leave && !e.Join:
		return errors.New("changes nothing: it needs speed, fail, leave: true or join: true")
	case !e.Join && (f.has("warm_s") || f.has("cold_factor")):
		return errors.New("has warm_s or cold_factor, which belong to join: true")
	case e.EveryS > 0 && e.ForS == 0:
		return errors.New("repeats with every_s but never ends: it needs for_s")
	case e.EveryS > 0 && e.EveryS < e.ForS:
		return fmt.Errorf("repeats every %v s but lasts %v s: every_s must be at least for_s", e.EveryS, e.ForS)
	}
	return nil
}

func (r *reader) failure(n *yaml.Node, path string) *Fail {
	f, ok := r.mapping(n, path, "status", "refuse", "share", "after_ms")
	if !ok {
		return nil
	}
	fail := &Fail{
		Refuse:  f.boolean("refuse"),
		Status:  f.integer("status", 500, 400, 599),
		AfterMS: f.number("after_ms", 0, 0, maxSpan),
		Share:   f.number("share", 1, 0, 1),
	}
	if fail.Refuse && f.has("status") {
		r.fail(n, "%s has both refuse and status: a refused connection has no status", path)
	}
	if fail.Refuse {
		fail.Status = 0
	}
	return fail
}
