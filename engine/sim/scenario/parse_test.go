package scenario

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// whole is the example of the form: every key once.
const whole = `name: class-affinity
requests: 200000            # measured, after
warmup: 100000              # these
episodes: 2
balancers: 3
arrivals: {load: 0.8}
classes:
  - {name: light, share: 0.6,  service_ms: {mean: 5,  dist: exp}}
  - {name: mid,   share: 0.35, service_ms: {mean: 10, dist: lognormal, cv: 0.5}}
  - {name: heavy, share: 0.05, service_ms: {mean: 80, dist: pareto, shape: 2.2}, weight_hint: true}
peers:
  - {count: 3, slots: 4, speed: 1.0, affinity: {light: 1.5, mid: 1.5, heavy: 0.3}}
  - {count: 3, slots: 4, speed: 0.5, affinity: {light: 0.4, heavy: 2}}
  - {count: 4, slots: 4, speed: 1.0, reports: orca}
events:
  - {peer: 0, from_s: 60, for_s: 60, every_s: 600, speed: 0.15}
  - {peer: 2, from_s: 30, for_s: 20, fail: {status: 503, after_ms: 1, share: 0.5}}
  - {peer: 3, from_s: 90, for_s: 10, fail: {refuse: true}}
  - {peer: 4, from_s: 120, leave: true}
  - {peer: 5, from_s: 150, join: true, warm_s: 30, cold_factor: 5}
timeout_ms: 5000
retries: 1
`

// least is the shortest scenario there is.
const least = `requests: 10
arrivals: {rate_per_s: 5}
classes: [{service_ms: {mean: 100}}]
peers: [{}]
`

func TestEveryKeyOfTheFormIsRead(t *testing.T) {
	s, err := Parse("x.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "class-affinity" || s.Requests != 200000 || s.Warmup != 100000 || s.Episodes != 2 || s.Balancers != 3 ||
		s.TimeoutMS != 5000 || s.Retries != 1 {
		t.Errorf("top level: %+v", s)
	}
	if c := s.Classes[1]; c.Name != "mid" || c.Share != 0.35 || c.MeanMS != 10 || c.Dist != Lognormal || c.CV != 0.5 || c.WeightHint {
		t.Errorf("class 1: %+v", c)
	}
	if c := s.Classes[2]; c.Dist != Pareto || c.Shape != 2.2 || !c.WeightHint {
		t.Errorf("class 2: %+v", c)
	}
	if len(s.Peers) != 10 {
		t.Fatalf("%d peers, want 10: count is written out", len(s.Peers))
	}
	if p := s.Peers[5]; p.Slots != 4 || p.Speed != 0.5 || p.Affinity[0] != 0.4 || p.Affinity[1] != 1 || p.Affinity[2] != 2 || p.ORCA {
		t.Errorf("peer 5: %+v", p)
	}
	if !s.Peers[6].ORCA {
		t.Error("peer 6 should report")
	}
	if e := s.Events[0]; e.Peer != 0 || e.FromS != 60 || e.ForS != 60 || e.EveryS != 600 || e.Speed != 0.15 {
		t.Errorf("event 0: %+v", e)
	}
	if f := s.Events[1].Fail; f == nil || f.Status != 503 || f.AfterMS != 1 || f.Share != 0.5 || f.Refuse {
		t.Errorf("event 1: %+v", f)
	}
	if f := s.Events[2].Fail; f == nil || !f.Refuse || f.Status != 0 || f.Share != 1 {
		t.Errorf("event 2: %+v", f)
	}
	if !s.Events[3].Leave || !s.Events[4].Join || s.Events[4].WarmS != 30 || s.Events[4].ColdFactor != 5 {
		t.Errorf("events 3 and 4: %+v %+v", s.Events[3], s.Events[4])
	}
}

func TestLoadIsReckonedFromSlotsSpeedAndTheMixOnEachPeer(t *testing.T) {
	s, err := Parse("x.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	// Mix means by hand: 0.6*5*1.5+0.35*10*1.5+0.05*80*0.3; 0.6*5*0.4+0.35*10+0.05*80*2; 0.6*5+0.35*10+0.05*80.
	want := 0.8 * 1000 * (3*4/10.95 + 3*4*0.5/12.7 + 4*4/10.5)
	if got := s.Arrivals[0].RatePerS; math.Abs(got-want) > 1e-9*want {
		t.Errorf("rate %v, want %v", got, want)
	}
}

func TestWhatIsLeftOutHasItsDefault(t *testing.T) {
	s, err := Parse("dir/least.yaml", []byte(least))
	if err != nil {
		t.Fatal(err)
	}
	p, c := s.Peers[0], s.Classes[0]
	if s.Name != "least" || s.Warmup != 0 || s.Episodes != 1 || s.Balancers != 1 || s.TimeoutMS != 0 || s.Retries != 0 ||
		p.Slots != 1 || p.Speed != 1 || p.Affinity[0] != 1 || p.ORCA || c.Share != 1 || c.Dist != Exp {
		t.Errorf("%+v", s)
	}
}

func TestAMistakeIsToldWithFileLineAndKey(t *testing.T) {
	for name, c := range map[string]struct{ from, to, want string }{
		"unknown key":            {"retries: 1", "retrys: 1", `x.yaml:22: unknown key "retrys"; known keys are name, requests`},
		"unknown key inside":     {"slots: 4, speed: 0.5", "slot: 4, speed: 0.5", `x.yaml:13: unknown key "slot" in peers[1]; known keys are count`},
		"unknown key in service": {"cv: 0.5", "cv: 0.5, max: 3", `x.yaml:9: unknown key "max" in classes[1].service_ms`},
		"unknown key in fail":    {"refuse: true", "refused: true", `x.yaml:18: unknown key "refused" in events[2].fail`},
		"key twice":              {"retries: 1", "retries: 1\nretries: 2", `x.yaml:23: key "retries" is given twice`},
		"missing key":            {"arrivals: {load: 0.8}\n", "", `key "arrivals" is missing`},
		"shares":                 {"share: 0.35", "share: 0.3", "shares of the classes sum to 0.95; they must sum to 1"},
		"unknown distribution":   {"dist: exp", "dist: expo", `x.yaml:8: classes[0].service_ms.dist must be one of fixed, exp, lognormal, pareto, not "expo"`},
		"cv missing":             {", cv: 0.5", "", "classes[1].service_ms.cv is needed with dist: lognormal"},
		"cv out of place":        {"dist: exp", "dist: exp, cv: 2", "classes[0].service_ms.cv belongs to dist: lognormal"},
		"no mean":                {"shape: 2.2", "shape: 1", "x.yaml:10: classes[2].service_ms.shape must be above 1"},
		"affinity to nobody":     {"{light: 0.4,", "{ligth: 0.4,", `x.yaml:13: unknown key "ligth" in peers[1].affinity; known keys are light, mid, heavy`},
		"peer out of range":      {"{peer: 4,", "{peer: 10,", "x.yaml:19: events[3].peer must be from 0 to 9, not 10"},
		"event without effect":   {"leave: true", "leave: false", "x.yaml:19: events[3] changes nothing"},
		"leave and join":         {"leave: true", "leave: true, join: true", "x.yaml:19: events[3] cannot both leave and join"},
		"repeats for ever":       {"for_s: 60, every_s", "every_s", "x.yaml:16: events[0] repeats with every_s but never ends"},
		"repeats too soon":       {"every_s: 600", "every_s: 50", "x.yaml:16: events[0] repeats every 50 s but lasts 60 s"},
		"warm without join":      {"leave: true", "leave: true, warm_s: 3", "x.yaml:19: events[3] has warm_s or cold_factor"},
		"refuse with status":     {"refuse: true", "refuse: true, status: 500", "x.yaml:18: events[2].fail has both refuse and status"},
		"speed 0":                {"speed: 0.15", "speed: 0", "x.yaml:16: events[0].speed must be above 0 and at most 1e+06, not 0"},
		"not a number":           {"timeout_ms: 5000", "timeout_ms: 5s", `x.yaml:21: timeout_ms must be a number, not "5s"`},
		"not whole":              {"retries: 1", "retries: 1.5", "x.yaml:22: retries must be a whole number, not 1.5"},
		"infinite":               {"load: 0.8", "load: .inf", `x.yaml:6: arrivals.load must be a number`},
		"no arrivals":            {"load: 0.8", "load: 0", "x.yaml:6: arrivals must be above 0"},
		"two rates":              {"load: 0.8", "load: 0.8, rate_per_s: 3", "arrivals needs exactly one of load, rate_per_s and steps"},
		"reports":                {"reports: orca", "reports: ocra", `x.yaml:14: peers[2].reports must be orca or none, not "ocra"`},
		"class twice":            {"name: mid", "name: light", `x.yaml:9: classes[1]: the class "light" is there twice`},
		"not true":               {"leave: true", "leave: yes", `events[3].leave must be true or false, not "yes"`},
		"a list":                 {whole, "- a\n- b\n", "x.yaml:1: the file must be a mapping"},
		"empty":                  {whole, "", "x.yaml: the file is empty"},
		"two documents":          {"retries: 1", "retries: 1\n---\nretries: 2", "x.yaml: it holds more than one document"},
		"hardly any arrivals":    {"load: 0.8", "rate_per_s: 1e-300", "x.yaml:6: arrivals: the 500000 requests may take 5.04e+305 simulated seconds to come; at most 1e+07"},
		"hardly any in steps":    {"load: 0.8", "steps: [{for_s: 1, rate_per_s: 1}, {for_s: 1e9, rate_per_s: 0}]", "simulated seconds to come; at most 1e+07"},
		"a long wait for them":   {"load: 0.8", "steps: [{for_s: 1e9, rate_per_s: 0}, {for_s: 1, rate_per_s: 1e9}]", "simulated seconds to come; at most 1e+07"},
		"a peer that stands":     {"slots: 4, speed: 0.5", "slots: 4, speed: 1e-9", "on peer 3 a request takes"},
		"no YAML":                {whole, "a: [", "x.yaml:1: is not valid YAML"},
		"too much":               {"requests: 200000", "requests: 40000000", "at most 50000000 are allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(whole, c.from, c.to, 1)
			if text == whole {
				t.Fatal("the mistake was not made")
			}
			_, err := Parse("x.yaml", []byte(text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestSeveralMistakesAreToldTogether(t *testing.T) {
	text := strings.Replace(strings.Replace(whole, "retries: 1", "retrys: 1", 1), "speed: 0.15", "speed: -1", 1)
	_, err := Parse("x.yaml", []byte(text))
	if err == nil || !strings.Contains(err.Error(), "retrys") || !strings.Contains(err.Error(), "events[0].speed") {
		t.Errorf("got %v", err)
	}
}

func TestStepsAreSharesOfCapacityOrRates(t *testing.T) {
	text := strings.Replace(least, "{rate_per_s: 5}", "{steps: [{for_s: 60, load: 0.5}, {for_s: 30, rate_per_s: 7}]}", 1)
	s, err := Parse("x.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if want := []Step{{60, 5}, {30, 7}}; s.Arrivals[0] != want[0] || s.Arrivals[1] != want[1] {
		t.Errorf("%v, want %v", s.Arrivals, want)
	}
}

func TestTimeIsOnlyBoundedWhereRequestsAreWaitedFor(t *testing.T) {
	rush := func(steps, requests string) error {
		text := strings.Replace(least, "{rate_per_s: 5}", "{steps: ["+steps+"]}", 1)
		_, err := Parse("x.yaml", []byte(strings.Replace(text, "requests: 10\n", "requests: "+requests+"\n", 1)))
		return err
	}
	const pause = "{for_s: 1e9, rate_per_s: 0}"
	if err := rush("{for_s: 600, rate_per_s: 100}, "+pause, "10000"); err != nil {
		t.Errorf("the pause after all that come is refused: %v", err)
	}
	if rush("{for_s: 100, rate_per_s: 100}, "+pause, "10000") == nil {
		t.Error("a pause that half of all runs begin is taken")
	}
	if rush(pause+", {for_s: 1, rate_per_s: 1e9}", "10") == nil {
		t.Error("a pause before all of them is taken")
	}
}

func suite(t testing.TB) []string {
	files, err := filepath.Glob("../../../bench/scenarios/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios in bench/scenarios: %v", err)
	}
	return files
}

func TestTheScenariosOfTheRepositoryAreValidAndNamedAsTheirFiles(t *testing.T) {
	for _, file := range suite(t) {
		s, err := Load(file)
		if err != nil {
			t.Error(err)
			continue
		}
		if want := strings.TrimSuffix(filepath.Base(file), ".yaml"); s.Name != want {
			t.Errorf("%s is named %q", file, s.Name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte(least))
	f.Add([]byte("a: &a [*a]\nclasses: *a\npeers: *a\nrequests: *a\narrivals: *a\n"))
	for _, file := range suite(f) {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("f.yaml", data)
		if err != nil {
			return
		}
		if s.Total() > maxRequests || len(s.Peers) == 0 || len(s.Peers) > maxPeers || len(s.Classes) == 0 {
			t.Errorf("accepted out of bounds: %+v", s)
		}
		sum := 0.0
		for _, a := range s.Arrivals {
			sum += a.RatePerS
		}
		if !(sum > 0) || math.IsInf(sum, 0) || !(s.CapacityPerS() > 0) {
			t.Errorf("arrivals %v of capacity %v", s.Arrivals, s.CapacityPerS())
		}
		for _, e := range s.Events {
			if e.Peer < 0 || e.Peer >= len(s.Peers) || (e.EveryS > 0 && e.ForS == 0) {
				t.Errorf("accepted event %+v", e)
			}
		}
	})
}

func TestASyntaxErrorHasTheLineItIsOn(t *testing.T) {
	before := "requests: 10\narrivals: {load: 0.5}\nclasses:\n  - {service_ms: {mean: 5}}\npeers:\n  - count: 2\n"
	for text, want := range map[string]string{ // the first line is 7
		"  - count: 3\n   slots: 1\n":     "f.yaml:8: is not valid YAML",
		"  - {count: 3, slots: }}\n":      "f.yaml:7: is not valid YAML",
		"  - count: 3\n\tslots: 1\n":      "f.yaml:8: is not valid YAML: this line is indented with a tab",
		"  - count: 3\n    slots: *few\n": "f.yaml:8: a value that begins with *",
	} {
		if _, err := Parse("f.yaml", []byte(before+text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
