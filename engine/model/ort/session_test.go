//go:build cgo

package ort

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirlb/weir/engine/model"
)

// library is a use of the library. Without one the tests are skipped, except where WEIR_ONNXRUNTIME says that there should be
// one, as in test/run.sh.
func library(t testing.TB) *Library {
	t.Helper()
	path, err := Find("")
	if err != nil {
		if os.Getenv(Variable) == "" {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	lib, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lib.Close(); err != nil {
			t.Error(err)
		}
	})
	return lib
}

func network(sizes []int, seed uint64) (*model.Net, model.Meta) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	n := model.New(sizes, rnd)
	for l := range n.W {
		for _, v := range [][]float32{n.W[l], n.B[l]} {
			for i := range v {
				v[i] = float32(rnd.NormFloat64() / math.Sqrt(float64(sizes[l])))
			}
		}
	}
	m := model.Meta{Card: map[string]string{"name": "test"}}
	for i := range n.In() {
		m.Features = append(m.Features, fmt.Sprint("f", i))
	}
	for i := range n.Out() {
		m.Heads = append(m.Heads, fmt.Sprint("h", i))
	}
	return n, m
}

type fataler interface {
	Fatal(...any)
	Helper()
}

func encoded(t fataler, n *model.Net, m model.Meta) []byte {
	t.Helper()
	file, err := model.Encode(n, m)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func open(t testing.TB, lib *Library, n *model.Net, m model.Meta) *Session {
	t.Helper()
	s, err := lib.Open(encoded(t, n, m), m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func values(n int, rnd *rand.Rand) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rnd.NormFloat64())
	}
	return x
}

func TestONNXRuntimeAndGoAgreeForAnyNetworkAndBatch(t *testing.T) {
	lib := library(t)
	small := rapid.IntRange(0, 70)
	rapid.Check(t, func(t *rapid.T) {
		n, m := network(rapid.SliceOfN(rapid.IntRange(1, 70), 2, 5).Draw(t, "sizes"), rapid.Uint64().Draw(t, "seed"))
		s, err := lib.Open(encoded(t, n, m), m)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var scratch model.Scratch
		rnd := rand.New(rand.NewPCG(1, 2))
		// Several batches of one session: longer, shorter, the same again, above a block.
		for _, rows := range rapid.SliceOfN(rapid.OneOf(small, small, small, small, rapid.IntRange(blockRows-1, 2*blockRows+1)), 1, 4).Draw(t, "rows") {
			x := values(rows*n.In(), rnd)
			got, want := make([]float32, rows*n.Out()), make([]float32, rows*n.Out())
			if err := s.Predict(x, rows, got); err != nil {
				t.Fatal(err)
			}
			n.Forward(x, rows, want, &scratch)
			for i := range want {
				if !agree(got[i], want[i], max(want[i], -want[i])) {
					t.Fatalf("value %d of %d rows: %v by ONNX Runtime, %v in Go", i, rows, got[i], want[i])
				}
			}
		}
	})
}

func TestBadNumbersAreRefusedWithTheirPlace(t *testing.T) {
	lib := library(t)
	n, m := network([]int{3, 8, 2}, 1)
	s := open(t, lib, n, m)
	y := make([]float32, 2*2000)
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		x := make([]float32, 3*2000)
		x[3*1500+2] = float32(bad)
		want := fmt.Sprintf("model %s: feature \"f2\" of row 1500 is %v", s.ID(), bad)
		if err := s.Predict(x, 2000, y); err == nil || err.Error() != want {
			t.Errorf("%q instead of %q", err, want)
		}
	}
	for name, x := range map[string][]float32{"a feature is missing": make([]float32, 5), "one is too many": make([]float32, 7)} {
		if err := s.Predict(x, 2, y[:4]); err == nil || !strings.Contains(err.Error(), "2 rows of 3 features and 2 heads need 6 and 4 values; there are "+strconv.Itoa(len(x))) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Predict(make([]float32, 6), 2, y[:3]); err == nil {
		t.Error("a result that is too short was accepted")
	}
	// Negative features and the largest are numbers like others, and what was bad before left nothing behind.
	if err := s.Predict([]float32{-1, -1e6, -0.5}, 1, y[:2]); err != nil {
		t.Error(err)
	}
}

func TestAResultThatOverflowsIsRefusedWithItsRow(t *testing.T) {
	lib := library(t)
	n, m := network([]int{2, 2, 2}, 1)
	n.W[0], n.W[1] = []float32{1, 0, 0, 1}, []float32{1, 0, 0, 3e38}
	s := open(t, lib, n, m)
	err := s.Predict([]float32{1, 0, 1, 0, 1, 3e38}, 3, make([]float32, 6))
	if err == nil || !strings.Contains(err.Error(), `its "h1" for row 2 is +Inf`) {
		t.Fatal(err)
	}
}

func TestOpenRefusesFilesThatAreDamagedOrDoNotFit(t *testing.T) {
	lib := library(t)
	n, m := network([]int{3, 8, 1}, 1)
	file := encoded(t, n, m)
	less := m
	less.Features = m.Features[:2]
	missing := filepath.Join(t.TempDir(), "none.onnx")
	for want, try := range map[string]func() (*Session, error){
		"truncated": func() (*Session, error) { return lib.Open(file[:len(file)/2], m) },
		"is empty":  func() (*Session, error) { return lib.Open(nil, m) },
		"features: it has 3 features, 2 are wanted; unknown here: f2": func() (*Session, error) { return lib.Open(file, less) },
		"heads: it lacks delay; unknown here: h0": func() (*Session, error) {
			return lib.Open(file, model.Meta{Features: m.Features, Heads: []string{"delay"}})
		},
		"no such file": func() (*Session, error) {
			file, err := model.ReadFile(missing)
			if err != nil {
				return nil, err
			}
			return lib.Open(file, m)
		},
	} {
		s, err := try()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
		if s != nil {
			t.Errorf("%s: a session as well", want)
		}
	}
}

func TestASessionThatComputesSomethingElseIsFoundOnOpening(t *testing.T) {
	lib := library(t)
	n, m := network([]int{4, 8, 2}, 1)
	s := open(t, lib, n, m)
	if err := s.probe(n); err != nil {
		t.Fatal(err)
	}
	n.B[1][1] += 0.001
	if err := s.probe(n); err == nil || !strings.Contains(err.Error(), "the library is damaged") {
		t.Fatal(err)
	}
}

func TestLargeWeightsThatCancelOutAreNoDamage(t *testing.T) {
	lib := library(t)
	n, m := network([]int{64, 128, 1}, 1)
	for i := range n.W[0] {
		n.W[0][i] *= 1000
	}
	open(t, lib, n, m)
}

func TestTwoHundredPredictionsAtATimeAndACloseAmongThem(t *testing.T) {
	lib := library(t)
	n, m := network([]int{8, 16, 1}, 1)
	s := open(t, lib, n, m)
	var all sync.WaitGroup
	results := make([]error, 200)
	for i := range results {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			var scratch model.Scratch
			for range 20 {
				rows := 1 + rnd.IntN(40)
				x, got, want := values(rows*8, rnd), make([]float32, rows), make([]float32, rows)
				if results[i] = s.Predict(x, rows, got); results[i] != nil {
					return
				}
				n.Forward(x, rows, want, &scratch)
				for j := range want {
					if !agree(got[j], want[j], 1) {
						results[i] = fmt.Errorf("row %d: %v instead of %v", j, got[j], want[j])
						return
					}
				}
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	for i, err := range results {
		if err != nil && !errors.Is(err, ErrClosed) {
			t.Errorf("prediction %d: %v", i, err)
		}
	}
	if err := s.Predict(make([]float32, 8), 1, make([]float32, 1)); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error("closed twice:", err)
	}
}

func TestASteadyShapeAllocatesNothing(t *testing.T) {
	lib := library(t)
	n, m := network([]int{32, 64, 32, 1}, 1)
	s := open(t, lib, n, m)
	const rows = 2*blockRows + 100
	x, y := make([]float32, rows*32), make([]float32, rows)
	if allocs := testing.AllocsPerRun(20, func() {
		if err := s.Predict(x, rows, y); err != nil {
			t.Fatal(err)
		}
	}); allocs != 0 {
		t.Fatalf("%v allocations", allocs)
	}
}

// The plain run does 500; WEIR_HEAVY=1 the 10,000 of which a process with a hot swap a minute has a week.
func TestSessionsMadeAnewLeaveNoMemoryBehind(t *testing.T) {
	lib := library(t)
	const allowed = 3.0 // MB; a leak of 1 KB a session would be 8 MB in the long run
	rounds := 500
	if os.Getenv("WEIR_HEAVY") != "" {
		rounds = 10_000
	}
	n, m := network([]int{32, 64, 32, 1}, 1)
	file := encoded(t, n, m)
	x, y := make([]float32, 3200*32), make([]float32, 3200)
	var first float64
	for i := range rounds {
		s, err := lib.Open(file, m)
		if err != nil {
			t.Fatal(err)
		}
		rows := 160 + i%20*160
		if err := s.Predict(x[:rows*32], rows, y[:rows]); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if i == rounds/5 {
			first = resident(t)
		}
		if (i+1)%(rounds/5) == 0 {
			t.Logf("after %d sessions: %.1f MB resident", i+1, resident(t))
		}
	}
	if last := resident(t); last > first+allowed {
		t.Errorf("resident memory went from %.1f MB to %.1f MB in %d sessions", first, last, rounds-rounds/5)
	}
}

func resident(t testing.TB) float64 {
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	var kib float64
	if _, rest, ok := strings.Cut(string(text), "VmRSS:"); ok {
		_, _ = fmt.Sscan(rest, &kib)
	}
	return kib * 1024 / 1e6
}
