package serve

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/engine/model/ort"
	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/telemetry"
)

// network makes a model that fits, with weights of chance.
func network(seed uint64) *model.Net {
	rnd := rand.New(rand.NewPCG(seed, 7))
	n := model.New([]int{decide.Inputs, 8, 1}, rnd)
	for i := range n.W[1] {
		n.W[1][i] = float32(rnd.NormFloat64() / 4)
	}
	return n
}

// overflowing makes a model that is well until a row has many in flight.
func overflowing() *model.Net {
	n := network(3)
	for i := range n.W[0] {
		n.W[0][i] = 0
	}
	n.W[0][slices.Index(decide.InputNames(), "log_n")*8], n.B[0][0] = 1, -2
	n.W[1][0] = math.MaxFloat32
	return n
}

func encoded(t testing.TB, n *model.Net, change func(*model.Meta)) []byte {
	t.Helper()
	meta := model.Meta{Features: decide.InputNames(), Heads: []string{decide.Head}, Card: map[string]string{"name": "test"}}
	if change != nil {
		change(&meta)
	}
	file, err := model.Encode(n, meta)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func written(t testing.TB, file []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// evaluators runs a test with ONNX Runtime and with the program's own evaluation.
func evaluators(t *testing.T, run func(t *testing.T, library string)) {
	t.Run("built in", func(t *testing.T) { run(t, config.LibraryBuiltin) })
	t.Run("ONNX Runtime", func(t *testing.T) {
		path, err := ort.Find("")
		if err != nil {
			if os.Getenv(ort.Variable) == "" {
				t.Skip(err)
			}
			t.Fatal(err)
		}
		run(t, path)
	})
}

// logged is still with a log to read.
func logged(t testing.TB, text string) (*Engine, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	e := New(parse(t, text), telemetry.NewLog(&log, "info"), telemetry.New())
	t.Cleanup(e.Close)
	return e, &log
}

// taught makes the pool's table after some news.
func taught(t testing.TB, e *Engine) *Snapshot {
	t.Helper()
	for i, peer := range []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"} {
		e.Observe(outcomes(t, "api", "*", peer, observe.OK, 40, float32(5+7*i)))
	}
	refresh(t, e, "api")
	return e.State().Pool("api")
}

// costs computes what the pool's table should be.
func costs(t testing.TB, e *Engine, net *model.Net) []float32 {
	t.Helper()
	p, err := e.pool("api")
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.unlock()
	l := decide.Learned{}
	if net != nil {
		l.Model = net.Predictor()
	}
	var table decide.Table
	l.Fill(p.filledAt, p.est, decide.Params{Weights: p.weights}, &table)
	return table.Cost
}

func same(a, b []float32, within float64) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Abs(float64(x-y)) <= within*float64(x) })
}

// Where requests tell their size a network has no say, and the price that a model brings has.
func TestWhereSizesAreToldTheTableHasThePriceOfItsModel(t *testing.T) {
	evaluators(t, func(t *testing.T, library string) {
		e, _ := logged(t, threePeers)
		b := &observe.Batch{Instance: "web1"}
		for i, peer := range []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"} {
			for n := range 200 {
				ms := float32((5 + 7*i) * (1 + n%3))
				if err := b.Add("api", "*", peer, observe.Record{
					Attempt: 1, Kind: observe.OK, Propensity: 1, HeaderMS: ms, TotalMS: ms, PredictedMS: observe.None, Load: observe.None, Weight: float32(1 + n%3),
				}); err != nil {
					t.Fatal(err)
				}
			}
		}
		e.Observe(b)
		serve := func(price decide.Price) *Snapshot {
			file := encoded(t, network(1), func(m *model.Meta) { m.Price = price.Map() })
			if err := e.Models().Configure(config.Model{File: written(t, file), Library: library}); err != nil {
				t.Fatal(err)
			}
			refresh(t, e, "api")
			return e.State().Pool("api")
		}
		plain := serve(decide.Price{})
		if !plain.Table.Sized() || plain.Policy != "analytic" {
			t.Fatalf("sizes %t, policy %s", plain.Table.Sized(), plain.Policy)
		}
		dear := decide.DefaultPrice()
		dear.Waiting *= 2
		with := serve(dear)
		if with.Policy != "learned" || !(with.Table.Cost[decide.GridPoints-1] > 1.5*plain.Table.Cost[decide.GridPoints-1]) {
			t.Errorf("policy %s, a full peer costs %v, without the price %v", with.Policy, with.Table.Cost[decide.GridPoints-1], plain.Table.Cost[decide.GridPoints-1])
		}
		if x, err := e.Explain("api", "*"); err != nil || x.Peers[0].Curve[decide.GridPoints-1] == 0 || !slices.ContainsFunc(x.Peers, func(p PeerExplanation) bool {
			return math.Abs(float64(p.Curve[decide.GridPoints-1]/with.Table.Cost[decide.GridPoints-1]-1)) < 1e-3
		}) {
			t.Errorf("explained by another price: %v, %v; the table has %v", err, x.Peers[0].Curve, with.Table.Cost)
		}
		if m := e.Models().Figures().Models[0]; m.Price["waiting"] != dear.Waiting {
			t.Errorf("its price is %v", m.Price)
		}
	})
}

func TestTheTableIsMadeWithTheModelOfTheConfiguration(t *testing.T) {
	evaluators(t, func(t *testing.T, library string) {
		e, _ := logged(t, threePeers)
		net := network(1)
		if s := taught(t, e); s.Policy != "analytic" || !same(s.Table.Cost, costs(t, e, nil), 0) {
			t.Errorf("without a model the policy is %s", s.Policy)
		}
		if r := e.Report(); r.Status != OK || r.Model.Serves != nil {
			t.Errorf("no model was asked for: %+v", r)
		}
		before := e.State().Pool("api")
		if err := e.Models().Configure(config.Model{File: written(t, encoded(t, net, nil)), Library: library}); err != nil {
			t.Fatal(err)
		}
		p, _ := e.pool("api")
		if !p.due(e.now()) {
			t.Error("the table does not wait for news to be made with the model")
		}
		p.refresh(e.now())
		s := e.State().Pool("api")
		if s.Policy != "learned" || !strings.Contains(string(s.settings), `"policy":"learned"`) || s.MetaVersion == before.MetaVersion {
			t.Errorf("policy %s, settings %s", s.Policy, s.settings)
		}
		if want := costs(t, e, net); !same(s.Table.Cost, want, 1e-4) || same(s.Table.Cost, costs(t, e, nil), 0.01) {
			t.Errorf("costs %v, want %v", s.Table.Cost, want)
		}
		r := e.Report()
		if r.Status != OK || r.Model.Serves == nil || *r.Model.Serves != e.Models().Serving().ID || r.Model.Evaluator == nil {
			t.Errorf("health %+v", r)
		}
		if text := scrape(t, e); !strings.Contains(text, "\nweir_model_up 1\n") || !strings.Contains(text, `weir_model_info{model="`+*r.Model.Serves) {
			t.Error("the metrics do not show the model")
		}
	})
}

func TestAPoolMayKeepTheAnalyticPolicy(t *testing.T) {
	e, _ := logged(t, "pools: [{name: api, policy: analytic, peers: ['10.0.0.1:80', '10.0.0.2:80', '10.0.0.3:80']}]")
	conf := config.Model{File: written(t, encoded(t, network(1), nil)), Library: config.LibraryBuiltin}
	if err := e.Models().Configure(conf); err != nil {
		t.Fatal(err)
	}
	if s := taught(t, e); s.Policy != "analytic" || !same(s.Table.Cost, costs(t, e, nil), 0) {
		t.Error("the model was used")
	}
	e.Apply(parse(t, "pools: [{name: api, peers: ['10.0.0.1:80', '10.0.0.2:80', '10.0.0.3:80']}]"))
	if s := e.State().Pool("api"); s.Policy != "learned" {
		t.Errorf("changed while it runs, the policy is %s", s.Policy)
	}
}

func TestAModelHasNoSayWhereTheTailIsToBeKeptLowNorWhereRequestsTellTheirSize(t *testing.T) {
	for name, c := range map[string]struct {
		pool   string
		weight float32
	}{
		"objective p99": {"objective: p99, ", 0},
		"sizes":         {"", 2},
	} {
		e, _ := logged(t, "pools: [{name: api, "+c.pool+"peers: ['10.0.0.1:80', '10.0.0.2:80', '10.0.0.3:80']}]")
		if err := e.Models().Configure(config.Model{File: written(t, encoded(t, network(1), nil)), Library: config.LibraryBuiltin}); err != nil {
			t.Fatal(err)
		}
		b := &observe.Batch{Instance: "web1"}
		for range 400 {
			if err := b.Add("api", "*", "10.0.0.2:80", observe.Record{
				Attempt: 1, Kind: observe.OK, Propensity: 1, HeaderMS: 8, TotalMS: 8, PredictedMS: observe.None, Load: observe.None, Weight: c.weight,
			}); err != nil {
				t.Fatal(err)
			}
		}
		taught(t, e)
		e.Observe(b)
		refresh(t, e, "api")
		p, _ := e.pool("api")
		var plain decide.Table
		(&decide.Analytic{}).Fill(p.filledAt, p.est, p.params(), &plain)
		s := e.State().Pool("api")
		if s.Policy != "analytic" || !strings.Contains(string(s.settings), `"policy":"analytic"`) || !same(s.Table.Cost, plain.Cost, 0) {
			t.Errorf("%s: policy %s", name, s.Policy)
		}
		x, err := e.Explain("api", "*")
		if err != nil || x.Policy != "analytic" || x.Model != nil || x.Peers[0].Correction != nil {
			t.Errorf("%s: explained by %s, %v", name, x.Policy, err)
		}
		if r := e.Report(); r.Status != OK {
			t.Errorf("%s: health %+v", name, r)
		}
	}
}

func TestAPoolThatIsTooLargeForAModelIsServedByTheFormulasAndTheLogSaysSo(t *testing.T) {
	peers := make([]string, 4096)
	for i := range peers {
		peers[i] = fmt.Sprintf("'10.0.%d.%d:80'", i/256, i%256)
	}
	e, log := logged(t, "pools: [{name: api, peers: ["+strings.Join(peers, ", ")+"]}]")
	if err := e.Models().Configure(config.Model{File: written(t, encoded(t, network(1), nil)), Library: config.LibraryBuiltin}); err != nil {
		t.Fatal(err)
	}
	for c := range 20 {
		e.Observe(outcomes(t, "api", fmt.Sprint("c", c), "10.0.0.1:80", observe.OK, 2, 5))
	}
	for range 2 {
		refresh(t, e, "api")
	}
	const line = "too large for a model"
	if s := e.State().Pool("api"); s.Policy != "analytic" || len(s.Table.Classes) < 16 || strings.Count(log.String(), line) != 1 {
		t.Errorf("policy %s for %d classes, the log:\n%.2000s", s.Policy, len(s.Table.Classes), log.String())
	}
	if r := e.Report(); r.Status != OK {
		t.Errorf("health %+v", r)
	}
}

// Case 27, the half of the engine.
func TestAModelThatCannotBeUsedLeavesTheAnalyticPolicyAndAClearError(t *testing.T) {
	good := encoded(t, network(1), nil)
	for name, c := range map[string]struct {
		file, library string
		says          string
	}{
		"missing file":     {"/nowhere/m.onnx", config.LibraryBuiltin, "/nowhere/m.onnx: no such file"},
		"empty file":       {written(t, nil), config.LibraryBuiltin, "it is empty"},
		"truncated file":   {written(t, good[:len(good)/2]), config.LibraryBuiltin, "model.onnx: model file: "},
		"other features":   {written(t, encoded(t, network(1), func(m *model.Meta) { m.Features[3] = "log_moon" })), config.LibraryBuiltin, "unknown here: log_moon"},
		"fewer features":   {written(t, encoded(t, model.New([]int{3, 1}, rand.New(rand.NewPCG(1, 1))), func(m *model.Meta) { m.Features = m.Features[:3] })), config.LibraryBuiltin, fmt.Sprintf("it has 3 features, %d are wanted", decide.Inputs)},
		"two heads":        {written(t, encoded(t, model.New([]int{decide.Inputs, 2}, rand.New(rand.NewPCG(1, 1))), func(m *model.Meta) { m.Heads = []string{"a", "b"} })), config.LibraryBuiltin, "it has 2 heads, 1 are wanted"},
		"missing library":  {written(t, good), "/nowhere/lib.so", "there is no such file"},
		"no library at it": {written(t, good), written(t, good), "no shared library"},
	} {
		t.Run(name, func(t *testing.T) {
			e, log := logged(t, threePeers)
			if err := e.Models().Configure(config.Model{File: c.file, Library: c.library}); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error is %v; want %q", err, c.says)
			}
			for range 3 {
				if s := taught(t, e); s.Policy != "analytic" || !same(s.Table.Cost, costs(t, e, nil), 0) {
					t.Error("the analytic policy does not serve")
				}
			}
			r := e.Report()
			if r.Status != Degraded || len(r.Reasons) != 1 || r.Reasons[0].Code != "model" || !strings.Contains(r.Reasons[0].Message, c.says) || r.Model.Serves != nil {
				t.Errorf("health %+v", r)
			}
			if n := strings.Count(log.String(), `"level":"error"`); n != 1 || !strings.Contains(log.String(), "the analytic policy serves") {
				t.Errorf("logged:\n%s", log)
			}
			if text := scrape(t, e); !strings.Contains(text, "\nweir_model_up 0\n") || !strings.Contains(text, "\nweir_model_faults_total{stage=\"load\"} 1\n") {
				t.Error("the metrics do not show it")
			}
			// Mended, and the file read again.
			if err := e.Models().Configure(config.Model{File: written(t, good), Library: config.LibraryBuiltin}); err != nil {
				t.Fatal(err)
			}
			if s, r := taught(t, e), e.Report(); s.Policy != "learned" || r.Status != OK {
				t.Errorf("mended: policy %s, %+v", s.Policy, r)
			}
		})
	}
}

func TestAModelThatFailsOnTheWayIsDoneWithoutUntilItWorks(t *testing.T) {
	evaluators(t, func(t *testing.T, library string) {
		e, log := logged(t, threePeers)
		bad := encoded(t, overflowing(), nil)
		if err := e.Models().Configure(config.Model{File: written(t, bad), Library: library}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if s := taught(t, e); s.Policy != "analytic" || !same(s.Table.Cost, costs(t, e, nil), 0) {
				t.Errorf("policy %s", s.Policy)
			}
		}
		r := e.Report()
		if r.Status != Degraded || r.Reasons[0].Code != "model" || r.Reasons[0].Pool != "api" {
			t.Errorf("health %+v", r)
		}
		if n := strings.Count(log.String(), "the model failed"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, log)
		}
		if text := scrape(t, e); !strings.Contains(text, "\nweir_model_up 0\n") {
			t.Error("weir_model_up is not 0")
		}
		if err := e.Models().Configure(config.Model{File: written(t, encoded(t, network(1), nil)), Library: library}); err != nil {
			t.Fatal(err)
		}
		if s := taught(t, e); s.Policy != "learned" {
			t.Errorf("mended, the policy is %s", s.Policy)
		}
		if r := e.Report(); r.Status != OK {
			t.Errorf("mended: %+v", r)
		}
		if !strings.Contains(log.String(), "the model works again") || !strings.Contains(scrape(t, e), "\nweir_model_up 1\n") {
			t.Errorf("logged:\n%s", log)
		}
	})
}

func TestAModelThatPanicsIsDoneWithout(t *testing.T) {
	e, _ := logged(t, threePeers)
	if err := e.Models().Configure(config.Model{File: written(t, encoded(t, network(1), nil)), Library: config.LibraryBuiltin}); err != nil {
		t.Fatal(err)
	}
	taught(t, e)
	p, _ := e.pool("api")
	p.learned.Model = panics{}
	if s := taught(t, e); s.Policy != "analytic" || p.fault != "" || !strings.Contains(p.modelFault, "boom") {
		t.Errorf("policy %s, fault %q, of the model %q", s.Policy, p.fault, p.modelFault)
	}
}

type panics struct{}

func (panics) Predict([]float32, int, []float32) error { panic("boom") }

func TestABadFileAtAReloadLeavesTheModelThatServes(t *testing.T) {
	e, _ := logged(t, threePeers)
	good := config.Model{File: written(t, encoded(t, network(1), nil)), Library: config.LibraryBuiltin}
	if err := e.Models().Configure(good); err != nil {
		t.Fatal(err)
	}
	id := e.Models().Serving().ID
	if err := e.Models().Configure(config.Model{File: "/nowhere/m.onnx", Library: config.LibraryBuiltin}); err == nil {
		t.Error("a missing file was taken")
	}
	r := e.Report()
	if s := taught(t, e); s.Policy != "learned" || e.Models().Serving().ID != id || r.Status != Degraded || !strings.Contains(r.Reasons[0].Message, id+" goes on") {
		t.Errorf("policy %s, health %+v", s.Policy, r)
	}
	if err := e.Models().Configure(good); err != nil || e.Report().Status != OK {
		t.Errorf("mended: %v %+v", err, e.Report())
	}
	if err := e.Models().Configure(config.Model{File: config.ModelNone}); err != nil || e.Models().Serving() != nil || e.Report().Status != OK {
		t.Errorf("none: %v %+v", err, e.Report())
	}
	if s := taught(t, e); s.Policy != "analytic" {
		t.Errorf("none: policy %s", s.Policy)
	}
}

func TestAModelThatCorrectsNothingIsToldAllTheSame(t *testing.T) {
	e := still(t, threePeers)
	refresh(t, e, "api") // nothing is learned, so that costs do not move
	before := e.State().Pool("api")
	untrained := model.New([]int{decide.Inputs, 8, 1}, rand.New(rand.NewPCG(1, 1)))
	if err := e.Models().Configure(config.Model{File: written(t, encoded(t, untrained, nil)), Library: config.LibraryBuiltin}); err != nil {
		t.Fatal(err)
	}
	refresh(t, e, "api")
	if s := e.State().Pool("api"); s.Policy != "learned" || s.Version == before.Version {
		t.Errorf("policy %s, version %d after %d", s.Policy, s.Version, before.Version)
	}
}

// BenchmarkRefreshLearned16x20 is a refresh of the size that is to take less than 2 ms of one core.
func BenchmarkRefreshLearned16x20(b *testing.B) {
	for name, library := range map[string]string{"builtin": config.LibraryBuiltin, "onnxruntime": ""} {
		b.Run(name, func(b *testing.B) {
			e := large(b, 16, 20)
			if err := e.Models().Configure(config.Model{File: config.ModelDefault, Library: library}); err != nil {
				b.Skip(err)
			}
			p, _ := e.pool("big")
			batches := lessons(b, 16, 20)
			now := e.now() + 10_000
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				b.StopTimer()
				p.learn(now, batches[i%len(batches)], batches[i%len(batches)].Records)
				i++
				p.mu.Lock()
				p.filledAt = math.Inf(-1)
				p.mu.Unlock()
				now += 100
				b.StartTimer()
				p.refresh(now)
			}
			if s := e.State().Pool("big"); s.Policy != "learned" {
				b.Fatal(s.Policy)
			}
		})
	}
}
