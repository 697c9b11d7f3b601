package decide_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/estimate"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/engine/pool"
)

// answers is a model that says the same of every row.
type answers struct {
	z   float32
	err error
}

func (a answers) Predict(x []float32, rows int, y []float32) error {
	if len(x) != rows*decide.Inputs || model.FirstNotFinite(x) >= 0 {
		return errors.New("the features are not what was promised")
	}
	for i := range y {
		y[i] = a.z
	}
	return a.err
}

func TestAModelThatSaysNothingLeavesTheAnalyticCosts(t *testing.T) {
	est := answered(10, 20, 40)
	want := fill(est, decide.Params{})
	for _, m := range []decide.Predictor{nil, answers{}, model.New([]int{decide.Inputs, 8, 1}, rand.New(rand.NewPCG(1, 1))).Predictor()} {
		l := decide.Learned{Model: m}
		var got decide.Table
		l.Fill(0, est, decide.Params{}, &got)
		if !slices.Equal(got.Cost, want.Cost) || l.Fault() != nil {
			t.Errorf("%T: costs differ, or fault %v", m, l.Fault())
		}
	}
}

func TestACorrectionIsBounded(t *testing.T) {
	est := answered(10, 20)
	want := fill(est, decide.Params{})
	for _, z := range []float32{0.5, 100, -100} {
		l := decide.Learned{Model: answers{z: z}}
		var got decide.Table
		l.Fill(0, est, decide.Params{}, &got)
		f := math.Exp(min(max(float64(z), -decide.Trust), decide.Trust))
		for i := range got.Cost {
			if r := float64(got.Cost[i]) / float64(want.Cost[i]); math.Abs(r/f-1) > 1e-5 {
				t.Fatalf("z %v: cost %d is %v times the analytic one, not %v", z, i, r, f)
			}
		}
	}
}

func TestACorrectionCountsLessWhereOthersLoadThePeers(t *testing.T) {
	for load, part := range map[float64]float64{1: 1, 1.25: 0.5, 1.5: 0, 10: 0} {
		cost, z := make([]float32, decide.GridPoints), make([]float32, decide.GridPoints)
		for g := range cost {
			cost[g], z[g] = 10, 1
		}
		decide.Correct(cost, z, load)
		for g, c := range cost {
			if want := 10 * math.Exp(part); math.Abs(float64(c)/want-1) > 1e-5 {
				t.Fatalf("load %v: cost %d is %v, want %v", load, g, c, want)
			}
		}
	}
	est := answered(10, 20)
	est.SetBalancers(2)
	want := fill(est, decide.Params{})
	l := decide.Learned{Model: answers{z: 1}}
	var got decide.Table
	l.Fill(0, est, decide.Params{}, &got)
	if !slices.Equal(got.Cost, want.Cost) {
		t.Error("a model has a say where two engines share the peers")
	}
}

func TestAModelThatFailsLeavesTheAnalyticCostsAndSaysWhy(t *testing.T) {
	est := answered(10, 20)
	want := fill(est, decide.Params{})
	for _, m := range []answers{{z: float32(math.NaN())}, {z: float32(math.Inf(1))}, {z: 1, err: errors.New("the session is closed")}} {
		l := decide.Learned{Model: m}
		var got decide.Table
		l.Fill(0, est, decide.Params{}, &got)
		if !slices.Equal(got.Cost, want.Cost) {
			t.Errorf("%+v: the costs are not the analytic ones", m)
		}
		if l.Fault() == nil || m.err == nil && !strings.Contains(l.Fault().Error(), `class "*" on a`) {
			t.Errorf("%+v: fault %v", m, l.Fault())
		}
		l.Model = answers{}
		if l.Fill(0, est, decide.Params{}, &got); l.Fault() != nil {
			t.Errorf("the fault outlived the model: %v", l.Fault())
		}
	}
}

func TestFeaturesOfACountBetweenGridPointsLieBetweenTheirs(t *testing.T) {
	est := answered(10, 20)
	l := decide.Learned{}
	var table decide.Table
	l.Fill(0, est, decide.Params{}, &table)
	at := slices.Index(decide.InputNames(), "log_n")
	a, b, mid := make([]float32, decide.Inputs), make([]float32, decide.Inputs), make([]float32, decide.Inputs)
	l.Features(1, 1, 8, a)
	l.Features(1, 1, 12, b)
	if cost := l.Features(1, 1, 10, mid); math.Abs(cost-table.At(1, 1, 10)) > 1e-4*cost {
		t.Errorf("cost %v, the table has %v", cost, table.At(1, 1, 10))
	}
	if d := float64(mid[at]) - (float64(a[at])+float64(b[at]))/2; math.Abs(d) > 1e-6 {
		t.Errorf("log_n is %v between %v and %v", mid[at], a[at], b[at])
	}
	if got := float64(a[at]); math.Abs(got-math.Log(9)) > 1e-6 {
		t.Errorf("log_n of 8 in flight is %v", got)
	}
}

func TestInputNamesAreDistinct(t *testing.T) {
	names := decide.InputNames()
	if len(names) != decide.Inputs {
		t.Fatalf("%d names for %d inputs", len(names), decide.Inputs)
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != decide.Inputs {
		t.Error("two features have one name")
	}
}

func TestForgettingFeaturesChangesNoCost(t *testing.T) {
	est := answered(10, 20, 40)
	net := model.New([]int{decide.Inputs, 8, 1}, rand.New(rand.NewPCG(1, 1)))
	for i := range net.W[1] {
		net.W[1][i] = float32(i%3) - 1
	}
	var kept, forgot decide.Table
	(&decide.Learned{Model: net.Predictor()}).Fill(0, est, decide.Params{}, &kept)
	(&decide.Learned{Model: net.Predictor(), Forget: true}).Fill(0, est, decide.Params{}, &forgot)
	if len(kept.Classes) < 2 || !slices.Equal(kept.Cost, forgot.Cost) {
		t.Errorf("%d classes; costs %v and %v", len(kept.Classes), kept.Cost, forgot.Cost)
	}
	if slices.Equal(kept.Cost, fill(est, decide.Params{}).Cost) {
		t.Error("the model changed nothing: the test would prove nothing")
	}
}

// refuses is a model that must not be asked.
type refuses struct{ t *testing.T }

func (r refuses) Predict([]float32, int, []float32) error {
	r.t.Error("the model was asked")
	return nil
}

func TestAModelIsNotAskedWhereItHasNoSay(t *testing.T) {
	many := make([]string, 4096)
	for i := range many {
		many[i] = fmt.Sprintf("10.0.%d.%d:80", i/256, i%256)
	}
	huge := estimate.New(estimate.Options{})
	huge.SetPeers(0, many)
	for c := range 20 {
		huge.Observe(1, estimate.Outcome{Peer: c, Class: huge.Class(1, fmt.Sprint("c", c)), Kind: pool.OK, TotalMS: 10, HeaderMS: 10, ReportedLoad: -1, ReportedInFlight: -1})
	}
	huge.Refresh(2)
	for name, c := range map[string]struct {
		est *estimate.Pool
		par decide.Params
	}{
		"objective p99":   {answered(10, 20), decide.Params{Objective: decide.P99}},
		"too large table": {huge, decide.Params{}},
	} {
		want := fill(c.est, c.par)
		l := &decide.Learned{Model: refuses{t}, Forget: true}
		var got decide.Table
		l.Fill(0, c.est, c.par, &got)
		if !l.Silent() || l.Fault() != nil || !slices.Equal(got.Cost, want.Cost) {
			t.Errorf("%s: silent %v, fault %v, costs of %d classes and %d peers", name, l.Silent(), l.Fault(), len(got.Classes), len(got.Peers))
		}
	}
}

func TestWhatARequestIsExpectedToTakeIsItsResponseTimeWithoutThePriceOfItsWait(t *testing.T) {
	est := answered(10, 20)
	l := &decide.Learned{}
	var table decide.Table
	l.Fill(0, est, decide.Params{Weights: []float64{1, 2}}, &table)
	own := &decide.Learned{Analytic: decide.Analytic{Own: true}}
	var plain decide.Table
	own.Fill(0, est, decide.Params{}, &plain)
	for p := range 2 {
		for n := range 20 {
			// The cost has what makes a peer with idle slots a little dearer for each busy one.
			got, want := l.Time(0, p, float64(n)), plain.At(0, p, float64(n))
			if even := want - got; even < -1e-5*want || even > 0.31*plain.At(0, p, 0) || (n == 0 && even > 1e-5*want) {
				t.Errorf("peer %d with %d in flight: %v, the own time is %v", p, n, got, want)
			}
			if p == 0 && n > 10 && !(table.At(0, p, float64(n)) > got) {
				t.Errorf("with %d in flight it costs %v and takes %v", n, table.At(0, p, float64(n)), got)
			}
		}
	}
}
