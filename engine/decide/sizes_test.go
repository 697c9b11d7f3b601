package decide_test

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/weirlb/weir/engine/decide"
)

var update = flag.Bool("update", false, "write test/vectors/sizes.json anew")

// sizesVectors is a table with sizes as /watch tells it, and what is picked by it. test/lua/sizes_spec.lua reads the same.
type sizesVectors struct {
	Classes []string    `json:"classes"`
	Peers   []string    `json:"peers"`
	Grid    []int       `json:"grid"`
	Cost    string      `json:"cost"` // base64 of float32
	Sizes   string      `json:"sizes"`
	Picks   []sizedPick `json:"picks"`
}

type sizedPick struct {
	Class    int       `json:"class"`
	Weight   float64   `json:"weight"`
	InFlight []float64 `json:"inflight"`
	Held     []float64 `json:"held"` // work, in mean requests, in whole 1/4096
	Done     []float64 `json:"done"` // of it, since ms ago
	Since    []float64 `json:"since"`
	Left     []float64 `json:"left"`
	Prices   []float64 `json:"prices"`
	Peer     int       `json:"peer"`
	Load     float64   `json:"load"`    // of the request, there
	Started  float64   `json:"started"` // what is done there once it came
	Ended    float64   `json:"ended"`   // and once it is gone, 7 ms later
}

func encoded(parts ...[]float32) string {
	var raw []byte
	for _, part := range parts {
		for _, x := range part {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
		}
	}
	return base64.StdEncoding.EncodeToString(raw)
}

func makeSizesVectors() sizesVectors {
	rnd := rand.New(rand.NewPCG(3, 5))
	t := &decide.Table{Classes: []string{"*", "GET /", "POST /"}, Peers: []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"}}
	grid := decide.Grid()
	for range t.Classes {
		for range t.Peers {
			service, knee := 5+20*rnd.Float64(), 1+7*rnd.Float64()
			for _, n := range grid {
				t.Cost = append(t.Cost, float32(service*(1+max(float64(n)+1-knee, 0)/knee*(1+rnd.Float64()))))
			}
			t.Work.Own = append(t.Work.Own, float32(0.5+rnd.Float64()/2))
			for g := len(t.Cost) - len(grid) + 1; g < len(t.Cost); g++ {
				t.Cost[g] = max(t.Cost[g], t.Cost[g-1])
			}
			t.Work.Load = append(t.Work.Load, float32(0.2+3*rnd.Float64()))
		}
		t.Work.Hint = append(t.Work.Hint, float32(math.Floor(rnd.Float64()*20)/4))
	}
	t.Work.Hint[0] = 0 // a class that never had a hint
	for range t.Peers {
		t.Work.Mean = append(t.Work.Mean, float32(0.5+rnd.Float64()))
		t.Work.Knee = append(t.Work.Knee, float32(1+4*rnd.Float64()))
		t.Work.Rate = append(t.Work.Rate, float32(rnd.Float64()/10))
		t.Work.Known = append(t.Work.Known, float32(min(2*rnd.Float64(), 1)))
		t.Work.Follow = append(t.Work.Follow, float32(20*rnd.Float64()))
	}
	t.Work.Whole = []float32{0.3, 0.7}
	parts := t.Work.Parts()
	v := sizesVectors{Classes: t.Classes, Peers: t.Peers, Grid: grid[:], Cost: encoded(t.Cost), Sizes: encoded(parts[:]...)}
	weights := []float64{0, 1e-9, 0.5, 2, 3, 7, 40, 1e6, 1e13}
	const now = 5000.0
	for i := range 120 {
		p := sizedPick{Class: i % 3, Weight: weights[rnd.IntN(len(weights))]}
		size := t.Size(p.Class, p.Weight)
		cand := make([]decide.Candidate, len(t.Peers))
		for j := range cand {
			n := float64(rnd.IntN([]int{3, 12, 400}[rnd.IntN(3)]))
			held := math.Floor(n*4096*rnd.ExpFloat64()) / 4096
			if rnd.IntN(8) == 0 {
				held = 0
			}
			g := decide.Progress{Done: math.Floor(4096*held*rnd.Float64()*1.5) / 4096, At: now - math.Floor(50*rnd.Float64())}
			left := g.Left(t, j, now, n, held)
			cand[j] = decide.Candidate{InFlight: n, Work: left, Usable: true}
			p.InFlight, p.Held, p.Left = append(p.InFlight, n), append(p.Held, held), append(p.Left, left)
			p.Done, p.Since = append(p.Done, g.Done), append(p.Since, now-g.At)
			p.Prices = append(p.Prices, t.Price(p.Class, j, n, left, size))
		}
		p.Peer = decide.PickSized(t, p.Class, size, cand, decide.Rule{}, rnd).Peer
		p.Load = t.Load(p.Class, p.Peer, size)
		at := p.Peer
		g := decide.Progress{Done: p.Done[at], At: now - p.Since[at]}
		g.Advance(t, at, now, p.InFlight[at], p.Held[at])
		p.Started = g.Done
		g.Advance(t, at, now+7, p.InFlight[at]+1, p.Held[at]+p.Load)
		g.End(t, at, p.Load, p.InFlight[at]+1)
		p.Ended = g.Done
		v.Picks = append(v.Picks, p)
	}
	return v
}

// The vectors hold lua/resty/weir/sizes.lua and this package to the same prices and picks.
func TestTheSharedVectorsOfSizesAreWhatThisPackageSays(t *testing.T) {
	const file = "../../test/vectors/sizes.json"
	made := makeSizesVectors()
	if *update {
		text, err := json.Marshal(made)
		if err == nil {
			err = os.WriteFile(file, append(text, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var kept sizesVectors
	if err := json.Unmarshal(text, &kept); err != nil {
		t.Fatal(err)
	}
	if kept.Cost != made.Cost || kept.Sizes != made.Sizes || len(kept.Picks) != len(made.Picks) {
		t.Fatal("the vectors are of another table: go test ./engine/decide -run SharedVectors -update")
	}
	near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-9*math.Max(math.Abs(a), 1) }
	for i, want := range kept.Picks {
		got := made.Picks[i]
		if got.Peer != want.Peer || !near(got.Load, want.Load) {
			t.Errorf("pick %d: peer %d with a load of %v, the vectors say %d and %v", i, got.Peer, got.Load, want.Peer, want.Load)
		}
		if !near(got.Started, want.Started) || !near(got.Ended, want.Ended) {
			t.Errorf("pick %d: %v and %v are done, the vectors say %v and %v", i, got.Started, got.Ended, want.Started, want.Ended)
		}
		for p := range want.Prices {
			if !near(got.Left[p], want.Left[p]) {
				t.Errorf("pick %d: peer %d has %v left, the vectors say %v", i, p, got.Left[p], want.Left[p])
			}
			if !near(got.Prices[p], want.Prices[p]) {
				t.Errorf("pick %d: peer %d costs %v, the vectors say %v", i, p, got.Prices[p], want.Prices[p])
			}
		}
	}
}

func TestASizeIsTheWeightByTheUsualOfItsClass(t *testing.T) {
	est := hinting(true)
	table := fill(est, decide.Params{Sizes: true})
	c := table.Class("GET /")
	for _, weight := range []float64{0, -1, 0.001, 1, 5, 100, 1e11, 1e12, math.NaN(), math.Inf(1)} {
		want := est.Size(est.Class(1e6, "GET /"), weight)
		if got := table.Size(c, weight); math.Abs(got-want) > 1e-6*want {
			t.Errorf("weight %v: %v in the table, %v in the estimators", weight, got, want)
		}
	}
	if plain := fill(est, decide.Params{}); plain.Size(c, 100) != 1 {
		t.Error("a table without sizes knows one")
	}
}
